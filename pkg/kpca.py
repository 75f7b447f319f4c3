"""Contrastive kernel PCA: what self-supervised learning finds in a kernel.

The modes are eigenvectors of P K / (2n): K is the kernel of all 2n views, all of x
before all of x', and P swaps the two halves. Neither a root nor an inverse of K is
needed, and for the largest modes not even K itself, only its products. The solvers live
in `pkg._krylov` (products) and `pkg._factor` (factors of K), the result in
`pkg._contrastive`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from pkg import _check, _factor, _kernel_checks, _krylov
from pkg._contrastive import (
    ContrastiveModes,
    from_factor,
    from_kernel,
    from_products,
)

__all__ = [
    "ContrastiveKernelPCA",
    "ContrastiveModes",
    "fit",
    "fit_features",
    "fit_low_rank",
]

METHODS = ("auto", "krylov", "cholesky", "dense")
EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)

Kernel = Float[np.ndarray, "two_n two_n"]


def fit(
    K: Kernel | Callable[[np.ndarray], np.ndarray],
    d: int | None = None,
    *,
    n: int | None = None,
    method: str = "auto",
    tol: float = 1e-8,
) -> ContrastiveModes:
    """Find the modes that contrastive learning finds in a kernel.

    P K / (2n) has as many positive eigenvalues as can be learned, at most n; the
    largest is learned first. Introduced in chapter 7.

    Parameters
    ----------
    K : (2n, 2n), or a callable V -> K V
        Kernel of all views: the n of x first, then the n of x', in the same order. No
        check can tell a wrong order. A callable takes (2n, b) float64 and returns as
        much. A matrix in float32 is solved in float64, which takes a copy of twice its
        size; one that is asymmetric by round-off is symmetrised, in a copy too.
    d : int, optional
        How many modes; all positive ones when left out. A callable needs it.
    n : int, optional
        Number of pairs. A callable needs it; a matrix is held to it.
    method : "auto", "krylov", "cholesky" or "dense"
        "krylov": block Krylov iteration in the K-inner product, from products alone,
        with blocks of 24 to 64 columns; its basis holds max(4 d, 12 blocks) columns and
        is compressed when full. "cholesky": pivoted Cholesky and the eigenpairs of
        L^T P L / (2n). "dense": the same after a spectral cut-off, the slowest and the
        reference. "auto": "krylov" for a callable and for d <= n / 10 of more than 750
        pairs, else "cholesky"; `method` of the result says which, and "cholesky, after
        krylov" where K is so singular that "krylov" did not converge.
    tol : float
        For "krylov": stop when every residual P K a_j / (2n) - gamma_j a_j is below
        tol gamma_d in the K-norm, ||u||_K^2 = u^T K u, where P K a_j = 2n gamma_j a_j
        is wanted. The gammas are then right to tol gamma_d, and to about tol^2 gamma_d
        where gaps are wide; spans to tol over the gap. Products in float32 reach no
        less than 1e-4, and stop there. Where K is exhausted first, round-off may leave
        more, up to gamma_j / 1000; and where a singular K has clusters of nearly equal
        gammas, "krylov" has been seen to be off by 2e-5: use "cholesky" there.

    Returns
    -------
    ContrastiveModes

    Raises
    ------
    ValueError
        If K is not finite, symmetric and positive semi-definite, has an odd number of
        rows, or has fewer than `d` positive modes: ask for fewer. An eigenvalue below
        -1e-6 of the largest is taken for no round-off. "krylov" sees only the
        directions it meets.
    RuntimeError
        If "krylov", asked for or given a callable, does not reach `tol` in 500 passes,
        or loses directions of a singular K twice.

    Warns
    -----
    UserWarning
        If gamma_d / gamma_{d+1} is below 1.05, so that the last modes hang on little;
        if K is indefinite by more than round-off; or if a kernel in float32 is asked
        for modes below a millionth of its largest.

    References
    ----------
    "On the Stepwise Nature of Self-Supervised Learning", arXiv:2303.15438, for the
    kernel; derived without the inverse in chapter 7.
    """
    method = _check.choice("method", method, METHODS)
    tol = float(_check.positive("tol", tol, ndim=0))
    if callable(K):
        return _fit_product(K, d, n, method, tol)
    single = _kernel_checks.single("K", K)
    K = _kernel_checks.matrix(K, n, single)
    size = len(K)
    d = None if d is None else _kernel_checks.count(d, size // 2)
    few = d is not None and size > 1500 and 20 * d <= size
    modes, said = None, "cholesky" if method == "auto" else method
    if method == "krylov" or (method == "auto" and few):
        try:
            # K is its own transpose, and BLAS is faster with the large factor last.
            modes = from_products(
                lambda V: (V.T @ K).T, size, d, tol, EPS32 / 10 * single
            )
        except _krylov.Unsettled:
            if method == "krylov":
                raise
            said = "cholesky, after krylov"
    if modes is None:
        modes = from_kernel(K, d, said, max(size * EPS, EPS32 * single))
    if single:
        _kernel_checks.doubt_single(modes.gammas)
    return modes


def fit_features(
    phi: Float[np.ndarray, "n m"],
    phi_prime: Float[np.ndarray, "n m"],
    d: int | None = None,
) -> ContrastiveModes:
    """Find the contrastive modes of features, K = Phi Phi^T, without forming K.

    The gammas are the eigenvalues of Gamma = (1/2n) Phi^T P Phi, as in the linear
    model. Where there are more features than views, K is smaller and is formed after
    all. Introduced in chapter 7.

    Parameters
    ----------
    phi, phi_prime : (n, m)
        Features of the two views, row i with row i.
    d : int, optional
        How many modes; all positive ones when left out.

    Returns
    -------
    ContrastiveModes
        With `weights` (m, d), so that ``embed_features`` embeds new points.

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, squares leave float64, or there
        are fewer than `d` positive modes: ask for fewer.

    Warns
    -----
    UserWarning
        As `fit`, of a small gap.
    """
    phi, phi_prime = _check.paired("phi", phi, "phi_prime", phi_prime)
    Phi = np.concatenate([phi, phi_prime])
    size, m = Phi.shape
    d = None if d is None else _kernel_checks.count(d, size // 2)
    scale = _kernel_checks.scale("phi", np.abs(Phi).max())
    if not np.finfo(np.float64).tiny <= scale * scale < np.inf:
        raise ValueError(
            f"`phi` has entries up to {scale:.1e}, whose squares leave float64; divide "
            "both by it"
        )
    Phi /= scale
    if m < size:
        rank = _factor.cholesky(Phi.T @ Phi, size * EPS).shape[1]
        L = Phi
    else:
        L = _factor.cholesky(Phi @ Phi.T, size * EPS)
        rank = L.shape[1]
    return from_factor(L, d, scale**2, rank, "features", features=Phi)


def fit_low_rank(
    K: Kernel | Callable[[np.ndarray], np.ndarray],
    d: int,
    *,
    rank: int,
    landmarks: str = "pivoted",
    diagonal: Float[np.ndarray, " two_n"] | None = None,
    rng: np.random.Generator | None = None,
) -> ContrastiveModes:
    """Find contrastive modes from a few columns of the kernel: an approximation.

    K is replaced by L L^T of the given rank. K - L L^T has no negative eigenvalue: the
    gammas are never too high, and the result says as `error` which share of K's trace
    is missing.
    Its step times and trajectories come with a warning. Where K can be multiplied some
    ten times, `fit` is exact. Introduced in chapter 7.

    Parameters
    ----------
    K : (2n, 2n), or a callable that returns columns
        A kernel matrix, or indices (b,) -> K[:, indices] (2n, b). A matrix is checked
        whole, as by `fit`; of a callable only the columns of the landmarks are read.
    d : int
        How many modes.
    rank : int
        Number of landmarks, at least d.
    landmarks : "pivoted" or "uniform"
        "pivoted": each the point that the others explain worst (pivoted Cholesky), the
        better choice. "uniform": drawn at random (Nystrom's method), all in one call.
    diagonal : (2n,), optional
        The diagonal of K; a callable needs it, and a matrix has its own.
    rng : np.random.Generator, optional
        Draws uniform landmarks.

    Returns
    -------
    ContrastiveModes

    Raises
    ------
    ValueError
        If K is no kernel, as far as it is read, `rank` is below `d`, or the
        approximation has fewer than `d` positive modes: raise the rank.

    Warns
    -----
    UserWarning
        As `fit`, of a small gap.

    References
    ----------
    Williams and Seeger, "Using the Nystrom method to speed up kernel machines", NIPS
    2000.
    """
    _check.choice("landmarks", landmarks, ("pivoted", "uniform"))
    if callable(K):
        if diagonal is None:
            raise ValueError(
                "`diagonal` is missing; K's columns do not tell it cheaply"
            )
        columns = K
    else:
        if diagonal is not None:
            raise ValueError("`diagonal` goes with columns; a matrix has its own")
        dtype = np.float32 if _kernel_checks.single("K", K) else np.float64
        matrix = _kernel_checks.matrix(K, None, dtype == np.float32)
        diagonal = np.maximum(matrix.diagonal(), 0.0)  # round-off, as was checked

        def columns(indices: np.ndarray) -> np.ndarray:
            return matrix[:, indices].astype(dtype, copy=False)

    diagonal = _check.nonnegative("diagonal", diagonal, ndim=1)
    size = len(_kernel_checks.even(diagonal, None, "diagonal"))
    d = _kernel_checks.count(d, size // 2)
    rank = _check.count("rank", rank, low=d, high=size)
    scale = _kernel_checks.scale("K", diagonal.max())

    def scaled(indices: np.ndarray) -> np.ndarray:
        given = columns(indices)
        single = _kernel_checks.single("columns of K", given)
        found = _check.finite("columns of K", given, ndim=2)
        if found.shape != (size, len(indices)):
            raise ValueError(
                f"`K` must return ({size}, {len(indices)}) for {len(indices)} indices; "
                f"got {found.shape}"
            )
        return (found / scale).astype(np.float32 if single else np.float64, copy=False)

    if landmarks == "pivoted":
        L = _factor.pivoted(scaled, diagonal / scale, rank)
    else:
        if rng is None:
            raise ValueError("`rng` is missing; uniform landmarks are drawn with it")
        L = _factor.nystrom(scaled, np.sort(rng.choice(size, rank, replace=False)))
    method = f"{landmarks} landmarks, rank {L.shape[1]}"
    error = _factor.left_out(L, diagonal / scale)
    return from_factor(L, d, scale, None, method, error=error)


class ContrastiveKernelPCA:
    """Contrastive kernel PCA with the manners of scikit-learn.

    It can be cloned and set, and loads nothing of scikit-learn. Introduced in
    chapter 7.

    Parameters
    ----------
    kernel : callable
        (x, y=None) -> kernel matrix, as those of `pkg.kernels`; fix further arguments
        with ``functools.partial``.
    d : int
        How many modes.

    Attributes
    ----------
    modes_ : ContrastiveModes
        After `fit`.
    x_ : (2n, m)
        The views it was fitted to.
    kernel_ : callable
        The kernel it was fitted with.
    """

    def __init__(self, kernel: Callable[..., np.ndarray], d: int = 2) -> None:
        self.kernel, self.d = kernel, d

    def fit(
        self, x: Float[np.ndarray, "n m"], x_prime: Float[np.ndarray, "n m"]
    ) -> "ContrastiveKernelPCA":
        """Find the modes of pairs: row i of `x` with row i of `x_prime`."""
        if not callable(self.kernel):
            raise ValueError(
                f"`kernel` is {self.kernel!r}, which cannot be called; pass a function "
                "(x, y=None) -> kernel matrix, as pkg.kernels.rbf"
            )
        views = np.concatenate(_check.paired("x", x, "x_prime", x_prime))
        modes = fit(self.kernel(views), self.d)
        self.modes_, self.x_, self.kernel_ = modes, views, self.kernel
        return self

    def transform(self, x: Float[np.ndarray, "q m"]) -> Float[np.ndarray, "q d"]:
        """Embed new points."""
        if not hasattr(self, "modes_"):
            raise ValueError("ContrastiveKernelPCA is not fitted; call fit first")
        return self.modes_.embed(self.kernel_(_check.finite("x", x, ndim=2), self.x_))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments, as scikit-learn asks for them."""
        return {"kernel": self.kernel, "d": self.d}

    def set_params(self, **params: Any) -> "ContrastiveKernelPCA":
        """Change arguments by name; the modes are those of the last fit."""
        for name, value in params.items():
            setattr(self, _check.choice("params", name, ("kernel", "d")), value)
        return self


def _fit_product(
    product: Callable[[np.ndarray], np.ndarray],
    d: int | None,
    n: int | None,
    method: str,
    tol: float,
) -> ContrastiveModes:
    if n is None:
        raise ValueError("`n` is missing; a product does not tell the number of pairs")
    if method not in ("auto", "krylov"):
        raise ValueError(
            f"`method` is {method!r}, which needs the matrix; a product is solved by "
            "'krylov'"
        )

    def checked(V: np.ndarray) -> np.ndarray:
        # A copy: a product that works in place does not reach the solver's own.
        found = np.asarray(product(V.copy(order="K")))
        _kernel_checks.single("K @ V", found)
        if found.shape != V.shape:
            raise ValueError(
                f"`K` must return the shape that it is given, {V.shape}; got "
                f"{found.shape}"
            )
        _check.finite("K @ V", found)
        return found

    return from_products(checked, 2 * _check.count("n", n), d, tol)
