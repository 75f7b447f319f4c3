"""Benchmarks against what a user would pick instead; `make bench` runs them all.

Each module here has one function ``rows() -> list[Row]``. Numbers are medians; peers
are timed in the same run on the same machine, and the ratio is what counts.
"""

import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table in book/benchmarks.md.

    Attributes
    ----------
    what : str
        The task, with its size.
    ours, peer : str
        The measured figures with units; `peer` names what it is.
    ratio : str
        Peer over ours, or share of a limit; the figure to read.
    goal : str
        What it must reach, or "" where it is only informative.
    reached : bool or None
        None where there is no goal.
    """

    what: str
    ours: str
    peer: str
    ratio: str
    goal: str
    reached: bool | None


def environment(name: str, packages: tuple[str, ...], *, make: bool) -> Path | None:
    """Return the Python of an environment of its own; None where it is missing.

    Peers that bring another torch than the book's live there. With `make` it is made.
    """
    folder = Path(tempfile.gettempdir()) / name
    python, stamp = folder / "bin" / "python", folder / "peers.json"
    # Written last: an environment that broke off half-way is made again.
    if stamp.exists() and json.loads(stamp.read_text()) == list(packages):
        return python
    if not make:
        return None
    print(f"   peers into {folder}: 5.5 GB, a few minutes", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "numpy", *packages]
    subprocess.run(command, check=True)
    stamp.write_text(json.dumps(packages))
    return python
