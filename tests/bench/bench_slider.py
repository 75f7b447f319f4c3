"""How fast figures answer a hand on a slider, inside a page without a kernel."""

import tempfile
from pathlib import Path

import numpy as np
from anywidget import AnyWidget

from pkg import widgets
from tests.bench import Row
from tests.site_driver import open_browser
from tests.test_widgets_browser import write_page

EVENTS = 200
GAMMAS = [1.2, 1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1]

# Each of these sliders moves all curves; a bar would move only its own. It goes up
# and down over a sixth of its range, so that events differ.
MEASURE = """async ([control, events]) => {
  const input = document.querySelector(`[data-control="${control}"]`);
  const [low, high] = [Number(input.min), Number(input.max)];
  const move = (i) => {
    input.value = low + (high - low) * (1 / 3 + (i % 21) / 120);
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


def measure(figure: AnyWidget, control: str) -> dict:
    """Milliseconds of each slider event, up to the next frame, and of idle frames."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as chromium:
        page = write_page(Path(folder), figure)
        tab = chromium.new_page(viewport={"width": 800, "height": 1000})
        tab.goto(page.as_uri())
        tab.wait_for_selector(f'[data-control="{control}"]')
        return tab.evaluate(MEASURE, [control, EVENTS])


def rows() -> list[Row]:
    """Handlers of one slider event, and the time until the next frame."""
    times = measure(widgets.Staircase(GAMMAS, revealed=8), "s0")
    shown, late = np.percentile(times["shown"], [50, 95])
    frame = float(np.median(times["idle"]))  # the display's rate, with nothing to draw
    small = measure(widgets.SmallStart([*GAMMAS[1:], -0.3], d=4), "alpha")
    losses = measure(widgets.Losses("vicreg"), "beta")
    minibatch = measure(widgets.Minibatch(d=10), "rho")
    return [
        handler_row("slider handler, 8 modes on 360 points", times, limit=2.0),
        Row(
            what="slider event to next frame",
            ours=f"{shown:.1f} ms median, {late:.1f} ms p95",
            peer=f"{frame:.1f} ms, one frame of the idle page",
            ratio=f"{shown / frame:.2f} frames",
            goal="1 frame at the median",
            reached=bool(shown <= 1.1 * frame),
        ),
        handler_row("matrix flow handler, d = 4, m = 8, integrated", small, limit=8.0),
        # These two integrate and descend after the event, a slice of a frame at a time.
        handler_row("losses handler, beta, d = 4", losses, limit=8.0),
        handler_row("minibatch handler, correlation, d = 10", minibatch, limit=8.0),
    ]


def handler_row(what: str, times: dict, limit: float) -> Row:
    """What one event costs the page, against its limit in milliseconds."""
    handler, tail = np.percentile(times["handler"], [50, 95])
    return Row(
        what=f"{what}, {EVENTS} events",
        ours=f"{handler:.2f} ms median, {tail:.2f} ms p95",
        peer=f"{limit:g} ms limit",
        ratio=f"{handler / limit:.0%} of the limit",
        goal=f"{limit:g} ms median",
        reached=bool(handler <= limit),
    )
