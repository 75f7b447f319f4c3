"""The book's extension on a book of one page, where a build takes seconds.

What must never happen in the real book is made to happen here: the package changes
under an executed chapter, a widget needs a kernel, a warning is met twice.
"""

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from tests import site_driver

pytestmark = pytest.mark.book

ROOT = Path(__file__).resolve().parents[1]
LOOK_AROUND = """
import os, socket
import pkg
print(pkg.DAY, "beside me:", os.listdir())
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except PermissionError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """This book's configuration around one page and a package of one line."""
    root = tmp_path_factory.mktemp("tiny")
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("book/_ext", "book/assets", "pkg/widgets"):
        shutil.copytree(ROOT / part, root / part, ignore=ignore)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    shutil.copy(ROOT / "_config.yml", root)
    (root / "requirements.txt").write_text("")
    (root / "_toc.yml").write_text(
        yaml.dump({"format": "jb-book", "root": "book/page"})
    )
    _set_package(root, "yesterday")
    _set_page(root, LOOK_AROUND)
    return root


def _set_package(root: Path, day: str) -> None:
    (root / "pkg" / "__init__.py").write_text(f'__version__ = "0"\nDAY = "{day}"\n')


def _set_page(root: Path, code: str, prose: str = "# A page") -> None:
    make = nbformat.v4
    cells = [make.new_markdown_cell(prose), make.new_code_cell(code)]
    kernel = {"name": "python3", "display_name": "Python 3"}
    page = make.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(page, root / "book" / "page.ipynb")


def _page(root: Path) -> str:
    return (root / "_build/html/book/page.html").read_text(encoding="utf-8")


def _built(root: Path) -> subprocess.CompletedProcess[str]:
    built = site_driver.build(root)
    assert built.returncode == 0, built.stderr[-4000:]
    return built


def test_a_change_in_the_package_executes_the_chapter_anew(book):
    """The cells are the same, so jupyter-cache alone would keep the old output."""
    _built(book)
    assert "yesterday beside me: []" in _page(book)
    assert "a chapter asked for" in _page(book)
    _set_package(book, "today")
    _built(book)
    assert "today" in _page(book)
    assert len(list((book / "_build").glob(".jupyter_cache-*"))) == 1


def test_a_widget_that_needs_a_kernel_fails_the_build(book):
    """Shown without one it would look finished and be dead."""
    _set_page(book, "import ipywidgets\nipywidgets.IntSlider()")
    failed = site_driver.build(book)
    assert failed.returncode != 0
    assert "IntSliderModel" in failed.stdout + failed.stderr


def test_a_warning_fails_the_second_build_as_it_failed_the_first(book):
    """Sphinx reads an unchanged page once; the second try must not pass in silence."""
    _set_page(book, "1 + 1", prose="# A page\n\nSee {ref}`nowhere`.")
    assert site_driver.build(book).returncode != 0
    assert site_driver.build(book).returncode != 0
