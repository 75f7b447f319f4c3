"""What code a record was made with: a hash of each room that its recipe reaches.

A private half of ``pkg.recipes``.
"""

import ast
import functools
import hashlib
from pathlib import Path

from pkg._recipe import Recipe


def code_of(recipe: Recipe) -> dict[str, str]:
    """Hash the half that makes a record and every room that it reaches."""
    half = recipe.make.__module__.removeprefix("pkg.")
    rooms = [half]
    for room in rooms:  # grows while it is read
        reached = [n for file in files_of(room) for n in _imports(file)]
        rooms += [
            n
            for n in dict.fromkeys(reached)
            if n not in ("record", *rooms) and not n.startswith("_")
        ]
    return {
        room: hashlib.sha256(b"".join(sources_of(room))).hexdigest()[:16]
        for room in sorted(rooms)
    }


def files_of(room: str) -> list[str]:
    """Name a room and the private halves `_*.py` that it imports, in their order."""
    found = [room]
    for name in found:  # a half may import a half
        found += [n for n in _imports(name) if n.startswith("_") and n not in found]
    return found


def sources_of(room: str) -> list[bytes]:
    """Return what a room computes: its code without comments and docstrings."""
    return [essence(_path(name).read_text(encoding="utf-8")) for name in files_of(room)]


@functools.cache
def essence(source: str) -> bytes:
    """Return a source as a tree, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant):
                body[0] = ast.Pass()
    return ast.dump(tree).encode()


def _imports(room: str) -> list[str]:
    """List the rooms that a room imports; the guards check numbers and decide none."""
    found = _imported(_path(room).read_text(encoding="utf-8"))
    return [n for n in found if n != "_check" and _path(n).exists()]


@functools.cache
def _imported(source: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "pkg":
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.append(node.module.removeprefix("pkg."))
    return tuple(dict.fromkeys(found))


def _path(room: str) -> Path:
    return Path(__file__).parent / f"{room}.py"
