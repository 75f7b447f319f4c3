"""Losses of two batches of embeddings: pure functions of torch tensors.

Row i of `z` and row i of `z_prime` come from one image. Each term is callable alone,
keeps the dtype of its arguments, holds no state, and never makes the host wait.
Keyword defaults are the published form; `THEORY` turns Barlow Twins into the loss that
the linear model, the kernel and the wide network solve exactly, and `STEPWISE` gives
for each of `METHODS` the form that climbs stairs from a small start.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# ||C - I||_F^2 of the raw embeddings: nothing subtracted, nothing divided, every entry
# of the symmetric C alike. ``barlow_twins(z, z_prime, **THEORY)``.
THEORY: dict[str, Any] = {
    "lambd": 1.0,
    "normalize": False,
    "center": False,
    "symmetrize": True,
}


def cross_correlation(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    normalize: bool = True,
    center: bool = True,
    symmetrize: bool = False,
) -> Float[Tensor, "d d"]:
    """Correlate every output of one view with every output of the other.

    Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views.
    normalize : bool
        Divide each output by its standard deviation over the batch, as the published
        loss does by a batch normalisation without parameters (1e-5 is added to the
        variance). An output is then free to grow without changing the loss.
    center : bool
        Subtract from each output its mean over the batch, in each view by itself.
    symmetrize : bool
        Average the matrix with its transpose, so that the two views play one part.

    Returns
    -------
    (d, d)
        Entry (i, j) is the mean over pairs of output i of x times output j of x'.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, d), `normalize` is asked for without
        `center`, or `center` for a single pair.
    """
    _check_pairs(z, z_prime, least=2 if center else 1)
    if normalize and not center:
        raise ValueError(
            "`normalize` divides by a standard deviation, which is taken about the "
            "mean; pass center=True, or normalize=False"
        )
    if center:
        z, z_prime = z - z.mean(0), z_prime - z_prime.mean(0)
    if normalize:
        z, z_prime = _divide_by_deviation(z), _divide_by_deviation(z_prime)
    C = z.T @ z_prime / len(z)
    return (C + C.T) / 2 if symmetrize else C


def barlow_twins(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    lambd: float = 0.0051,
    normalize: bool = True,
    center: bool = True,
    symmetrize: bool = False,
) -> Float[Tensor, ""]:
    """Pull the cross-correlation of two views towards the identity.

    The loss is sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2. Its defaults are the
    published form; with ``**THEORY`` it is ||C - I||_F^2 of the raw embeddings, whose
    gradient in the linear model is 4 (C - I) W Gamma. Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views.
    lambd : float
        Weight of the entries off the diagonal.
    normalize, center, symmetrize
        As in `cross_correlation`.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        As `cross_correlation`; also if `lambd` is negative.

    References
    ----------
    Zbontar, Jing, Misra, LeCun and Deny, "Barlow Twins", arXiv:2103.03230.
    """
    _check_weights(lambd=lambd)
    C = cross_correlation(
        z, z_prime, normalize=normalize, center=center, symmetrize=symmetrize
    )
    return ((1 - C.diagonal()) ** 2).sum() + lambd * _off_diagonal_squares(C)


def simclr(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    temperature: float = 0.5,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """Tell each view's partner from the 2n - 2 views of other images (NT-Xent).

    The mean over all 2n views of the cross-entropy of choosing the partner, with logits
    z_i . z_j / temperature over the 2n - 1 other views. The published form compares
    directions alone and does not feel the embedding's size; with ``normalize=False``
    it compares raw dot products, and its push on a tiny embedding is linear in it.
    Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views, at least two pairs.
    temperature : float
        Divides the similarities.
    normalize : bool
        Compare cosines, as published; else dot products.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, d), there is no other pair to tell apart,
        `temperature` is not positive, or `normalize` meets d = 1, where a direction
        is a sign and has no gradient.

    References
    ----------
    Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning
    of Visual Representations", arXiv:2002.05709. Its code returns twice this mean.
    """
    _check_pairs(z, z_prime, least=2)
    if not 0 < temperature < float("inf"):
        raise ValueError(f"`temperature` must be positive; it is {temperature:.3g}")
    if normalize and z.shape[1] == 1:
        raise ValueError(
            "`normalize` leaves only a sign of one output, d = 1; use d of at least "
            "2, or normalize=False"
        )
    if normalize:
        z, z_prime = functional.normalize(z), functional.normalize(z_prime)
    both = torch.cat([z, z_prime])  # (2n, d)
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    logits = (both @ both.T / temperature).masked_fill(itself, float("-inf"))
    n = len(z)
    partner = torch.cat([logits.diagonal(n), logits.diagonal(-n)])  # (2n,)
    # Subtracted first: a small difference of large logits would lose its digits.
    return (logits - partner[:, None]).logsumexp(1).mean()


def spectral(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    center: bool = False,
    every_pair: bool = False,
) -> Float[Tensor, ""]:
    """Align two views of an image, and make views of different images orthogonal.

    The loss is -2 E[z_i . z'_i] + E[(z . w)^2]. As published, z and w are views of
    different images, one from each batch. With `every_pair` they run over all views of
    both batches, themselves included, and the loss is that of the linear model,
    -2 tr(W Gamma W^T) + ||W Sigma W^T||_F^2. Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views.
    center : bool
        Subtract the mean over both batches together, as dot-product SimCLR does of
        itself while embeddings are small.
    every_pair : bool
        Use the second moment of all views in place of the unbiased sum over i != j.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, d), or a single pair meets `center` or has
        no other to be orthogonal to.

    References
    ----------
    HaoChen, Wei, Gaidon and Ma, "Provable Guarantees for Self-Supervised Deep Learning
    with Spectral Contrastive Loss", arXiv:2106.04156. Its code also shortens
    embeddings that leave a ball, which a small start never does.
    """
    _check_pairs(z, z_prime, least=1 if every_pair and not center else 2)
    n = len(z)
    if center:
        mean = (z.mean(0) + z_prime.mean(0)) / 2
        z, z_prime = z - mean, z_prime - mean
    aligned = (z * z_prime).sum() / n
    if every_pair:
        second_moment = (z.T @ z + z_prime.T @ z_prime) / (2 * n)  # (d, d)
        return (second_moment**2).sum() - 2 * aligned
    return _off_diagonal_squares(z @ z_prime.T) / (n * (n - 1)) - 2 * aligned


def invariance(
    z: Float[Tensor, "n d"], z_prime: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """Mean square by which two views differ: the first term of VICReg.

    `z` and `z_prime` are (n, d), and the result is a scalar tensor, the mean over all
    n d entries. Raises ValueError as `vicreg`, though one pair is enough here.
    Introduced in chapter 10.
    """
    _check_pairs(z, z_prime)
    return ((z - z_prime) ** 2).mean()


def variance(
    z: Float[Tensor, "n d"], *, eps: float = 1e-4, target: float = 1.0
) -> Float[Tensor, ""]:
    """Mean shortfall of the outputs' standard deviations: VICReg's second term.

    The mean over outputs of max(0, target - sqrt(var + eps)), with n - 1 in the
    variance. Where var << eps the push is linear in the embedding; above, it is
    constant. Introduced in chapter 10.

    Parameters
    ----------
    z : (n, d)
        Embeddings of one view, at least two.
    eps : float
        Added to the variance under the root.
    target : float
        Where the push ends.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If `z` is not (n, d) with n of at least 2, `eps` is not positive (the root has
        no gradient at zero), or `target` is negative.
    """
    _check_batch(z, least=2)
    _check_weights(target=target)
    if not 0 < eps < float("inf"):
        raise ValueError(f"`eps` must be positive; it is {eps:.3g}")
    return (target - (z.var(0) + eps).sqrt()).relu().mean()


def covariance(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Sum of squared covariances of different outputs over d: VICReg's third term.

    `z` is (n, d) and the result a scalar tensor. Raises ValueError unless n and d are
    at least 2: one output has no other to be compared with. Introduced in chapter 10.
    """
    _check_batch(z, least=2)
    if z.shape[1] == 1:
        raise ValueError("`z` has one output, d = 1, which covaries with no other")
    z = z - z.mean(0)
    return _off_diagonal_squares(z.T @ z / (len(z) - 1)) / z.shape[1]


def vicreg(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    sim_coeff: float = 25.0,
    std_coeff: float = 25.0,
    cov_coeff: float = 1.0,
    eps: float = 1e-4,
    target: float = 1.0,
) -> Float[Tensor, ""]:
    """Let two views agree while every output varies, none like another.

    Invariance of the pair, plus the variance term averaged over the two views, plus
    the covariance term summed over them, as published. Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views, n and d at least 2.
    sim_coeff, std_coeff, cov_coeff : float
        Weights of `invariance`, `variance` and `covariance`.
    eps, target : float
        As in `variance`.

    Returns
    -------
    scalar tensor

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, d), n or d is 1, a weight or `target` is
        negative, or `eps` is not positive.

    References
    ----------
    Bardes, Ponce and LeCun, "VICReg", arXiv:2105.04906.
    """
    _check_pairs(z, z_prime, least=2)
    _check_weights(sim_coeff=sim_coeff, std_coeff=std_coeff, cov_coeff=cov_coeff)
    spread = [variance(view, eps=eps, target=target) for view in (z, z_prime)]
    shared = [covariance(view) for view in (z, z_prime)]
    return (
        sim_coeff * invariance(z, z_prime)
        + std_coeff * (spread[0] + spread[1]) / 2
        + cov_coeff * (shared[0] + shared[1])
    )


METHODS: dict[str, Callable[..., Tensor]] = {
    "barlow_twins": barlow_twins,
    "simclr": simclr,
    "vicreg": vicreg,
    "spectral": spectral,
}

# What each loss needs so that its push on a tiny embedding is linear in the embedding:
# ``METHODS[name](z, z_prime, **STEPWISE[name])``. VICReg's eps keeps the push linear up
# to a standard deviation of 0.3 and not 0.01; its target puts the end back at one.
STEPWISE: dict[str, dict[str, Any]] = {
    "barlow_twins": {**THEORY, "center": True},
    "simclr": {"normalize": False, "temperature": 1.0},
    "vicreg": {"cov_coeff": 10.0, "eps": 0.1, "target": 1.1**0.5},
    "spectral": {"center": True, "every_pair": True},
}


def _check_pairs(z: Tensor, z_prime: Tensor, *, least: int = 1) -> None:
    if z.shape != z_prime.shape:
        raise ValueError(
            "`z` and `z_prime` must have one shape, row i with row i; got "
            f"{tuple(z.shape)} and {tuple(z_prime.shape)}"
        )
    _check_batch(z, least=least)


def _check_batch(z: Tensor, *, least: int) -> None:
    # Shapes only: a look at the values would make the host wait for the device.
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(
            f"`z` must be (n, d), one embedding a row; got {tuple(z.shape)}"
        )
    if len(z) < least:
        raise ValueError(
            f"`z` needs at least {least} rows, one an image; it has {len(z)}. Use a "
            "larger batch"
        )


def _check_weights(**weights: float) -> None:
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"`{name}` must be zero or positive; it is {value:.3g}")


def _divide_by_deviation(z: Tensor) -> Tensor:
    # The variance over n, not n - 1, and the guard of torch's batch normalisation.
    return z / ((z**2).mean(0) + 1e-5).sqrt()


def _off_diagonal_squares(matrix: Tensor) -> Tensor:
    return ((matrix - matrix.diagonal().diag()) ** 2).sum()
