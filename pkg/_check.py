"""Guards: each returns the value it has cleaned, or says what is wrong and why.

One voice for every error of the package: the argument in backticks, what was found,
what to do. A guard converts as it checks, so one line at the door does both.
"""

import difflib
from typing import Any

import numpy as np


def finite(name: str, values: Any, *, ndim: int | None = None) -> np.ndarray:
    """Return `values` as float64; raise ValueError unless every entry is finite."""
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be real numbers; {error}") from None
    if ndim is not None and values.ndim != ndim:
        raise ValueError(
            f"`{name}` must have {ndim} axes, not {values.ndim}; shape "
            f"{values.shape}. Reshape it first"
        )
    if values.size == 0:
        raise ValueError(f"`{name}` is empty; pass at least one value")
    good = np.isfinite(values)
    if not good.all():
        _refuse(name, values, good, "be finite")
    return values


def positive(name: str, values: Any, *, ndim: int | None = None) -> np.ndarray:
    """Return `values` as float64; raise ValueError unless all are above zero."""
    values = finite(name, values, ndim=ndim)
    good = values > 0
    if not good.all():
        _refuse(name, values, good, "be finite and positive")
    return values


def nonnegative(name: str, values: Any, *, ndim: int | None = None) -> np.ndarray:
    """Return `values` as float64; raise ValueError if one is below zero."""
    values = finite(name, values, ndim=ndim)
    good = values >= 0
    if not good.all():
        _refuse(name, values, good, "be zero or positive")
    return values


def symmetric(name: str, matrix: Any) -> np.ndarray:
    """Return the symmetric part of a square `matrix` as float64.

    Round-off is forgiven up to 1e-8 of the largest entry; more is an error, because
    eigensolvers read one triangle and would ignore the other in silence.
    """
    matrix = finite(name, matrix, ndim=2)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`{name}` must be square; got shape {matrix.shape}")
    gap = float(np.abs(matrix - matrix.T).max())
    scale = float(np.abs(matrix).max())
    if gap > 1e-8 * scale:
        raise ValueError(
            f"`{name}` must be symmetric; entries and their mirror images differ by "
            f"up to {gap:.3g}. Use ({name} + {name}.T) / 2 if that is what you mean"
        )
    return (matrix + matrix.T) / 2


def paired(
    name: str, values: Any, other_name: str, other: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return two (n, m) arrays of one shape as float64."""
    values = finite(name, values, ndim=2)
    other = finite(other_name, other, ndim=2)
    if values.shape != other.shape:
        raise ValueError(
            f"`{name}` and `{other_name}` must have one shape, row i with row i; "
            f"got {values.shape} and {other.shape}"
        )
    return values, other


def times(name: str, values: Any) -> np.ndarray:
    """Return `values` (T,) as float64; raise ValueError unless they increase from 0."""
    values = finite(name, values, ndim=1)
    if values[0] < 0:
        raise ValueError(f"`{name}` must start at 0 or later; got {values[0]:.3g}")
    backward = values[1:] <= values[:-1]
    if backward.any():
        i = int(backward.argmax()) + 1
        raise ValueError(
            f"`{name}` must increase; entry {i} is {values[i]:.3g} after "
            f"{values[i - 1]:.3g}. Sort the times and drop repeats"
        )
    return values


def count(name: str, value: int, *, low: int = 1, high: int | None = None) -> int:
    """Return a whole number between `low` and `high`, both allowed."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"`{name}` must be a whole number; got {value!r}")
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"`{name}` must be {limit}; got {value}")
    return int(value)


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return `value` if it is `known`; the error names the nearest right one."""
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"`{name}` is {value!r}, which is not known; {hint}Known: {known}")


def _refuse(name: str, values: np.ndarray, good: Any, rule: str) -> None:
    first = int(np.flatnonzero(~good)[0])
    index = tuple(int(i) for i in np.unravel_index(first, values.shape))
    where = "it" if not index else f"entry {index[0] if len(index) == 1 else index}"
    raise ValueError(f"`{name}` must {rule}; {where} is {values.flat[first]:.3g}")
