"""Benchmarks against what a user would pick instead; `make bench` runs them all.

Each module here has one function ``rows() -> list[Row]``. Numbers are medians; peers
are timed in the same run on the same machine, and the ratio is what counts.
"""

from dataclasses import dataclass


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
