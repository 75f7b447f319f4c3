"""Where a run ends, on which level it waits, and what keeps it from settling.

A private half of `pkg.dynamics`; derived in chapters 3, 4 and 6.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra


def final_weights(
    Gamma: Float[np.ndarray, "m m"],
    d: int,
    *,
    Sigma: Float[np.ndarray, "m m"] | None = None,
    beta: float = 1.0,
) -> Float[np.ndarray, "d m"]:
    """Find the weights that a small start reaches, up to a rotation of the outputs.

    Barlow Twins ends on the top eigenvectors of Gamma: row j is gamma_j^{-1/2} v_j^T,
    and of all W with W Gamma W^T = I it has the least norm, sum_j 1 / gamma_j. Losses
    that see Sigma end on the top generalised eigenvectors, Gamma v = rho Sigma v, with
    embedding variances 1 - beta (1 - rho_j). Introduced in chapters 2 and 6.

    Parameters
    ----------
    Gamma : (m, m)
        Symmetric cross-correlation.
    d : int
        Embedding dimensions.
    Sigma : (m, m), optional
        Second moment of the views, positive definite: pass it for the spectral loss
        (with beta = 1) and for VICReg. Where views span fewer than m dimensions,
        express them in a `spectra.span` first.
    beta : float
        Weight of the invariance term of VICReg.

    Returns
    -------
    (d, m)
        W, rows by descending gamma, or by descending rho where Sigma is given: modes
        may rise in another order.

    Raises
    ------
    ValueError
        If fewer than `d` modes are ever learned: those with gamma > 0, or with
        1 - beta (1 - rho) > 0; or if Sigma is not positive definite.
    """
    d = _check.count("d", d)
    Gamma = _check.symmetric("Gamma", Gamma)
    beta = float(_check.nonnegative("beta", beta, ndim=0))
    if Sigma is None:
        if beta != 1.0:
            raise ValueError(
                f"`beta` is {beta:.3g} without `Sigma`; pass it for VICReg"
            )
        gammas, V = spectra.top_eigenpairs(Gamma)
        _refuse_unlearned(d, spectra.count_positive(gammas), "positive eigenvalues")
        return V[:, :d].T / np.sqrt(gammas[:d, None])
    rhos, V = _generalised(Gamma, Sigma)  # V^T Sigma V = I
    variances = 1.0 - beta * (1.0 - rhos)
    n_learned = spectra.count_positive(variances)
    _refuse_unlearned(
        d, n_learned, f"modes with 1 - beta (1 - rho) > 0, beta {beta:.3g}"
    )
    return V[:, :d].T * np.sqrt(variances[:d, None])


def _generalised(Gamma: np.ndarray, Sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve Gamma v = rho Sigma v: rhos (m,) descending, V (m, m) with signs fixed."""
    from scipy import linalg

    Sigma = _check.symmetric("Sigma", Sigma)
    if Sigma.shape != Gamma.shape:
        raise ValueError(
            f"`Sigma` must have the shape of `Gamma`, {Gamma.shape}; got {Sigma.shape}"
        )
    sigmas = spectra.top_eigenvalues(Sigma)
    n_positive = spectra.count_positive(sigmas)
    if n_positive < len(sigmas):
        raise ValueError(
            f"`Sigma` must be positive definite, but {len(sigmas) - n_positive} of its "
            "eigenvalues are not positive; express the views in a `spectra.span` of "
            "linearly independent ones"
        )
    rhos, V = linalg.eigh(Gamma, Sigma, check_finite=False)
    return rhos[::-1], spectra.fix_signs(V[:, ::-1])


def _refuse_unlearned(d: int, n_learned: int, what: str) -> None:
    if d > n_learned:
        raise ValueError(
            f"`d` is {d}, but Gamma has only {n_learned} {what} and "
            "other modes are never learned; use fewer dimensions or more pairs"
        )


def stable_lr(gammas: Float[np.ndarray, " d"], *, monotone: bool = False) -> float:
    """Give the learning rate from which descent no longer settles on the top modes.

    At C = I the largest curvature of the loss is 8 gamma_1, so descent is stable below
    1 / (4 gamma_1). From half of that on it overshoots before it settles. Introduced in
    chapter 4.

    Parameters
    ----------
    gammas : (d,)
        Eigenvalues of Gamma; the largest must be positive.
    monotone : bool
        Give the rate from which it overshoots, 1 / (8 gamma_1).

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no gamma is positive: nothing is learned at any rate.
    """
    gammas = _check.finite("gammas", gammas, ndim=1)
    top = float(gammas.max())
    if top <= 0:
        raise ValueError(
            f"`gammas` has no positive entry (the largest is {top:.3g}), so no mode is "
            "learned at any rate; the two views of an image must agree on something"
        )
    return 1.0 / ((8.0 if monotone else 4.0) * top)


@dataclass(frozen=True, eq=False, kw_only=True)
class Levels:
    """What Barlow Twins with weight lambda waits on after k steps.

    Attributes
    ----------
    eigenvalue : (d + 1,)
        c_k, the common value of the k learned eigenvalues of C; c_0 = 0.
    loss : (d + 1,)
        L_k = d - k c_k.
    slowdown : (d,)
        The brake b_k: the mode that rises while k are learned grows at 8 gamma b_k.
    """

    eigenvalue: Float[np.ndarray, " k"]
    loss: Float[np.ndarray, " k"]
    slowdown: Float[np.ndarray, " d"]


def levels(d: int, lambd: float) -> Levels:
    """Predict on which levels Barlow Twins waits when off-diagonal terms weigh lambda.

    Below lambda = 1 it pays to spread k learned directions evenly over all d outputs:
    the diagonal of C then holds k c / d, and c = c_k = d / (k + lambda (d - k))
    balances it against the off-diagonal. So eigenvalues overshoot one, the loss falls
    further than a step at a time, and what is left on the diagonal slows the next mode
    down by b_k = lambda c_k. Above lambda = 1 the learned directions move onto single
    outputs instead, and the levels are those of one. Introduced in chapter 6.

    Parameters
    ----------
    d : int
        Embedding dimensions.
    lambd : float
        Weight of the off-diagonal entries of C - I.

    Returns
    -------
    Levels
        Entry k belongs to k learned modes. For k of two or more and lambda < 1 they
        describe spectra whose neighbours differ about twofold; denser ones do not wait
        long enough to settle.

    Raises
    ------
    ValueError
        If `lambd` is not positive, or `d` not a whole number of at least one.
    """
    d = _check.count("d", d)
    lambd = min(1.0, float(_check.positive("lambd", lambd, ndim=0)))
    k = np.arange(d + 1)
    share = d / (k + lambd * (d - k))
    eigenvalue = np.where(k == 0, 0.0, share)
    slowdown = lambd * share[:-1]
    return Levels(eigenvalue=eigenvalue, loss=d - k * eigenvalue, slowdown=slowdown)


def slowed(times: np.ndarray, lambd: float) -> np.ndarray:
    """Stretch each wait between the step times (d,) by its `levels` slow-down."""
    if lambd >= 1.0:
        return times
    order = np.argsort(times)
    waits = np.diff(times[order], prepend=0.0)
    late = np.empty_like(times)
    late[order] = np.cumsum(waits / levels(len(times), lambd).slowdown)
    return late


def batch_plateau(rhos: Float[np.ndarray, " d"], batch: int) -> Float[np.ndarray, " d"]:
    """Predict below one where minibatch descent settles.

    The loss of a batch is too large on average by the variance of its C, so descent
    shrinks C to make that variance smaller. With B fresh Gaussian pairs the expected
    loss is quadratic in the eigenvalues c_j, with its minimum where
    (1 + (1 + rho_j^-2) / 2B) c_j + sum_k (1 + 1 / (rho_j rho_k)) c_k / 2B = 1. For d
    equal rhos that is c* = 1 / (1 + (d + 1)(1 + rho^-2) / 2B): a plateau near one needs
    B >> d. The estimator "split" of `flow.descend` has no such bias. Introduced in
    chapter 4.

    Parameters
    ----------
    rhos : (d,)
        gamma_j / sigma_j of the learned modes, in (0, 1]: the correlation of the views.
    batch : int
        Pairs a step, B.

    Returns
    -------
    (d,)
        Eigenvalues of the true C; 0 for a mode that such batches never learn. Heavier
        tails than a Gaussian's lie lower.

    Raises
    ------
    ValueError
        If a rho is not in (0, 1], or `batch` not a whole number of at least one.
    """
    from scipy import linalg, optimize

    rhos = _check.positive("rhos", rhos, ndim=1)
    if rhos.max() > 1.0:
        raise ValueError(
            f"`rhos` must be at most 1; the largest is {rhos.max():.3g}. Pass gammas / "
            "sigmas, the correlations of the two views"
        )
    noise = 1.0 / (2 * _check.count("batch", batch))
    system = noise * (1.0 + np.outer(1.0 / rhos, 1.0 / rhos))
    system += np.diag(1.0 + noise * (1.0 + rhos**-2))
    # No eigenvalue falls below zero: the minimum over c >= 0, as least squares.
    root = linalg.cholesky(system)
    target = linalg.solve_triangular(root, np.ones_like(rhos), trans="T")
    return optimize.nnls(root, target)[0]


def swap_rate(
    gammas: Float[np.ndarray, " m"], sigmas: Float[np.ndarray, " m"], beta: float = 1.0
) -> Float[np.ndarray, "m m"]:
    """Predict how fast an unlearned mode would replace a learned one.

    The spectral loss and VICReg raise modes in the order of g = (1 - beta) sigma + beta
    gamma, but their minimum holds the largest rho = gamma / sigma. A learned mode j
    holds its variance at 1 - beta (1 - rho_j), and beside it the square of a small mode
    k grows at 8 beta sigma_k (rho_k - rho_j): where that is positive, k comes late and
    takes the place of j. Barlow Twins has nothing like it. Introduced in chapter 6.

    Parameters
    ----------
    gammas, sigmas : (m,)
        Eigenvalues of Gamma and Sigma in their common basis, in one order.
    beta : float
        Weight of the invariance term of VICReg; 1 for the spectral loss.

    Returns
    -------
    (m, m)
        Entry (j, k): rate at which k enters in place of j. Negative: j stays.

    Raises
    ------
    ValueError
        If a sigma is not positive, `beta` is negative, or the lengths differ.
    """
    gammas = _check.finite("gammas", gammas, ndim=1)
    sigmas = _check.positive("sigmas", sigmas, ndim=1)
    beta = float(_check.nonnegative("beta", beta, ndim=0))
    if gammas.shape != sigmas.shape:
        raise ValueError(
            f"`gammas` and `sigmas` must have one length; got {len(gammas)} and "
            f"{len(sigmas)}"
        )
    rhos = gammas / sigmas
    return 8.0 * beta * sigmas * (rhos - rhos[:, None])
