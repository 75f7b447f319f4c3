"""What a training run refuses, before and while it runs.

A private half of `pkg.trainer`.
"""

import numpy as np
import torch

from pkg import data
from pkg._config import TrainConfig
from pkg._run import Training

# A run is lost when its loss stands this much above where it began, or when its
# largest eigenvalue falls below this share of the largest it had.
RISE, COLLAPSE, OVER = 1.0, 0.01, 10


class LostRun(RuntimeError):
    """A run that diverged or collapsed; disk, memory and machine are all well."""


def pixels_of(images: data.Images | np.ndarray, config: TrainConfig) -> np.ndarray:
    """Return the bytes of a data set that can fill a batch."""
    pixels = images.x if isinstance(images, data.Images) else images
    found = getattr(pixels, "dtype", type(pixels)), getattr(pixels, "shape", "")
    right = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    if not right or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise ValueError(
            f"`images` must be (n, height, width, 3) of uint8, or what data.load "
            f"returns; got {found[0]} {found[1]}"
        )
    if len(pixels) < max(config.batch, config.probe):
        name = "batch" if len(pixels) < config.batch else "probe"
        raise ValueError(
            f"`images` holds {len(pixels)}, and `{name}` asks for "
            f"{getattr(config, name)}; load more images or ask for fewer"
        )
    return pixels


def fits_in_memory(pixels: np.ndarray, device: torch.device) -> None:
    """Refuse a data set that is larger than what is free on the device."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if pixels.nbytes > free:
        fitting = int(0.5 * free / (pixels.nbytes / len(pixels)))
        raise ValueError(
            f"`images` takes {pixels.nbytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            f"free on {device}; load some {fitting} images with n=, which leaves half "
            "for the network"
        )


def refuse_a_lost_run(training: Training) -> None:
    """Fetch what has gathered; stop a run that diverges or collapses."""
    tracker, config = training.tracker, training.config
    lr = f"learning rate {training.lr:.3g}"
    remedy = "pass a smaller `rate`" if config.lr is None else "pass a smaller `lr`"
    if training.scaler is not None:
        remedy += ", or precision='float32'"
    try:
        tracker.fetch()
    except FloatingPointError as error:
        raise LostRun(
            f"the run diverged: {error} are not finite, at {lr}; {remedy}"
        ) from None
    # The step after the last finite loss may have thrown them off; a checkpoint of that
    # would be of no use.
    if not all(bool(p.isfinite().all()) for p in training.model.parameters()):
        raise LostRun(
            f"the run diverged: the weights of step {training.step} are not finite, at "
            f"{lr}; {remedy}"
        )
    if not config.guard or len(tracker.steps) < 2 * OVER:
        return
    loss = float(np.median(tracker.loss[-OVER:]))
    if loss > tracker.loss[0] + max(RISE, abs(tracker.loss[0])):
        raise LostRun(
            f"the run diverged: the loss began at {tracker.loss[0]:.3g} and stands at "
            f"{loss:.3g} at step {training.step}, at {lr}; {remedy}. To watch it, pass "
            "guard=False"
        )
    top = np.array([spectrum[0, 0] for spectrum in tracker.eigenvalues])
    # The largest of the last few: while it grows, tenfold in two steps, their median is
    # far below the highest.
    now, highest = float(np.max(top[-OVER:])), float(np.max(top))
    if highest > 10 * top[0] and now < COLLAPSE * highest:
        raise LostRun(
            f"the run collapsed: the largest eigenvalue of the covariance was "
            f"{highest:.3g} and is {now:.3g} at step {training.step}, at {lr}; "
            f"{remedy}, or look more often with a smaller `refresh`. To watch it, pass "
            "guard=False"
        )


def explain_memory(training: Training) -> RuntimeError:
    """Say which batch would fit, from trying."""
    batch = _batch_that_fits(training)
    remedy = (
        f"a batch of {batch} fits: pass batch={batch}"
        if batch
        else "no batch that tells the dimensions apart fits: pass a smaller encoder"
    )
    return RuntimeError(
        f"out of memory on {training.device} at step {training.step} with a batch of "
        f"{training.config.batch} pairs; {remedy}, or use more GPUs with torchrun"
    )


def _batch_that_fits(training: Training) -> int:
    """Find the largest half, quarter ... of the batch whose step fits in memory."""
    # By this rank alone: the others may have had room, and would not answer.
    training.network, world = training.model, training.world
    batch = training.config.batch // 2
    while batch >= max(2, training.config.d):
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
        training.optimizer.zero_grad(set_to_none=True)
        try:
            draw = training.batches.draw()[: max(1, batch // world)]
            x, x_prime = training.batches.make(draw)
            training.embed(torch.cat([x, x_prime])).sum().backward()
        except torch.OutOfMemoryError:
            batch //= 2
        else:
            return batch - batch % world
    return 0
