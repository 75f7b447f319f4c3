"""Deep linear networks: the half of `pkg.relatives` with any number of factors."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from pkg import _check
from pkg._solver import solve
from pkg.record import Trajectory


def deep_linear(
    t: Float[np.ndarray, " T"],
    strengths: Float[np.ndarray, " d"],
    u0: Float[np.ndarray, " d"] | float,
    *,
    depth: int = 2,
) -> Trajectory:
    """Solve a deep linear network from a balanced, aligned start.

    The map is W_N ... W_1 and the loss ||Sigma - W_N ... W_1||_F^2 / 2, for white
    inputs. Every singular value u of the map obeys du/dt = N u^(2 - 2/N) (s - u): an
    exponential relaxation at depth 1, a logistic curve at depth 2, and above that a
    longer wait and a sharper rise. Introduced in chapter 16.

    Parameters
    ----------
    t : (T,)
        Flow time.
    strengths : (d,)
        Singular values s of Sigma, all positive.
    u0 : float or (d,)
        Singular values of the map at the start, positive and below `strengths`. Where
        each of N layers starts at a, this is a^N.
    depth : int
        Number of layers, N.

    Returns
    -------
    Trajectory
        ``eigenvalues`` are the singular values (T, d) of the map, column j belonging to
        ``strengths[j]``. For white inputs the map is the cross-correlation of outputs
        and inputs.

    Raises
    ------
    ValueError
        If a strength or a start is not positive (from 0 nothing ever moves), a start
        is not below its strength, times do not increase, or `depth` is below 1.

    References
    ----------
    Depth 2: Saxe, McClelland and Ganguli, arXiv:1312.6120. Any depth: Arora, Cohen, Hu
    and Luo, arXiv:1905.13655.
    """
    t = _check.times("t", t)
    s, u0 = _strengths(strengths, u0)
    depth = _check.count("depth", depth)
    if depth == 1:
        u = s + (u0 - s) * np.exp(-t)[:, None]
    elif depth == 2:
        u = s / (1.0 + (s / u0 - 1.0) * np.exp(-2.0 * np.outer(t, s)))
    else:
        u = _inverted(t, s, u0, depth)
    return Trajectory(
        t=t,
        loss=np.sum((s - u) ** 2, axis=1) / 2,
        eigenvalues=u,
        order="mode",
        matrix="cross-correlation",
        source=f"closed form, depth {depth}",
    )


def deep_step_times(
    strengths: Float[np.ndarray, " d"],
    u0: Float[np.ndarray, " d"] | float,
    *,
    depth: int = 2,
) -> Float[np.ndarray, " d"]:
    """Predict when each mode of a deep linear network is half learned.

    At depth 2 that is ln(s/u0 - 1) / (2s); at depth N > 2 and a small start nearly
    u0^(2/N - 1) / ((N - 2) s), a power of the start in place of its logarithm.
    Introduced in chapter 16.

    Parameters
    ----------
    strengths, u0, depth
        As in `deep_linear`; every start below half its strength.

    Returns
    -------
    (d,)
        Flow times.

    Raises
    ------
    ValueError
        As `deep_linear`, or if a mode starts half learned or more.
    """
    s, u0 = _strengths(strengths, u0)
    depth = _check.count("depth", depth)
    if np.any(u0 >= s / 2):
        j = int(np.flatnonzero(u0 >= s / 2)[0])
        raise ValueError(
            f"`u0` is too large for a step: mode {j + 1} starts at {u0[j] / s[j]:.3g} "
            "of its strength. Start below one half"
        )
    return _clock(np.full_like(s, 0.5), s, depth) - _clock(u0 / s, s, depth)


def deep_flow(
    t: Float[np.ndarray, " T"],
    Sigma: Float[np.ndarray, "p q"],
    factors: list[np.ndarray],
    *,
    rtol: float = 1e-11,
    atol: float = 1e-14,
) -> Trajectory:
    """Integrate a deep linear network from any start, all its weights together.

    Nothing here knows a mode: dW_l/dt = (W_N ... W_{l+1})^T (Sigma - W_N ... W_1)
    (W_{l-1} ... W_1)^T. Introduced in chapter 16.

    Parameters
    ----------
    t : (T,)
        Flow time.
    Sigma : (p, q)
        What the product is to become.
    factors : list of arrays
        Weights at time 0, first layer first: ``factors[-1] @ ... @ factors[0]`` is
        (p, q).
    rtol, atol : float
        Tolerances of the integrator; `atol` must lie well below the start.

    Returns
    -------
    Trajectory
        The singular values (T, d) of the product, sorted at each time, d = min(p, q).

    Raises
    ------
    ValueError
        If the factors cannot be multiplied to the shape of Sigma, or `t` holds no time
        after 0.
    RuntimeError
        If the integrator gives up: use a smaller start or a shorter `t`.
    """
    Sigma = _check.finite("Sigma", Sigma, ndim=2)
    shapes = _chain(Sigma, factors)
    ends = np.cumsum([rows * columns for rows, columns in shapes])

    def unpack(flat: np.ndarray) -> list[np.ndarray]:
        parts = np.split(flat, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def velocity(flat: np.ndarray) -> np.ndarray:
        Ws = unpack(flat)
        below = [np.eye(Sigma.shape[1])]  # W_{l-1} ... W_1 of every layer
        for W in Ws:
            below.append(W @ below[-1])
        pull, moves = Sigma - below.pop(), []
        for W, first in zip(Ws[::-1], below[::-1], strict=True):
            moves.append((pull @ first.T).ravel())
            pull = W.T @ pull
        return np.concatenate(moves[::-1])

    start = np.concatenate([np.ravel(W) for W in factors]).astype(np.float64)
    # The rate of the equation of one mode at u = s, where layers are balanced.
    top = float(np.linalg.norm(Sigma, 2))
    rate = len(factors) * top ** (2.0 - 2.0 / len(factors))
    remedy = "use smaller `factors` or a shorter `t`"
    products = []
    for flat in solve(
        velocity, start, t, rate=rate, rtol=rtol, atol=atol, remedy=remedy
    ):
        product = np.eye(Sigma.shape[1])
        for W in unpack(flat):
            product = W @ product
        products.append(product)
    maps = np.array(products)  # (T, p, q)
    return Trajectory(
        t=t,
        loss=np.sum((Sigma - maps) ** 2, axis=(1, 2)) / 2,
        eigenvalues=np.linalg.svd(maps, compute_uv=False),
        order="rank",
        matrix="cross-correlation",
        source=f"integrated flow, depth {len(factors)}",
    )


def _clock(share: np.ndarray, s: np.ndarray, depth: int) -> np.ndarray:
    """Antiderivative of dt = du / (N u^(2 - 2/N) (s - u)) at u = share s."""
    from scipy.special import hyp2f1

    if depth == 1:
        return -np.log1p(-share)
    if depth == 2:
        return (np.log(share) - np.log1p(-share)) / (2.0 * s)
    a = 2.0 / depth - 1.0  # the power of u that is left after one integration
    return (share * s) ** a * hyp2f1(1.0, a, a + 1.0, share) / (depth * a * s)


def _inverted(t: np.ndarray, s: np.ndarray, u0: np.ndarray, depth: int) -> np.ndarray:
    """Find u (T, d) at every time by halving an interval of ln(u / (s - u))."""
    goal = t[:, None] + _clock(u0 / s, s, depth)
    low = np.broadcast_to(np.log(u0 / (s - u0)), goal.shape)
    high = np.full(goal.shape, 36.0)  # u = s (1 - 2e-16)
    for _ in range(64):
        middle = (low + high) / 2
        early = _clock(1.0 / (1.0 + np.exp(-middle)), s, depth) < goal
        low, high = np.where(early, middle, low), np.where(early, high, middle)
    return s / (1.0 + np.exp(-(low + high) / 2))


def _strengths(
    strengths: np.ndarray, u0: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    s = _check.positive("strengths", strengths, ndim=1)
    start = _check.positive("u0", u0)
    if start.shape not in ((), s.shape):
        raise ValueError(
            f"`u0` must be one number or one a mode, ({len(s)},); got shape "
            f"{start.shape}"
        )
    start = np.broadcast_to(start, s.shape)
    if np.any(start >= s):
        j = int(np.flatnonzero(start >= s)[0])
        raise ValueError(
            f"`u0` must lie below `strengths`; mode {j + 1} starts at {start[j]:.3g} "
            f"and ends at {s[j]:.3g}. Use a smaller start"
        )
    return s, start


def _chain(Sigma: np.ndarray, factors: list[np.ndarray]) -> list[tuple[int, int]]:
    if not factors:
        raise ValueError("`factors` is empty; pass the weights of one layer at least")
    for i, W in enumerate(factors):
        _check.finite(f"factors[{i}]", W, ndim=2)
    shapes = [W.shape for W in factors]
    fits = all(after[1] == before[0] for before, after in pairwise(shapes))
    if not fits or (shapes[-1][0], shapes[0][1]) != Sigma.shape:
        raise ValueError(
            f"`factors` of shapes {shapes}, first layer first, do not multiply to "
            f"`Sigma`'s shape {Sigma.shape}"
        )
    return shapes
