"""Buttons and live plots for a training run, where a kernel is live.

A private half of `pkg.widgets`.
"""

import base64
import html
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from pkg.record import Trajectory

STATES = ("ready", "running", "pausing", "paused", "finished", "failed")
# What the button says that leads out of a state.
LABELS = {"ready": "Start", "paused": "Go on", "failed": "Try again"}
# A picture is made in the thread that trains: it may take a twentieth of the time.
PICTURE_SHARE = 0.05


class TrainingPanel(ipywidgets.VBox):
    """Start, pause and watch a training run.

    The run works in a thread of its own, so that the notebook stays free. Pause lets
    it save its checkpoint and return; the same button then goes on from there. An
    error appears in the panel. Without a kernel it is of no use. Introduced in
    chapter 11.

    Parameters
    ----------
    start : callable
        Takes a function, calls ``trainer.fit(..., watch=function)``, with a folder for
        `checkpoint` or Pause would lose the run, and returns the Run. Called again
        with every Start.

    Attributes
    ----------
    state : str
        "ready", "running", "pausing", "paused", "finished" or "failed".
    run : Run or None
        What `start` returned last; ``run.finished`` says whether it is whole.
    error : Exception or None
        What `start` raised last.
    start_button, pause_button : ipywidgets.Button
    line, picture : ipywidgets.HTML
        What the run does, in a sentence; its loss and eigenvalues.

    Raises
    ------
    ValueError
        If `start` cannot be called.
    """

    state = traitlets.Enum(STATES, "ready")

    def __init__(self, start: Callable[[Callable[[Any], bool]], Any]) -> None:
        if not callable(start):
            raise ValueError(
                f"`start` is {type(start).__name__}, which cannot be called; pass a "
                "function that takes `watch` and returns trainer.fit(..., watch=watch)"
            )
        self.run: Any = None
        self.error: Exception | None = None
        self._start = start
        self._pause = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: list[Any] = []  # a Progress each
        self._began, self._first, self._due = 0.0, 0, 0.0
        self.start_button = ipywidgets.Button(button_style="primary")
        self.pause_button = ipywidgets.Button(description="Pause")
        self.line, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.start_button.on_click(lambda _: self._begin())
        self.pause_button.on_click(lambda _: self._halt())
        buttons = ipywidgets.HBox([self.start_button, self.pause_button])
        super().__init__(children=[buttons, self.line, self.picture])
        self._enter("ready", "Ready. Nothing runs yet.")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run pauses or ends, and say whether it did in `timeout` s."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _begin(self) -> None:
        if self.state in ("running", "pausing", "finished"):
            return  # a second click on its way while the first was answered
        self._pause.clear()
        self.error, self._began, self._due = None, 0.0, 0.0
        self._enter("running", "Starting.")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _halt(self) -> None:
        if self.state == "running":
            self._pause.set()
            self._enter("pausing", "Pausing: the run saves its checkpoint.")

    def _work(self) -> None:
        try:
            run = self._start(self._watch)
            if run.cross.t[-1] > 0:
                self._draw(run.cross)
        except Exception as error:
            self.error = error
            said = f"{type(error).__name__}: {error}"
            return self._enter("failed", f"The run stopped. {said}")
        self.run = run
        if run.finished:
            ended = f"step {run.cross.step[-1]}, loss {run.cross.loss[-1]:.3g}"
            return self._enter("finished", f"Finished: {ended}.")
        step = self._seen[-1].step
        self._enter("paused", f"Paused at step {step}. Go on takes it up from there.")

    def _watch(self, seen: Any) -> bool:
        """Note where the run stands, and say whether it shall stop."""
        now = time.monotonic()
        if not self._began:
            self._began, self._first = now, seen.step
        # After a failure it may begin again from before the last look.
        self._seen = [s for s in self._seen if s.step < seen.step] + [seen]
        if self.state == "running":
            self._say(_sentence(seen, seen.step - self._first, now - self._began))
        if now >= self._due and seen.t > 0:
            self._draw(_trajectory(self._seen))
            done = time.monotonic()
            self._due = done + (done - now) / PICTURE_SHARE
        return self._pause.is_set()

    def _enter(self, state: str, said: str) -> None:
        self.state = state
        self.start_button.description = LABELS.get(state, "Start")
        self.start_button.disabled = state in ("running", "pausing", "finished")
        self.pause_button.disabled = state != "running"
        self._say(said)

    def _say(self, words: str) -> None:
        self.line.value = f'<span role="status">{html.escape(words)}</span>'

    def _draw(self, run: Trajectory) -> None:
        assert run.step is not None
        said = (
            f"Loss and eigenvalues of the cross-correlation up to step {run.step[-1]}"
        )
        self.picture.value = (
            f'<img alt="{said}" style="max-width: 100%" '
            f'src="data:image/png;base64,{_png(run)}">'
        )


def _sentence(seen: Any, steps: int, seconds: float) -> str:
    words = (
        f"Step {seen.step} of {seen.steps}: loss {seen.loss:.3g}, "
        f"{seen.learned} modes learned, {seen.images_per_second:.0f} images a second"
    )
    if not steps:
        return words + "."
    left = (seen.steps - seen.step) * seconds / steps
    return words + f", about {_duration(left)} left."


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _trajectory(seen: list[Any]) -> Trajectory:
    return Trajectory(
        t=np.array([s.t for s in seen]),
        step=np.array([s.step for s in seen]),
        loss=np.array([s.loss for s in seen]),
        eigenvalues=np.stack([s.cross for s in seen]),
        order="rank",
        matrix="cross-correlation",
        source="this run",
    )


def _png(run: Trajectory) -> str:
    """Draw loss and spectrum by step; without pyplot, which threads cannot share."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pkg import plots

    figure = Figure(figsize=(7, 2.4), dpi=96, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    plots.draw_loss(left, run, by="step")
    left.set_xlabel("step")
    plots.draw_spectrum(right, run, by="step")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return base64.b64encode(picture.getvalue()).decode("ascii")
