"""Every loss that can be solved, brought to one equation of one mode.

Where Sigma and Gamma share their eigenvectors and the start is aligned, y = s^2 of each
mode obeys dy/dt = 8 y (g - k y): it grows at the rate 8 g and fills up at y = g / k.
Barlow Twins has g = gamma and k = gamma^2. VICReg has g = (1 - beta) sigma + beta gamma
and k = sigma^2, and the spectral contrastive loss is its case beta = 1. A private half
of `pkg.dynamics`.
"""

from dataclasses import dataclass

import numpy as np

from pkg import _check

LOSSES = ("barlow_twins", "spectral", "vicreg")
EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False, kw_only=True)
class Modes:
    """One logistic equation a mode, all arrays (d,).

    `weights` turns y into the recorded eigenvalue: gamma or sigma. `brakes` is k y(0),
    and `fill` its ratio to |g|: the share of the final value at which a mode with
    g > 0 starts.
    """

    gammas: np.ndarray
    s0: np.ndarray
    weights: np.ndarray
    rates: np.ndarray
    brakes: np.ndarray
    fill: np.ndarray

    def growth(self, t: np.ndarray) -> np.ndarray:
        """Return s(t)^2 / s(0)^2, (T, d)."""
        t = _check.times("t", t)
        negative, speed = self.rates < 0, np.abs(self.rates)
        # Whatever the sign of g, only decaying exponentials: exp(8 g t) overflows long
        # before the slowest mode has moved.
        decay = np.exp(-speed[:, None] * t)  # (d, T): long rows are quick rows
        gone = 1.0 - decay
        full = self.fill > 1.0  # here the difference from one would lose digits
        if full.any():
            gone[full] = -np.expm1(-speed[full, None] * t)
        still = speed * t[-1] < EPS  # g = 0: no exponential, only the brake is left
        gone *= np.where(still, 0.0, self.fill)[:, None]
        if still.any():
            gone[still] = 8.0 * self.brakes[still, None] * t
        if not negative.any():
            return (1.0 / (decay + gone)).T
        growth = 1.0 / (np.where(negative[:, None], 1.0, decay) + gone)
        growth[negative] *= decay[negative]
        return growth.T


def solve(
    gammas: np.ndarray,
    s0: np.ndarray | float,
    *,
    loss: str = "barlow_twins",
    sigmas: np.ndarray | None = None,
    beta: float = 1.0,
    lr: float | None = None,
) -> Modes:
    """Set up the equation of every mode.

    Parameters
    ----------
    gammas, s0, loss, sigmas, beta, lr
        As in `pkg.dynamics.closed_form`, not yet checked.

    Returns
    -------
    Modes
    """
    gammas, s0 = _aligned(gammas, s0)
    sigmas, beta = _second_moments(gammas, loss, sigmas, beta)
    if loss == "barlow_twins":
        c0 = gammas * s0**2
        rates = _descent_rates(gammas, lr)
        # A mode so weak that c0 underflows stands still, as one with gamma = 0.
        rates = rates * (c0 != 0)
        weights, brakes, fill = gammas, gammas * c0, np.abs(c0)
    else:
        if lr is not None:
            raise ValueError(
                f"`lr` is {lr:.3g}, but descent is corrected for under Barlow Twins "
                f"only; leave it out with loss {loss!r}"
            )
        g = (1.0 - beta) * sigmas + beta * gammas
        weights, rates, brakes = sigmas, 8.0 * g, (sigmas * s0) ** 2
        still = np.abs(g) <= np.finfo(np.float64).tiny  # the ratio would overflow
        rates = np.where(still, 0.0, rates)
        fill = np.divide(brakes, np.abs(g), out=np.full_like(g, np.inf), where=~still)
    return Modes(
        gammas=gammas, s0=s0, weights=weights, rates=rates, brakes=brakes, fill=fill
    )


def _descent_rates(gammas: np.ndarray, lr: float | None) -> np.ndarray:
    """Growth rate of each small eigenvalue of C: under the flow, or under descent."""
    if lr is None:
        return 8.0 * gammas
    lr = float(_check.positive("lr", lr, ndim=0))
    if 4.0 * lr * np.abs(gammas).max() >= 1.0:
        limit = 1.0 / (4.0 * np.abs(gammas).max())
        raise ValueError(f"`lr` is {lr:.3g}; descent is stable only below {limit:.3g}")
    return 2.0 * np.log1p(4.0 * lr * gammas) / lr


def _aligned(
    gammas: np.ndarray, s0: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
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


def _second_moments(
    gammas: np.ndarray, loss: str, sigmas: np.ndarray | None, beta: float
) -> tuple[np.ndarray, float]:
    """Check `loss` with what belongs to it, and return sigmas (d,) and beta."""
    _check.choice("loss", loss, LOSSES)
    beta = float(_check.nonnegative("beta", beta, ndim=0))
    if loss != "vicreg" and beta != 1.0:
        raise ValueError(
            f"`beta` is {beta:.3g}, but only loss 'vicreg' has a beta; leave it out "
            f"with loss {loss!r}"
        )
    if (sigmas is None) != (loss == "barlow_twins"):
        found = "missing: pass" if sigmas is None else "given: leave out"
        raise ValueError(
            f"`sigmas` is {found} the eigenvalues of Sigma with loss {loss!r}; Barlow "
            "Twins does not see Sigma, the other losses do"
        )
    if sigmas is None:
        return gammas, beta
    sigmas = _check.positive("sigmas", sigmas, ndim=1)
    if sigmas.shape != gammas.shape:
        raise ValueError(
            f"`sigmas` must have one entry a mode; got {len(sigmas)} for "
            f"{len(gammas)} gammas"
        )
    return sigmas, beta
