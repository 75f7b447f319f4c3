"""The linear Barlow Twins model, solved: f(x) = W x under ||W Gamma W^T - I||_F^2.

Gradient flow from a small start learns the top eigenvectors of Gamma one at a time.
Every formula here is derived in chapter 3; `pkg.flow` integrates the same model without
any of them.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra
from pkg.record import Trajectory

Blocks = tuple[tuple[int, int], ...]


def cross_correlation(
    x: Float[np.ndarray, "n m"],
    x_prime: Float[np.ndarray, "n m"],
    *,
    center: bool = False,
) -> Float[np.ndarray, "m m"]:
    """Average the outer products of paired views, in both orders.

    Gamma = (1/2n) sum_i (x_i x'_i^T + x'_i x_i^T) is symmetric, and in a finite sample
    almost never positive semi-definite. Introduced in chapter 3.

    Parameters
    ----------
    x, x_prime : (n, m)
        Two views, row i with row i.
    center : bool
        Subtract the mean over all 2n views first. Without it the first mode of raw
        pixels is usually their mean.

    Returns
    -------
    (m, m)

    Raises
    ------
    ValueError
        If the shapes differ or an entry is not finite.
    """
    x, x_prime = _check.paired("x", x, "x_prime", x_prime)
    if center:
        mean = (x.mean(axis=0) + x_prime.mean(axis=0)) / 2
        x, x_prime = x - mean, x_prime - mean
    product = x.T @ x_prime
    return (product + product.T) / (2 * len(x))


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
    """

    U: Float[np.ndarray, "d d"]
    V: Float[np.ndarray, "m d"]
    s0: Float[np.ndarray, " d"]
    gammas: Float[np.ndarray, " d"]
    blocks: Blocks
    n_positive: int


def effective_start(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    *,
    tie_tol: float = 1e-6,
) -> EffectiveStart:
    """Replace a generic small start by the aligned start it behaves like.

    Column j of W(0) V grows at its own rate until mode j saturates, and saturation
    removes that direction from every later column: Gram-Schmidt, done by the dynamics
    itself. Hence W(0) V = Q R gives U = Q and s_j(0) = R_jj. Modes with equal gamma
    grow together, so inside a tied block the singular values of R take the place of
    its diagonal. Introduced in chapter 5.

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
    # A tie may reach beyond mode d: then all its modes compete for the last outputs.
    V = every_v[:, : blocks[-1][1]]
    U, s0, V = _gram_schmidt(W0 @ V, V, blocks)
    return EffectiveStart(
        U=U,
        V=V,
        s0=s0,
        gammas=every_gamma[:d],
        blocks=blocks,
        n_positive=spectra.count_positive(every_gamma),
    )


def _tied_blocks(gammas: np.ndarray, d: int, tie_tol: float) -> Blocks:
    """Split modes into tied runs, as far as the run that holds mode d."""
    size = np.maximum(np.abs(gammas[1:]), np.abs(gammas[:-1]))
    cuts = np.flatnonzero(gammas[:-1] - gammas[1:] > tie_tol * size) + 1
    edges = [0, *cuts.tolist(), len(gammas)]
    return tuple((a, b) for a, b in itertools.pairwise(edges) if a < d)


def _gram_schmidt(
    columns: np.ndarray, V: np.ndarray, blocks: Blocks
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn columns W(0) V (d, k), k >= d, into U (d, d), s0 (d,) and V (m, d)."""
    Q, R = np.linalg.qr(columns)
    d = len(Q)
    sign = np.where(np.diag(R) < 0, -1.0, 1.0)
    U, R = Q * sign, sign[:, None] * R
    s0, V_new = np.diag(R).copy(), V[:, :d].copy()
    for start, stop in blocks:
        if stop - start > 1:
            rows, tied = slice(start, min(stop, d)), slice(start, stop)
            left, s0[rows], right = np.linalg.svd(R[rows, tied], full_matrices=False)
            U[:, rows], V_new[:, rows] = U[:, rows] @ left, V[:, tied] @ right.T
    if s0.min() <= d * np.finfo(np.float64).eps * s0.max():
        j = int(s0.argmin())
        raise ValueError(
            f"`W0` misses mode {j + 1}: s0 is {s0[j]:.3g} there. Draw W0 at random"
        )
    return U, s0, V_new


def singular_values(
    t: Float[np.ndarray, " T"],
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    lr: float | None = None,
) -> Float[np.ndarray, "T d"]:
    """Solve ds/dt = 4 gamma s (1 - gamma s^2) for every mode.

    s(t)^2 = s0^2 / (e + gamma s0^2 (1 - e)) with e = exp(-8 gamma t): positive modes
    settle at gamma^{-1/2}, zero modes stand still, negative modes decay.
    Introduced in chapter 3.

    Parameters and errors are those of `closed_form`; the result is (T, d).
    """
    growth, _, s0 = _growth(t, gammas, s0, lr)
    return s0 * np.sqrt(growth)


def closed_form(
    t: Float[np.ndarray, " T"],
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    lr: float | None = None,
) -> Trajectory:
    """Solve the linear Barlow Twins model from a small aligned start.

    Every mode obeys its own logistic equation, so each eigenvalue of C rests near
    zero, rises once, and settles at one. Well-separated gammas make the rises look
    like the treads of a staircase. Introduced in chapter 3.

    Parameters
    ----------
    t : (T,)
        Flow time: dW/dt = -dL/dW with L = ||C - I||_F^2. Gradient descent with
        learning rate eta reaches time eta * k after k steps.
    gammas : (d,)
        Eigenvalues of Gamma, largest first by convention, of any sign: a mode with
        gamma <= 0 is never learned, and its column stays near zero.
    s0 : float or (d,)
        Initial singular values of W: one for all modes, or one each. Steps are sharp
        when gammas * s0**2 << 1.
    lr : float, optional
        Learning rate of plain gradient descent; left out, the continuous flow. The
        growth from a small start is then exact, the approach to one only nearly. It
        must lie below `stable_lr` of the moduli of gammas.

    Returns
    -------
    Trajectory
        ``eigenvalues`` is (T, d), column j belonging to ``gammas[j]``.

    Raises
    ------
    ValueError
        If `s0` is not positive (from s0 = 0 nothing ever moves), times do not
        increase, a number is not finite, or `lr` is too large.

    References
    ----------
    Derived in chapter 3, after "On the Stepwise Nature of Self-Supervised
    Learning", arXiv:2303.15438.
    """
    growth, gammas, s0 = _growth(t, gammas, s0, lr)
    eigenvalues = gammas * s0**2 * growth  # c = gamma s^2
    loss = np.sum((1.0 - eigenvalues) ** 2, axis=1)
    return Trajectory(
        t=t,
        loss=loss,
        eigenvalues=eigenvalues,
        order="mode",
        matrix="cross-correlation",
        source="closed form",
    )


def step_times(
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    lr: float | None = None,
) -> Float[np.ndarray, " d"]:
    """Predict when each mode is half learned.

    The eigenvalue c_j of C crosses 1/2 at tau_j = ln(1/c_j(0) - 1) / (8 gamma_j).
    Descent is slower, see `lr`. Introduced in chapter 3.

    Parameters
    ----------
    gammas : (d,)
        Eigenvalues of Gamma, all positive.
    s0 : float or (d,)
        Initial singular values; every gammas * s0**2 below one half.
    lr : float, optional
        Learning rate of plain gradient descent; left out, the continuous flow. A step
        multiplies a small mode by 1 + 4 lr gamma where the flow has e^(4 lr gamma).

    Returns
    -------
    (d,)
        Flow times; divide by `lr` for steps.

    Raises
    ------
    ValueError
        If a gamma is not positive (such a mode has no step), a mode starts half
        learned or more, or `lr` is too large.
    """
    gammas = _check.positive("gammas", gammas, ndim=1)
    gammas, s0 = _modes(gammas, s0)
    c0 = gammas * s0**2
    if np.any(c0 >= 0.5):
        j = int(np.flatnonzero(c0 >= 0.5)[0])
        limit = float(np.sqrt(0.5 / gammas[j]))
        raise ValueError(
            f"`s0` is too large for a step: mode {j + 1} starts at eigenvalue "
            f"{c0[j]:.3g}, already half learned. Use `s0` below {limit:.3g}"
        )
    return np.log1p((1.0 - 2.0 * c0) / c0) / _rates(gammas, lr)  # ln(1/c0 - 1)


def final_weights(Gamma: Float[np.ndarray, "m m"], d: int) -> Float[np.ndarray, "d m"]:
    """Find the weights that a small start reaches, up to a rotation of the outputs.

    Row j is gamma_j^{-1/2} v_j^T. Of all W with W Gamma W^T = I it has the least
    norm, sum_j 1 / gamma_j. Introduced in chapter 3.

    Parameters
    ----------
    Gamma : (m, m)
        Symmetric cross-correlation.
    d : int
        Embedding dimensions.

    Returns
    -------
    (d, m)
        W, rows in the order in which they are learned.

    Raises
    ------
    ValueError
        If Gamma has fewer than `d` positive eigenvalues: no weights reach C = I.
    """
    d = _check.count("d", d)
    gammas, V = spectra.top_eigenpairs(_check.symmetric("Gamma", Gamma))
    n_positive = spectra.count_positive(gammas)
    if d > n_positive:
        raise ValueError(
            f"`d` is {d}, but Gamma has only {n_positive} positive eigenvalues and "
            "other modes are never learned; use fewer dimensions or more pairs"
        )
    return V[:, :d].T / np.sqrt(gammas[:d, None])


def stable_lr(gammas: Float[np.ndarray, " d"]) -> float:
    """Give the learning rate from which descent no longer settles on the top modes.

    At C = I the largest curvature of the loss is 8 gamma_1, so descent is stable below
    1 / (4 gamma_1), and without overshoot below half of that. See chapter 5.

    Parameters
    ----------
    gammas : (d,)
        Eigenvalues of Gamma; the largest must be positive.

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
    return 1.0 / (4.0 * top)


def _growth(
    t: np.ndarray, gammas: np.ndarray, s0: np.ndarray | float, lr: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return s(t)^2 / s(0)^2 (T, d), with the cleaned gammas and s0 (d,)."""
    t = _check.times("t", t)
    gammas, s0 = _modes(gammas, s0)
    c0, negative = gammas * s0**2, gammas < 0
    # Whatever the sign of gamma, only decaying exponentials: exp(8 gamma t) overflows
    # long before the slowest mode has moved.
    # A mode so weak that c0 underflows stands still, as one with gamma = 0.
    rates = np.abs(_rates(gammas, lr) * (c0 != 0))
    decay = np.exp(-rates[:, None] * t)  # (d, T): long rows are quick rows
    rest = np.where(negative, 1.0 - c0, c0)[:, None]  # left when decay is over
    growth = 1.0 / (rest + (1.0 - rest) * decay)
    growth[negative] *= decay[negative]
    return growth.T, gammas, s0


def _rates(gammas: np.ndarray, lr: float | None) -> np.ndarray:
    """Growth rate of each small eigenvalue of C: under the flow, or under descent."""
    if lr is None:
        return 8.0 * gammas
    lr = float(_check.positive("lr", lr, ndim=0))
    limit = stable_lr(np.abs(gammas))
    if lr >= limit:
        raise ValueError(f"`lr` is {lr:.3g}; descent is stable only below {limit:.3g}")
    return 2.0 * np.log1p(4.0 * lr * gammas) / lr


def _modes(gammas: np.ndarray, s0: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    gammas = _check.finite("gammas", gammas, ndim=1)
    s0 = _check.positive("s0", s0)
    if s0.shape not in ((), gammas.shape):
        raise ValueError(
            f"`s0` must be one number or one per mode; got shape {s0.shape} for "
            f"{len(gammas)} gammas"
        )
    if s0.min() < 1e-100 or s0.max() > 1e100:
        raise ValueError(
            f"`s0` runs from {s0.min():.3g} to {s0.max():.3g}, and gamma s0^2 would "
            "leave float64; stay between 1e-100 and 1e100"
        )
    return gammas, s0 + np.zeros_like(gammas)  # one each
