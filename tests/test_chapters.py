"""Every chapter keeps the form of a chapter, and runs alone.

Alone means: copied into an empty folder, with nothing but the installed package. That
is what a reader has on Colab.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import set_address
import setup_cell

CHAPTERS = set_address.chapters()
MOST_LINES, CELLS = 12, range(8, 21)

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
    """8 to 20 code cells of at most 12 lines."""
    cells = _code(chapter)[1:]
    too_long = [
        _source(cell) for cell in cells if len(_source(cell).splitlines()) > MOST_LINES
    ]
    assert too_long == []
    assert len(cells) in CELLS


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


@pytest.mark.book
def test_a_chapter_runs_alone_in_an_empty_folder(chapter, tmp_path):
    """With the package as installed, no GPU, no network, in about a minute at most."""
    copy = Path(shutil.copy(chapter, tmp_path))
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-c", RUN, copy.name],
        cwd=tmp_path,
        env=_alone(),
        text=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - started
    print(f"{chapter.name}: {seconds:.1f} s")
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    # Twice the goal: a busy machine is not a fault of the chapter.
    assert seconds < 120
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]


def _alone() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # One thread each, as in the book's build: fresh_execution.py says why.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**kept, **threads, "CUDA_VISIBLE_DEVICES": ""}


# The kernel inherits a guard that refuses every connection but those of Jupyter itself.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
guard = '''
import socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost"):
        raise AssertionError(f"a chapter asked for {address}")
    return _connect(self, address)
socket.socket.connect = connect
'''
notebook.cells.insert(0, nbformat.v4.new_code_cell(guard))
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
"""
