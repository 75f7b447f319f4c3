"""How fast the staircase figure answers a hand on its slider, inside a page."""

import tempfile
from pathlib import Path

import numpy as np

from pkg import widgets
from tests.bench import Row
from tests.site_driver import open_browser
from tests.test_widgets_browser import write_page

EVENTS = 200
GAMMAS = [1.2, 1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1]

# The initial scale moves all eight curves and the loss; a bar would move only its own.
# It goes up and down, so that no event repeats the one before.
MEASURE = """async (events) => {
  const input = document.querySelector('[data-control="s0"]');
  const move = (i) => {
    input.value = -4 + 0.05 * (i % 21);
    const begun = performance.now();
    input.dispatchEvent(new Event("input", { bubbles: true }));
    return [begun, performance.now() - begun];
  };
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (let i = 0; i < 60; i += 1) move(i);
  const handler = [], shown = [], idle = [];
  for (let i = 0; i < events; i += 1) {
    const [begun, spent] = move(i);
    handler.push(spent);
    await frame();
    shown.push(performance.now() - begun);
  }
  await frame();
  for (let i = 0; i < events; i += 1) {
    const begun = performance.now();
    await frame();
    idle.push(performance.now() - begun);
  }
  return { handler, shown, idle };
}"""


def rows() -> list[Row]:
    """Handler of one slider event, and the time until the next frame."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as chromium:
        page = write_page(Path(folder), widgets.Staircase(GAMMAS, revealed=8))
        tab = chromium.new_page(viewport={"width": 800, "height": 1000})
        tab.goto(page.as_uri())
        tab.wait_for_selector(".stepwise-staircase .ss-told:not(:empty)")
        times = tab.evaluate(MEASURE, EVENTS)
    handler, tail = np.percentile(times["handler"], [50, 95])
    shown, late = np.percentile(times["shown"], [50, 95])
    frame = float(np.median(times["idle"]))  # the display's rate, with nothing to draw
    return [
        Row(
            what=f"slider handler, 8 modes on 360 points, {EVENTS} events",
            ours=f"{handler:.2f} ms median, {tail:.2f} ms p95",
            peer="2 ms limit",
            ratio=f"{handler / 2:.0%} of the limit",
            goal="2 ms median",
            reached=bool(handler <= 2.0),
        ),
        Row(
            what="slider event to next frame",
            ours=f"{shown:.1f} ms median, {late:.1f} ms p95",
            peer=f"{frame:.1f} ms, one frame of the idle page",
            ratio=f"{shown / frame:.2f} frames",
            goal="1 frame at the median",
            reached=bool(shown <= 1.1 * frame),
        ),
    ]
