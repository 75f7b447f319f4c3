"""What the book costs: seconds to build it, bytes to read it, and `import pkg`."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import site_driver
from tests.bench import Row

IMPORT_LIMIT = 300  # milliseconds
THEME_LIMIT, CONTENT_LIMIT = 1.2, 1.5  # MB before compression


def rows() -> list[Row]:
    """Import time, cold and warm build, and the weight of each page."""
    return [*import_rows(), *build_rows(), *weight_rows()]


def import_rows() -> list[Row]:
    """Time imports in fresh interpreters, less the interpreter's own start."""
    start = _start_up("pass")
    numpy = _start_up("import numpy") - start
    package = _start_up("import pkg") - start
    room = _start_up("from pkg import dynamics") - start
    return [
        Row(
            what="`import pkg`, fresh interpreter",
            ours=f"{package:.1f} ms",
            peer=f"`import numpy` {numpy:.0f} ms",
            ratio=f"{package / IMPORT_LIMIT:.0%} of the limit",
            goal=f"at most {IMPORT_LIMIT} ms",
            reached=package <= IMPORT_LIMIT,
        ),
        Row(
            what="`from pkg import dynamics`, fresh interpreter",
            ours=f"{room:.0f} ms",
            peer=f"`import numpy` {numpy:.0f} ms",
            ratio=f"{numpy / room:.2f}",
            goal="",
            reached=None,
        ),
    ]


def _start_up(code: str, repeats: int = 7) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def build_rows() -> list[Row]:
    """Build a copy of the book from nothing, again unchanged, and after an edit."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignore = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info")
        shutil.copytree(site_driver.ROOT, copy, ignore=ignore)
        cold = _build_seconds(copy)
        warm = _build_seconds(copy)
        page = copy / "book" / "index.md"
        page.write_text(page.read_text(encoding="utf-8") + "\nOne more sentence.\n")
        edited = _build_seconds(copy)
    return [
        _build_row("book, cold: every chapter executed", cold, cold),
        _build_row("book, warm: nothing changed", warm, cold),
        _build_row("book, warm: prose of one page changed", edited, cold),
    ]


def _build_seconds(root: Path) -> float:
    begun = time.perf_counter()
    built = site_driver.build(root)
    if built.returncode:
        raise RuntimeError(f"the book does not build:\n{built.stderr[-3000:]}")
    return time.perf_counter() - begun


def _build_row(what: str, seconds: float, cold: float) -> Row:
    return Row(
        what=what,
        ours=f"{seconds:.1f} s",
        peer=f"cold build {cold:.1f} s",
        ratio=f"{cold / seconds:.1f}",
        goal="",
        reached=None,
    )


def weight_rows() -> list[Row]:
    """Weigh each page of the built book as a browser receives it."""
    site_driver.build()
    weighed = []
    with site_driver.open_browser() as browser, site_driver.serve() as site:
        for name in site_driver.toc_pages():
            with site_driver.visit(browser, f"{site}/{name}") as seen:
                weighed.append(_weight_row(name, *seen.weigh()))
    return weighed


def _weight_row(name: str, theme: int, content: int) -> Row:
    mb = theme / 1e6, content / 1e6
    return Row(
        what=f"weight of {name.removeprefix('book/')}",
        ours=f"theme {mb[0]:.2f} MB, content {mb[1]:.2f} MB",
        peer="before compression; MathJax counts as content",
        ratio=f"{mb[0] / THEME_LIMIT:.0%}, {mb[1] / CONTENT_LIMIT:.0%} of the limits",
        goal=f"at most {THEME_LIMIT} and {CONTENT_LIMIT} MB",
        reached=mb[0] <= THEME_LIMIT and mb[1] <= CONTENT_LIMIT,
    )
