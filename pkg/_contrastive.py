"""ContrastiveModes: what every solver of `pkg.kpca` returns.

A private half of `pkg.kpca`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pkg import _check, _factor, _kernel_checks, _krylov, _modes, spectra
from pkg.record import Trajectory

_ARRAYS = ("gammas", "embeddings", "dual", "residuals", "weights")


@dataclass(frozen=True, eq=False, kw_only=True)
class ContrastiveModes:
    """The modes that self-supervised learning finds in a kernel, in order.

    The embedding of mode j at the end of training is F_j, and at time t it is
    sqrt(c_j(t)) F_j with c_j the column j of `trajectory`. Outputs may be rotated
    together: compare spans, and where two gammas are close not even single columns.
    Signs are cosmetic (largest entry positive). Introduced in chapter 7.

    Attributes
    ----------
    gammas : (d,)
        Eigenvalues of P K / (2n), descending, all positive.
    embeddings : (2n, d)
        F, of the 2n views in the order of K: (1/2n) F^T P F is the identity.
    dual : (2n, d)
        alpha, with K alpha = F: the coefficients that embed new points.
    n_positive : int or None
        Number of positive modes. None where only the top of the spectrum was computed:
        then at least d, and exactly n if K is positive definite.
    rank : int or None
        Numerical rank of K; None where it was not computed.
    gap : float
        gamma_d / gamma_{d+1}: where it is near one, the last modes mix. Infinite if no
        positive mode follows.
    residuals : (d,)
        K-norms of P K a_j / (2n) - gamma_j a_j, as the solver measured them, where
        ||u||_K^2 = u^T K u and a_j = sqrt(gamma_j) times column j of `dual`; zero if
        P K a_j = 2n gamma_j a_j holds exactly.
    passes : int
        Blocks for which K was multiplied; 0 for methods that factor it.
    method : str
        What was done.
    error : float
        Share of K's trace that a low rank left out; 0 for all other methods.
    weights : (m, d) or None
        Weights on the features, where `fit_features` made the modes.
    """

    gammas: Float[np.ndarray, " d"]
    embeddings: Float[np.ndarray, "two_n d"]
    dual: Float[np.ndarray, "two_n d"]
    n_positive: int | None
    rank: int | None
    gap: float
    residuals: Float[np.ndarray, " d"]
    passes: int
    method: str
    error: float = 0.0
    weights: Float[np.ndarray, "m d"] | None = None

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                frozen = getattr(self, name).view()
                frozen.setflags(write=False)
                object.__setattr__(self, name, frozen)

    def embed(self, k_new: Float[np.ndarray, "q two_n"]) -> Float[np.ndarray, "q d"]:
        """Embed new points, given their kernel with the 2n views: k_new @ dual.

        No inverse is needed. ``embed(K)`` returns `embeddings`, up to the residuals.

        Raises
        ------
        ValueError
            If `k_new` is not finite, or not (q, 2n) in the order of K.
        """
        return _times("k_new", k_new, self.dual, "one column a view, in K's order")

    def embed_features(self, phi: Float[np.ndarray, "q m"]) -> Float[np.ndarray, "q d"]:
        """Embed new points, given their features: phi @ weights.

        Raises
        ------
        ValueError
            If the modes come from a kernel matrix, which knows no features: use
            `embed`; or if `phi` is not finite, or not (q, m).
        """
        if self.weights is None:
            raise ValueError(
                f"`phi` needs weights, and modes of method {self.method!r} have none; "
                "use embed(k_new), or make the modes with fit_features"
            )
        return _times("phi", phi, self.weights, "one column a feature")

    def trajectory(
        self, t: Float[np.ndarray, " T"], s0: Float[np.ndarray, " d"] | float
    ) -> Trajectory:
        """Solve the training of the kernel model from a small aligned start.

        The same logistic equations as for the linear model (`pkg.dynamics`): mode j of
        the function starts at s0 times its unit vector in feature space.

        Parameters
        ----------
        t : (T,)
            Flow time: under gradient descent the learning rates summed.
        s0 : float or (d,)
            Initial singular values, one for all modes or one each.

        Returns
        -------
        Trajectory
            ``eigenvalues`` (T, d) of the cross-correlation, column j for gammas[j].

        Raises
        ------
        ValueError
            If `s0` is not positive, or times do not increase.

        Warns
        -----
        UserWarning
            If the modes are of a low rank, with its error.
        """
        self._warn_of_low_rank()
        modes = _modes.solve(self.gammas, s0)
        c = modes.gammas * modes.s0**2 * modes.growth(t)
        return Trajectory(
            t=t,
            loss=np.sum((1.0 - c) ** 2, axis=1),
            eigenvalues=c,
            order="mode",
            matrix="cross-correlation",
            source=f"kernel modes, {self.method}",
        )

    def step_times(
        self, s0: Float[np.ndarray, " d"] | float
    ) -> Float[np.ndarray, " d"]:
        """Predict when each mode is half learned: ln(1 / (gamma s0^2) - 1) / (8 gamma).

        Raises
        ------
        ValueError
            If `s0` is not positive, or so large that a mode starts half learned.

        Warns
        -----
        UserWarning
            If the modes are of a low rank: its gammas are too low and its times late.
        """
        self._warn_of_low_rank()
        modes = _modes.solve(self.gammas, s0)
        c0 = modes.fill
        if np.any(c0 >= 0.5):
            j = int(np.flatnonzero(c0 >= 0.5)[0])
            raise ValueError(
                f"`s0` is too large for a step: mode {j + 1} starts at {c0[j]:.3g} of "
                "its final eigenvalue, already half learned. Use `s0` below "
                f"{np.sqrt(0.5 / modes.gammas[j]):.3g}"
            )
        return np.log1p((1.0 - 2.0 * c0) / c0) / modes.rates

    def _warn_of_low_rank(self) -> None:
        if self.error > 0:
            _kernel_checks.warn(
                f"these gammas are those of a kernel that lacks {self.error:.2%} of "
                "K's trace: they lie below the true ones, so times come out late. Use "
                "`fit` for times"
            )


def _times(name: str, rows: np.ndarray, matrix: np.ndarray, meaning: str) -> np.ndarray:
    rows = _check.finite(name, rows, ndim=2)
    if rows.shape[1] != len(matrix):
        raise ValueError(
            f"`{name}` must have {len(matrix)} columns, {meaning}; got {rows.shape}"
        )
    return rows @ matrix


def from_factor(
    L: np.ndarray,
    d: int | None,
    scale: float,
    rank: int | None,
    method: str,
    *,
    error: float = 0.0,
    features: np.ndarray | None = None,
) -> ContrastiveModes:
    """Return the modes of the kernel scale L L^T.

    Parameters
    ----------
    L : (2n, r)
        Any factor.
    d : int or None
        How many modes, or all positive ones.
    scale, rank, method, error
        As in the result; the gammas are multiplied by `scale`.
    features : (2n, m), optional
        Where weights are wanted: sqrt(scale) times these are the features.

    Returns
    -------
    ContrastiveModes
    """
    solved = _factor.solve(L, d)
    _kernel_checks.refuse_missing(d, solved.n_positive)
    k = solved.vectors.shape[1]
    F = spectra.fix_signs(L @ solved.vectors / np.sqrt(solved.gammas[:k]))
    weights = None
    if features is not None:
        dual = _krylov.swap(F) / (len(F) * solved.gammas[:k])
        weights = features.T @ dual / np.sqrt(scale)
    return from_embeddings(
        F,
        solved.gammas[: k + 1] * scale,
        n_positive=solved.n_positive,
        rank=rank,
        residuals=solved.residuals * scale,
        passes=0,
        method=method,
        error=error,
        weights=weights,
    )


def from_products(
    product: Callable[[np.ndarray], np.ndarray],
    size: int,
    d: int | None,
    tol: float,
    noise: float = 0.0,
) -> ContrastiveModes:
    """Return the `d` largest modes of K, 2n = `size`, from V -> K V alone.

    Parameters are otherwise those of `_krylov.solve`.
    """
    if d is None:
        raise ValueError("`d` is missing; 'krylov' finds only the largest modes")
    d, scale = _kernel_checks.count(d, size // 2), 0.0

    def scaled(V: np.ndarray) -> np.ndarray:
        nonlocal scale
        found = product(V)
        scale = scale or _kernel_checks.scale("K", np.abs(found).max())
        return found / scale

    ritz = _krylov.solve(scaled, size, d, tol=tol, noise=noise)
    if not ritz.settled:
        _kernel_checks.refuse_negative(ritz.lowest, ritz.noise)
        reached = max(ritz.residuals, default=1.0) / max(ritz.gammas, default=1.0)
        raise _krylov.Unsettled(
            f"the Krylov iteration lost directions of K among those that K cannot tell "
            f"from zero, and stopped at residuals of {reached:.1e} gamma_1; ask for "
            "fewer modes, or give the matrix to method 'cholesky'"
        )
    _kernel_checks.refuse_indefinite(ritz.lowest, ritz.noise)
    _kernel_checks.refuse_missing(d, ritz.n_positive)
    if ritz.single:
        _kernel_checks.doubt_single(ritz.gammas[:d])
    F = ritz.images / np.sqrt(ritz.gammas[:d])
    return from_embeddings(
        F,
        ritz.gammas * scale,
        n_positive=ritz.n_positive,
        rank=ritz.rank,
        residuals=ritz.residuals * scale,
        passes=ritz.passes,
        method="krylov",
    )


def from_kernel(
    K: np.ndarray, d: int | None, method: str, noise: float
) -> ContrastiveModes:
    """Return modes of a kernel matrix: by its eigenpairs, or by pivoted Cholesky.

    Parameters are those of `kpca.fit`; pivots and eigenvalues below `noise` times the
    largest are cut off.
    """
    scale = _kernel_checks.scale("K", K.diagonal().max())
    K = K / scale
    if method != "dense":
        L = _factor.cholesky(K, noise)
        missing, limit = _factor.unexplained(K, L), len(K) * noise
    else:
        L, lowest = _factor.spectral(K, noise)
        missing, limit = -lowest, noise
    _kernel_checks.refuse_indefinite(-missing, limit)
    return from_factor(L, d, scale, L.shape[1], method)


def from_embeddings(F: np.ndarray, gammas: np.ndarray, **rest: Any) -> ContrastiveModes:
    """Fill in the dual and the gap; `gammas` has one entry more than F, if K has."""
    F = spectra.fix_signs(F)
    d = F.shape[1]
    after = gammas[d] if len(gammas) > d else 0.0
    if rest["n_positive"] is not None and d == rest["n_positive"]:
        after = 0.0
    gap = float(gammas[d - 1] / after) if after > 0 else np.inf
    if gap < 1.05:
        _kernel_checks.warn(
            f"gamma_{d} / gamma_{d + 1} is {gap:.4f}: the last modes hang on little. "
            "Choose `d` at a gap of the spectrum"
        )
    gammas = gammas[:d]
    # P F / (2n gamma): the coefficients of F without an inverse of K.
    dual = _krylov.swap(F) / (len(F) * gammas)
    return ContrastiveModes(gammas=gammas, embeddings=F, dual=dual, gap=gap, **rest)
