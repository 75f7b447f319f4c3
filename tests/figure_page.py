"""One figure in a page without a kernel, and what every figure is asked there."""

import pytest

from tests import site_driver
from tests.test_widgets_browser import write_page

RESTED = 900  # milliseconds after which a hand rests, and the sentence is spoken


class Page:
    """One figure in a page without a kernel, and what goes wrong in it."""

    def __init__(self, browser, folder, figure, *, theme="light", width=760, **context):
        size = {"width": width, "height": 900}
        self.tab = browser.new_context(viewport=size, **context).new_page()
        self.troubles, self.requests = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.tab.on(
            "console",
            lambda said: (
                self.troubles.append(said.text)
                if said.type in ("error", "warning")
                else None
            ),
        )
        self.tab.goto(write_page(folder, figure, theme=theme).as_uri())
        self.tab.wait_for_selector(".stepwise-figure .sf-told:not(:empty)")

    # --- what a reader sees and does --------------------------------------------------

    def control(self, name):
        return self.tab.locator(f'[data-control="{name}"]').first

    def top(self, name):
        return self.control(name).bounding_box()["y"]

    def told(self):
        return self.tab.locator(".sf-told").first.inner_text()

    def table(self):
        return self.tab.locator(".sf-table").first.inner_text()

    def picture(self):
        """Path data of every curve."""
        return self.tab.eval_on_selector(
            ".sf-panels",
            "e => [...e.querySelectorAll('path')].map(p => p.getAttribute('d'))",
        )

    def wait_until_told(self, words):
        self.tab.wait_for_function(
            "words => document.querySelector('.sf-told').textContent.includes(words)",
            arg=words,
            timeout=60_000,
        )

    def curve(self, kind="theory", panel=1):
        """Path data of the uppermost curve of one kind."""
        panels = self.tab.locator(".sf-panels").first.locator(":scope > g")
        kinds = panels.nth(panel).locator(f'[data-kind="{kind}"] .sf-curve')
        return kinds.last.get_attribute("d")

    def set_range(self, name, value):
        self.control(name).evaluate(
            """(input, value) => {
              input.value = value;
              input.dispatchEvent(new Event("input", { bubbles: true }));
            }""",
            value,
        )

    def press(self, name, key, times=1):
        self.control(name).focus()
        for _ in range(times):
            self.tab.keyboard.press(key)

    def drag(self, handle, across, down=0.0, *, nth=0):
        box = self.tab.locator(f'[data-drag="{handle}"]').nth(nth).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.tab.mouse.move(x, y)
        self.tab.mouse.down()
        self.tab.mouse.move(x + across, y + down, steps=4)
        self.tab.mouse.up()

    # --- what every figure is asked ---------------------------------------------------

    def axe(self):
        """Serious faults that axe finds."""
        self.tab.add_script_tag(content=site_driver.AXE.read_text())
        report = self.tab.evaluate("axe.run('.stepwise-figure')")
        return [
            (rule["id"], [part["html"][:90] for part in rule["nodes"]])
            for rule in report["violations"]
            if rule["impact"] in ("serious", "critical")
        ]

    def cramped(self):
        """What is wider than the page, and controls too small for a finger."""
        return self.tab.evaluate(
            """() => {
              const all = [...document.querySelectorAll(
                ".stepwise-figure :is(input[type=range], button, select, .sf-check)")];
              const small = all.filter((e) => e.offsetParent && e.offsetHeight < 24);
              const wide = document.documentElement.scrollWidth > innerWidth;
              return [...(wide ? ["the page"] : []), ...small.map((e) => e.outerHTML)];
            }"""
        )

    def deaf_to(self, name):
        """Arrow keys that change not both what a slider says and the sentence."""
        slider, found = self.control(name), []
        for key in ("ArrowLeft", "ArrowRight"):
            before = slider.get_attribute("aria-valuetext"), self.told()
            self.press(name, key)
            after = slider.get_attribute("aria-valuetext"), self.told()
            if any(old == new for old, new in zip(before, after, strict=True)):
                found.append(key)
        return found

    def speech(self, act):
        """What is spoken before the reader acts, at once, and when the hand rests."""
        live = self.tab.locator('[aria-live="polite"]')
        self.tab.wait_for_timeout(RESTED)
        before = live.inner_text()
        act()
        at_once = live.inner_text()
        self.tab.wait_for_timeout(RESTED)
        return before, at_once, live.inner_text()

    def on_paper(self, control, picture):
        """Whether paper shows a control, and whether it shows a picture."""
        self.tab.emulate_media(media="print")
        seen = self.tab.locator(picture).first.is_visible()
        return self.control(control).is_visible(), seen

    def left_by(self, figure, state, act, wait=50):
        """Listeners, elements and timers of a figure that is clicked, then removed."""
        self.tab.wait_for_timeout(1000)
        return self.tab.evaluate(LEFT, [figure._esm, state, act, wait])


# Rendered by hand, with a model that counts its listeners.
LEFT = """async ([source, state, act, wait]) => {
  const code = new Blob([source], { type: "text/javascript" });
  const { default: figure } = await import(URL.createObjectURL(code));
  let listeners = 0;
  const model = { get: (k) => state[k], set: (k, v) => { state[k] = v; },
    save_changes() {}, on() { listeners += 1; }, off() { listeners -= 1; } };
  const el = document.createElement("div");
  document.body.append(el);
  const begin = window.requestAnimationFrame;
  const later = window.setTimeout;
  const destroy = figure.render({ model, el });
  el.querySelector(`[data-control="${act}"]`).click();
  await new Promise((done) => later(done, wait));
  destroy();
  let started = 0;
  window.requestAnimationFrame = (f) => { started += 1; return begin(f); };
  window.setTimeout = (...all) => { started += 1; return later(...all); };
  await new Promise((done) => later(done, 400));
  window.requestAnimationFrame = begin;
  window.setTimeout = later;
  return [listeners, el.childElementCount, started];
}"""


def refuses(figure, name, value, says):
    """A wrong value says what is wrong, and leaves the right one where it was."""
    before = getattr(figure, name)
    with pytest.raises(ValueError, match=says):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


@pytest.fixture
def show(browser, tmp_path):
    """Open a page with one figure; at the end nothing must have gone wrong in it."""
    opened = []

    def open_page(figure, *, page=Page, **context):
        opened.append(page(browser, tmp_path, figure, **context))
        return opened[-1]

    yield open_page
    for page in opened:
        page.tab.context.close()
        assert page.troubles == []
        own = ("file:", "blob:", "data:")
        assert all(url.startswith(own) for url in page.requests)
