"""The network in a page without a kernel: played, paused, pushed too far, removed."""

import re

import numpy as np
import pytest

from pkg import data, widgets
from tests.figure_page import Page, show  # noqa: F401
from tests.test_train import run_js
from tests.test_widgets_browser import browser  # noqa: F401

FIGURE = ".stepwise-training"


@pytest.fixture(scope="module")
def images():
    return data.load("photos", n=400, size=10, seed=0).x


# --- words, in Node ----------------------------------------------------------------

STORY = """
const story = await load("train_story");
const { decode, population } = await load("train_views");
const { createRun, advance, record } = await load("train_run");
const [patches, cases] = given;
const views = population(decode(patches));
return cases.map(({ steps, ...given }) => {
  const settings = { net: "linear", loss: "barlow_twins", start: 1e-3, rate: 0.1,
    seed: 0, ...given };
  const run = createRun(views, { ...settings, scale: settings.start });
  while (run.step < steps && !run.lost) record(run, advance(run));
  const axis = { low: 0, high: story.horizon(run.prediction), log: false };
  return { opening: story.openingWords(run, settings), high: axis.high,
    training: story.trainingWords(run, settings), lost: run.lost,
    resting: story.restingWords(run, settings), picture: story.pictureWords(run, axis),
    times: run.prediction.times, measured: run.measured };
});"""


@pytest.fixture(scope="module")
def tell(images):
    patches = widgets.LivingNetwork(images).patches
    return lambda *cases: run_js(STORY, patches, list(cases))


def test_the_sentence_predicts_then_compares(tell):
    [before, after] = tell({"steps": 0}, {"steps": 230})
    times = [round(time) for time in before["times"]]
    assert (
        f"expects the steps at {times[0]}, {times[1]}, {times[2]}"
        in (before["opening"])
    )
    assert max(before["times"]) < before["high"] < 2 * max(before["times"])
    fell = [round(time) for time in after["measured"][:2]]
    assert after["training"] == (
        f"Step 2 fell at {fell[1]}; predicted: {times[1]}. The next one is predicted "
        f"at {times[2]}."
    )
    assert (
        f"at {fell[0]} ({times[0]} predicted) and {fell[1]} ({times[1]})"
        in (after["resting"])
    )
    assert "2 of 5 modes learned" in after["resting"]
    assert "steps predicted at" in after["picture"]
    assert "2 steps fell" in after["picture"]


def test_the_sentence_says_why_a_run_stopped(tell):
    [wild] = tell({"rate": 3.0, "steps": 300})
    assert wild["lost"]
    assert "theory promises no steps" in wild["opening"]
    assert re.match(
        r"The loss left all bounds at step \d+, and the run stopped\. The learning "
        r"rate is 3 times the stable limit 1/\(4\w₁\) = 0\.25",
        wild["resting"],
    )


def test_a_start_that_is_half_learned_is_named(tell):
    [large] = tell({"start": 1.0, "steps": 0})
    assert "half learned already. Lower the start." in large["opening"]


def test_few_points_are_drawn_and_the_last_is_among_them():
    for log in (False, True):
        axis = {"low": 1 if log else 0, "high": 5000, "log": log}
        [kept] = run_js(
            "const { thin } = await load('train_story'); return [thin(...given)];",
            list(range(4321)),
            axis,
        )
        assert kept[0] == 0
        assert kept[-1] == 4320
        assert len(kept) < 330
        assert kept == sorted(set(kept))


# --- in the page -------------------------------------------------------------------


class Run(Page):
    def step(self):
        return int(self.tab.locator(FIGURE).first.get_attribute("data-step"))

    def wait(self, condition, timeout=60_000):
        self.tab.wait_for_function(
            f"() => {{ const root = document.querySelector('{FIGURE}');"
            " const step = Number(root.dataset.step);"
            " const told = root.querySelector('.sf-told').textContent;"
            f" return {condition}; }}",
            timeout=timeout,
        )

    def highest(self, mode):
        """How far the measured curve of one mode has climbed, in pixels."""
        path = self.tab.locator(
            f'[data-kind="measured"][data-mode="{mode}"] .sf-curve'
        ).first.get_attribute("d")
        return min(float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path))


@pytest.fixture
def read(show, images):  # noqa: F811
    def open_page(theme="light", width=800, **traits):
        figure = widgets.LivingNetwork(images, **{"pace": 0} | traits)
        return show(figure, page=Run, theme=theme, width=width)

    return open_page


@pytest.mark.browser
def test_press_play_and_the_first_step_falls_as_predicted(read):
    reader = read()
    assert reader.step() == 0
    assert "theory expects the steps at" in reader.told()
    bottom = reader.tab.locator(".sf-chart").bounding_box()["height"]
    reader.control("play").click()
    reader.wait("told.startsWith('Step 2 fell')")
    reader.control("play").click()
    fell, foreseen = re.search(r"at (\d+) \((\d+) predicted\)", reader.told()).groups()
    assert int(fell) == pytest.approx(int(foreseen), rel=0.06)
    assert reader.highest(0) < bottom - 150  # its eigenvalue has climbed,
    assert reader.highest(4) > reader.highest(0) + 100  # and the last one has not
    assert reader.control("play").inner_text() == "Go on"
    rest = reader.step()
    reader.tab.wait_for_timeout(300)
    assert reader.step() == rest


@pytest.mark.browser
def test_a_run_goes_to_the_end_and_then_further(read):
    reader = read(start=0.1, rate=0.5)
    reader.control("play").click()
    reader.wait("told.includes('5 of 5 modes learned')")
    end = reader.step()
    reader.control("play").click()
    reader.wait(f"step > {end}")
    reader.control("play").click()


@pytest.mark.browser
def test_one_step_start_again_and_a_new_start(read):
    reader = read()
    opening = reader.told()
    for _ in range(3):
        reader.control("step").click()
    assert reader.step() == 3
    reader.control("reset").click()
    assert (reader.step(), reader.told()) == (0, opening)
    reader.control("draw").click()
    assert reader.step() == 0
    assert reader.told() != opening


@pytest.mark.browser
def test_a_setting_changes_the_run_and_it_keeps_playing(read):
    reader = read()
    reader.control("play").click()
    reader.wait("step > 5")
    reader.control("net").select_option("two-layer")
    assert reader.control("play").inner_text() == "Pause"
    reader.wait("step > 5")
    reader.control("play").click()
    assert "hidden layer" in reader.told() or "Step" in reader.told()
    reader.control("loss").select_option("spectral")
    assert reader.step() == 0
    title = reader.tab.locator(".sf-chart .sf-title").nth(1).inner_html()
    assert "second moment" in title


@pytest.mark.browser
@pytest.mark.parametrize("net", ["linear", "two-layer"])
def test_a_diverging_rate_stops_with_a_sentence(read, net):
    reader = read(rate=3.0, net=net)
    assert "theory promises no steps" in reader.told()
    reader.control("play").click()
    reader.wait("told.includes('left all bounds')")
    assert "Lower it." in reader.told()
    assert reader.control("play").inner_text() == "Play"
    reader.control("rate").focus()
    for _ in range(8):
        reader.tab.keyboard.press("PageDown")
    assert reader.step() == 0
    assert "theory expects the steps" in reader.told()


@pytest.mark.browser
def test_every_control_answers_the_keyboard(read):
    reader = read()
    for name in ("start", "rate"):
        slider = reader.control(name)
        slider.focus()
        before = reader.told(), slider.get_attribute("aria-valuetext")
        reader.tab.keyboard.press("ArrowLeft")
        after = reader.told(), slider.get_attribute("aria-valuetext")
        assert all(a != b for a, b in zip(after, before, strict=True)), name
    for name in ("net", "loss"):
        reader.control(name).focus()
        before = reader.told()
        reader.tab.keyboard.press("ArrowDown")
        assert reader.told() != before, name
    reader.control("log-steps").focus()
    ticks = "all => all.map(e => e.textContent).join()"
    before = reader.tab.eval_on_selector_all(".sf-middle", ticks)
    reader.tab.keyboard.press("Space")
    assert reader.tab.eval_on_selector_all(".sf-middle", ticks) != before
    reader.control("play").focus()
    reader.tab.keyboard.press("Space")
    reader.wait("step > 2")
    reader.tab.keyboard.press("Space")
    assert reader.control("play").inner_text() == "Go on"


@pytest.mark.browser
def test_the_pace_is_kept(read):
    reader = read(pace=30)
    start = reader.tab.evaluate("performance.now()")
    reader.control("play").click()
    reader.tab.wait_for_timeout(2000)
    reader.control("play").click()
    seconds = (reader.tab.evaluate("performance.now()") - start) / 1000
    # Never faster than 30 a second; slower on a busy machine.
    assert 10 < reader.step() <= 30 * seconds + 2


@pytest.mark.browser
def test_it_rests_out_of_sight(read):
    reader = read()
    reader.tab.evaluate("document.body.style.paddingBottom = '4000px'")
    reader.control("play").click()
    reader.wait("step > 3")
    reader.tab.evaluate("scrollTo(0, 4000)")
    reader.tab.wait_for_timeout(400)
    rest = reader.step()
    reader.tab.wait_for_timeout(400)
    assert reader.step() == rest
    reader.tab.evaluate("scrollTo(0, 0)")
    reader.wait(f"step > {rest}")


@pytest.mark.browser
def test_the_pictures_turn_from_noise_into_the_predicted_ones(read):
    reader = read(rate=0.2)
    pixels = """(row) => {
      const copy = new OffscreenCanvas(8, 8);
      const pen = copy.getContext("2d", { willReadFrequently: true });
      return [...document.querySelectorAll(`.tn-${row} canvas`)].map((canvas) => {
        pen.drawImage(canvas, 0, 0);
        return [...pen.getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 0);
      });
    }"""

    def likeness():
        mine, theirs = (
            np.array(reader.tab.evaluate(pixels, row)) - 128.0
            for row in ("learned", "theory")
        )
        norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
        return (mine * theirs).sum(axis=1) / norms

    before = likeness()
    reader.control("play").click()
    reader.wait("told.includes('5 of 5 modes learned')")
    after = likeness()
    assert before.mean() < 0.6
    # Not one: the noise of small batches keeps turning what has been learned a little.
    assert after[0] > 0.85
    assert after.mean() > 0.75
    assert "5 learned" in reader.tab.locator(".tn-learned .tn-row").get_attribute(
        "aria-label"
    )


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(read, images):
    """Render by hand with a model that counts its listeners, play, then clean up."""
    reader = read()
    figure = widgets.LivingNetwork(images, pace=0)
    state = {name: getattr(figure, name) for name in figure.trait_names(sync=True)}
    state = {k: v for k, v in state.items() if k[0] != "_" and k not in ("layout",)}
    left = reader.tab.evaluate(
        """async ([source, state]) => {
          const code = new Blob([source], { type: "text/javascript" });
          const { default: figure } = await import(URL.createObjectURL(code));
          let listeners = 0;
          const model = { get: (k) => state[k], set: (k, v) => { state[k] = v; },
            save_changes() {}, on() { listeners += 1; }, off() { listeners -= 1; } };
          const el = document.createElement("div");
          document.body.prepend(el);
          const destroy = figure.render({ model, el });
          const root = el.firstElementChild;
          el.querySelector('[data-control="play"]').click();
          const wait = (ms) => new Promise((done) => setTimeout(done, ms));
          while (Number(root.dataset.step) < 3) await wait(20);
          destroy();
          const step = root.dataset.step;
          await wait(200);
          return [listeners, el.childElementCount, root.dataset.step === step];
        }""",
        [widgets.LivingNetwork._esm, state],
    )
    assert left == [0, 0, True]


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(read, width):
    reader = read(width=width)
    reader.control("step").click()
    assert reader.cramped() == []


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(read, theme):
    reader = read(theme=theme)
    reader.control("step").click()
    assert reader.axe() == []


@pytest.mark.browser
def test_paper_gets_the_pictures_without_controls(read):
    reader = read(theme="dark")
    reader.tab.emulate_media(media="print")
    assert not reader.control("play").is_visible()
    assert reader.tab.locator(".tn-theory").is_visible()
    colour = "e => getComputedStyle(e).backgroundColor"
    assert reader.tab.eval_on_selector(FIGURE, colour) == "rgb(255, 255, 255)"


@pytest.mark.browser
def test_keys_do_not_reach_the_notebook(read):
    reader = read()
    reader.tab.evaluate(
        "addEventListener('keydown', () => { document.title = 'leaked'; })"
    )
    reader.control("rate").focus()
    reader.tab.keyboard.press("ArrowLeft")
    assert reader.tab.title() == "A chapter"
