"""Open a notebook in JupyterLab, run it, move the sliders of its first widget.

JupyterLab binds the arrow keys to its own commands and once swallowed them, so each
slider is moved by arrow keys: the picture must change, and so must the trait that
Python sees. Run it through .ci/jupyterlab, which makes the environment; SHOT=file.png
keeps the last screen.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

PORT = 8897
WIDGET = ".stepwise-staircase"
# Sliders whose trait in Python must follow, by data-control.
SLIDERS = {"gamma-0": "gammas", "s0": "s0", "guess": "guess", "time": "time"}
PROBE = """\
import gc
from pkg import widgets
found = [w for w in gc.get_objects() if isinstance(w, widgets.Staircase)]
print("TRAITS", [found[0].gammas, found[0].s0, found[0].guess, found[0].time])"""
PICTURE = "root => [...root.querySelectorAll('svg')].map(s => s.outerHTML).join()"


def main(notebook: Path) -> None:
    """Drive one notebook; the first failed assertion ends the run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(notebook, folder)
        with jupyterlab(folder), sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browser_path(), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            try:
                drive(page)
            finally:
                if shot := os.environ.get("SHOT"):
                    page.screenshot(path=shot)
                browser.close()


def prepare(notebook: Path, folder: Path) -> None:
    """Copy the notebook with a last cell that prints the widget's traits."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "probe", "metadata": {}, "source": PROBE}
    content["cells"].append({**cell, "outputs": [], "execution_count": None})
    (folder / "drive.ipynb").write_text(json.dumps(content), encoding="utf-8")
    # Every cell in the page, or Playwright would not see those below the fold.
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')


@contextmanager
def jupyterlab(folder: Path) -> Iterator[None]:
    """Run JupyterLab in `folder` until the block ends."""
    options = {
        "--ServerApp.port": PORT,
        "--ServerApp.root_dir": folder,
        "--IdentityProvider.token": "",
        "--LabApp.user_settings_dir": folder / "settings",
        "--LabApp.news_url": "",
    }
    command = [Path(sys.executable).with_name("jupyter-lab"), "--no-browser"]
    command += [f"{name}={value}" for name, value in options.items()]
    command += ["--allow-root", "--LabApp.expose_app_in_browser=True"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(f"http://127.0.0.1:{PORT}/api", server, folder / "server.log")
            yield
        finally:
            server.terminate()
            server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Return once `url` answers; show the server's log if it never does."""
    for _ in range(120):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
        if server.poll() is not None:
            break
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def browser_path() -> str:
    """Return the path of the first Chromium found."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(path for name in names if (path := shutil.which(name)))


def drive(page: Page) -> None:
    """Run all cells, then move each slider by arrow keys and by mouse."""
    page.goto(f"http://127.0.0.1:{PORT}/lab/tree/drive.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel-notebook", timeout=90_000)
    choose_kernel(page)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_selector("text=TRAITS", timeout=180_000)
    page.wait_for_selector(WIDGET, timeout=60_000)
    widget = page.locator(WIDGET).first
    for control, trait in SLIDERS.items():
        slider = widget.locator(f'[data-control="{control}"]')
        if slider.count() and slider.is_visible():
            move(page, widget, slider, f"{control} -> {trait}")


def choose_kernel(page: Page) -> None:
    """Accept the kernel that JupyterLab proposes, if it asks; wait until it idles."""
    idle = page.get_by_text("| Idle")
    select = page.get_by_role("button", name="Select Kernel", exact=True)
    idle.or_(select).first.wait_for(timeout=90_000)
    page.wait_for_timeout(2000)  # the question comes late or not at all
    if select.count():
        select.click()
    idle.wait_for(timeout=90_000)


def move(page: Page, widget: Locator, slider: Locator, what: str) -> None:
    """Assert that arrow keys and the mouse move picture, slider and trait."""
    for how in ("arrow keys", "mouse"):
        picture, traits, value = (
            widget.evaluate(PICTURE),
            probe(page),
            slider.input_value(),
        )
        by_keys(slider) if how == "arrow keys" else by_mouse(slider)
        page.wait_for_timeout(500)
        assert slider.input_value() != value, f"{what}: {how} moved nothing"
        assert widget.evaluate(PICTURE) != picture, f"{what}: {how}, same picture"
        assert probe(page) != traits, f"{what}: {how}, Python did not follow"
        print(f"ok  {what}  by {how}", flush=True)


def by_keys(slider: Locator) -> None:
    """Press arrows until the slider moves: one may be at its end."""
    slider.focus()
    start = slider.input_value()
    for key in ("ArrowRight", "ArrowLeft"):
        if slider.input_value() == start:
            for _ in range(5):
                slider.press(key)


def by_mouse(slider: Locator) -> None:
    """Click the slider on its emptier side."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    share = slider.evaluate("s => (s.value - s.min) / (s.max - s.min)")
    x = (0.25 if share > 0.5 else 0.75) * box["width"]
    slider.click(position={"x": x, "y": box["height"] / 2})


def probe(page: Page) -> str:
    """Run the last cell again and return the traits that it prints."""
    cell = page.locator(".jp-CodeCell").last
    before = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        """([cell, before]) => {
            const now = cell.querySelector(".jp-InputPrompt").innerText;
            return now !== before && /\\d/.test(now);
        }""",
        arg=[cell.element_handle(), before],
    )
    return cell.locator(".jp-OutputArea-output").inner_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
