"""The built book, opened page by page with the network cut.

From a server and from a folder, in light and in dark, wide and narrow: nothing is
asked of another host, nothing fails, nothing complains, and everything that can be
moved moves the picture.
"""

import html.parser
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fresh_execution
import pytest
import set_address
import setup_cell
from bs4 import BeautifulSoup
from jupyter_cache import get_cache
from playwright.sync_api import Browser, Locator, Page

from tests import site_driver
from tests.site_driver import Visit

pytestmark = [pytest.mark.book, pytest.mark.browser]

PAGES = site_driver.toc_pages()
OTHERS = ["search.html", "genindex.html"]
THEME_LIMIT, CONTENT_LIMIT = 1.2e6, 1.5e6


@pytest.fixture(scope="module")
def html_folder() -> Path:
    """The folder of the book, built as `make book` builds it."""
    built = site_driver.build()
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-6000:]
    return site_driver.HTML


@pytest.fixture(scope="module")
def site(html_folder) -> Iterator[str]:
    """The address at which the built book is served."""
    with site_driver.serve(html_folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each page opens in a context of its own."""
    with site_driver.open_browser() as chromium:
        yield chromium


def test_each_chapter_ran_alone(html_folder):
    """In an empty folder, with no network, as test_tiny_book.py tries out.

    How long each took is printed, not judged: a busy machine is no fault of a chapter.
    """
    [folder] = html_folder.parent.glob(f"{fresh_execution.PREFIX}*")
    cache = get_cache(folder)
    seconds = {}
    for chapter in set_address.chapters():
        record = cache.match_cache_file(str(chapter))
        seconds[chapter.name] = round(record.data["execution_seconds"])
    print(seconds)
    assert len(seconds) == len(set_address.chapters()) > 10
    assert all(seconds.values())


@pytest.mark.parametrize("name", PAGES + OTHERS)
def test_no_page_knows_of_thebe(html_folder, name):
    """Its scripts name a server, and fail in the console of every page."""
    assert "thebe" not in (html_folder / name).read_text(encoding="utf-8").lower()


# A chapter takes seconds to open: its formulas are set, its figures start. So each page
# is opened twice, and one test after another looks at it; the sliders come last.
@pytest.fixture(scope="module")
def wide(request, browser, site) -> Iterator[Visit]:
    """A page from a server, on a screen as wide as a desk."""
    with site_driver.visit(browser, f"{site}/{request.param}", width=1280) as seen:
        yield seen


@pytest.fixture(scope="module")
def narrow(request, browser, html_folder) -> Iterator[Visit]:
    """A page from a folder, on a screen as narrow as a phone."""
    address = (html_folder / request.param).as_uri()
    with site_driver.visit(browser, address, width=360) as seen:
        yield seen


@pytest.mark.parametrize("wide", PAGES + OTHERS, indirect=True)
def test_a_page_is_light_and_asks_nothing_of_other_hosts(wide):
    """Zero foreign requests, zero failed ones, zero complaints; within its weight."""
    assert wide.trouble() == []
    assert wide.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    theme, content = wide.weigh()
    print(
        f"{wide.page.url}: theme {theme / 1e6:.2f} MB, content {content / 1e6:.2f} MB"
    )
    assert theme <= THEME_LIMIT
    assert content <= CONTENT_LIMIT


@pytest.mark.parametrize("narrow", PAGES + OTHERS, indirect=True)
def test_a_page_opened_from_a_folder_works_too(narrow):
    """A downloaded book needs no server."""
    assert narrow.trouble() == []


@pytest.mark.parametrize("wide", PAGES, indirect=True)
def test_axe_finds_nothing_serious(wide):
    """In light and in dark."""
    page = wide.page
    page.evaluate(site_driver.AXE.read_text(encoding="utf-8"))
    # What a scheme can change is colour; the other rules take seconds a page.
    for scheme, rules in (("light", []), ("dark", ["color-contrast"])):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme",
            arg=scheme,
        )
        page.wait_for_timeout(400)  # colours fade from one scheme to the other
        assert _violations(page, rules) == [], scheme


@pytest.mark.parametrize("narrow", PAGES, indirect=True)
def test_a_narrow_page_keeps_its_width_and_its_targets(narrow):
    """A phone scrolls it one way only, and a finger finds every control."""
    page = narrow.page
    page.evaluate(site_driver.AXE.read_text(encoding="utf-8"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert _violations(page, ["target-size"]) == []


def _violations(page: Page, rules: list[str]) -> list[str]:
    # Sifted in the page: carrying every passed check over to Python takes seconds.
    return page.evaluate(
        """async (rules) => {
            const found = await axe.run(document, rules.length ? {runOnly: rules} : {});
            const grave = ["serious", "critical"];
            return found.violations.filter((v) => grave.includes(v.impact)).flatMap(
                (v) => v.nodes.map((n) => `${v.id}: ${n.html} (${n.failureSummary})`));
        }""",
        rules,
    )


@pytest.mark.parametrize("wide", PAGES, indirect=True)
def test_every_slider_moves_the_picture_and_the_text(wide):
    """By keyboard and by mouse; what a screen reader hears changes with what we see."""
    _assert_every_slider_moves(wide)


@pytest.mark.parametrize("narrow", PAGES, indirect=True)
def test_every_slider_works_from_a_folder_on_a_phone_too(narrow):
    """No server is asked, and no slider is out of reach."""
    _assert_every_slider_moves(narrow)


def _assert_every_slider_moves(seen: Visit) -> None:
    for widget in seen.page.locator(site_driver.WIDGET).all():
        sliders = widget.locator("input[type=range]")
        assert sliders.count() > 0
        for index in range(sliders.count()):
            _assert_moves(widget, sliders.nth(index))
    assert seen.trouble() == []


def _assert_moves(widget: Locator, slider: Locator) -> None:
    if not slider.is_visible() or slider.is_disabled():
        return
    name = slider.get_attribute("data-control") or slider.get_attribute("aria-label")
    for move in (_by_keyboard, _by_mouse):
        before = _picture(widget), _text(widget)
        move(slider)
        for _ in range(20):  # the next frame, and text that waits for the hand to rest
            now = _picture(widget), _text(widget)
            if now[0] != before[0] and now[1] != before[1]:
                break
            widget.page.wait_for_timeout(50)
        assert now[0] != before[0], f"{name}: no new picture {move.__name__}"
        assert now[1] != before[1], f"{name}: no new text {move.__name__}"


def _by_keyboard(slider: Locator) -> None:
    slider.focus()
    start = slider.input_value()
    for key in ("ArrowRight", "ArrowLeft"):
        # A slider at its end, or held back until the reader has guessed, moves one way.
        if slider.input_value() == start:
            for _ in range(5):
                slider.press(key)


def _by_mouse(slider: Locator) -> None:
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    share = slider.evaluate("s => (s.value - s.min) / (s.max - s.min)")
    target = 0.25 if share > 0.5 else 0.75
    slider.click(position={"x": target * box["width"], "y": box["height"] / 2})


def _picture(widget: Locator) -> str:
    return widget.evaluate(
        """root => [...root.querySelectorAll("canvas")].map(c => c.toDataURL())
            .concat([...root.querySelectorAll("svg")].map(s => s.outerHTML)).join()"""
    )


def _text(widget: Locator) -> str:
    return widget.evaluate(
        """root => root.innerText
            + [...root.querySelectorAll("[aria-valuetext]")]
                .map(e => e.getAttribute("aria-valuetext")).join()"""
    )


def test_the_front_door_leads_into_the_book(browser, site, html_folder):
    """The site's own index.html holds no page, only the way to the first one."""
    page = browser.new_page()
    for start in (site, html_folder.as_uri()):
        page.goto(f"{start}/index.html")
        page.wait_for_url(f"{start}/{PAGES[0]}")
    page.close()


@pytest.mark.parametrize("origin", ["server", "folder"])
def test_a_reader_of_a_chapter_can_search_the_book(browser, site, html_folder, origin):
    """Only the page of hits loads the index, a script: it needs no server either."""
    start = site if origin == "server" else html_folder.as_uri()
    asked = []
    with site_driver.visit(browser, f"{start}/{PAGES[1]}") as seen:
        page = seen.page
        page.on("request", lambda request: asked.append(request.url))
        page.keyboard.press("Control+k")
        assert asked == []
        page.keyboard.type("stepwise")
        page.keyboard.press("Enter")
        hits = page.locator("#search-results li a")
        hits.first.wait_for()
        assert any("searchindex.js" in url for url in asked)
        hits.first.click()
        page.wait_for_url(f"{start}/book/**")


def test_every_internal_link_leads_somewhere(html_folder):
    """Files exist, and so do the anchors within them."""
    pages = {path: _Links.read(path) for path in _built(html_folder)}
    missing = [
        f"{path.relative_to(html_folder)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not _leads_somewhere(path, link, pages)
    ]
    assert missing == []


def test_no_formula_is_left_as_its_source(html_folder):
    """A dollar or a command of TeX outside of formulas and code was not understood."""
    left = []
    for path in _built(html_folder):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for part in page.select("code, pre, script, style, title, .math"):
            part.decompose()
        found = page.find_all(string=re.compile(r"\$|\\[A-Za-z]{2}"))
        left += [(path.name, text.strip()) for text in found]
    assert left == []


def _built(folder: Path) -> list[Path]:
    # The theme copies a template of its own among the static files.
    return [path for path in folder.rglob("*.html") if "_static" not in path.parts]


def _leads_somewhere(path: Path, link: str, pages: dict[Path, "_Links"]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target in pages and parts.fragment:
        return unquote(parts.fragment) in pages[target].anchors
    return target.exists()


class _Links(html.parser.HTMLParser):
    """Links and anchors of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> "_Links":
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links |= {values[key] for key in ("href", "src") if values.get(key)}
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}


def test_no_page_links_to_an_address_that_nobody_owns(html_folder):
    """While the address is OWNER/REPO: no Colab link, no repository button."""
    pages = [path.read_text(encoding="utf-8") for path in _built(html_folder)]
    if setup_cell.read_address() == setup_cell.UNSET:
        links = [re.findall(r'href="([^"]*)"', text) for text in pages]
        owned = [url for page in links for url in page if "OWNER/REPO" in url]
        assert owned == []
        assert not any("colab.research.google.com" in text for text in pages)
    else:
        assert any("colab.research.google.com" in text for text in pages)
