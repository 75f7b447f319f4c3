"""The staircase in a page without a kernel, driven as a reader drives it."""

import functools
import http.server
import json
import threading
from pathlib import Path

import ipywidgets.embed
import pytest

from pkg import widgets
from tests import site_driver

pytestmark = pytest.mark.browser

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def browser():
    with site_driver.open_browser() as chromium:
        yield chromium


def write_page(folder: Path, *figures, theme: str = "light", views: int = 1) -> Path:
    """A page as myst-nb writes it: one state script, one view script a place."""
    # A notebook stores every trait; this helper would drop the figure's own code.
    state = ipywidgets.embed.dependency_state(figures, drop_defaults=False)
    body = json.dumps({"version_major": 2, "version_minor": 0, "state": state})
    places = "".join(
        f'<div class="cell_output"><script type="{VIEW}">'
        + json.dumps({"version_major": 2, "version_minor": 0, "model_id": f.model_id})
        + "</script></div>"
        for f in figures
        for _ in range(views)
    )
    (folder / "host.js").write_text((widgets.FOLDER / "host.js").read_text())
    page = folder / "index.html"
    page.write_text(
        f'<!DOCTYPE html><html lang="en" data-theme="{theme}"><head>'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>A chapter</title><link rel="icon" href="data:,">'
        f'<script type="{STATE}">{body}</script>'
        '<script defer="defer" src="host.js"></script></head>'
        '<body style="margin: 8px; line-height: 1.65"><main><h1>A chapter</h1>'
        f"{places}</main></body></html>"
    )
    return page


class Reader:
    """A browser tab with one page open, and what goes wrong in it."""

    def __init__(self, tab, path):
        self.tab, self.troubles, self.requests = tab, [], []
        tab.on("console", self._hear)
        tab.on("pageerror", lambda error: self.troubles.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.goto(path if "://" in str(path) else Path(path).as_uri())
        tab.wait_for_selector(".stepwise-staircase .ss-told:not(:empty)")

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)

    def control(self, name):
        return self.tab.locator(f'[data-control="{name}"]').first

    def curve(self, mode):
        return self.tab.locator(
            f'.ss-curves [data-mode="{mode}"] .ss-curve'
        ).first.get_attribute("d")

    def picture(self):
        """Everything drawn, as one text."""
        return self.tab.eval_on_selector(
            ".ss-picture", 'e => e.innerHTML.replace(/aria-label="[^"]*"/g, \'\')'
        )

    def told(self):
        return self.tab.locator(".ss-told").first.inner_text()

    def value(self, name):
        return float(self.control(name).input_value())

    def drag(self, handle, dx, dy, *, release=True, steps=4):
        box = self.tab.locator(f'[data-drag="{handle}"]').first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + min(18, box["height"] / 2)
        self.tab.mouse.move(x, y)
        self.tab.mouse.down()
        self.tab.mouse.move(x + dx, y + dy, steps=steps)
        if release:
            self.tab.mouse.up()

    def settle(self):
        """Wait until the curtain has opened."""
        self.tab.wait_for_timeout(1100)


@pytest.fixture
def read(browser, tmp_path):
    """Open a page with figures, and at the end expect that nothing went wrong in it."""
    opened = []

    def open_page(*figures, theme="light", views=1, path=None, **context):
        path = path or write_page(
            tmp_path, *(figures or [widgets.Staircase()]), theme=theme, views=views
        )
        context = {"viewport": {"width": 800, "height": 1000}} | context
        tab = browser.new_context(**context).new_page()
        opened.append(Reader(tab, path))
        return opened[-1]

    yield open_page
    for reader in opened:
        reader.tab.context.close()
        assert reader.troubles == []


@pytest.fixture
def shown(read):
    """A figure that shows everything from the start."""
    return read(widgets.Staircase(revealed=8))


def serve(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize("origin", ["file", "http"])
def test_a_page_without_kernel_or_network_shows_a_living_figure(read, tmp_path, origin):
    path = write_page(tmp_path, widgets.Staircase(revealed=8))
    server = serve(tmp_path) if origin == "http" else None
    try:
        where = f"http://127.0.0.1:{server.server_port}/index.html" if server else path
        reader = read(path=where)
        before = reader.curve(0)
        reader.drag("gamma-0", 0, 40)
        assert reader.curve(0) != before
        own = (f"http://127.0.0.1:{server.server_port}/",) if server else ("file://",)
        assert all(url.startswith((*own, "blob:", "data:")) for url in reader.requests)
    finally:
        if server:
            server.shutdown()
            server.server_close()


def test_dragging_a_bar_moves_curve_sentence_and_slider(shown):
    before = shown.curve(1), shown.value("gamma-1")
    shown.drag("gamma-1", 0, -36)
    assert shown.curve(1) != before[0]
    assert shown.value("gamma-1") > before[1]
    assert shown.told().startswith("γ₂ went from 0.60 to ")
    assert "(it was 2.98)" in shown.told()


def test_a_bar_follows_the_hand_until_it_lets_go(shown):
    shown.drag("gamma-1", 0, -20, release=False)
    half = shown.value("gamma-1")
    shown.tab.mouse.move(0, 0)
    assert shown.value("gamma-1") > half or shown.value("gamma-0") > half
    shown.tab.mouse.up()
    rest = shown.picture()
    shown.tab.mouse.move(300, 300)
    assert shown.picture() == rest


def test_a_bar_that_passes_another_takes_its_name(shown):
    shown.drag("gamma-4", 0, -170, steps=12)
    values = [shown.value(f"gamma-{j}") for j in range(5)]
    assert values == sorted(values, reverse=True)
    assert "γ₅ went from 0.10" in shown.told()
    assert "and is now γ₂" in shown.told() or "and is now γ₁" in shown.told()


def test_a_bar_snaps_to_its_neighbour_and_the_tie_is_named(read):
    reader = read(widgets.Staircase([0.62, 0.6, 0.2], revealed=8))
    box = [
        reader.tab.locator(f'[data-mode="{j}"] .ss-tint').bounding_box()["y"]
        for j in (0, 1)
    ]
    reader.drag("gamma-1", 0, box[0] - box[1] + 2)
    assert reader.value("gamma-0") == reader.value("gamma-1") == 0.62
    assert "γ₁ and γ₂ are tied" in reader.told()


def test_a_negative_bar_is_never_learned(shown):
    shown.drag("gamma-4", 0, 80)
    assert shown.value("gamma-4") < 0
    assert "never learned, and the loss ends at 1" in shown.told()
    assert "τ₅" not in shown.tab.locator(".ss-steps").text_content()


@pytest.mark.parametrize("control", ["gamma-0", "gamma-3", "s0", "time", "guess"])
def test_every_slider_answers_the_keyboard(read, control):
    reader = read(widgets.Staircase(s0=1e-2, time=1.0))
    slider = reader.control(control)
    slider.focus()

    def seen():
        return [reader.picture(), reader.told(), slider.get_attribute("aria-valuetext")]

    for key in ("ArrowLeft", "ArrowRight", "PageUp"):
        before = seen()
        reader.tab.keyboard.press(key)
        reader.tab.keyboard.press(key)
        changed = [a != b for a, b in zip(seen(), before, strict=True)]
        assert changed == [True] * 3, key
    # A mode that passes another takes the focus along.
    focused = reader.tab.evaluate("document.activeElement.dataset.control")
    assert focused.rstrip("0123") == control.rstrip("0123")


def test_the_keyboard_can_lift_a_mode_past_another(shown):
    shown.control("gamma-1").focus()
    for _ in range(5):
        shown.tab.keyboard.press("PageUp")
    assert shown.tab.evaluate("document.activeElement.dataset.control") == "gamma-0"
    assert shown.value("gamma-1") == 1.0


def test_a_slider_can_be_dragged_past_another(shown):
    box = shown.control("gamma-4").bounding_box()
    y = box["y"] + box["height"] / 2
    shown.tab.mouse.move(box["x"] + box["width"] * 0.31, y)
    shown.tab.mouse.down()
    for share in (0.4, 0.6, 0.8, 0.97):
        shown.tab.mouse.move(box["x"] + box["width"] * share, y)
    assert shown.value("gamma-4") > 1.0  # the thumb stays under the hand
    shown.tab.mouse.up()
    values = [shown.value(f"gamma-{j}") for j in range(5)]
    assert values == sorted(values, reverse=True)
    assert values[1:] == [1.0, 0.6, 0.36, 0.2]


def test_a_finger_drags_a_bar_and_the_cursor(read):
    reader = read(widgets.Staircase(revealed=8), has_touch=True)
    touch = reader.tab.context.new_cdp_session(reader.tab)

    def swipe(handle, dx, dy):
        box = reader.tab.locator(f'[data-drag="{handle}"]').bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + 16
        for kind, share in [("Start", 0), ("Move", 0.5), ("Move", 1)]:
            touch.send(
                "Input.dispatchTouchEvent",
                {
                    "type": f"touch{kind}",
                    "touchPoints": [{"x": x + dx * share, "y": y + dy * share}],
                },
            )
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    before = reader.value("gamma-2")
    swipe("gamma-2", 0, -30)
    assert reader.value("gamma-2") > before
    before = reader.value("time")
    swipe("cursor", -120, 0)
    assert reader.value("time") < before
    assert "At the cursor, t = " in reader.told()


def test_the_reader_guesses_then_sees(read):
    reader = read(widgets.Staircase())
    assert reader.told().startswith("Step 1 falls at t = 1.73. Where will step 2 fall?")
    end = float(reader.curve(0).split("L")[-1].split()[0])
    width = reader.tab.locator(".ss-curves").bounding_box()["width"]
    assert end < width / 2  # the rest is not drawn, nor in the page
    reader.drag("guess", -60, 0)
    assert reader.told().startswith("You guess that step 2 falls at t = ")
    reader.control("show").click()
    reader.settle()
    assert reader.told().startswith("Step 2 falls at t = 2.98; your guess, t = ")
    assert "times too late" in reader.told()
    assert float(reader.curve(1).split("L")[-1].split()[0]) > end
    assert not reader.control("guess").is_visible()
    reader.control("show").click()
    assert "Where will step 3 fall?" in reader.told()
    for _ in range(5):
        reader.control("show").click()
    assert reader.control("show").inner_text() == "Predict again"


def test_show_everything_is_always_in_sight(read):
    reader = read(widgets.Staircase())
    assert reader.control("show-all").is_visible()
    reader.control("show-all").click()
    reader.settle()
    assert reader.told().startswith("5 steps, at t = 1.73, 2.98, 5.15, 9.64 and 20.1")
    assert reader.tab.locator(".ss-steps > g").count() == 5
    # The button has gone; the keyboard is not left in the void.
    assert reader.tab.evaluate("document.activeElement.dataset.control") == "show"


def test_play_moves_the_cursor_and_pauses(shown):
    shown.control("play").click()
    assert shown.control("play").inner_text() == "Pause"
    early = shown.value("time")
    shown.tab.wait_for_timeout(500)
    later = shown.value("time")
    assert later > early
    shown.control("play").click()
    assert shown.control("play").inner_text() == "Play"
    rest = shown.value("time")
    shown.tab.wait_for_timeout(200)
    assert shown.value("time") == rest >= later


def test_play_without_motion_goes_from_step_to_step(read):
    reader = read(widgets.Staircase(revealed=8), reduced_motion="reduce")
    reader.control("play").click()
    seen = set()
    for _ in range(22):
        reader.tab.wait_for_timeout(100)
        seen.add(reader.value("time"))
    # Eight steps and two ends; motion would show a new time at every look.
    assert 2 <= len(seen) <= 10
    reader.control("play").click()


def test_bars_come_and_go_between_two_and_eight(shown):
    for _ in range(5):
        shown.control("add").click(force=True)
    assert shown.tab.locator(".ss-bar").count() == 8
    assert shown.told().startswith("8 bars are as many")
    assert shown.control("add").get_attribute("aria-disabled") == "true"
    for _ in range(8):
        shown.control("remove").click(force=True)
    assert shown.tab.locator(".ss-bar").count() == 2
    assert shown.told().startswith("2 bars are the fewest")


def test_the_time_axis_can_be_linear(shown):
    before = shown.curve(2)
    shown.control("log-time").uncheck()
    assert shown.curve(2) != before
    assert "linear" in shown.told()
    labels = shown.tab.locator(".ss-curves .ss-tick.ss-middle").all_text_contents()
    assert labels[0] == "0"


def test_two_views_of_one_figure_are_one_figure(read):
    reader = read(widgets.Staircase(revealed=8), views=2)
    second = reader.tab.locator(".stepwise-staircase").nth(1)
    before = second.locator('[data-mode="0"] .ss-curve').get_attribute("d")
    reader.drag("gamma-0", 0, 50)
    reader.tab.wait_for_timeout(100)
    assert second.locator('[data-mode="0"] .ss-curve').get_attribute("d") != before
    first = reader.value("gamma-0")
    assert float(second.locator('[data-control="gamma-0"]').input_value()) == first


def test_two_figures_do_not_disturb_each_other(read):
    reader = read(widgets.Staircase(revealed=8), widgets.Staircase([0.5, 0.3]))
    second = reader.tab.locator(".ss-picture").nth(1)
    before = second.inner_html()
    reader.drag("gamma-0", 0, 50)
    reader.tab.wait_for_timeout(100)
    assert second.inner_html() == before


def test_a_view_this_host_cannot_show_says_so(browser, tmp_path):
    import ipywidgets

    path = write_page(tmp_path, ipywidgets.IntSlider(), widgets.Staircase())
    tab = browser.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector(".stepwise-staircase")
    assert "needs a running notebook" in tab.locator(".widget-note").inner_text()
    tab.close()


@pytest.mark.parametrize("width", [320, 480, 1200])
def test_every_width_is_usable(read, width):
    reader = read(
        widgets.Staircase([1.2, 0.8, 0.8, 0.5, 0.3, 0.2, -0.1, -0.3], revealed=8),
        viewport={"width": width, "height": 900},
    )
    scrolls = "document.documentElement.scrollWidth > innerWidth"
    assert not reader.tab.evaluate(scrolls)
    small = reader.tab.eval_on_selector_all(
        ".stepwise-staircase :is(input[type=range], button, .ss-check)",
        "all => all.filter(e => e.offsetParent && e.offsetHeight < 24).length",
    )
    assert small == 0
    narrow = reader.tab.locator('[data-drag^="gamma-"]').all()
    assert all(bar.bounding_box()["width"] >= 24 for bar in narrow)


def test_a_dark_page_gets_a_dark_picture(read):
    reader = read(widgets.Staircase(revealed=8), theme="dark")
    colour = "e => getComputedStyle(e).backgroundColor"
    assert (
        reader.tab.eval_on_selector(".stepwise-staircase", colour) == "rgb(20, 24, 30)"
    )
    stroke = '[data-mode="0"] .ss-curve', "e => getComputedStyle(e).stroke"
    dark = reader.tab.eval_on_selector(*stroke)
    reader.tab.evaluate("document.documentElement.dataset.theme = 'light'")
    assert reader.tab.eval_on_selector(*stroke) != dark


def test_paper_gets_the_picture_on_white_without_controls(read):
    reader = read(widgets.Staircase(revealed=8), theme="dark")
    reader.tab.emulate_media(media="print")
    assert not reader.control("play").is_visible()
    assert reader.tab.locator(".ss-curves").is_visible()
    colour = "e => getComputedStyle(e).backgroundColor"
    paper = reader.tab.eval_on_selector(".stepwise-staircase", colour)
    assert paper == "rgb(255, 255, 255)"


def test_the_sentence_is_spoken_once_the_hand_rests(shown):
    live = shown.tab.locator('[aria-live="polite"]')
    shown.control("gamma-0").focus()
    for _ in range(3):
        shown.tab.keyboard.press("ArrowLeft")
    assert "γ₁ went" not in live.inner_text()
    shown.tab.wait_for_timeout(900)
    assert live.inner_text().startswith("γ₁ went from 1.00 to 0.97")


def test_keys_do_not_reach_the_notebook(shown):
    shown.tab.evaluate(
        "addEventListener('keydown', () => { document.title = 'leaked'; })"
    )
    shown.control("gamma-0").focus()
    shown.tab.keyboard.press("ArrowLeft")
    assert shown.tab.title() == "A chapter"


def test_a_removed_figure_leaves_nothing_running(read):
    """Render by hand with a model that counts its listeners, then clean up."""
    reader = read(widgets.Staircase())
    left = reader.tab.evaluate(
        """async (source) => {
          const code = new Blob([source], { type: "text/javascript" });
          const { default: figure } = await import(URL.createObjectURL(code));
          const state = { gammas: [1, 0.5], s0: 0.001, time: null, log_time: true,
            revealed: 8, asking: false, guess: null };
          let listeners = 0;
          const model = { get: (k) => state[k], set: (k, v) => { state[k] = v; },
            save_changes() {}, on() { listeners += 1; }, off() { listeners -= 1; } };
          const el = document.createElement("div");
          document.body.append(el);
          const destroy = figure.render({ model, el });
          el.querySelector('[data-control="play"]').click();
          destroy();
          const time = state.time;
          await new Promise((done) => setTimeout(done, 200));
          return [listeners, el.childElementCount, state.time === time];
        }""",
        widgets.Staircase._esm,
    )
    assert left == [0, 0, True]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("revealed", [1, 8])
def test_axe_finds_nothing_serious(read, theme, revealed):
    reader = read(widgets.Staircase(revealed=revealed), theme=theme)
    reader.tab.add_script_tag(content=site_driver.AXE.read_text())
    report = reader.tab.evaluate("axe.run('.stepwise-staircase')")
    grave = [
        (rule["id"], [node["html"][:90] for node in rule["nodes"]])
        for rule in report["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert grave == []
