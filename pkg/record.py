"""Trajectory, the one result type, and the recorded runs that ship with the package.

A record is two files: NAME.npz with the numbers and NAME.json with what made them and
the SHA-256 of both. Nothing is pickled, so a record can be read but never run.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int

from pkg import _check

FOLDER = Path(__file__).parent / "records"
FORMAT = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Trajectory:
    """Loss and embedding spectrum along one run, whoever produced it.

    The closed form, the numerical flow and the trained network all return this,
    so one plot can lay theory over experiment. Introduced in chapter 3.

    Attributes
    ----------
    t : (T,)
        Increasing flow time: under plain gradient descent, the learning rates summed.
    loss : (T,)
        Value of the training loss.
    eigenvalues : (T, d)
        Eigenvalues of `matrix`.
    order : "mode" or "rank"
        "mode": column j belongs to gammas[j]; "rank": sorted, largest first.
    matrix : "cross-correlation" or "covariance"
        C between the two views, or the covariance of one view's embeddings. They
        agree only when the views do, so a plot never mixes them unlabelled.
    source : str
        Producer and settings in a few words; used as the legend entry.
    step : (T,) or None
        Number of descent steps behind each time; None for a continuous flow.
    weights : (d, m) or None
        Weights W at the last time, where the producer has them.

    Raises
    ------
    ValueError
        If lengths differ, times do not increase from 0 on, a number is not finite, or
        `order` or `matrix` is another word.
    """

    t: Float[np.ndarray, " T"]
    loss: Float[np.ndarray, " T"]
    eigenvalues: Float[np.ndarray, "T d"]
    order: Literal["mode", "rank"]
    matrix: Literal["cross-correlation", "covariance"]
    source: str
    step: Int[np.ndarray, " T"] | None = None
    weights: Float[np.ndarray, "d m"] | None = None

    def __post_init__(self) -> None:
        lengths = len(self.t), len(self.loss), len(self.eigenvalues)
        if len(set(lengths)) != 1:
            raise ValueError(
                f"`t`, `loss` and `eigenvalues` need one common length; got {lengths}"
            )
        if self.step is not None and len(self.step) != len(self.t):
            raise ValueError(
                f"`step` must have one entry a time; got {len(self.step)} for "
                f"{len(self.t)} times"
            )
        _check.times("t", self.t)
        _check.choice("order", self.order, ("mode", "rank"))
        _check.choice("matrix", self.matrix, ("cross-correlation", "covariance"))
        for name, dtype in _ARRAYS.items():
            values = getattr(self, name)
            if values is None:
                continue
            _check.finite(name, values, ndim=2 if name in _TABLES else 1)
            # A copy: the caller's array stays writable.
            frozen = np.array(values, dtype=dtype)
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)

    def at(self, entries: Int[np.ndarray, " K"] | slice) -> "Trajectory":
        """Keep some of the T entries, by their places, in increasing order.

        The weights belong to the last time, and are left out.
        """
        return replace(
            self,
            t=self.t[entries],
            loss=self.loss[entries],
            eigenvalues=self.eigenvalues[entries],
            step=None if self.step is None else self.step[entries],
            weights=None,
        )


_ARRAYS = {
    "t": np.float64,
    "loss": np.float64,
    "eigenvalues": np.float64,
    "step": np.int64,
    "weights": np.float64,
}
_TABLES = ("eigenvalues", "weights")
_LABELS = ("order", "matrix", "source")


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """A recorded run: its trajectories, further arrays, and what made them.

    Attributes
    ----------
    name : str
        The recipe's name, which is also the file's.
    runs : tuple of Trajectory
        One per seed, in the order of ``meta["config"]["seeds"]``.
    arrays : mapping of str to array
        Anything else a figure needs.
    meta : dict
        ``config`` (everything that decides the result), ``data``, ``versions``,
        ``device``, ``seconds``, ``made`` (a date) and ``code`` (see `pkg.recipes`).
    """

    name: str
    runs: tuple[Trajectory, ...]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> str:
        """One line for the figure's caption: recipe, data, seeds, machine, time."""
        meta = self.meta
        seeds = len(meta["config"]["seeds"])
        return (
            f"Record {self.name}: {meta['data']}; {seeds} seed{'s' * (seeds > 1)}; "
            f"made {meta['made']} on {meta['device']} in {meta['seconds']:.0f} s "
            f"with stepwise-ssl {meta['versions']['stepwise-ssl']}."
        )


def names(folder: str | Path = FOLDER) -> list[str]:
    """List the records in `folder`, by default those that ship with the package."""
    return sorted(path.stem for path in Path(folder).glob("*.json"))


def save(record: Record, folder: str | Path = FOLDER) -> Path:
    """Write `record` as NAME.npz beside NAME.json; return the path of the latter.

    Each file appears whole or not at all. The numbers go first: a reader who meets new
    numbers beside the old description sees a checksum that differs, not a wrong figure.

    Parameters
    ----------
    record : Record
        What to keep.
    folder : path
        Where; made if missing.

    Returns
    -------
    Path
        The file NAME.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"array/{key}": value for key, value in record.arrays.items()}
    for i, run in enumerate(record.runs):
        for name in _ARRAYS:
            if getattr(run, name) is not None:
                arrays[f"run{i}/{name}"] = getattr(run, name)
    buffer = io.BytesIO()
    # NumPy types **kwds of savez_compressed as bool in its stubs.
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    description = {
        "format": FORMAT,
        "name": record.name,
        "runs": [{k: getattr(run, k) for k in _LABELS} for run in record.runs],
        "meta": dict(record.meta),
    }
    description["sha256"] = _checksum(buffer.getvalue(), description)
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    _write(folder / f"{record.name}.npz", buffer.getvalue())
    return _write(folder / f"{record.name}.json", text.encode())


def load(name: str, folder: str | Path = FOLDER) -> Record:
    """Read a record by name and check that its numbers are those that were written.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path
        By default the records that ship with the package.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        If there is no record of that name (the nearest one is suggested), or its files
        are damaged: run the recipe again.
    """
    folder = Path(folder)
    _check.choice("name", name, tuple(names(folder)))
    try:
        text = (folder / f"{name}.json").read_text(encoding="utf-8")
        description = json.loads(text)
        _check_format(name, description["format"])
        data = (folder / f"{name}.npz").read_bytes()
        if _checksum(data, description) != description["sha256"]:
            raise _damaged(name, "it does not match its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = dict(stored)
        return _assemble(name, description, arrays)
    except (
        OSError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
        BadZipFile,
        json.JSONDecodeError,
    ) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _checksum(data: bytes, description: Mapping[str, Any]) -> str:
    """SHA-256 of the numbers and of what is said of them."""
    said = {key: value for key, value in description.items() if key != "sha256"}
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(data + text.encode()).hexdigest()


def _assemble(
    name: str, description: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Record:
    runs = tuple(
        Trajectory(**labels, **_under(arrays, f"run{i}/"))
        for i, labels in enumerate(description["runs"])
    )
    extra = _under(arrays, "array/")
    return Record(name=name, runs=runs, arrays=extra, meta=description["meta"])


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    return {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


def _check_format(name: str, found: int) -> None:
    if found != FORMAT:
        raise ValueError(
            f"record {name!r} has format {found} and this package reads {FORMAT}; "
            "use the package version named in its .json"
        )


def _damaged(name: str, finding: str) -> ValueError:
    return ValueError(
        f"record {name!r} is damaged ({finding}); make it again with "
        f"`python -m pkg.recipes run {name}`"
    )


def _write(path: Path, data: bytes) -> Path:
    # A temporary file in the same folder, so that the rename is atomic.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
