"""Step detection: the half of `pkg.spectra` that reads a staircase off its curves."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pkg import _check

# What the verdict asks for. A pair of steps is apart when the wait between them exceeds
# the time they take to rise, half of each: chapter 3 derives it for the exact solution.
FEWEST_STEPS = 3
LEARNED = 0.05  # share of the largest final eigenvalue from which a mode counts
SMALL_START = 0.01  # largest eigenvalue at the start over the largest at the end
RELAPSE = 0.05  # share of the time after a step that may be spent back down
APART = 0.5  # share of the pairs of steps that must be apart

# Windows are shares of a step's own time: late steps are as much wider as they are
# later, and the verdict must not depend on the unit of time.
SMOOTH, HOLD, AFTERWARDS, LAST = 0.02, 0.1, 3.0, 0.05
FEWEST_RECORDS = 10  # in all, and in HOLD: at t = 0 a share of the time is no time


@dataclass(frozen=True, eq=False, kw_only=True)
class Steps:
    """What `find_steps` found; arrays have one entry a learned mode, in rank order.

    Attributes
    ----------
    times : (k,)
        When each eigenvalue passes half its final level for good; the first recorded
        time if it starts there.
    widths : (k,)
        How long each takes from 10 % to 90 %, twice the time from 10 % to 50 %: what an
        eigenvalue does above half its final level does not count. Infinite where it
        starts above half. If an eigenvalue creeps on to more than twice the height of
        its step, half its final level is part of the creep: time and width are too
        large, and the verdict is no.
    rates : (k,)
        Exponential growth rate during the rise, ln 81 / width. The linear theory says
        8 gamma. Steps in order with equal rates come from unequal starts, not
        from unequal eigenvalues: look here before naming a cause.
    levels : (k,)
        Final eigenvalues: medians of the last 5 % of the time.
    order : (k,)
        Ranks by step time, earliest first; 0, 1, 2, ... where the largest comes first.
    separation : (k - 1,)
        Wait between steps of neighbouring rank over the mean of their widths; negative
        where the lower rank comes first.
    n_learned : int
        k: modes whose final level is at least 5 % of the largest.
    relapse : float
        Worst share, over modes, of the time between a rise and three times its step
        time that an eigenvalue spends below 20 % of its final level.
    start_ratio : float
        Largest eigenvalue at the start over the largest at the end.
    score : float
        Share of neighbouring steps that are apart, separation above one; 0 with
        fewer than three steps, with a relapse above 5 %, or with a large start.
    score_any_start : float
        The same without the last condition.
    is_staircase : bool
        Whether `score_any_start` reaches one half. The size of the start alone never
        decides; `start_ratio` says whether it was small (below 1 %).
    """

    times: Float[np.ndarray, " k"]
    widths: Float[np.ndarray, " k"]
    rates: Float[np.ndarray, " k"]
    levels: Float[np.ndarray, " k"]
    order: Int[np.ndarray, " k"]
    separation: Float[np.ndarray, " pairs"]
    n_learned: int
    relapse: float
    start_ratio: float
    score: float
    score_any_start: float
    is_staircase: bool


def find_steps(
    t: Float[np.ndarray, " T"], eigenvalues: Float[np.ndarray, "T d"]
) -> Steps:
    """Find the steps in an embedding's spectrum, with a verdict on the staircase.

    Eigenvalues are sorted at each time, smoothed over 2 % of the time so far, and
    each is compared with its own final level. All windows are shares of time, so flow
    time and step numbers give the same verdict. Ranks are not modes: where later modes
    settle higher than earlier ones, each newcomer takes over the first rank and the
    steps are misread. Introduced in chapter 11.

    Parameters
    ----------
    t : (T,)
        Increasing times since the start of training, in any unit. Records far apart
        cannot show a narrow rise: eight steps need some forty.
    eigenvalues : (T, d)
        In any order within a row.

    Returns
    -------
    Steps

    Raises
    ------
    ValueError
        If lengths differ, times do not increase, a number is not finite, fewer than
        ten times are given (steps cannot be told from jumps between records), or the
        first lies past half of the last: windows are shares of the time since the
        start.
    """
    t = _check.times("t", t)
    eigenvalues = _check.finite("eigenvalues", eigenvalues, ndim=2)
    if len(t) != len(eigenvalues):
        raise ValueError(
            f"`t` and `eigenvalues` need one length; got {len(t)} and "
            f"{len(eigenvalues)}"
        )
    if len(t) < FEWEST_RECORDS:
        raise ValueError(f"`t` holds {len(t)} times; record ten at least")
    if t[0] > t[-1] / 2:
        raise ValueError(
            f"`t` runs from {t[0]:.3g} to {t[-1]:.3g}; pass times since the start of "
            "training, from near 0 on"
        )
    curves = _smooth(t, np.sort(eigenvalues, axis=1)[:, ::-1])
    finals = np.median(curves[t >= (1 - LAST) * t[-1]], axis=0)
    highest = float(finals.max())
    learned = (finals >= LEARNED * highest) & (finals > 0)
    curves, finals = curves[:, learned], finals[learned]

    found = [_rise(t, *mode) for mode in zip(curves.T, finals, strict=True)]
    times, widths = np.array(found).reshape(-1, 2).T
    wait, width = np.diff(times), (widths[1:] + widths[:-1]) / 2
    relapse = _relapse(t, curves / finals, times, widths)
    start_ratio = float(curves[0].max() / highest) if len(finals) else np.inf
    apart = wait > width
    enough = len(finals) >= FEWEST_STEPS and relapse <= RELAPSE
    score = float(apart.mean()) if enough else 0.0
    return Steps(
        times=times,
        widths=widths,
        rates=np.log(81.0) / widths,
        levels=finals,
        order=np.argsort(times, kind="stable"),
        separation=wait / width,
        n_learned=len(finals),
        relapse=relapse,
        start_ratio=start_ratio,
        score=score if start_ratio < SMALL_START else 0.0,
        score_any_start=score,
        is_staircase=score >= APART,
    )


def _smooth(t: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Average each curve over the times within 2 % of each time."""
    left = np.searchsorted(t, t * (1 - SMOOTH), side="left")
    right = np.searchsorted(t, t * (1 + SMOOTH), side="right")
    sums = np.concatenate([np.zeros((1, curves.shape[1])), np.cumsum(curves, axis=0)])
    return (sums[right] - sums[left]) / (right - left)[:, None]


def _rise(t: np.ndarray, curve: np.ndarray, final: float) -> tuple[float, float]:
    """Return when one curve passes half its final level for good, and its width."""
    above = curve >= 0.5 * final
    for first in np.flatnonzero(above & ~np.append(False, above[:-1])):
        # For good: above for 80 % of the records in the next tenth of its time, or of
        # the next ten. The last rise counts in any case.
        until = np.searchsorted(t, t[first] * (1 + HOLD), side="right")
        if above[first : max(until, first + FEWEST_RECORDS)].mean() >= 0.8:
            break
    if first == 0:
        return float(t[0]), np.inf  # learned before we looked: no step
    half = _crossing(t, curve, int(first), 0.5 * final)
    below = np.flatnonzero(curve[:first] < 0.1 * final)
    if len(below):
        tenth = _crossing(t, curve, int(below[-1]) + 1, 0.1 * final)
        width = 2 * (half - tenth)
    else:
        # It never was below a tenth. A logistic curve from its lowest point, which is
        # below half, has this width.
        lowest = int(curve[:first].argmin())
        odds = final / curve[lowest] - 1
        width = 2 * np.log(9.0) * (half - t[lowest]) / np.log(odds)
    # Records too far apart cannot show a narrower rise.
    return half, float(max(width, t[first] - t[first - 1]))


def _crossing(t: np.ndarray, curve: np.ndarray, i: int, level: float) -> float:
    """Interpolate when a curve passes `level` between records i - 1 and i."""
    low, high = curve[i - 1], curve[i]
    return float(t[i - 1] + (level - low) / (high - low) * (t[i] - t[i - 1]))


def _relapse(
    t: np.ndarray, shares: np.ndarray, times: np.ndarray, widths: np.ndarray
) -> float:
    worst = 0.0
    for share, time, width in zip(shares.T, times, widths, strict=True):
        start = time + (width if np.isfinite(width) else 0.0)
        after = (t > start) & (t <= AFTERWARDS * max(time, t[1]))
        if after.any():
            worst = max(worst, float((share[after] < 0.2).mean()))
    return worst
