"""Set the repository's address, or the version, everywhere it must appear.

    make address URL=https://github.com/someone/somewhere

The address lives in _config.yml. From there it reaches the set-up cell of each
chapter, whose text depends on it, and every plain mention in the pages around the
book. Without a URL the places are brought in line with _config.yml, which is what a
new version number asks for. A test fails while any of them differ.
"""

import json
import re
import sys
from pathlib import Path

import setup_cell

# Plain mentions of the address; the chapters' cells are rendered instead.
MENTIONS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff")
SHAPE = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


def main(arguments: list[str], root: Path = setup_cell.ROOT) -> None:
    """Set the address given on the command line, or spread the current one."""
    url = arguments[0] if arguments else setup_cell.read_address(root)
    changed = set_everywhere(clean(url), root)
    print(f"{clean(url)}: {len(changed)} files changed", *changed, sep="\n  ")


def clean(url: str) -> str:
    """Return `url` as it will be written; raise ValueError unless GitHub serves it."""
    url = url.strip().removesuffix("/").removesuffix(".git")
    if not SHAPE.fullmatch(url):
        raise ValueError(
            f"`URL` must look like https://github.com/someone/somewhere; got {url!r}. "
            "Colab opens notebooks from GitHub only"
        )
    return url


def set_everywhere(url: str, root: Path) -> list[str]:
    """Write `url` wherever the old address stands; return the files that changed."""
    old = setup_cell.read_address(root)
    changed = [
        name
        for name in ("_config.yml", *MENTIONS)
        if (root / name).exists() and _replace(root / name, old, url)
    ]
    source = setup_cell.render(url, setup_cell.read_version(root))
    for chapter in chapters(root):
        if _rewrite_cell(chapter, source):
            changed.append(chapter.relative_to(root).as_posix())
    return changed


def chapters(root: Path = setup_cell.ROOT) -> list[Path]:
    """Return the notebooks of the book, in reading order."""
    return sorted((root / "book").glob("*.ipynb"))


def first_code_cell(notebook: dict) -> dict:
    """Return the first code cell of a notebook read from JSON."""
    return next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def _replace(file: Path, old: str, new: str) -> bool:
    before = file.read_text(encoding="utf-8")
    # The lookahead keeps .../book from matching inside .../book-of-another-name.
    after = re.sub(re.escape(old) + r"(?![\w-])", new, before)
    file.write_text(after, encoding="utf-8")
    return after != before


def _rewrite_cell(file: Path, source: str) -> bool:
    before = file.read_text(encoding="utf-8")
    notebook = json.loads(before)
    cell = first_code_cell(notebook)
    if setup_cell.TAG not in cell["metadata"].get("tags", []):
        raise ValueError(
            f"the first code cell of {file.name} is not the set-up cell: it lacks the "
            f"tag {setup_cell.TAG!r}"
        )
    if "".join(cell["source"]) == source:
        return False
    cell["source"] = source.splitlines(keepends=True)
    # The layout of nbformat, keys in the order found, so that nothing else moves.
    after = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
    file.write_text(after, encoding="utf-8")
    return True


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
