"""The linear model, solved: f(x) = W x under every loss that has a closed form.

Gradient flow from a small start learns one direction at a time: under Barlow Twins,
||W Gamma W^T - I||_F^2, the top eigenvectors of Gamma. The formulas are derived in
chapters 3, 4 and 6; `pkg.flow` integrates the same models without any of them. How a
start is read lives in `pkg._start`, where a run ends in `pkg._end`, and descent that
changes its gradient in `pkg._acceleration`.
"""

import numpy as np
from jaxtyping import Float

from pkg import _check, _modes
from pkg._acceleration import accelerated, accelerated_step_times, whitened
from pkg._end import (
    Levels,
    batch_plateau,
    final_weights,
    levels,
    slowed,
    stable_lr,
    swap_rate,
)
from pkg._start import EffectiveStart, ErrorOrder, effective_start, error_order
from pkg.record import Trajectory

__all__ = [
    "EffectiveStart",
    "ErrorOrder",
    "Levels",
    "accelerated",
    "accelerated_step_times",
    "batch_plateau",
    "closed_form",
    "cross_correlation",
    "effective_start",
    "error_order",
    "final_weights",
    "levels",
    "second_moment",
    "singular_values",
    "stable_lr",
    "step_times",
    "step_widths",
    "swap_rate",
    "whitened",
]


def cross_correlation(
    x: Float[np.ndarray, "n m"],
    x_prime: Float[np.ndarray, "n m"],
    *,
    center: bool = False,
) -> Float[np.ndarray, "m m"]:
    """Average the outer products of paired views, in both orders.

    Gamma = (1/2n) sum_i (x_i x'_i^T + x'_i x_i^T) is symmetric, and in a finite sample
    almost never positive semi-definite. Introduced in chapter 1.

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
        x, x_prime = _centred(x, x_prime)
    product = x.T @ x_prime
    return (product + product.T) / (2 * len(x))


def second_moment(
    x: Float[np.ndarray, "n m"],
    x_prime: Float[np.ndarray, "n m"],
    *,
    center: bool = False,
) -> Float[np.ndarray, "m m"]:
    """Average the outer product of every view with itself.

    Sigma = (1/2n) sum_i (x_i x_i^T + x'_i x'_i^T). What Sigma has and Gamma has not is
    the disagreement of the views: Sigma - Gamma is half the second moment of x - x', so
    no direction has a gamma above its sigma. Introduced in chapter 1.

    Parameters
    ----------
    x, x_prime : (n, m)
        Two views, row i with row i.
    center : bool
        Subtract the mean over all 2n views first.

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
        x, x_prime = _centred(x, x_prime)
    return (x.T @ x + x_prime.T @ x_prime) / (2 * len(x))


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

    Parameters and errors are those of `closed_form` under Barlow Twins; the result is
    (T, d).
    """
    modes = _modes.solve(gammas, s0, lr=lr)
    return modes.s0 * np.sqrt(modes.growth(t))


def closed_form(
    t: Float[np.ndarray, " T"],
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    loss: str = "barlow_twins",
    sigmas: Float[np.ndarray, " d"] | None = None,
    beta: float = 1.0,
    lr: float | None = None,
) -> Trajectory:
    """Solve the linear model from a small aligned start.

    Every mode obeys its own logistic equation, so each eigenvalue rests near zero,
    rises once, and settles: at one under Barlow Twins, at 1 - beta (1 - gamma / sigma)
    under VICReg. Well-separated rates make the rises look like the treads of a
    staircase. Introduced in chapter 3, other losses in chapter 6.

    Parameters
    ----------
    t : (T,)
        Flow time: dW/dt = -dL/dW. Gradient descent with learning rate eta reaches time
        eta * k after k steps.
    gammas : (d,)
        Eigenvalues of Gamma, largest first by convention, of any sign: under Barlow
        Twins a mode with gamma <= 0 is never learned, and its column stays near zero.
    s0 : float or (d,)
        Initial singular values of W: one for all modes, or one each. Steps are sharp
        when gammas * s0**2 << 1.
    loss : "barlow_twins", "spectral" or "vicreg"
        ||C - I||_F^2; or -2 tr(W Gamma W^T) + ||S||_F^2 with S = W Sigma W^T; or
        2 beta tr(W (Sigma - Gamma) W^T) + ||S - I||_F^2. The last two are solved where
        Sigma and Gamma share their eigenvectors, and with beta = 1 they differ by d.
    sigmas : (d,), optional
        Eigenvalues of Sigma in the order of `gammas`, for the losses that see Sigma.
    beta : float
        Weight of the invariance term of VICReg.
    lr : float, optional
        Learning rate of plain gradient descent on Barlow Twins; left out, the
        continuous flow. The growth from a small start is then exact, the approach to
        one only nearly. It must lie below `stable_lr` of the moduli of gammas.

    Returns
    -------
    Trajectory
        ``eigenvalues`` is (T, d), column j belonging to ``gammas[j]``: of C under
        Barlow Twins, of the covariance S under the other two.

    Raises
    ------
    ValueError
        If `s0` is not positive (from s0 = 0 nothing ever moves), times do not
        increase, a number is not finite, `lr` is too large, or an argument does not
        belong to `loss`.

    References
    ----------
    Derived in chapter 3, after "On the Stepwise Nature of Self-Supervised
    Learning", arXiv:2303.15438.
    """
    modes = _modes.solve(gammas, s0, loss=loss, sigmas=sigmas, beta=beta, lr=lr)
    eigenvalues = (
        modes.weights * modes.s0**2 * modes.growth(t)
    )  # gamma s^2 or sigma s^2
    if loss == "barlow_twins":
        value = np.sum((1.0 - eigenvalues) ** 2, axis=1)
    else:
        rhos = modes.gammas / modes.weights
        # VICReg at beta = 1 is the spectral loss plus d.
        invariance = 2.0 * beta * eigenvalues @ (1.0 - rhos)
        value = invariance + np.sum((eigenvalues - 1.0) ** 2, axis=1)
        value -= len(rhos) * (loss == "spectral")
    return Trajectory(
        t=t,
        loss=value,
        eigenvalues=eigenvalues,
        order="mode",
        matrix="cross-correlation" if loss == "barlow_twins" else "covariance",
        source="closed form",
    )


def step_times(
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    lr: float | None = None,
    lambd: float = 1.0,
    small_start: bool = False,
    loss: str = "barlow_twins",
    sigmas: Float[np.ndarray, " d"] | None = None,
    beta: float = 1.0,
) -> Float[np.ndarray, " d"]:
    """Predict when each mode is half learned.

    The eigenvalue c_j of C crosses 1/2 at tau_j = ln(1/c_j(0) - 1) / (8 gamma_j).
    Descent is slower, see `lr`; so are later modes where `lambd` is small. Introduced
    in chapter 3.

    Parameters
    ----------
    gammas : (d,)
        Eigenvalues of Gamma, all positive.
    s0 : float or (d,)
        Initial singular values; every gammas * s0**2 below one half.
    lr : float, optional
        Learning rate of plain gradient descent; left out, the continuous flow. A step
        multiplies a small mode by 1 + 4 lr gamma where the flow has e^(4 lr gamma).
    lambd : float
        Weight of the off-diagonal entries of C - I. Below one, every mode learned slows
        the later ones down by the factor of `levels`; d = len(gammas) counts there.
        Mode 2 comes before that (by 3 to 30 %), while the outputs still spread. Above
        one, times are those of one or later, by as long as a mode takes to find its
        output.
    small_start : bool
        Leave out the start's own share of the last half: tau = -ln(c(0)) / (8 gamma),
        the textbook form, later by -ln(1 - c(0)) / (8 gamma).
    loss, sigmas, beta
        As in `closed_form`. Under VICReg 8 g_j takes the place of 8 gamma_j, and half
        learned is half of the final eigenvalue.

    Returns
    -------
    (d,)
        Flow times; divide by `lr` for steps.

    Raises
    ------
    ValueError
        If a mode never grows (such a mode has no step), a mode starts half learned or
        more, `lr` is too large, or an argument does not belong to `loss`.
    """
    lambd = float(_check.positive("lambd", lambd, ndim=0))
    if loss == "barlow_twins":
        gammas = _check.positive("gammas", gammas, ndim=1)
    elif lambd != 1.0:
        raise ValueError(
            f"`lambd` is {lambd:.3g}, but only Barlow Twins has off-diagonal terms to "
            f"weigh; leave it out with loss {loss!r}"
        )
    modes = _modes.solve(gammas, s0, loss=loss, sigmas=sigmas, beta=beta, lr=lr)
    rates, c0 = modes.rates, modes.fill
    if np.any(rates <= 0):
        j = int(np.flatnonzero(rates <= 0)[0])
        raise ValueError(
            f"mode {j + 1} is never learned: its rate 8 g is {rates[j]:.3g} with "
            f"`beta` {beta:.3g}. Leave the mode out, or use a smaller beta"
        )
    if np.any(c0 >= 0.5):
        j = int(np.flatnonzero(c0 >= 0.5)[0])
        limit = float(modes.s0[j] * np.sqrt(0.5 / c0[j]))
        raise ValueError(
            f"`s0` is too large for a step: mode {j + 1} starts at "
            f"{c0[j]:.3g} of its final eigenvalue, already half learned. "
            f"Use `s0` below {limit:.3g}"
        )
    if small_start:
        times = -np.log(c0) / rates
    else:
        times = np.log1p((1.0 - 2.0 * c0) / c0) / rates  # ln(1/c0 - 1)
    return slowed(times, lambd)


def step_widths(
    gammas: Float[np.ndarray, " d"], *, low: float = 0.1, high: float = 0.9
) -> Float[np.ndarray, " d"]:
    """Predict how long each mode takes from one level to another.

    A logistic curve of rate 8 gamma goes from `low` to `high` in
    [logit(high) - logit(low)] / (8 gamma), wherever it started; from a tenth to nine
    tenths that is 2 ln 9 / (8 gamma). Steps look separate when the waits between them
    are longer than the widths. Introduced in chapter 3.

    Parameters
    ----------
    gammas : (d,)
        Eigenvalues of Gamma, all positive; under VICReg the g_j of `closed_form`.
    low, high : float
        Shares of the final eigenvalue, 0 < low < high < 1.

    Returns
    -------
    (d,)
        Flow times.

    Raises
    ------
    ValueError
        If a gamma is not positive (such a mode has no step), or the levels are not in
        order between 0 and 1.
    """
    gammas = _check.positive("gammas", gammas, ndim=1)
    if not 0.0 < low < high < 1.0:
        raise ValueError(
            f"`low` and `high` must satisfy 0 < low < high < 1; got {low:.3g} and "
            f"{high:.3g}"
        )
    return np.log(high * (1.0 - low) / (low * (1.0 - high))) / (8.0 * gammas)


def _centred(x: np.ndarray, x_prime: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = (x.mean(axis=0) + x_prime.mean(axis=0)) / 2
    return x - mean, x_prime - mean
