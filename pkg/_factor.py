"""Contrastive modes from a factor: K = L L^T, whatever L is.

P K / (2n) and L^T P L / (2n) have the same nonzero eigenvalues, and an eigenvector c of
the latter gives the embedding L c / sqrt(gamma). L may come from pivoted Cholesky, from
the eigenpairs of K, from a few of its columns, or be the features themselves. A private
half of `pkg.kpca`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

from pkg import spectra

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False, kw_only=True)
class Factored:
    """All `gammas` (r,), descending; vectors c (r, k) of the first; their residuals."""

    gammas: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    n_positive: int


def solve(L: np.ndarray, d: int | None) -> Factored:
    """Find the eigenvalues of L^T P L / (2n), and `d` vectors or all positive ones."""
    n, r = len(L) // 2, L.shape[1]
    M = L[:n].T @ L[n:]
    M = (M + M.T) / len(L)
    if r <= 64 or d is None or 4 * d > r:
        gammas, vectors = linalg.eigh(M, check_finite=False)
    else:
        gammas, vectors = _top(M, d)
    gammas, vectors = gammas[::-1], vectors[:, ::-1]
    n_positive = spectra.count_positive(gammas) if gammas.any() else 0
    vectors = vectors[:, : n_positive if d is None else min(d, n_positive)]
    k = vectors.shape[1]
    # In the coordinates of the factor the K-norm is the ordinary one.
    residuals = np.linalg.norm(M @ vectors - vectors * gammas[:k], axis=0)
    return Factored(
        gammas=gammas, vectors=vectors, residuals=residuals, n_positive=n_positive
    )


def _top(M: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all eigenvalues of M (r, r), ascending, and the vectors of the last `d`.

    One reduction to a tridiagonal matrix serves both; it is nearly all of the work.
    """
    r = len(M)
    work = int(lapack.dsytrd_lwork(r, lower=1)[0])
    reflectors, diagonal, beside, tau, _ = lapack.dsytrd(M, lower=1, lwork=work)
    gammas = linalg.eigvalsh_tridiagonal(diagonal, beside)
    try:
        _, vectors = linalg.eigh_tridiagonal(
            diagonal, beside, select="i", select_range=(r - d, r - 1)
        )
    except linalg.LinAlgError:  # inverse iteration fails where many gammas tie
        return linalg.eigh(M, check_finite=False)
    # The reflectors leave the first coordinate alone.
    below = np.asfortranarray(reflectors[1:, :-1])
    rest, _, _ = lapack.dormqr("L", "N", below, tau, vectors[1:], 64 * d)
    return gammas, np.concatenate([vectors[:1], rest])


def cholesky(K: np.ndarray, noise: float) -> np.ndarray:
    """Factor K = L L^T with complete pivoting; L (2n, rank) is in the order of K.

    Stops where every remaining pivot is below `noise` times the largest, so repeated
    points and low-rank kernels cost nothing but their rank.
    """
    # LAPACK reads columns, and K is its own transpose.
    L, pivots, rank, _ = lapack.dpstrf(
        K.T, lower=1, tol=noise * float(K.diagonal().max())
    )
    L = np.tril(L)[:, :rank]
    ordered = np.empty_like(L)
    ordered[pivots - 1] = L
    return ordered


def spectral(K: np.ndarray, noise: float) -> tuple[np.ndarray, float]:
    """Factor K by its eigenpairs; also return its smallest eigenvalue over its largest.

    Eigenvalues below `noise` times the largest are cut off.
    """
    values, Q = linalg.eigh(K, check_finite=False)
    keep = values > noise * values[-1]
    return Q[:, keep] * np.sqrt(values[keep]), float(values[0] / values[-1])


Columns = Callable[[np.ndarray], np.ndarray]


def pivoted(columns: Columns, diagonal: np.ndarray, rank: int) -> np.ndarray:
    """Factor K greedily from at most `rank` of its columns, asked for one by one.

    Each step takes the point that those before explain worst: pivoted Cholesky,
    stopped early.

    Parameters
    ----------
    columns : indices (b,) -> K[:, indices]
    diagonal : (2n,)
        Of K.
    rank : int

    Returns
    -------
    (2n, rank)
        Fewer columns if K has no larger rank.
    """
    L = np.zeros((len(diagonal), rank), order="F")
    left, noise = diagonal.copy(), len(diagonal) * EPS
    for j in range(rank):
        pivot = int(left.argmax())
        if left[pivot] <= noise * diagonal.max():
            return L[:, :j]
        column = columns(np.array([pivot]))[:, 0]
        if column.dtype.itemsize < 8:
            noise = max(noise, EPS32)
        column = column - L[:, :j] @ L[pivot, :j]
        L[:, j] = column / np.sqrt(left[pivot])
        left -= L[:, j] ** 2
        left[pivot] = 0.0  # exactly, so that no point is taken twice
    return L


def nystrom(columns: Columns, landmarks: np.ndarray) -> np.ndarray:
    """Factor K from the columns of `landmarks`: C W^{-1/2}, W the landmarks' own K."""
    given = columns(landmarks)
    C = given.astype(np.float64, copy=False)
    noise = max(len(C) * EPS, EPS32 * (given.dtype.itemsize < 8))
    values, Q = linalg.eigh((C[landmarks] + C[landmarks].T) / 2)
    keep = values > noise * values[-1]
    return C @ (Q[:, keep] / np.sqrt(values[keep]))


def left_out(L: np.ndarray, diagonal: np.ndarray) -> float:
    """Return the share of K's trace that L L^T leaves out; zero up to round-off.

    Of a kernel no entry of the diagonal is exceeded, which is checked: columns alone
    tell little else.
    """
    left = diagonal - np.sum(L**2, axis=1)
    if left.min() < -1e-5 * diagonal.max():
        raise ValueError(
            "`K` is not a kernel: its columns explain more than its diagonal holds, by "
            f"{-left.min() / diagonal.max():.1e} of the largest entry. Check that K is "
            "symmetric, and that the diagonal belongs to it"
        )
    share = 1.0 - float(np.sum(L**2)) / float(diagonal.sum())
    return share if share > len(L) * EPS else 0.0


def unexplained(K: np.ndarray, L: np.ndarray) -> float:
    """Measure K - L L^T on a few random vectors, relative to K."""
    X = np.random.default_rng(0).standard_normal((len(K), 8))
    KX = (X.T @ K).T
    return float(np.linalg.norm(KX - L @ (L.T @ X)) / np.linalg.norm(KX))
