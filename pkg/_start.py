"""How a generic small start is read: as the aligned start it behaves like.

A private half of `pkg.dynamics`; derived in chapter 4.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra

# Neighbours closer than this share of the larger one are one eigenvalue.
TIE_TOL = 1e-6
Blocks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class EffectiveStart:
    """The aligned start W(0) = U diag(s0) V^T that a small start behaves like.

    Attributes
    ----------
    U, V : (d, d), (m, d)
        Column j of U is the embedding direction in which mode j rises; V holds the top
        eigenvectors of Gamma, rotated inside tied blocks.
    s0, gammas : (d,)
        Initial singular value and eigenvalue of each mode, the latter descending.
    blocks : tuple of (int, int)
        Half-open ranges of tied modes; an untied mode is a range of length one. The
        last range may reach beyond mode d.
    n_positive : int
        Positive eigenvalues among all m: at most so many modes are ever learned.
    s0_apart, s0_together : (d,)
        Two further readings, for neighbours that are nearly tied. Apart: every mode on
        its own, the diagonal of the QR. Together: runs of neighbours closer than
        0.3 / ln(1/s0) of the larger, in units where gamma is one, share the singular
        values of their block.
    near_ties : tuple of (int, int)
        Half-open ranges where the two readings differ and neither is right: the truth
        lies between them. Empty when nothing is a matter of taste.
    """

    U: Float[np.ndarray, "d d"]
    V: Float[np.ndarray, "m d"]
    s0: Float[np.ndarray, " d"]
    gammas: Float[np.ndarray, " d"]
    blocks: Blocks
    n_positive: int
    s0_apart: Float[np.ndarray, " d"]
    s0_together: Float[np.ndarray, " d"]
    near_ties: Blocks


def effective_start(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    *,
    tie_tol: float = TIE_TOL,
) -> EffectiveStart:
    """Replace a generic small start by the aligned start it behaves like.

    Column j of W(0) V grows at its own rate until mode j saturates, and saturation
    removes that direction from every later column: Gram-Schmidt, done by the dynamics
    itself. Hence W(0) V = Q R gives U = Q and s_j(0) = R_jj. Modes with equal gamma
    grow together, so inside a tied block the singular values of R take the place of
    its diagonal. Introduced in chapter 4.

    Parameters
    ----------
    W0 : (d, m)
        Weights at time 0, small: the smaller, the better the match.
    Gamma : (m, m)
        Symmetric cross-correlation, of any signature.
    tie_tol : float
        Neighbours whose gammas differ by less than this share of the larger modulus
        are treated as tied.

    Returns
    -------
    EffectiveStart

    Raises
    ------
    ValueError
        If shapes disagree, d exceeds m, or W0 has no part along a mode it needs.
    """
    W0 = _check.finite("W0", W0, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    d, m = W0.shape
    if len(Gamma) != m:
        raise ValueError(
            f"`W0` is {W0.shape}, so `Gamma` must be ({m}, {m}); got {Gamma.shape}"
        )
    if d > m:
        raise ValueError(
            f"`W0` embeds in d = {d} dimensions, more than m = {m} features; use fewer"
        )
    every_gamma, every_v = spectra.top_eigenpairs(Gamma)
    blocks = _tied_blocks(every_gamma, d, tie_tol)
    U, s0, V = _gram_schmidt(W0, every_v, blocks)
    if s0.min() <= d * np.finfo(np.float64).eps * s0.max():
        j = int(s0.argmin())
        raise ValueError(
            f"`W0` misses mode {j + 1}: s0 is {s0[j]:.3g} there. Draw W0 at random"
        )
    s0_apart = _gram_schmidt(W0, every_v, tuple((j, j + 1) for j in range(d)))[1]
    runs = _tied_blocks(every_gamma, d, _nearness(every_gamma, s0, tie_tol))
    return EffectiveStart(
        U=U,
        V=V,
        s0=s0,
        gammas=every_gamma[:d],
        blocks=blocks,
        n_positive=spectra.count_positive(every_gamma),
        s0_apart=s0_apart,
        s0_together=_gram_schmidt(W0, every_v, runs)[1],
        near_ties=tuple(run for run in runs if run not in blocks),
    )


def _nearness(gammas: np.ndarray, s0: np.ndarray, tie_tol: float) -> np.ndarray:
    """Relative gaps (m - 1,) below which two modes grow up almost together."""
    learned = gammas[: len(s0)] > 0
    near = np.full(len(gammas) - 1, tie_tol)
    if learned.any():
        # ln(1/s0) in units where gamma is one, and at least one: for a start that is
        # not small nothing is predicted anyway.
        c0 = np.median(gammas[: len(s0)][learned] * s0[learned] ** 2)
        threshold = 0.3 / max(1.0, -0.5 * float(np.log(c0)))
        near[gammas[1:] > 0] = max(threshold, tie_tol)
    return near


def _tied_blocks(gammas: np.ndarray, d: int, tie_tol: float | np.ndarray) -> Blocks:
    """Split modes into tied runs, as far as the run that holds mode d."""
    size = np.maximum(np.abs(gammas[1:]), np.abs(gammas[:-1]))
    cuts = np.flatnonzero(gammas[:-1] - gammas[1:] > tie_tol * size) + 1
    edges = [0, *cuts.tolist(), len(gammas)]
    return tuple((a, b) for a, b in itertools.pairwise(edges) if a < d)


def _gram_schmidt(
    W0: np.ndarray, every_v: np.ndarray, blocks: Blocks
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn W(0) and all eigenvectors (m, m) into U (d, d), s0 (d,) and V (m, d)."""
    # A tie may reach beyond mode d: then all its modes compete for the last outputs.
    V = every_v[:, : blocks[-1][1]]
    Q, R = np.linalg.qr(W0 @ V)
    d = len(Q)
    sign = np.where(np.diag(R) < 0, -1.0, 1.0)
    U, R = Q * sign, sign[:, None] * R
    s0, V_new = np.diag(R).copy(), V[:, :d].copy()
    for start, stop in blocks:
        if stop - start > 1:
            rows, tied = slice(start, min(stop, d)), slice(start, stop)
            left, s0[rows], right = np.linalg.svd(R[rows, tied], full_matrices=False)
            U[:, rows], V_new[:, rows] = U[:, rows] @ left, V[:, tied] @ right.T
    return U, s0, V_new


@dataclass(frozen=True, kw_only=True)
class ErrorOrder:
    """Powers of the start's scale with which two errors of the prediction vanish.

    Attributes
    ----------
    weights : float
        Of sup_t ||W(t) - W*(t)||_F, the distance from the aligned solution.
    subspace : float
        Of the final row space against the top eigenvectors; ``inf`` where d = m leaves
        no other direction.
    """

    weights: float
    subspace: float


def error_order(gammas: Float[np.ndarray, " m"], d: int) -> ErrorOrder:
    """Predict how fast the aligned prediction becomes right as the start shrinks.

    Mode k goes on growing along u_j until mode j is learned, to alpha^(1 - gamma_k /
    gamma_j) from a start of size alpha; then that part is frozen. So the weights are
    off by alpha^p with p = min_j (1 - gamma_{j+1} / gamma_j), which neighbours decide.
    Turns inside the learned subspace cost nothing, so the subspace only waits for the
    first mode left out: q = 1 - gamma_{d+1} / gamma_d, or, where gamma_{d+1} is
    negative and shrinks, q = 1 + abs(gamma_{d+1}) / gamma_1. Both hold in the limit;
    above alpha = 1e-4 the slope is often lower. Introduced in chapter 4.

    Parameters
    ----------
    gammas : (m,)
        All eigenvalues of Gamma, descending.
    d : int
        Embedding dimensions, no more than there are positive gammas.

    Returns
    -------
    ErrorOrder
        A tie between modes d and d + 1 makes both 0: no start, however small, tells
        which of two equal modes is the last. Ties among the first d cost nothing,
        since `effective_start` treats a tied block as one.

    Raises
    ------
    ValueError
        If `gammas` do not descend, or `d` exceeds the number of positive ones.
    """
    gammas = _check.finite("gammas", gammas, ndim=1)
    if np.any(np.diff(gammas) > 0):
        raise ValueError("`gammas` must descend; sort them, largest first")
    d = _check.count("d", d)
    n_positive = spectra.count_positive(gammas)
    if d > n_positive:
        raise ValueError(
            f"`d` is {d}, but only {n_positive} of `gammas` are positive and other "
            "modes are never learned; use fewer dimensions"
        )
    ratios = gammas[1 : d + 1] / gammas[: len(gammas[1 : d + 1])]
    tied = ratios[: d - 1] > 1.0 - TIE_TOL
    # The start itself differs from the aligned one by alpha: no order above one.
    weights = float(1.0 - max(0.0, *ratios[: d - 1][~tied], *ratios[d - 1 :]))
    if d == len(gammas):
        return ErrorOrder(weights=weights, subspace=np.inf)
    last = gammas[d]
    subspace = 1.0 - last / gammas[d - 1] if last >= 0 else 1.0 - last / gammas[0]
    return ErrorOrder(weights=weights, subspace=float(subspace))
