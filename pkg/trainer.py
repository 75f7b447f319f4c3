"""Training: a network on fresh pairs of views, and plain descent on fixed ones.

``fit`` is the loop. It calls four rooms: `optim` for the rate, `track` for the
spectra, `checkpoint` to survive, `distributed` to share the work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from pkg import _check, data, distributed
from pkg._batches import standardize
from pkg._config import TrainConfig
from pkg._descend import descend
from pkg._guards import (
    LostRun,
    explain_memory,
    fits_in_memory,
    pixels_of,
    refuse_a_lost_run,
)
from pkg._keep import Keeper
from pkg._run import Training
from pkg.record import Trajectory
from pkg.track import Snapshots

__all__ = ["Progress", "Run", "TrainConfig", "descend", "fit", "standardize"]

# Between two looks at what has gathered: seconds on one process; steps on several,
# which must look together.
LOOK_SECONDS, LOOK_STEPS = 0.5, 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Progress:
    """Where a run stands: what `watch` is called with.

    Attributes
    ----------
    step, steps : int
    t : float
        Flow time, the sum of learning rates.
    loss, lr : float
    covariance, cross : (d,)
        Eigenvalues, descending.
    learned : int
        Eigenvalues of the covariance above a tenth of the largest.
    images_per_second : float
        Images, not views, since this process began or resumed.
    model : nn.Module
        As it is now; look, and leave it as it is.
    """

    step: int
    steps: int
    t: float
    loss: float
    lr: float
    covariance: Float[np.ndarray, " d"]
    cross: Float[np.ndarray, " d"]
    learned: int
    images_per_second: float
    model: nn.Module


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """A training run: its spectra, its network, and pictures of the probe.

    Attributes
    ----------
    config : TrainConfig
    covariance, cross : Trajectory
        Spectra of the covariance of all views' embeddings, and of the symmetrised
        cross-correlation of the two views, at the recorded steps.
    model : nn.Module
        Trained, on its device.
    snapshots : Snapshots
        Embeddings of the probe; none without one.
    rates : (L, 3)
        Every look at gamma_1: its step, gamma_1, the learning rate from then on.
    finished : bool
        False where `watch` stopped it early.
    images_per_second : float
    """

    config: TrainConfig
    covariance: Trajectory
    cross: Trajectory
    model: nn.Module
    snapshots: Snapshots
    rates: Float[np.ndarray, "L 3"]
    finished: bool
    images_per_second: float


def fit(
    config: TrainConfig,
    images: data.Images | UInt8[np.ndarray, "n h w 3"],
    *,
    model: nn.Module | None = None,
    checkpoint: str | Path | None = None,
    resume: str = "auto",
    save_every: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    watch: Callable[[Progress], bool | None] | None = None,
) -> Run:
    """Train a network by plain SGD on fresh pairs of views, and record its spectra.

    The images lie on the device as bytes and views are made there. No momentum, no
    decay: the flow time is the sum of the learning rates, and the rate is
    `config.rate` / gamma_1 with gamma_1 that of the network as it is now. With a
    `checkpoint` folder a run that is killed goes on from there, to the very same bits,
    when the same call is made again. Under ``torchrun`` several processes share each
    batch. Introduced in chapter 11.

    Parameters
    ----------
    config : TrainConfig
    images : Images, or (n, h, w, 3) uint8
    model : nn.Module, optional
        Maps (n, 3, h, w) to (n, d), in place of ``config.encoder``; trained in place,
        from the start that you gave it.
    checkpoint : path, optional
        Folder of this run alone: two checkpoints in turn, and ``metrics.jsonl`` with a
        line for every recorded step.
    resume : "auto", "must" or "never"
        Go on from the checkpoint if there is one; refuse if there is none; refuse if
        there is one.
    save_every : int, optional
        Steps between two checkpoints. By default as often as 2 % of the time allows.
    device : optional
        By default a GPU if there is one.
    progress : bool
        Show a bar on the terminal.
    watch : callable, optional
        Called twice a second or so with a `Progress`; the run stops, and can go on
        later, where it returns True.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If the images are not such, are fewer than a batch or larger than the device's
        memory, or the checkpoint is of another run; the message names what differs.
    RuntimeError
        If the run diverges, collapses, or runs out of memory: the message says what
        happened and what to change. The last checkpoint stays.
    """
    from tqdm.auto import tqdm

    _check.choice("resume", resume, ("auto", "must", "never"))
    if save_every is not None:
        save_every = _check.count("save_every", save_every)
    pixels = pixels_of(images, config)
    with distributed.session(device) as place:
        fits_in_memory(pixels, place.device)
        training = Training(config, pixels, model, place)
        keeper = Keeper(training, pixels, checkpoint, save_every)
        keeper.resume(resume)
        with tqdm(
            total=config.steps,
            initial=training.step,
            unit="step",
            disable=not (progress and distributed.is_main()),
        ) as bar:
            try:
                finished, speed = _train(training, keeper, bar, watch)
            except RuntimeError:
                keeper.write_metrics()  # up to the step that was lost
                raise
    rates, source = training.rates, f"{config.method}, {config.encoder}"
    return Run(
        config=config,
        covariance=training.tracker.trajectory("covariance", source),
        cross=training.tracker.trajectory("cross-correlation", source),
        model=training.model,
        snapshots=training.probe.snapshots(),
        rates=np.array([rates.step, rates.gamma, rates.lr]).T.reshape(-1, 3),
        finished=finished,
        images_per_second=speed,
    )


def _train(
    training: Training,
    keeper: Keeper,
    bar: Any,
    watch: Callable[[Progress], bool | None] | None,
) -> tuple[bool, float]:
    """Take steps until the last, or until `watch` says stop."""
    config, first = training.config, training.step
    started = looked = time.perf_counter()
    speed, last, stop = 0.0, False, False
    while not (last or stop):
        last = training.step == config.steps
        full = False
        try:
            training.advance()
        except torch.OutOfMemoryError:
            full = True  # the traceback holds the step's memory: leave it first
        except ValueError as error:
            refuse_a_lost_run(training)  # where that is why, it says so
            if training.step == 0:
                raise
            raise LostRun(
                f"the run was lost by step {training.step}, at learning rate "
                f"{training.lr:.3g}: {error}. If it began well, pass a smaller `rate`"
            ) from error
        if full:
            raise explain_memory(training)
        now = time.perf_counter()
        if training.world > 1:
            due = training.step % LOOK_STEPS == 0
        else:
            due = now - looked > LOOK_SECONDS
        if due or last:
            refuse_a_lost_run(training)
            looked = now = time.perf_counter()
            speed = (training.step - first) * config.batch / (now - started)
            seen = _progress(training, speed)
            bar.update(training.step - bar.n)
            bar.set_postfix_str(
                f"loss {seen.loss:.3g}, {seen.learned} modes, {speed:.0f} images/s"
            )
            keeper.write_metrics()
            if watch is not None and not last:
                stop = bool(
                    distributed.same(distributed.is_main() and bool(watch(seen)))
                )
        keeper.save(now=last or stop)
    return last, speed


def _progress(training: Training, speed: float) -> Progress:
    tracker = training.tracker
    covariance, cross = tracker.eigenvalues[-1]
    return Progress(
        step=training.step,
        steps=training.config.steps,
        t=training.t,
        loss=tracker.loss[-1],
        lr=training.lr,
        covariance=covariance,
        cross=cross,
        learned=int((covariance > 0.1 * covariance[0]).sum()),
        images_per_second=speed,
        model=training.model,
    )
