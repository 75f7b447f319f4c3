"""Losses of two batches of embeddings: pure functions of torch tensors.

Each term is callable alone, keeps the dtype of its arguments, and holds no state.
Keyword defaults are the published form; `THEORY` turns Barlow Twins into the loss that
the linear model, the kernel and the wide network solve exactly.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

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

    Row i of both batches comes from one image. Introduced in chapter 9.

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
        If the shapes differ or are not (n, d), or `normalize` is asked for without
        `center`.
    """
    if z.ndim != 2 or len(z) == 0:
        raise ValueError(
            "`z` must be (n, d), one embedding a row and at least one; got "
            f"{tuple(z.shape)}"
        )
    if z.shape != z_prime.shape:
        raise ValueError(
            "`z` and `z_prime` must have one shape, row i with row i; got "
            f"{tuple(z.shape)} and {tuple(z_prime.shape)}"
        )
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
    gradient in the linear model is 4 (C - I) W Gamma. Introduced in chapter 9.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views, row i with row i.
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
    if not lambd >= 0:
        raise ValueError(f"`lambd` must be zero or positive; it is {lambd:.3g}")
    C = cross_correlation(
        z, z_prime, normalize=normalize, center=center, symmetrize=symmetrize
    )
    on_diagonal = C.diagonal()
    off_diagonal = (C**2).sum() - (on_diagonal**2).sum()
    return ((1 - on_diagonal) ** 2).sum() + lambd * off_diagonal


def _divide_by_deviation(z: Tensor) -> Tensor:
    # The variance over n, not n - 1, and the guard of torch's batch normalisation.
    return z / ((z**2).mean(0) + 1e-5).sqrt()
