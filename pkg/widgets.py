"""Figures that move: with a kernel, and in a page that has none.

A figure's mathematics and drawing are JavaScript, so that it follows the reader's hand
without asking Python. Here are only its traits, and the step that makes one
self-contained text of its plain modules: a notebook imports that text as a blob, and a
blob has no neighbours to import from.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from pkg import _check

FOLDER = Path(__file__).parent / "widgets"
FEWEST, MOST = 2, 8  # bars of a spectrum, as in staircase_story.js


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
        One ES module.

    Raises
    ------
    FileNotFoundError
        If a module does not exist: it is spelled as its file is.
    """
    shared = [_enclose(_read(f"{name}.js")) for name in names[:-1]]
    figure = _drop_imports(_read(f"{names[-1]}.js"))
    return "\n".join([*shared, figure])


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _drop_imports(source: str) -> str:
    return re.sub(
        r'^import\s[^;]*?from\s+"\./[^"]+";\n', "", source, flags=re.MULTILINE
    )


def _enclose(source: str) -> str:
    """Wrap a module so that only what it exports is seen outside."""
    exported = re.findall(
        r"^export (?:function|const) (\w+)", source, flags=re.MULTILINE
    )
    body = re.sub(r"^export ", "", _drop_imports(source), flags=re.MULTILINE)
    names = ", ".join(exported)
    return f"const {{ {names} }} = (() => {{\n{body}return {{ {names} }};\n}})();"


class Guarded(traitlets.TraitType):
    """A synced trait cleaned by one guard: a wrong value is refused at once."""

    def __init__(self, guard: Callable[[str, Any], Any], default: Any) -> None:
        super().__init__(default_value=guard("default", default))
        self.guard = guard
        self.tag(sync=True)

    def validate(self, obj: Any, value: Any) -> Any:
        """Return `value` as the guard cleans it, under the trait's own name."""
        return self.guard(self.name or "value", value)


def _spectrum(name: str, values: Any) -> list[float]:
    gammas = _check.finite(name, values, ndim=1)
    if not FEWEST <= len(gammas) <= MOST:
        raise ValueError(
            f"`{name}` must hold {FEWEST} to {MOST} finite numbers; got {len(gammas)}. "
            f"Pass the largest eigenvalues of Gamma"
        )
    return sorted(gammas.tolist(), reverse=True)


def _start(name: str, value: Any) -> float:
    s0 = float(_check.positive(name, value, ndim=0))
    if not 1e-6 <= s0 <= 1.0:
        raise ValueError(f"`{name}` must lie between 1e-6 and 1; got {s0:.3g}")
    return s0


def _moment(name: str, value: Any) -> float | None:
    if value is None:
        return None
    time = float(_check.finite(name, value, ndim=0))
    if time < 0:
        raise ValueError(f"`{name}` must be 0 or later, or None; got {time:.3g}")
    return time


def _shown(name: str, value: Any) -> int:
    return _check.count(name, value, low=1, high=MOST)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False; got {value!r}")
    return value


class Staircase(anywidget.AnyWidget):
    """A spectrum to drag, and the staircase of learning that follows.

    Bars are eigenvalues of Gamma. Above them stand the loss and the eigenvalues of the
    cross-correlation, exact, from an aligned start. The first step is shown; the reader
    guesses where the next one falls, then sees it. Introduced in chapter 3.

    Parameters
    ----------
    gammas : 2 to 8 numbers
        Eigenvalues of Gamma, of any sign, ties allowed; kept in descending order.
    s0 : float
        Common initial singular value of W, from 1e-6 to 1.
    time : float or None
        Flow time of the cursor; None is the end of what is shown.
    log_time : bool
        Logarithmic time axis, on which every step is equally wide.
    revealed : int
        Steps shown at first, 1 to 8; as many as there are, and nothing is asked.

    Raises
    ------
    ValueError
        If a value is out of its range, or not finite. The same holds whenever one of
        these attributes is set later; each follows what the reader does in the page.
    """

    _esm = compose(
        "closed_form",
        "draw",
        "staircase_story",
        "staircase_curves",
        "staircase_bars",
        "staircase_controls",
        "staircase",
    )
    _css = _read("staircase.css")

    gammas = Guarded(_spectrum, (1.0, 0.6, 0.36, 0.2, 0.1))
    s0 = Guarded(_start, 1e-3)
    time = Guarded(_moment, None)
    log_time = Guarded(_switch, True)
    revealed = Guarded(_shown, 1)
    # Between the steps: does the figure ask for the next one, and what was guessed?
    asking = Guarded(_switch, True)
    guess = Guarded(_moment, None)

    def __init__(
        self,
        gammas: Iterable[float] = (1.0, 0.6, 0.36, 0.2, 0.1),
        s0: float = 1e-3,
        *,
        time: float | None = None,
        log_time: bool = True,
        revealed: int = 1,
        **widget: Any,
    ) -> None:
        super().__init__(
            gammas=gammas,
            s0=s0,
            time=time,
            log_time=log_time,
            revealed=revealed,
            **widget,
        )
