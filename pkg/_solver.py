"""One integrator for every flow of matrices: the half that witnesses share."""

from collections.abc import Callable

import numpy as np

from pkg import _check


def solve(
    velocity: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    t: np.ndarray,
    *,
    rate: float,
    rtol: float,
    atol: float,
    remedy: str,
) -> np.ndarray:
    """Integrate dW/dt = velocity(W) and read it at every time.

    Parameters
    ----------
    velocity : callable
        Takes weights of the shape of `start`, and returns as many.
    start : (...)
        Weights at time 0.
    t : (T,)
        Increasing flow times from 0 on.
    rate : float
        The fastest rate at which an error vanishes where the flow has come to rest;
        zero or less where nothing does. Left alone, steps grow to the edge of
        stability, 6 over that rate, and spoil what is read between them: 1e-6 instead
        of 1e-11.
    rtol, atol : float
        Tolerances of the integrator.
    remedy : str
        What to do if it gives up: the end of the error.

    Returns
    -------
    (T, ...)

    Raises
    ------
    ValueError
        If times do not increase beyond 0, or a tolerance is not positive.
    RuntimeError
        If the integrator gives up.
    """
    from scipy.integrate import solve_ivp

    t = _check.times("t", t)
    if t[-1] == 0:
        raise ValueError("`t` holds no time after 0; nothing has happened yet")
    solution = solve_ivp(
        lambda _, flat: velocity(flat.reshape(start.shape)).ravel(),
        (0.0, t[-1]),
        start.ravel(),
        method="DOP853",
        t_eval=t,
        rtol=float(_check.positive("rtol", rtol, ndim=0)),
        atol=float(_check.positive("atol", atol, ndim=0)),
        max_step=4.0 / rate if rate > 0 else np.inf,
    )
    if not solution.success:
        raise RuntimeError(
            f"the flow could not be integrated ({solution.message}); {remedy}"
        )
    return solution.y.T.reshape(len(t), *start.shape)
