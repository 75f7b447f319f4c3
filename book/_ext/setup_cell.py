"""The one hidden set-up cell that opens every chapter with code.

It does nothing outside Colab. On Colab it installs the package at the tag of this
version, once somebody owns the address it would install from; until then it stops
and says what to set. The text is rendered here and nowhere else: `make address`
pastes it into the chapters, and a test holds each chapter's first code cell to it.

To paste it by hand into a new chapter (tag the cell "remove-cell")::

    python book/_ext/setup_cell.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNSET = "https://github.com/OWNER/REPO"
TAG = "remove-cell"

_INSTALL = """\
# On Colab only: install the package that this chapter calls.
import sys

if "google.colab" in sys.modules:
    %pip install -q "stepwise-ssl @ git+{address}@v{version}"
"""

_EXPLAIN = """\
# On Colab only: install the package that this chapter calls.
import sys

if "google.colab" in sys.modules:
    raise RuntimeError(
        "This copy of the book has no address to install from. In the repository run "
        "`make address URL=https://github.com/you/your-copy`, push, and open it again."
    )
"""


def render(address: str, version: str) -> str:
    """Return the cell's source for a repository at `address`, tagged v`version`."""
    text = _EXPLAIN if address == UNSET else _INSTALL
    return text.format(address=address, version=version).rstrip("\n")


def current() -> str:
    """Return the cell's source for this checkout: its _config.yml and its version."""
    return render(read_address(), read_version())


def read_address(root: Path = ROOT) -> str:
    """Return the repository's address, which is written once, in _config.yml."""
    text = (root / "_config.yml").read_text(encoding="utf-8")
    return _only(
        r"^repository:\n\s+url: (\S+)", text, "`repository.url` in _config.yml"
    )


def read_version(root: Path = ROOT) -> str:
    """Return the package's version without importing it."""
    text = (root / "pkg" / "__init__.py").read_text(encoding="utf-8")
    return _only(r'^__version__ = "([^"]+)"', text, "`__version__` in pkg/__init__.py")


def _only(pattern: str, text: str, what: str) -> str:
    found = re.findall(pattern, text, flags=re.MULTILINE)
    if len(found) != 1:
        raise ValueError(f"{what} must be written exactly once; found {len(found)}")
    return found[0]


if __name__ == "__main__":
    print(current())
