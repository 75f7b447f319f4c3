"""What a recipe is.

A private half of ``pkg.recipes``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recorded experiment.

    Attributes
    ----------
    name : str
        Name of the record.
    summary : str
        What it shows, in one line.
    make : callable
        Called with `config`, the folders of the data sets by name, and ``progress``;
        returns runs, arrays, and where the data came from. It lives in a private half
        of this room, and a record is out of date when that half changes, or a room
        that it imports.
    cost : callable
        Estimates seconds and peak bytes from `config`.
    config : mapping
        Everything that decides the result; see `make`.
    roots : tuple of str
        Data sets that lie in a folder which the user names.
    resumes : bool
        Whether `make` takes ``keep``, a folder for checkpoints.
    elsewhere : callable, optional
        Says from `config` what the run costs on other machines, a line each.
    awaits : str
        What this record needs and has not had yet; empty for those that ship.
    """

    name: str
    summary: str
    make: Callable[..., Made]
    cost: Callable[[Mapping[str, Any]], tuple[float, float]]
    config: Mapping[str, Any]
    roots: tuple[str, ...] = ()
    resumes: bool = False
    elsewhere: Callable[[Mapping[str, Any]], list[str]] | None = None
    awaits: str = ""
