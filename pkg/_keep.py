"""What a training run leaves in its folder: two checkpoints, and a line a step.

A private half of `pkg.trainer`.
"""

import json
import time
import zlib
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkg import checkpoint, distributed
from pkg._guards import LostRun, refuse_a_lost_run
from pkg._run import Training

METRICS = "metrics.jsonl"
# Checkpoints take this share of the time, and are at least so far apart.
SHARE, SECONDS = 0.02, 2.0
# More steps than were planned: a run may be made longer.
MAY_DIFFER = ("steps",)
# Named only by runs that use them: runs of before these fields go on as they are.
PRECONDITIONER = ("precondition", "floor")


class Keeper:
    """Writes and reads the folder of a run; without one it does nothing.

    Parameters
    ----------
    training : Training
    pixels : (n, h, w, 3) uint8
        The data set, of which a checkpoint keeps the fingerprint.
    folder : path or None
    every : int or None
        Steps between two checkpoints; None for a share of the time.
    """

    def __init__(
        self,
        training: Training,
        pixels: np.ndarray,
        folder: str | Path | None,
        every: int | None,
    ) -> None:
        self.training, self.every = training, every
        self.folder = None if folder is None else Path(folder)
        self.saved_at, self.cost, self.written = time.perf_counter(), 0.0, 0
        config = {
            k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v
            for k, v in vars(training.config).items()
            if training.config.precondition or k not in PRECONDITIONER
        }
        config["images"] = fingerprint(pixels)
        self.about = checkpoint.describe(config, training.model)

    def resume(self, how: str) -> None:
        """Take up the run where its folder says it was."""
        if self.folder is None:
            if how == "must":
                raise ValueError(
                    "`resume` is 'must', but no `checkpoint` folder is named; pass it"
                )
            return
        state = None
        if distributed.is_main():
            state = checkpoint.load(
                self.folder, about=self.about, may_differ=MAY_DIFFER
            )
        state = distributed.same(state)  # other machines may not see this folder
        if state is None and how == "must":
            raise ValueError(
                f"`resume` is 'must', but {self.folder} holds no checkpoint; pass the "
                "folder of the run, or resume='auto' to begin one"
            )
        if state is not None:
            step, steps = state["step"], self.training.config.steps
            if how == "never":
                raise ValueError(
                    f"`resume` is 'never', but {self.folder} holds a run at step "
                    f"{step}; pass another folder, or delete it"
                )
            if step > steps:
                raise ValueError(
                    f"`steps` is {steps}, but the run in {self.folder} is at step "
                    f"{step} already; pass more, or another folder"
                )
            self.training.restore(state)
        # Lines behind the checkpoint come again, and the last may be torn.
        self.write_metrics(mode="w")

    def save(self, *, now: bool) -> None:
        """Write a checkpoint if one is due, or in any case."""
        if self.folder is None or not distributed.is_main():
            return
        training, clock = self.training, time.perf_counter()
        if self.every is not None:
            due = training.step % self.every == 0
        else:
            due = clock - self.saved_at > max(SECONDS, self.cost / SHARE)
        if not (due or now):
            return
        try:
            refuse_a_lost_run(training)  # nothing of it is kept
        except LostRun:
            if training.world > 1 and not now:
                return  # only this rank has looked: all stop at their next common look
            raise
        self.write_metrics()
        state = training.state()
        checkpoint.save(self.folder, state, step=training.step, about=self.about)
        self.saved_at = time.perf_counter()
        self.cost = self.saved_at - clock

    def write_metrics(self, mode: str = "a") -> None:
        """Append a line of JSON for every step recorded since the last call."""
        if self.folder is None or not distributed.is_main():
            return
        tracker, rates = self.training.tracker, self.training.rates
        lines = []
        for i in range(self.written, len(tracker.steps)):
            step = tracker.steps[i]
            looked = int(np.searchsorted(rates.step, step, side="right")) - 1
            covariance, cross = tracker.eigenvalues[i]
            row: dict[str, Any] = {
                "step": step,
                "t": tracker.t[i],
                "loss": tracker.loss[i],
                "lr": rates.lr[looked] if rates.step else self.training.lr,
                "covariance": covariance.tolist(),
                "cross": cross.tolist(),
            }
            lines.append(json.dumps(row) + "\n")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / METRICS).open(mode, encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            raise RuntimeError(
                f"{self.folder / METRICS} cannot be written ({error.strerror}); make "
                "room or leave to write there, and make the same call again: the run "
                "goes on from its checkpoint"
            ) from error
        self.written = len(tracker.steps)


def fingerprint(pixels: np.ndarray) -> str:
    """Tell one data set from another: shape, and a checksum of a thousand images."""
    some = np.ascontiguousarray(pixels[:: max(1, len(pixels) // 1000)])
    return f"{pixels.shape} {zlib.crc32(some.tobytes()):08x}"
