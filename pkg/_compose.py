"""What every figure that moves is made of: one text of plain modules, guarded traits.

The private half of `pkg.widgets`. A notebook imports a figure's JavaScript as a blob,
and a blob has no neighbours to import from: hence `compose`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets

from pkg import _check

FOLDER = Path(__file__).parent / "widgets"

Guard = Callable[[str, Any], Any]


def compose(*names: str) -> str:
    """Join plain JavaScript modules into one that imports nothing.

    Parameters
    ----------
    *names : str
        Modules of ``pkg/widgets`` without ".js", each after those that it imports. The
        last one is the figure and keeps its default export.

    Returns
    -------
    str
        One ES module, without the modules' comments.

    Raises
    ------
    FileNotFoundError
        If a module does not exist: it is spelled as its file is.
    """
    shared = [_enclose(read(f"{name}.js")) for name in names[:-1]]
    figure = _bare(read(f"{names[-1]}.js"))
    return "\n".join([*shared, figure])


def style(*names: str) -> str:
    """Join style sheets of ``pkg/widgets``, without ".css", behind what all share."""
    return "".join(read(f"{name}.css") for name in ("theme", *names))


def read(name: str) -> str:
    """Return a file of ``pkg/widgets`` as text."""
    return (FOLDER / name).read_text(encoding="utf-8")


def _bare(source: str) -> str:
    """Drop imports, comments and indents: every page with the figure carries it."""
    for dropped in (
        r'import\s[^;]*?from\s+"\./[^"]+";',
        r" */\*\*.*?\*/",
        r" *//[^\n]*",
    ):
        source = re.sub(rf"^{dropped}\n", "", source, flags=re.MULTILINE | re.DOTALL)
    # No text in our modules runs over a line's end, so an indent is never part of one.
    return re.sub(r"^ +|\n(?=\n)", "", source, flags=re.MULTILINE)


def _enclose(source: str) -> str:
    """Wrap a module so that only what it exports is seen outside."""
    exported = re.findall(
        r"^export (?:function|const) (\w+)", source, flags=re.MULTILINE
    )
    body = re.sub(r"^export ", "", _bare(source), flags=re.MULTILINE)
    names = ", ".join(exported)
    return f"const {{ {names} }} = (() => {{\n{body}return {{ {names} }};\n}})();"


class Guarded(traitlets.TraitType):
    """A synced trait cleaned by one guard: a wrong value is refused at once."""

    def __init__(self, guard: Guard, default: Any) -> None:
        super().__init__(default_value=guard("default", default))
        self.guard = guard
        self.tag(sync=True)

    def validate(self, obj: Any, value: Any) -> Any:
        """Return `value` as the guard cleans it, under the trait's own name."""
        return self.guard(self.name or "value", value)


def spectrum(fewest: int, most: int) -> Guard:
    """Guard `fewest` to `most` finite numbers, put in descending order."""

    def guard(name: str, values: Any) -> list[float]:
        gammas = _check.finite(name, values, ndim=1)
        if not fewest <= len(gammas) <= most:
            raise ValueError(
                f"`{name}` must hold {fewest} to {most} finite numbers; got "
                f"{len(gammas)}. Pass the largest eigenvalues of Gamma"
            )
        return sorted(gammas.tolist(), reverse=True)

    return guard


def between(low: float, high: float) -> Guard:
    """Guard one finite number from `low` to `high`, both allowed."""

    def guard(name: str, value: Any) -> float:
        check = _check.positive if low > 0 else _check.finite
        number = float(check(name, value, ndim=0))
        if not low <= number <= high:
            limits = f"{low:g} and {high:g}".replace("e-0", "e-")  # 1e-6, as typed
            raise ValueError(f"`{name}` must lie between {limits}; got {number:.3g}")
        return number

    return guard


def whole(low: int, high: int | None = None) -> Guard:
    """Guard one whole number from `low` to `high`, both allowed."""
    return lambda name, value: _check.count(name, value, low=low, high=high)


def choice(*known: str) -> Guard:
    """Guard one of the `known` names."""
    return lambda name, value: _check.choice(name, value, known)


def switch(name: str, value: Any) -> bool:
    """Return True or False, and take nothing else for either."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False; got {value!r}")
    return value


def moment(name: str, value: Any) -> float | None:
    """Return a time from 0 on, or None where there is none."""
    if value is None:
        return None
    time = float(_check.finite(name, value, ndim=0))
    if time < 0:
        raise ValueError(f"`{name}` must be 0 or later, or None; got {time:.3g}")
    return time
