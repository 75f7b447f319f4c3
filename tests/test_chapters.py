"""Every chapter keeps the form of a chapter.

That each runs alone, in an empty folder with nothing but the installed package, as on
Colab, is what the build of the book does, and test_book.py holds it to.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh_execution
import pytest
import set_address
import setup_cell

CHAPTERS = set_address.chapters()
MOST_LINES, CELLS = 12, range(8, 21)
# A page without a number tells no story; it may list more, or less, than a chapter.
PAGE_CELLS = range(4, 41)

pytestmark = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def _code(chapter: Path) -> list[dict]:
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _source(cell: dict) -> str:
    return "".join(cell["source"])


def test_a_chapter_opens_with_the_set_up_cell(chapter):
    """Hidden in the book, a no-op outside Colab, and rendered in one place."""
    first = _code(chapter)[0]
    assert _source(first) == setup_cell.current(), "run `make address`"
    assert setup_cell.TAG in first["metadata"]["tags"]


def test_the_second_code_cell_imports_and_does_nothing_else(chapter):
    """A reader sees at once which rooms the chapter enters."""
    tree = ast.parse(_source(_code(chapter)[1]))
    assert all(isinstance(line, ast.Import | ast.ImportFrom) for line in tree.body)


def test_a_chapter_is_short_cells_between_prose(chapter):
    """8 to 20 code cells of at most 12 lines; a page beside them, 4 to 40."""
    cells = _code(chapter)[1:]
    too_long = [
        _source(cell) for cell in cells if len(_source(cell).splitlines()) > MOST_LINES
    ]
    assert too_long == []
    assert len(cells) in (CELLS if chapter.stem[:2].isdigit() else PAGE_CELLS)


def test_a_chapter_is_committed_without_outputs(chapter):
    """Outputs are made by the build; in git they would hide what changed."""
    # Cell ids are kept: a new one for each cell would make every diff a rewrite.
    nbstripout = Path(sys.executable).with_name("nbstripout")
    command = [nbstripout, "--keep-id", "--verify", chapter]
    assert subprocess.run(command).returncode == 0
    assert all(not cell["outputs"] for cell in _code(chapter))
    assert all(cell["execution_count"] is None for cell in _code(chapter))


def test_a_chapter_reads_nothing_beside_itself(chapter):
    """No absolute paths, no downloads: what it needs is in the package."""
    # The set-up cell is the one place that may name an address.
    text = "\n".join(_source(cell) for cell in _code(chapter)[1:])
    assert not re.search(r"""["'](/|\.\./|~/|[A-Za-z]:\\|https?://)""", text)
    assert "download=True" not in text


@pytest.mark.slow
def test_a_chapter_runs_alone_and_leaves_nothing_behind(chapter, tmp_path):
    """The build runs it alone too (test_book.py); here we see its folder afterwards."""
    copy = Path(shutil.copy(chapter, tmp_path))
    command = [Path(sys.executable).with_name("jupyter-execute"), copy.name]
    # One thread each, as in the book's build: fresh_execution.py says why.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    alone = {"PYTHONPATH": str(fresh_execution.ALONE), "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **threads, **alone},
        text=True,
        capture_output=True,
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]
