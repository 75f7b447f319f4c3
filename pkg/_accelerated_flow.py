"""The accelerated flows integrated numerically, and taken in steps, from any start.

A private half of `pkg.flow`: the formulas that `pkg.dynamics` solves are written here a
second time, as matrix equations.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra
from pkg._solver import solve
from pkg.record import Trajectory

METHODS = ("plain", "inverse_root", "inverse", "bures", "logdet", "whitened")
Velocity = Callable[[np.ndarray], np.ndarray]  # W (d, m) -> dW/dt (d, m)


def integrate_accelerated(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    t: Float[np.ndarray, " T"],
    *,
    method: str,
    floor: float = 0.0,
    ridge: float = 0.0,
    rtol: float = 1e-11,
    atol: float = 1e-14,
) -> Trajectory:
    """Integrate a preconditioned flow, or that of a modified loss, from any start.

    Introduced in chapter 15.

    Parameters
    ----------
    W0 : (d, m)
        Weights at time 0.
    Gamma : (m, m)
        Symmetric cross-correlation, of any signature.
    t : (T,)
        Increasing flow times from 0 on.
    method : str
        With G = 4 (I - C) W Gamma, and A = ``|C|`` + floor I (eigenvalues of C by their
        modulus, since C may be indefinite), dW/dt is G for "plain"; A^{-1/2} G for
        "inverse_root"; A^{-1} G for "inverse"; 2 (A^{-1/2} - I) W Gamma for "bures";
        2 (A^{-1} - I) W Gamma for "logdet"; G (``|Gamma|`` + ridge I)^{-1} for
        "whitened".
    floor : float
        Bounds the gain of the methods that invert C. Without one a mode of size zero
        has an infinite push. Under "bures" and "logdet" eigenvalues end at 1 - floor,
        under the others at 1.
    ridge : float
        The same for "whitened", which inverts Gamma.
    rtol, atol : float
        As in `integrate`.

    Returns
    -------
    Trajectory
        Eigenvalues of C, sorted at each time; ``loss`` is ||C - I||_F^2 for every
        method, so that methods compare; the weights are those at ``t[-1]``.

    Raises
    ------
    ValueError
        If shapes disagree, Gamma is not symmetric, times do not increase beyond 0, a
        tolerance is not positive, `method` is unknown, or `floor` or `ridge` does not
        belong to it, or is zero where what it bounds has an eigenvalue zero.
    RuntimeError
        If the integrator gives up: pass a larger floor, or a smaller start.
    """
    W0, Gamma = _weights(W0, Gamma)
    velocity = _velocity(Gamma, W0, method, floor, ridge)
    top = spectra.top_eigenvalues(Gamma, 1)[0]
    Ws = solve(
        velocity,
        W0,
        t,
        # At rest no method pulls harder than "plain", which pulls with 8 gamma.
        rate=8.0 * top / (abs(top) + ridge if method == "whitened" else 1.0),
        rtol=rtol,
        atol=atol,
        remedy="use a larger `floor`, a smaller `W0` or a shorter `t`",
    )
    return _trajectory(Ws, Gamma, t=t, source=f"integrated flow, {method}")


def descend_accelerated(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    *,
    lr: float,
    steps: int,
    method: str,
    floor: float = 0.0,
    ridge: float = 0.0,
) -> Trajectory:
    """Take steps along an accelerated flow: what a training run can do.

    A step may be long against the wait of a small mode, and then modes no longer race:
    all of them jump at once. Introduced in chapter 15.

    Parameters
    ----------
    W0, Gamma, method, floor, ridge
        As in `integrate_accelerated`.
    lr : float
        Learning rate. Near C = I "plain" settles below 1 / (4 gamma_1), "inverse_root"
        below (1 + floor)^{1/2} times that, "inverse" below 1 + floor times, "logdet"
        below twice and "bures" below four times that.
    steps : int
        How many steps to take.

    Returns
    -------
    Trajectory
        As that of `integrate_accelerated`, at every step.

    Raises
    ------
    ValueError
        As `integrate_accelerated`; also if `lr` or `steps` is not positive.
    RuntimeError
        If C leaves every bound: `lr` is too large.
    """
    W, Gamma = _weights(W0, Gamma)
    velocity = _velocity(Gamma, W, method, floor, ridge)
    lr = float(_check.positive("lr", lr, ndim=0))
    Ws = [W]
    for step in range(_check.count("steps", steps)):
        W = W + lr * velocity(W)
        # C = I has norm sqrt(d); a stable run never leaves the order of one.
        size = np.abs(W @ Gamma @ W.T).max()
        if not size <= 1e6:
            raise RuntimeError(
                f"descent by method {method!r} diverged at step {step + 1} with `lr` "
                f"{lr:.3g}; use a smaller one"
            )
        Ws.append(W)
    number = np.arange(len(Ws))
    source = f"descent, {method}, lr {lr:.3g}"
    return _trajectory(np.array(Ws), Gamma, t=lr * number, step=number, source=source)


def _weights(W0: np.ndarray, Gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    W0 = _check.finite("W0", W0, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    if W0.shape[1] != len(Gamma):
        raise ValueError(
            f"`W0` must be (d, m) with m = {len(Gamma)} features; got shape {W0.shape}"
        )
    return W0, Gamma


def _velocity(
    Gamma: np.ndarray, W0: np.ndarray, method: str, floor: float, ridge: float
) -> Velocity:
    """Build W -> dW/dt, after a look at what would be inverted."""
    _check.choice("method", method, METHODS)
    floor = float(_check.nonnegative("floor", floor, ndim=0))
    ridge = float(_check.nonnegative("ridge", ridge, ndim=0))
    if floor and method in ("plain", "whitened"):
        raise ValueError(
            f"`floor` is {floor:.3g}, but method {method!r} inverts no C; leave it out"
        )
    if ridge and method != "whitened":
        raise ValueError(
            f"`ridge` is {ridge:.3g}, but only method 'whitened' has a ridge; leave it "
            f"out with method {method!r}"
        )
    if method == "whitened":
        right = Gamma @ _inverse(Gamma, ridge, "ridge", "Gamma")
    else:
        right = Gamma
        if method != "plain":
            _inverse(_correlation(W0, Gamma), floor, "floor", "C at the start")
    eye = np.eye(len(W0))

    def velocity(W: np.ndarray) -> np.ndarray:
        C = _correlation(W, Gamma)
        if method in ("plain", "whitened"):
            left = 4.0 * (eye - C)
        else:
            moduli, U = _moduli(C)
            power = 0.5 if method in ("inverse_root", "bures") else 1.0
            P = (U * (moduli + floor) ** -power) @ U.T
            modified = method in ("bures", "logdet")
            left = 2.0 * (P - eye) if modified else 4.0 * P @ (eye - C)
        return left @ W @ right

    return velocity


def _correlation(W: np.ndarray, Gamma: np.ndarray) -> np.ndarray:
    C = W @ Gamma @ W.T
    return (C + C.T) / 2


def _moduli(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(matrix)
    return np.abs(values), vectors


def _inverse(matrix: np.ndarray, bound: float, name: str, what: str) -> np.ndarray:
    """Return (|matrix| + bound)^{-1}, or refuse a matrix without one."""
    moduli, vectors = _moduli(matrix)
    if bound == 0 and moduli.min() <= 1e-14 * moduli.max():
        raise ValueError(
            f"`{name}` is 0, but {what} has an eigenvalue of {moduli.min():.1g} and no "
            f"inverse; pass a small `{name}`, such as 1e-2"
        )
    return (vectors / (moduli + bound)) @ vectors.T


def _trajectory(
    Ws: np.ndarray,
    Gamma: np.ndarray,
    *,
    t: np.ndarray,
    source: str,
    step: np.ndarray | None = None,
) -> Trajectory:
    Cs = Ws @ Gamma @ Ws.transpose(0, 2, 1)
    eigenvalues = np.linalg.eigvalsh((Cs + Cs.transpose(0, 2, 1)) / 2)[:, ::-1]
    return Trajectory(
        t=t,
        step=step,
        loss=np.sum((1.0 - eigenvalues) ** 2, axis=1),
        eigenvalues=eigenvalues,
        order="rank",
        matrix="cross-correlation",
        source=source,
        weights=Ws[-1],
    )
