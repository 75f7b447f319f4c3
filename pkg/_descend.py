"""Plain descent on fixed pairs, the experiment that the theory speaks of.

A private half of `pkg.trainer`.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pkg import _check, losses, optim
from pkg.record import Trajectory


def descend(
    model: nn.Module,
    x: Float[Tensor, "n ..."],
    x_prime: Float[Tensor, "n ..."],
    *,
    steps: int,
    center: bool = False,
    lr: float | None = None,
    rate: float = 1 / 16,
    refresh: int = 50,
    until: float = 0.0,
    rise: float = 1.0,
    record_every: int = 1,
    watch: Callable[[int, nn.Module], None] | None = None,
    progress: bool = False,
) -> Trajectory:
    """Train a network in place by full-batch descent on ||C - I||_F^2.

    The loss is that of the theory (``losses.THEORY``), every step sees all pairs, and
    no momentum or decay stands between. Descent leaves the staircase, or blows up, once
    its rate passes 1 / (4 gamma_1); gamma_1 grows while features are learned, so by
    default the rate is `rate` / gamma_1, measured again every `refresh` steps.
    Introduced in chapter 8.

    Parameters
    ----------
    model : nn.Module
        Maps (n, ...) to (n, d); changed in place.
    x, x_prime : (n, ...)
        Two views, row i with row i, on the model's device.
    steps : int
        At most so many.
    center : bool
        Subtract each output's mean over the batch, in each view by itself. The features
        of a convolutional network are all positive, so that without centring the first
        mode is nearly a constant, and far faster than the second.
    lr : float, optional
        A fixed learning rate instead.
    rate : float
        Learning rate times gamma_1; 1 / 4 is the limit of stability.
    refresh : int
        Steps between two measurements of gamma_1.
    until : float
        Stop once the loss is below.
    rise : float
        Refuse to go on when the loss stands this much above its lowest value: one mode
        learned and lost is a rise of one. ``inf`` to watch what happens.
    record_every : int
        Steps between two entries of the result; the last step is always one.
    watch : callable, optional
        Called with the step and the model at each entry, before the step is taken.
    progress : bool
        Show a bar on the terminal.

    Returns
    -------
    Trajectory
        ``eigenvalues`` (T, d) of C, sorted; ``t`` is the sum of learning rates.

    Raises
    ------
    ValueError
        If the shapes of the views differ, they are not finite, the output is not
        (n, d), nothing is trained, or a number is out of range.
    RuntimeError
        If the loss rises by `rise`, or is no longer finite; the message names the
        step, the rate and what to change. The model keeps its last weights.
    """
    from tqdm import tqdm

    steps = _check.count("steps", steps)
    refresh = _check.count("refresh", refresh)
    record_every = _check.count("record_every", record_every)
    fixed = None if lr is None else float(_check.positive("lr", lr))
    rate = float(_check.positive("rate", rate))
    if x.shape != x_prime.shape:
        raise ValueError(
            "`x` and `x_prime` must have one shape, row i with row i; got "
            f"{tuple(x.shape)} and {tuple(x_prime.shape)}"
        )
    if not (x.isfinite().all() and x_prime.isfinite().all()):
        raise ValueError("`x` and `x_prime` must be finite; one of them is not")
    if not rise > 0 or not until >= 0:
        raise ValueError(
            f"`rise` must be positive and `until` not negative; got {rise} and {until}"
        )
    both, terms = torch.cat([x, x_prime]), {**losses.THEORY, "center": center}
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(
            "`model` has no parameter that requires a gradient; call "
            "requires_grad_() on what is to be trained"
        )
    entries: list[tuple[float, int, float, np.ndarray]] = []
    t, eta, lowest = 0.0, fixed or 0.0, np.inf
    for step in tqdm(range(steps + 1), unit="step", disable=not progress):
        z, z_prime = _embed(model, both).chunk(2)
        loss = losses.barlow_twins(z, z_prime, **terms)
        value = float(loss.detach())
        done = step == steps or value < until
        if step % record_every == 0 or done:
            entries.append((t, step, value, _eigenvalues(z, z_prime, center)))
            if watch is not None:
                watch(step, model)
        lowest = min(lowest, value)
        if not value <= lowest + rise:
            raise RuntimeError(
                f"the loss rose from {lowest:.3g} to {value:.3g} at step {step}: the "
                f"learning rate {eta:.3g} is too large for the kernel as it is now. "
                f"Pass a smaller `{'rate' if fixed is None else 'lr'}`"
                + (" or a smaller `refresh`" if fixed is None else ", or leave it out")
            )
        if done:
            break
        if fixed is None and step % refresh == 0:
            eta = rate / optim.top_gamma(model, x, x_prime, center=center)
        # A parameter that the output does not use stays where it is.
        gradients = torch.autograd.grad(loss, trained, materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.sub_(eta * gradient)
        t += eta
    times, counts, values, spectra = zip(*entries, strict=True)
    said = f"lr = {fixed:.3g}" if fixed is not None else f"lr = {rate:.3g} / gamma_1"
    return Trajectory(
        t=np.array(times),
        step=np.array(counts),
        loss=np.array(values),
        eigenvalues=np.stack(spectra),
        order="rank",
        matrix="cross-correlation",
        source=f"network, full-batch descent, {said}",
    )


def _embed(model: nn.Module, both: Tensor) -> Tensor:
    z = model(both)
    if z.ndim != 2 or len(z) != len(both):
        raise ValueError(
            f"`model` must map (n, ...) to (n, d); {len(both)} inputs became "
            f"{tuple(z.shape)}. Flatten the output"
        )
    return z


def _eigenvalues(z: Tensor, z_prime: Tensor, center: bool) -> np.ndarray:
    # A spectrum is always computed in float64.
    z, z_prime = z.detach().double(), z_prime.detach().double()
    C = losses.cross_correlation(
        z, z_prime, normalize=False, center=center, symmetrize=True
    )
    return torch.linalg.eigvalsh(C).flip(0).cpu().numpy()
