"""Build the book, serve it, and open its pages in Chromium with the network cut.

Shared by the tests of the book and by its benchmark. No name but loopback
resolves, and every request to another host is written down.
"""

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, Page, Request, Response, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
BUILD = ("build", ".", "-W", "-n", "--keep-going")
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# MathJax is what shows the content's formulas; the rest of _static is the theme.
CONTENT_FOLDERS = ("/_static/mathjax/", "/_static/widgets/")


def toc_pages(root: Path = ROOT) -> list[str]:
    """Return the pages of _toc.yml in reading order, as paths below the site."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [f"{name}.html" for name in [toc["root"], *_files(toc)]]


def _files(part: dict) -> Iterator[str]:
    for key in ("parts", "chapters", "sections"):
        for entry in part.get(key, []):
            if "file" in entry:
                yield entry["file"]
            yield from _files(entry)


def build(root: Path = ROOT, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Build the book as `make book` does, and return what it said."""
    command = [Path(sys.executable).with_name("jupyter-book"), *BUILD, *arguments]
    # PYTHONPATH: the chapters import the package that stands beside them.
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=env, text=True, capture_output=True)


def chromium() -> str:
    """Return the path of Chromium; skip the test without it, or fail under CI."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    hint = "Chromium is missing; on Debian: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(hint)
    pytest.skip(hint)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield Chromium without a window."""
    path = chromium()
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    if os.geteuid() == 0:
        # Chromium's sandbox refuses to run as root, as containers and CI machines do.
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def serve(folder: Path = HTML) -> Iterator[str]:
    """Serve `folder` on a free port of this machine and yield the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test reports what failed."""


@dataclass
class Visit:
    """What one opening of one page asked for and complained about.

    Attributes
    ----------
    page : Page
        The page, still open.
    foreign, failed, console : list of str
        Requests to other hosts; requests without an answer below 400; errors and
        warnings of the console.
    responses : list of Response
        Every answer, in order.
    """

    page: Page
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)

    def trouble(self) -> list[str]:
        """Return every complaint in one list; a good page has none."""
        return [
            *(f"request to another host: {url}" for url in self.foreign),
            *(f"failed request: {url}" for url in self.failed),
            *(f"console: {text}" for text in self.console),
        ]

    def weigh(self) -> tuple[int, int]:
        """Return bytes before compression: of the theme, and of the content.

        Content is text, figures, widgets, the search index, and MathJax, which is
        there for the formulas; the theme is what every page would load without them.
        """
        # A module that the page made out of its own text came over no wire.
        loaded = [r for r in self.responses if urlsplit(r.url).scheme != "blob"]
        answers = {unquote(urlsplit(r.url).path): r for r in loaded}
        content = theme = 0
        for path, response in answers.items():
            if _is_content(path):
                content += len(response.body())
            else:
                theme += len(response.body())
        return theme, content


def _is_content(path: str) -> bool:
    return "/_static/" not in path or any(part in path for part in CONTENT_FOLDERS)


@contextlib.contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    scheme: str = "light",
    width: int = 1280,
) -> Iterator[Visit]:
    """Open `url` in a fresh context, wait until it is still, and yield the visit."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    context.set_default_timeout(20_000)
    seen = Visit(page=context.new_page())
    _listen(seen)
    seen.page.goto(url)
    settle(seen.page)
    yield seen
    context.close()


def _listen(seen: Visit) -> None:
    def asked(request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            seen.foreign.append(request.url)

    def answered(response: Response) -> None:
        seen.responses.append(response)
        if response.status >= 400:
            seen.failed.append(f"{response.status} {response.url}")

    def said(message) -> None:
        if message.type in ("error", "warning"):
            seen.console.append(f"{message.type}: {message.text}")

    page = seen.page
    page.on("request", asked)
    page.on("response", answered)
    page.on("requestfailed", lambda request: seen.failed.append(request.url))
    page.on("console", said)
    page.on("pageerror", lambda error: seen.console.append(str(error)))


def settle(page: Page) -> None:
    """Wait for scripts, formulas, fonts and widgets."""
    page.wait_for_load_state("load")
    page.evaluate(
        """async () => {
            if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
            await document.fonts.ready;
        }"""
    )
    views = page.locator('script[type="application/vnd.jupyter.widget-view+json"]')
    if views.count():
        page.wait_for_selector(WIDGET)
    page.wait_for_timeout(200)  # what a script asks for after it has run


WIDGET = '[class^="stepwise-"]'
