"""The panel of a training run: its buttons pressed, its thread awaited, no browser."""

import base64
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from pkg import trainer, widgets
from pkg.record import Trajectory

STEPS = 40


def look(step: int) -> SimpleNamespace:
    """What `watch` is called with, as far as the panel reads it."""
    cross = np.array([1.0, 0.1]) * step / STEPS
    return SimpleNamespace(
        step=step,
        steps=STEPS,
        t=0.1 * step,
        loss=2.0 - step / STEPS,
        cross=cross,
        learned=1,
        images_per_second=1234.0,
    )


class FakeRun:
    """Trains nothing: goes on from where it stood, a look at each step."""

    def __init__(self) -> None:
        self.step, self.calls, self.allowed = 0, 0, threading.Semaphore(0)
        self.fails_at: int | None = None

    def __call__(self, watch):
        self.calls += 1
        while self.step < STEPS:
            self.allowed.acquire()  # the test says how far it may go
            self.step += 1
            if self.step == self.fails_at:
                self.fails_at = None
                raise RuntimeError("the run diverged: <lr> is too large")
            if watch(look(self.step)):
                break
        seen = [look(step) for step in range(self.step + 1)]
        cross = Trajectory(
            t=np.array([s.t for s in seen]),
            step=np.arange(len(seen)),
            loss=np.array([s.loss for s in seen]),
            eigenvalues=np.array([s.cross for s in seen]),
            order="rank",
            matrix="cross-correlation",
            source="fake",
        )
        return SimpleNamespace(cross=cross, finished=self.step == STEPS)


@pytest.fixture
def fake():
    return FakeRun()


@pytest.fixture
def panel(fake):
    panel = widgets.TrainingPanel(fake)
    yield panel
    fake.allowed.release(10**4)
    assert panel.wait(20.0)


def words(panel) -> str:
    return re.sub("<.*?>", "", panel.line.value)


def until(panel, text: str) -> None:
    """Wait until the line says it."""
    said = threading.Event()

    def heard(change) -> None:
        if re.search(text, change["new"]):
            said.set()

    panel.line.observe(heard, "value")
    assert re.search(text, panel.line.value) or said.wait(20)


def test_nothing_runs_before_start(panel, fake):
    assert (panel.state, fake.calls) == ("ready", 0)
    assert panel.start_button.description == "Start"
    assert panel.pause_button.disabled and not panel.start_button.disabled
    panel.pause_button.click()
    assert panel.state == "ready"


def test_it_starts_pauses_and_goes_on_from_there(panel, fake):
    panel.start_button.click()
    assert panel.state == "running" and not panel.pause_button.disabled
    assert panel.start_button.disabled
    fake.allowed.release(3)
    until(panel, r"Step 3 of 40: loss 1\.93, 1 modes learned, 1234 images a second, ab")
    panel.pause_button.click()
    assert panel.state == "pausing" and panel.pause_button.disabled
    fake.allowed.release(1)  # it stops at its next look, not before
    assert panel.wait(20.0)
    assert panel.state == "paused" and fake.step == 4
    assert words(panel) == "Paused at step 4. Go on takes it up from there."
    assert panel.start_button.description == "Go on"
    assert not panel.run.finished

    panel.start_button.click()
    panel.start_button.click()  # an impatient second click starts no second run
    fake.allowed.release(STEPS)
    assert panel.wait(20.0)
    assert (panel.state, fake.step, fake.calls) == ("finished", STEPS, 2)
    assert panel.run.finished and words(panel) == "Finished: step 40, loss 1."
    assert panel.start_button.disabled and panel.pause_button.disabled
    panel.start_button.click()
    assert fake.calls == 2


def test_an_error_appears_and_the_run_can_be_tried_again(panel, fake):
    fake.fails_at = 2
    panel.start_button.click()
    fake.allowed.release(2)
    assert panel.wait(20.0)
    assert panel.state == "failed" and isinstance(panel.error, RuntimeError)
    # Escaped: what an error says is text, and no markup.
    assert "RuntimeError: the run diverged: &lt;lr&gt; is too large" in panel.line.value
    assert panel.start_button.description == "Try again"
    fake.step = 0  # from the last checkpoint, before the last look
    panel.start_button.click()
    fake.allowed.release(STEPS)
    assert panel.wait(20.0) and panel.state == "finished" and panel.error is None


def test_the_picture_is_a_png_that_says_what_it_shows(panel, fake):
    panel.start_button.click()
    fake.allowed.release(STEPS)
    assert panel.wait(20.0)
    assert 'alt="Loss and eigenvalues of the cross-correlation up to step 40"' in (
        panel.picture.value
    )
    data = re.search('base64,(.*?)"', panel.picture.value)[1]
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert len(data) < 60_000  # sent again and again


def test_pictures_take_a_small_share_of_the_training_time(panel, fake, monkeypatch):
    """Each waits for twenty times as long as the last one took."""
    now, drawn = [100.0], []
    monkeypatch.setattr("pkg._panel.time.monotonic", lambda: now[0])

    def draw(run):
        drawn.append(int(run.step[-1]))
        now[0] += 0.1  # s, to make a picture

    monkeypatch.setattr(panel, "_draw", draw)
    for step in range(1, 31):
        assert panel._watch(look(step)) is False
        now[0] += 0.5
    assert drawn == [1, 5, 9, 13, 17, 21, 25, 29]


def test_what_cannot_be_started_is_refused(as_a_user):
    with pytest.raises(ValueError, match="`start` is Run, which cannot be called"):
        widgets.TrainingPanel(type("Run", (), {})())


def test_a_real_run_paused_and_gone_on_with_ends_at_the_same_bits(
    tmp_path, monkeypatch
):
    """What the panel adds to `fit`: a thread, and two calls in place of one."""
    images = np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3), dtype=np.uint8)
    config = trainer.TrainConfig(
        method="barlow_twins", d=4, batch=16, pairs=8, steps=12, rate=0.02
    )
    settings = {"device": "cpu", "progress": False}
    monkeypatch.setattr(trainer, "LOOK_SECONDS", 0.0)  # a look at each step

    def start(watch):
        return trainer.fit(config, images, checkpoint=tmp_path, watch=watch, **settings)

    panel = widgets.TrainingPanel(start)
    panel.start_button.click()
    panel.pause_button.click()  # before its first look
    assert panel.wait(60.0)
    assert panel.state == "paused", words(panel)
    assert words(panel).startswith("Paused at step 1.")
    panel.start_button.click()
    assert panel.wait(60.0)
    assert panel.state == "finished", words(panel)
    whole = trainer.fit(config, images, **settings)
    np.testing.assert_array_equal(panel.run.cross.loss, whole.cross.loss)
