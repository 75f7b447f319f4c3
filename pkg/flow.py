"""The linear model integrated numerically from any start: the independent witness.

Nothing here knows an eigenvector. `pkg.dynamics` solves the same models on paper, and
this room exists to disagree with it.
"""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra
from pkg._accelerated_flow import descend_accelerated, integrate_accelerated
from pkg._solver import solve
from pkg.record import Trajectory

__all__ = ["descend", "descend_accelerated", "integrate", "integrate_accelerated"]

LOSSES = ("barlow_twins", "spectral", "vicreg")
ESTIMATORS = ("paired", "split")


def integrate(
    W0: Float[np.ndarray, "d m"],
    Gamma: Float[np.ndarray, "m m"],
    t: Float[np.ndarray, " T"],
    *,
    Sigma: Float[np.ndarray, "m m"] | None = None,
    loss: str = "barlow_twins",
    lambd: float = 1.0,
    beta: float = 1.0,
    rtol: float = 1e-11,
    atol: float = 1e-14,
) -> Trajectory:
    """Integrate the matrix flow dW/dt = -dL/dW of the linear model.

    For Barlow Twins that is -4 (C - I) W Gamma with C = W Gamma W^T. All d m equations
    are solved together, whatever the start: aligned or not, small or large. Introduced
    in chapter 1, other losses in chapter 6.

    Parameters
    ----------
    W0 : (d, m)
        Weights at time 0.
    Gamma : (m, m)
        Symmetric cross-correlation, of any signature.
    t : (T,)
        Increasing flow times from 0 on.
    Sigma : (m, m), optional
        Second moment of all views, for the losses that see it.
    loss : "barlow_twins", "spectral" or "vicreg"
        sum_i (C_ii - 1)^2 + lambd sum_{i != j} C_ij^2; or
        -2 tr(W Gamma W^T) + ||S||_F^2 with S = W Sigma W^T; or
        2 beta tr(W (Sigma - Gamma) W^T) + ||S - I||_F^2.
    lambd : float
        Weight of the off-diagonal entries under Barlow Twins.
    beta : float
        Weight of the invariance term under VICReg.
    rtol, atol : float
        Tolerances of the integrator. With the defaults eigenvalues are good to 1e-8,
        and mostly to 1e-10. `atol` must lie well below the start, or small modes are
        invented.

    Returns
    -------
    Trajectory
        Eigenvalues sorted at each time, of C under Barlow Twins and of the covariance S
        under the other two; the weights are those at ``t[-1]``.

    Raises
    ------
    ValueError
        If shapes disagree, Gamma is not symmetric, times do not increase beyond 0, a
        tolerance is not positive, or an argument does not belong to `loss`.
    RuntimeError
        If the integrator gives up: the start is too large for its loss to stay finite.

    References
    ----------
    DOP853: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I.
    """
    W0 = _check.finite("W0", W0, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    _check_width(W0, len(Gamma))
    _check_loss(loss, Sigma, lambd, beta)
    if Sigma is None:
        estimate = _barlow_twins(Gamma, lambd)
    else:
        Sigma = _check.symmetric("Sigma", Sigma)
        if Sigma.shape != Gamma.shape:
            raise ValueError(
                f"`Sigma` must be {Gamma.shape} like `Gamma`; got {Sigma.shape}"
            )
        estimate = _vicreg(Gamma, Sigma, beta)

    top = spectra.top_eigenvalues(Gamma if Sigma is None else Sigma, 1)[0]
    Ws = solve(
        lambda W: estimate(W)[1],
        W0,
        t,
        rate=8.0 * max(1.0, lambd) * top,
        rtol=rtol,
        atol=atol,
        remedy="use a smaller `W0` or a shorter `t`",
    )
    if Sigma is None:
        Cs = Ws @ Gamma @ Ws.transpose(0, 2, 1)
        return _trajectory(
            Cs, t=t, weights=Ws[-1], source="integrated flow", lambd=lambd
        )
    Ss = Ws @ Sigma @ Ws.transpose(0, 2, 1)
    disagreement = np.einsum("tia,ab,tib->t", Ws, Sigma - Gamma, Ws)
    d = len(W0)
    value = 2.0 * beta * disagreement + np.sum((Ss - np.eye(d)) ** 2, axis=(1, 2))
    return Trajectory(
        t=t,
        loss=value - d * (loss == "spectral"),  # VICReg at beta = 1 has a constant more
        eigenvalues=np.linalg.eigvalsh((Ss + Ss.transpose(0, 2, 1)) / 2)[:, ::-1],
        order="rank",
        matrix="covariance",
        source="integrated flow",
        weights=Ws[-1],
    )


def descend(
    W0: Float[np.ndarray, "d m"],
    x: Float[np.ndarray, "n m"],
    x_prime: Float[np.ndarray, "n m"],
    *,
    lr: float,
    steps: int,
    batch: int | None = None,
    estimator: str = "paired",
    rng: np.random.Generator | None = None,
    record_every: int = 1,
) -> Trajectory:
    """Run gradient descent on the theory's Barlow Twins loss.

    With more features than views, express both views in a `spectra.span` first: the
    same trajectory, exactly, in 2n numbers instead of m. Introduced in chapter 2.

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
    batch : int, optional
        Pairs drawn at each step, independently and with replacement; left out, all
        pairs are used at every step.
    estimator : "paired" or "split"
        What a batch estimates. "paired": the gradient of its own loss, whose mean is
        not the gradient of the true loss. "split": (C_1 - I) W Gamma_2 + (C_2 - I) W
        Gamma_1 from the two halves of the batch, which is unbiased.
    rng : numpy.random.Generator, optional
        Source of the batches; needed with `batch`.
    record_every : int
        Steps between recorded points; the start and the end are always recorded.

    Returns
    -------
    Trajectory
        Loss and eigenvalues, sorted at each recorded step, are those of all n pairs:
        a batch decides where descent goes, not how it is measured. The weights are
        those at the end.

    Raises
    ------
    ValueError
        If shapes disagree, `lr` or `steps` is not positive, or `batch`, `estimator` and
        `rng` do not fit together.
    RuntimeError
        If the loss grows beyond every bound: `lr` is too large for these data, or W0
        is.

    Warns
    -----
    UserWarning
        If `lr` is 1 / (4 gamma_1) or more, from where descent no longer settles.
    """
    x, x_prime = _check.paired("x", x, "x_prime", x_prime)
    lr = float(_check.positive("lr", lr, ndim=0))
    steps = _check.count("steps", steps)
    record_every = _check.count("record_every", record_every)
    W0 = _check.finite("W0", W0, ndim=2)
    _check_width(W0, x.shape[1])
    product = x.T @ x_prime
    Gamma = (product + product.T) / (2 * len(x))
    if batch is not None:
        estimate = _batches(x, x_prime, batch, estimator, rng)
        source = f"gradient descent, lr {lr:.3g}, batches of {batch} ({estimator})"
    elif estimator == "paired" and rng is None:
        estimate = _barlow_twins(Gamma)
        source = f"gradient descent, lr {lr:.3g}"
    else:
        raise ValueError("`estimator` and `rng` need a `batch`; pass its size")

    W, Cs, kept = W0, [], []
    for step in range(steps + 1):
        C, downhill = estimate(W)
        _stop_if_diverged(C, step, lr)
        if step == 0:
            _warn_beyond_stability(Gamma, lr)
        if step % record_every == 0 or step == steps:
            Cs.append(C if batch is None else W @ Gamma @ W.T)
            kept.append(step)
        if step < steps:
            W = W + lr * downhill
    step_numbers = np.array(kept)
    return _trajectory(
        np.array(Cs),
        t=lr * step_numbers,
        step=step_numbers,
        weights=W,
        source=source,
    )


# W (d, m) -> C or S (d, d), and minus the gradient of the loss (d, m).
Estimate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _barlow_twins(Gamma: np.ndarray, lambd: float = 1.0) -> Estimate:
    def estimate(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        W_Gamma = W @ Gamma  # (d, m), the one expensive product
        C = W_Gamma @ W.T
        return C, _downhill(C, W_Gamma, lambd)

    return estimate


def _vicreg(Gamma: np.ndarray, Sigma: np.ndarray, beta: float) -> Estimate:
    H = (1.0 - beta) * Sigma + beta * Gamma

    def estimate(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        W_Sigma = W @ Sigma
        S = W_Sigma @ W.T
        return S, 4.0 * (W @ H - S @ W_Sigma)

    return estimate


def _batches(
    x: np.ndarray,
    x_prime: np.ndarray,
    batch: int,
    estimator: str,
    rng: np.random.Generator | None,
) -> Estimate:
    batch = _check.count("batch", batch, low=1 if estimator == "paired" else 2)
    _check.choice("estimator", estimator, ESTIMATORS)
    if estimator == "split" and batch % 2:
        raise ValueError(
            f"`batch` is {batch}; the split estimator needs two equal halves, so pass "
            "an even number"
        )
    if rng is None:
        raise ValueError(
            "`rng` is missing: batches are drawn at random; pass a "
            "numpy.random.Generator such as np.random.default_rng(0)"
        )
    pairs = np.stack([x, x_prime])  # (2, n, m)

    def products(W: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        # W Gamma_B and C_B through the embeddings: a Gamma_B of its own would cost
        # m^2 numbers a step.
        drawn = pairs[:, rng.integers(pairs.shape[1], size=size)]  # (2, B, m)
        views = drawn.reshape(2 * size, -1)
        z = views @ W.T  # (2B, d)
        partner = np.concatenate([z[size:], z[:size]]) / (2 * size)
        return partner.T @ z, partner.T @ views

    def paired(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        C, W_Gamma = products(W, batch)
        return C, _downhill(C, W_Gamma)

    def split(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Two halves that know nothing of each other: the mean of a product is then
        # the product of the means.
        C_1, W_Gamma_1 = products(W, batch // 2)
        C_2, W_Gamma_2 = products(W, batch // 2)
        downhill = _downhill(C_1, W_Gamma_2) + _downhill(C_2, W_Gamma_1)
        return (C_1 + C_2) / 2, downhill / 2

    return paired if estimator == "paired" else split


def _downhill(C: np.ndarray, W_Gamma: np.ndarray, lambd: float = 1.0) -> np.ndarray:
    """Minus the gradient of Barlow Twins in W: -4 (C - I) W Gamma, (d, m)."""
    if lambd != 1.0:  # the off-diagonal entries of C weigh lambd
        C = lambd * C + (1.0 - lambd) * np.diag(np.diag(C))
    return 4.0 * (np.eye(len(C)) - C) @ W_Gamma


def _check_loss(loss: str, Sigma: np.ndarray | None, lambd: float, beta: float) -> None:
    _check.choice("loss", loss, LOSSES)
    _check.positive("lambd", lambd, ndim=0)
    _check.nonnegative("beta", beta, ndim=0)
    for name, value, owner in (
        ("lambd", lambd, "barlow_twins"),
        ("beta", beta, "vicreg"),
    ):
        if value != 1.0 and loss != owner:
            raise ValueError(
                f"`{name}` is {value:.3g}, but only loss {owner!r} has a {name}; leave "
                f"it out with loss {loss!r}"
            )
    if (Sigma is None) != (loss == "barlow_twins"):
        found = "missing: pass" if Sigma is None else "given: leave out"
        raise ValueError(
            f"`Sigma` is {found} the second moment of the views with loss {loss!r}; "
            "Barlow Twins does not see Sigma, the other losses do"
        )


def _warn_beyond_stability(Gamma: np.ndarray, lr: float) -> None:
    # The norm bounds the top eigenvalue, so that most runs need no eigenvalue at all.
    if 4.0 * lr * np.linalg.norm(Gamma) < 1.0:
        return
    top = spectra.top_eigenvalues(Gamma, 1)[0]
    if 4.0 * lr * top >= 1.0:
        warnings.warn(
            f"`lr` is {lr:.3g}, and gradient descent on these pairs settles only below "
            f"1 / (4 gamma_1) = {1.0 / (4.0 * top):.3g}",
            UserWarning,
            stacklevel=3,
        )


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
    lambd: float = 1.0,
) -> Trajectory:
    """Read loss and sorted eigenvalues off the (T, d, d) cross-correlations."""
    Cs = (Cs + Cs.transpose(0, 2, 1)) / 2
    squares = (Cs - np.eye(Cs.shape[1])) ** 2
    loss = np.sum(squares, axis=(1, 2))
    if lambd != 1.0:
        diagonal = np.einsum("tii->t", squares)
        loss = diagonal + lambd * (loss - diagonal)
    return Trajectory(
        t=t,
        step=step,
        loss=loss,
        eigenvalues=np.linalg.eigvalsh(Cs)[:, ::-1],
        order="rank",
        matrix="cross-correlation",
        source=source,
        weights=weights,
    )
