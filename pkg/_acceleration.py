"""Late modes pulled up: the closed forms of descent that changes its own gradient.

Every aligned mode obeys dc/dt = 8 gamma c (1 - c) times a gain, a function of c or of
gamma alone, and each of the gains below can be integrated. A private half of
`pkg.dynamics`; derived in chapter 15.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra
from pkg.record import Trajectory

METHODS = ("plain", "inverse_root", "inverse", "bures", "logdet", "whitened")


def accelerated(
    t: Float[np.ndarray, " T"],
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    method: str,
    ridge: float = 0.0,
) -> Trajectory:
    """Solve the linear model under a preconditioner or a modified loss.

    A small mode waits because its gradient is as small as itself. Three ways out:
    multiply the gradient from the left by a function of C, which takes the wait and
    leaves the rate gamma; change the loss, which does the same; or multiply from the
    right by a function of Gamma, which leaves the wait and makes all modes as fast.
    Introduced in chapter 15.

    Parameters
    ----------
    t : (T,)
        Flow time of the changed flow.
    gammas : (d,)
        Eigenvalues of Gamma, all positive.
    s0 : float or (d,)
        Initial singular values of W.
    method : str
        With G = 4 (I - C) W Gamma, the downhill direction of Barlow Twins, dW/dt is

        - "plain": G;
        - "inverse_root", "inverse": C^{-1/2} G, C^{-1} G;
        - "bures": 2 (C^{-1/2} - I) W Gamma, downhill on tr C - 2 tr C^{1/2} + d =
          ||C^{1/2} - I||_F^2, the squared Bures-Wasserstein distance of C and I;
        - "logdet": 2 (C^{-1} - I) W Gamma, downhill on tr C - log det C - d;
        - "whitened": G (``|Gamma|`` + ridge I)^{-1}.
    ridge : float
        Of "whitened". Far above gamma it slows all modes alike; at zero they rise
        together.

    Returns
    -------
    Trajectory
        ``eigenvalues`` is (T, d), column j belonging to ``gammas[j]``; ``loss`` is
        ||C - I||_F^2 for every method, so that methods compare.

    Raises
    ------
    ValueError
        If a gamma or `s0` is not positive, times do not increase, `method` is unknown,
        or `ridge` is given to another method than "whitened".

    References
    ----------
    Losses that even out the rates of modes in other models: Halvagal, Laborieux and
    Zenke, "Implicit variance regularization in non-contrastive SSL", arXiv:2212.04858
    (IsoLoss); Skean et al., "FroSSL", arXiv:2310.02903; Weng et al., "Modulate Your
    Spectrum in Self-Supervised Learning", arXiv:2305.16789 (INTL).
    """
    t = _check.times("t", t)[:, None]
    gammas, c0 = _start(gammas, s0, method, ridge)
    root, left = np.sqrt(c0), 1.0 - c0
    if method == "inverse_root":
        push = np.tanh(4.0 * gammas * t)
        # tanh(4 gamma t + artanh sqrt(c0)), and its continuation to c0 > 1.
        c = ((push + root) / (1.0 + root * push)) ** 2
    elif method == "bures":
        c = (1.0 - (1.0 - root) * np.exp(-2.0 * gammas * t)) ** 2
    elif method in ("logdet", "inverse"):
        rate = 4.0 if method == "logdet" else 8.0
        c = 1.0 - left * np.exp(-rate * gammas * t)
    else:
        c = c0 / (c0 + left * np.exp(-_logistic_rates(gammas, method, ridge) * t))
    return _trajectory(t[:, 0], c, order="mode")


def accelerated_step_times(
    gammas: Float[np.ndarray, " d"],
    s0: Float[np.ndarray, " d"] | float,
    *,
    method: str,
    ridge: float = 0.0,
) -> Float[np.ndarray, " d"]:
    """Predict when each mode of `accelerated` is half learned.

    Under "plain" and "whitened" the time grows as ln(1 / c(0)); under the others it
    has a limit as the start shrinks: artanh(sqrt(1/2)) / (4 gamma) = 0.220 / gamma
    under "inverse_root", 0.614 / gamma under "bures", ln 2 / (4 gamma) under "logdet"
    and half of that under "inverse". Introduced in chapter 15.

    Parameters are those of `accelerated`, and the result is (d,), flow times.

    Raises
    ------
    ValueError
        As `accelerated`; also if a mode starts half learned.
    """
    gammas, c0 = _start(gammas, s0, method, ridge)
    if np.any(c0 >= 0.5):
        j = int(np.flatnonzero(c0 >= 0.5)[0])
        raise ValueError(
            f"`s0` is too large for a step: mode {j + 1} starts at {c0[j]:.3g}, "
            f"already half learned. Use `s0` below {np.sqrt(0.5 / gammas[j]):.3g}"
        )
    if method == "inverse_root":
        waits = np.arctanh(np.sqrt(0.5)) - np.arctanh(np.sqrt(c0))
        return waits / (4.0 * gammas)
    if method == "bures":
        return np.log((1.0 - np.sqrt(c0)) / (1.0 - np.sqrt(0.5))) / (2.0 * gammas)
    if method in ("logdet", "inverse"):
        rate = 4.0 if method == "logdet" else 8.0
        return np.log(2.0 * (1.0 - c0)) / (rate * gammas)
    return np.log1p((1.0 - 2.0 * c0) / c0) / _logistic_rates(gammas, method, ridge)


def whitened(
    t: Float[np.ndarray, " T"],
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
) -> Trajectory:
    """Solve the whitened flow exactly, from any start.

    With Gamma^{-1} behind it, dW/dt = 4 (I - C) W: only the outputs move. C keeps its
    eigenvectors, its eigenvalues are logistic with the one rate 8, and
    W(t) = [e^{-8t} I + (1 - e^{-8t}) C(0)]^{-1/2} W(0) has the rows' space of the start
    for ever: what is learned is what the start happened to hold. Introduced in
    chapter 15.

    Parameters
    ----------
    t : (T,)
        Flow time.
    W0 : (d, m)
        Weights at time 0, with linearly independent rows.
    Gamma : (m, m)
        Positive definite cross-correlation. With a negative eigenvalue Gamma^{-1}
        would run away along it, and the inverse of abs(Gamma) has no such solution.

    Returns
    -------
    Trajectory
        Eigenvalues of C, sorted, and the squared distance of C from I; the weights
        are those at ``t[-1]``.

    Raises
    ------
    ValueError
        If shapes disagree, times do not increase, Gamma is not positive definite, or
        rows of `W0` are linearly dependent.
    """
    t = _check.times("t", t)
    W0 = _check.finite("W0", W0, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    if W0.shape[1] != len(Gamma):
        raise ValueError(
            f"`W0` must be (d, m) with m = {len(Gamma)} features; got shape {W0.shape}"
        )
    least = spectra.top_eigenvalues(Gamma)
    if spectra.count_positive(least) < len(Gamma):
        raise ValueError(
            f"`Gamma` must be positive definite; its least eigenvalue is "
            f"{least[-1]:.3g}. Integrate the flow instead, with a ridge"
        )
    c0, U = spectra.top_eigenpairs(W0 @ Gamma @ W0.T)
    if spectra.count_positive(c0) < len(c0):
        raise ValueError(
            "`W0` has linearly dependent rows, and so it stays; draw other weights, or "
            f"at most m = {len(Gamma)} rows"
        )
    decay = np.exp(-8.0 * t)[:, None]
    gain = 1.0 / (decay + (1.0 - decay) * c0)  # (T, d), of squares
    weights = (U * np.sqrt(gain[-1])) @ U.T @ W0
    return _trajectory(t, c0 * gain, order="rank", weights=weights)


def _start(
    gammas: np.ndarray, s0: np.ndarray | float, method: str, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Check what all methods share; return gammas and c(0), both (d,)."""
    _check.choice("method", method, METHODS)
    ridge = float(_check.nonnegative("ridge", ridge, ndim=0))
    if ridge and method != "whitened":
        raise ValueError(
            f"`ridge` is {ridge:.3g}, but only method 'whitened' has a ridge; leave it "
            f"out with method {method!r}"
        )
    gammas = _check.positive("gammas", gammas, ndim=1)
    s0 = _check.positive("s0", s0)
    if s0.shape not in ((), gammas.shape):
        raise ValueError(
            f"`s0` must be one number or one per mode; got shape {s0.shape} for "
            f"{len(gammas)} gammas"
        )
    c0 = gammas * s0**2
    if not np.all((c0 > 0) & np.isfinite(c0)):
        raise ValueError(
            f"`s0` runs from {s0.min():.3g} to {s0.max():.3g}, and gamma s0^2 leaves "
            "float64; stay between 1e-100 and 1e100"
        )
    return gammas, c0


def _logistic_rates(gammas: np.ndarray, method: str, ridge: float) -> np.ndarray:
    return 8.0 * gammas / (gammas + ridge) if method == "whitened" else 8.0 * gammas


def _trajectory(
    t: np.ndarray,
    c: np.ndarray,
    *,
    order: Literal["mode", "rank"],
    weights: np.ndarray | None = None,
) -> Trajectory:
    return Trajectory(
        t=t,
        loss=np.sum((1.0 - c) ** 2, axis=1),
        eigenvalues=c,
        order=order,
        matrix="cross-correlation",
        source="closed form",
        weights=weights,
    )
