"""Static figures: draw_* on given axes, figure_* that compose them.

One reading in every chapter: solid is measured, dashed is theory, dotted is a predicted
step time, and colour means mode index and nothing else, earliest darkest.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pkg import _check
from pkg.record import Record, Trajectory

# Set once, here: a figure reads at the width of a page, on paper and on a screen.
plt.rcParams.update(
    {
        "figure.dpi": 144,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
)

INK = "#333333"
# From low to high, as in unfolding.css; no mode has one of these colours.
RANKS = LinearSegmentedColormap.from_list(
    "ranks",
    ["#4b2a86", "#7a5fb5", "#ab9ad3", "#b9b4bd", "#eaa46c", "#d1701f", "#8f3f00"],
)


def shades(d: int) -> np.ndarray:
    """Give `d` colours, one a mode, earliest darkest, safe for colour-blind eyes."""
    return plt.get_cmap("cividis")(np.linspace(0.05, 0.85, d))


def averaged(run: Trajectory, k: int) -> Trajectory:
    """Average a run over blocks of `k` records, to see through the noise of batches.

    For drawing only: a step narrower than a block is blurred. Introduced in chapter 11.

    Parameters
    ----------
    run : Trajectory
    k : int
        Records a block; those left over at the end are left out.

    Returns
    -------
    Trajectory
        Times, loss and eigenvalues are means; steps are those in the middle.

    Raises
    ------
    ValueError
        If `k` is not a whole number from 1 to the number of records.
    """
    n = len(run.t) // _check.count("k", k, high=len(run.t))

    def mean(values: np.ndarray) -> np.ndarray:
        return values[: n * k].reshape(n, k, *values.shape[1:]).mean(axis=1)

    middle = None if run.step is None else run.step[k // 2 : n * k : k]
    return replace(
        run,
        t=mean(run.t),
        loss=mean(run.loss),
        eigenvalues=mean(run.eigenvalues),
        step=middle,
    )


def draw_loss(
    ax: Axes, run: Trajectory, *, by: Literal["time", "step"] = "time", **line: Any
) -> Axes:
    """Draw the loss against flow time or step number; `line` goes to ``Axes.plot``.

    Draws on `ax` and nothing else: no figure, no title, no ``plt.show``.
    """
    ax.plot(_abscissa(run, by)[0], run.loss, color=INK, label=run.source, **line)
    ax.set(ylabel="loss")
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return ax


def draw_spectrum(
    ax: Axes, run: Trajectory, *, by: Literal["time", "step"] = "time", **line: Any
) -> Axes:
    """Draw every eigenvalue against flow time or step number, earliest mode darkest.

    `line` goes to ``Axes.plot``: "--" for theory, "-" for what was measured.
    Draws on `ax` and nothing else: no figure, no title, no ``plt.show``.
    """
    d = run.eigenvalues.shape[1]
    x, words = _abscissa(run, by)
    for values, shade in zip(run.eigenvalues.T, shades(d), strict=True):
        ax.plot(x, values, color=shade, **line)
    ax.set(xlabel=words, ylabel=f"eigenvalues of the\n{run.matrix}")
    return ax


def draw_recorded(ax: Axes, record: Record, case: int) -> Axes:
    """Draw the covariance's spectrum of the first run of a case, over steps.

    On a logarithmic axis, on which growth is a straight line. `record` is one of
    ``recipes.network_staircases``. Introduced in chapter 11.
    """
    i = int(np.argmax(record.arrays["case"] == case))
    run = record.runs[i]
    levels = record.arrays["covariance"][i][: len(run.t)]  # NaN beyond a run's end
    run = replace(run, eigenvalues=levels, matrix="covariance")
    draw_spectrum(ax, run, by="step", linewidth=1)
    ax.set(yscale="log")
    return ax


def draw_step_times(ax: Axes, step_times: Float[np.ndarray, " d"]) -> Axes:
    """Draw a dotted line, in its mode's colour, at each predicted step time."""
    for time, shade in zip(step_times, shades(len(step_times)), strict=True):
        ax.axvline(time, color=shade, linewidth=1.0, linestyle=":")
    return ax


def draw_predictions(
    ax: Axes,
    predicted: Float[np.ndarray, " d"],
    measured: Float[np.ndarray, "seeds d"],
) -> Axes:
    """Draw measured over predicted step time, step by step, one dot a seed.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    predicted : (d,) or (seeds, d)
        Predicted times, in the order of `measured`.
    measured : (seeds, d)
        Measured times.

    Returns
    -------
    Axes
    """
    ratios = measured / predicted
    d = ratios.shape[1]
    spread = np.linspace(-0.15, 0.15, len(ratios)) if len(ratios) > 1 else [0.0]
    for offset, row in zip(spread, ratios, strict=True):
        ax.scatter(np.arange(1, d + 1) + offset, row, color=shades(d), s=22)
    ax.axhline(1.0, color=INK, linewidth=1.0, linestyle="--")
    ax.set(xlabel="step", ylabel="measured / predicted\nstep time")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def draw_captured(
    ax: Axes,
    captured: Float[np.ndarray, "seeds rows"],
    labels: Sequence[str],
    *,
    chance: float,
) -> Axes:
    """Draw how much of an embedding each predictor captured, one row a predictor.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    captured : (seeds, rows)
        Overlaps; one dot a seed, and a bar at the median.
    labels : sequence of str
        What each row is.
    chance : float
        Overlap of a random space: a thin grey line.

    Returns
    -------
    Axes
    """
    rows = np.arange(captured.shape[1])
    for values in captured:
        ax.plot(values, rows, "o", color=INK, markersize=4, alpha=0.5, linewidth=0)
    ax.plot(np.median(captured, axis=0), rows, "|", color=INK, markersize=14, mew=2)
    ax.axvline(chance, color="#999999", linewidth=1.0)
    ax.set(xlim=(0, 1.02), xlabel="captured", yticks=rows, yticklabels=labels)
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top, on shared axes, too
    return ax


def draw_cloud(
    ax: Axes,
    points: Float[np.ndarray, "n 3"],
    values: Float[np.ndarray, " n"],
    *,
    half: float,
    modes: int,
) -> Axes:
    """Draw points in three axes, from the side from which the moving figure begins.

    Without perspective. Axes 1 to 3 have the colours of their modes; points go from
    purple to orange by the rank of `values`, near ones over far ones.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    points : (n, 3)
        Coordinates.
    values : (n,)
        What colours the points.
    half : float
        From the middle of the picture to its edge.
    modes : int
        How many modes share the colours.

    Returns
    -------
    Axes
    """
    (ct, st), (cf, sf) = ((np.cos(a), np.sin(a)) for a in np.radians([35, 20]))
    # Columns: across, up, and towards the reader; as `project` of unfolding_math.js.
    view = np.array([[ct, st * sf, -st * cf], [0, cf, sf], [st, -ct * sf, ct * cf]])
    for k, (axis, shade) in enumerate(zip(view, shades(modes)[:3], strict=True)):
        end = 0.9 * half * axis[:2]
        ax.plot(*np.transpose([-end, end]), color=shade, linewidth=1.2)
        right, up = 1.08 * end
        ax.text(right, up, f"{k + 1}", ha="center", va="center", fontsize=8)
    seen = points @ view
    order = np.argsort(seen[:, 2])
    ranks = np.argsort(np.argsort(values)) / max(len(values) - 1, 1)
    across, high, _ = seen[order].T
    ax.scatter(across, high, c=ranks[order], cmap=RANKS, s=7, zorder=3, linewidth=0)
    ax.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set(visible=True, color="#dddddd")
    return ax


def figure_staircase(
    theory: Trajectory | None = None,
    measured: Trajectory | None = None,
    *,
    step_times: Float[np.ndarray, " d"] | None = None,
    log_time: bool = True,
) -> Figure:
    """Compose the staircase: loss above, eigenvalues below, one time axis.

    Parameters
    ----------
    theory : Trajectory, optional
        Dashed. Beside a run that is sorted by rank it is sorted too.
    measured : Trajectory, optional
        Solid. At least one of the two is needed.
    step_times : (d,), optional
        Predicted times of the steps, dotted.
    log_time : bool
        Logarithmic time axis; needs a time after 0.

    Returns
    -------
    Figure
        With the axes of the loss and of the spectrum, in this order.

    Raises
    ------
    ValueError
        If there is nothing to draw, not even a time after 0 on a logarithmic axis; or
        the two hold different matrices: eigenvalues of a covariance and of a
        cross-correlation agree only when the views do.
    """
    given = [run for run in (measured, theory) if run is not None]
    if not given:
        raise ValueError("pass `theory`, `measured` or both; there is nothing to draw")
    if len({run.matrix for run in given}) > 1:
        raise ValueError(
            "`theory` and `measured` hold eigenvalues of different matrices "
            f"({given[1].matrix} and {given[0].matrix}); draw them apart"
        )
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7, 4.8), sharex=True, layout="constrained"
    )
    if len({run.order for run in given}) > 1:
        given = [_ranked(run) for run in given]  # so that one colour is one curve
    # Where both are given the dashes lie on a broad pale line, or they would not show.
    broad = {"linewidth": 3.5, "alpha": 0.45} if len(given) == 2 else {}
    solid = given[0] if measured is not None else None
    for run in given:
        line = {"linestyle": "-", **broad} if run is solid else {"linestyle": "--"}
        draw_loss(top, run, **line)
        draw_spectrum(bottom, run, **line)
    for ax in (top, bottom):
        if step_times is not None:
            draw_step_times(ax, step_times)
    _time_axis(bottom, given, log_time)
    top.set(ylim=(0, None))
    top.legend(loc="upper right")
    return figure


def figure_images(
    rows: Sequence[Shaped[np.ndarray, "k h w 3"]], labels: Sequence[str]
) -> Figure:
    """Compose rows of pictures.

    Parameters
    ----------
    rows : sequence of (k, h, w, 3)
        Bytes, or floats from 0 to 1; one array a row.
    labels : sequence of str
        What each row shows.

    Returns
    -------
    Figure
    """
    size = (7, 0.95 * len(rows))
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=size, squeeze=False, layout="constrained"
    )
    for line, pictures, label in zip(axes, rows, labels, strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            # Pixels as they are; smoothed ones would also weigh three times as much.
            ax.imshow(picture, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def figure_directions(
    rows: Sequence[Float[np.ndarray, "k h w 3"]], labels: Sequence[str]
) -> Figure:
    """Compose rows of directions in pixel space, numbered, as pictures.

    Each direction is scaled by its own largest entry: grey is zero, and a direction and
    its negative are the same, so only contrasts inside one picture mean anything.

    Parameters
    ----------
    rows : sequence of (k, h, w, 3)
        One array of directions a row.
    labels : sequence of str
        What each row shows.

    Returns
    -------
    Figure
    """
    sizes = [np.abs(row).max(axis=(1, 2, 3), keepdims=True) for row in rows]
    pictures = [0.5 + 0.5 * row / size for row, size in zip(rows, sizes, strict=True)]
    figure = figure_images(pictures, labels)
    for j, ax in enumerate(figure.axes[: len(rows[0])]):
        ax.set_title(f"{j + 1}", loc="center")
    return figure


def _abscissa(run: Trajectory, by: str) -> tuple[np.ndarray, str]:
    if _check.choice("by", by, ("time", "step")) == "time":
        return run.t, "flow time"
    if run.step is None:
        raise ValueError(
            f'`run` ({run.source}) is a continuous flow without steps; pass by="time"'
        )
    return run.step, "step"


def _ranked(run: Trajectory) -> Trajectory:
    return replace(run, eigenvalues=np.sort(run.eigenvalues)[:, ::-1], order="rank")


def _time_axis(ax: Axes, runs: list[Trajectory], log_time: bool) -> None:
    times = np.concatenate([run.t for run in runs])
    if not times.max() > 0:
        raise ValueError("the runs hold no time after 0; there is nothing to draw")
    if log_time:
        ax.set(xscale="log", xlim=(times[times > 0].min(), times.max()))
    else:
        ax.set(xlim=(0, times.max()))
