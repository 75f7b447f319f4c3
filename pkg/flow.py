"""The linear model integrated numerically from any start: the independent witness.

Nothing here knows an eigenvector. `pkg.dynamics` solves the same model on paper, and
this room exists to disagree with it.
"""

import numpy as np
from jaxtyping import Float

from pkg import _check
from pkg.record import Trajectory


def integrate(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    t: Float[np.ndarray, " T"],
    *,
    rtol: float = 1e-11,
    atol: float = 1e-14,
) -> Trajectory:
    """Integrate the matrix flow dW/dt = -4 (C - I) W Gamma with C = W Gamma W^T.

    All d m equations are solved together, whatever the start: aligned or not, small or
    large. Introduced in chapter 3.

    Parameters
    ----------
    W0 : (d, m)
        Weights at time 0.
    Gamma : (m, m)
        Symmetric cross-correlation, of any signature.
    t : (T,)
        Increasing flow times from 0 on.
    rtol, atol : float
        Tolerances of the integrator. With the defaults eigenvalues are good to 1e-8 on
        small problems. `atol` must lie well below the start, or small modes are
        invented; and `rtol` counts against the largest weights, so that a mode still
        tiny beside learned ones loses digits (5e-7 at d = 10, m = 512, start 1e-3).

    Returns
    -------
    Trajectory
        Eigenvalues sorted at each time; the weights are those at ``t[-1]``.

    Raises
    ------
    ValueError
        If shapes disagree, Gamma is not symmetric, times do not increase beyond 0, or
        a tolerance is not positive.
    RuntimeError
        If the integrator gives up: the start is too large for its loss to stay finite.

    References
    ----------
    DOP853: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I.
    """
    from scipy.integrate import solve_ivp

    W0 = _check.finite("W0", W0, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    _check_width(W0, len(Gamma))
    t = _check.times("t", t)
    if t[-1] == 0:
        raise ValueError("`t` holds no time after 0; nothing has happened yet")
    rtol = float(_check.positive("rtol", rtol, ndim=0))
    atol = float(_check.positive("atol", atol, ndim=0))
    d, m = W0.shape

    def velocity(_: float, flat: np.ndarray) -> np.ndarray:
        W = flat.reshape(d, m)
        W_Gamma = W @ Gamma
        return _downhill(W_Gamma @ W.T, W_Gamma).ravel()

    span = (0.0, float(t[-1]))
    solution = solve_ivp(
        velocity, span, W0.ravel(), method="DOP853", t_eval=t, rtol=rtol, atol=atol
    )
    if not solution.success:
        raise RuntimeError(
            f"the flow could not be integrated ({solution.message}); "
            "use a smaller `W0` or a shorter `t`"
        )
    Ws = solution.y.T.reshape(len(t), d, m)
    Cs = Ws @ Gamma @ Ws.transpose(0, 2, 1)
    return _trajectory(Cs, t=t, weights=Ws[-1], source="integrated flow")


def descend(
    W0: Float[np.ndarray, "d m"],
    x: Float[np.ndarray, "n m"],
    x_prime: Float[np.ndarray, "n m"],
    *,
    lr: float,
    steps: int,
    record_every: int = 1,
) -> Trajectory:
    """Run full-batch gradient descent on the theory's Barlow Twins loss.

    With more features than views, express both views in a `spectra.span` first: the
    same trajectory, exactly, in 2n numbers instead of m. Introduced in chapter 5.

    Parameters
    ----------
    W0 : (d, m)
        Weights before the first step.
    x, x_prime : (n, m)
        Two views, row i with row i.
    lr : float
        Learning rate; flow time is `lr` times the number of steps.
    steps : int
        How many steps to take.
    record_every : int
        Steps between recorded points; the start and the end are always recorded.

    Returns
    -------
    Trajectory
        Eigenvalues sorted at each recorded step; the weights are those at the end.

    Raises
    ------
    ValueError
        If shapes disagree, or `lr` or `steps` is not positive.
    RuntimeError
        If the loss grows beyond every bound: `lr` is too large for these data, or W0
        is.
    """
    x, x_prime = _check.paired("x", x, "x_prime", x_prime)
    lr = float(_check.positive("lr", lr, ndim=0))
    steps = _check.count("steps", steps)
    record_every = _check.count("record_every", record_every)
    W0 = _check.finite("W0", W0, ndim=2)
    _check_width(W0, x.shape[1])
    product = x.T @ x_prime
    Gamma = (product + product.T) / (2 * len(x))

    W, Cs, kept = W0, [], []
    for step in range(steps + 1):
        W_Gamma = W @ Gamma  # (d, m), the one expensive product
        C = W_Gamma @ W.T
        _stop_if_diverged(C, step, lr)
        if step % record_every == 0 or step == steps:
            Cs.append(C)
            kept.append(step)
        if step < steps:
            W = W + lr * _downhill(C, W_Gamma)
    step_numbers = np.array(kept)
    return _trajectory(
        np.array(Cs),
        t=lr * step_numbers,
        step=step_numbers,
        weights=W,
        source=f"gradient descent, lr {lr:.3g}",
    )


def _downhill(C: np.ndarray, W_Gamma: np.ndarray) -> np.ndarray:
    """Minus the gradient of ||C - I||_F^2 in W: -4 (C - I) W Gamma, (d, m)."""
    return 4.0 * (np.eye(len(C)) - C) @ W_Gamma


def _check_width(W0: np.ndarray, m: int) -> None:
    if W0.shape[1] != m:
        raise ValueError(
            f"`W0` must be (d, m) with m = {m} features; got shape {W0.shape}"
        )


def _stop_if_diverged(C: np.ndarray, step: int, lr: float) -> None:
    # C = I has norm sqrt(d); a stable run never leaves the order of one.
    if np.isfinite(C).all() and np.abs(C).max() <= 1e6:
        return
    if step == 0:
        raise RuntimeError(
            f"`W0` is too large to descend from: C starts at {np.abs(C).max():.3g} and "
            "should end at 1. Scale it down"
        )
    raise RuntimeError(
        f"gradient descent diverged by step {step} with `lr` {lr:.3g}; "
        "use less than dynamics.stable_lr(gammas)"
    )


def _trajectory(
    Cs: np.ndarray,
    *,
    t: np.ndarray,
    source: str,
    weights: np.ndarray,
    step: np.ndarray | None = None,
) -> Trajectory:
    """Read loss and sorted eigenvalues off the (T, d, d) cross-correlations."""
    Cs = (Cs + Cs.transpose(0, 2, 1)) / 2
    return Trajectory(
        t=t,
        step=step,
        loss=np.sum((Cs - np.eye(Cs.shape[1])) ** 2, axis=(1, 2)),
        eigenvalues=np.linalg.eigvalsh(Cs)[:, ::-1],
        order="rank",
        matrix="cross-correlation",
        source=source,
        weights=weights,
    )
