"""The figure in which an embedding unfolds: a film of points, packed as text.

A private half of `pkg.widgets`.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import Float, Int, UInt8

from pkg import _check, _compose
from pkg._compose import Guarded, compose
from pkg.record import Trajectory

LEVELS = 127  # of a packed number: half a level is under a pixel of the picture
MOST_AXES = 8
MOST_CLASSES = 15  # five colours in three shapes
MOST_NUMBERS = 150_000  # in all snapshots: 200 kB of the page
MOST_TIMES = 240  # of the curves beside it
ENDS = 4  # pictures at either end of an axis
SIDE = 32  # pixels of such an image


def _pack(points: np.ndarray) -> tuple[str, list[Any]]:
    """Eight bits a number, and the largest modulus of each axis of each snapshot."""
    peaks = np.maximum(np.abs(points).max(axis=1), 1e-300)  # (snapshots, axes)
    levels = np.rint(points / peaks[:, None] * LEVELS).astype(np.int8)
    return base64.b64encode(levels.tobytes()).decode("ascii"), _short(peaks, 5)


def _short(values: np.ndarray, digits: int = 4) -> list[Any]:
    """Numbers of a few digits: the page holds them."""
    short = np.vectorize(lambda value: float(f"{value:.{digits}g}"), otypes=[float])
    nested: list[Any] = short(values).tolist()
    return nested


def _ranks(values: np.ndarray) -> list[int]:
    """Rank of each image from 0 to 100, equal values sharing one."""
    below = np.sum(values < values[:, None], axis=1)
    equal = np.sum(values == values[:, None], axis=1)
    middle = (below + (equal - 1) / 2) / max(len(values) - 1, 1)
    ranks: list[int] = np.rint(100 * middle).astype(int).tolist()
    return ranks


def _sprite(points: np.ndarray, images: np.ndarray) -> str:
    """One JPEG, a row an axis: what lies at its two ends in the last snapshot.

    Outermost the average of all images about their own means, weighed by where they
    lie along the axis: its contrast is its own, grey is zero.
    """
    from PIL import Image

    sheet = Image.new("RGB", (2 * ENDS * SIDE, points.shape[2] * SIDE))
    varied = images - images.mean(axis=(1, 2, 3), keepdims=True)
    for row, values in enumerate(points[-1].T):
        ranked = images[np.argsort(values, kind="stable")]
        average = np.tensordot(values, varied, axes=1)  # (height, width, 3)
        average /= max(np.abs(average).max(), 1e-12)
        low, high = (np.rint(127.5 * (1 + sign * average)) for sign in (-1, 1))
        tiles = [low[None], ranked[: ENDS - 1], ranked[1 - ENDS :], high[None]]
        for column, pixels in enumerate(np.concatenate(tiles).astype(np.uint8)):
            tile = Image.fromarray(pixels).resize((SIDE, SIDE))
            sheet.paste(tile, (column * SIDE, row * SIDE))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=80)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{text}"


def _curves(run: Trajectory) -> dict[str, Any]:
    kept = np.unique(np.linspace(0, len(run.t) - 1, MOST_TIMES).astype(int))
    return {
        "t": _short(run.t[kept], 5),
        "loss": _short(run.loss[kept]),
        "eigenvalues": _short(run.eigenvalues[kept].T),
        "matrix": run.matrix,
    }


def _film(
    points: np.ndarray,
    run: Trajectory,
    t: np.ndarray,
    step: np.ndarray,
    opened: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    quantities: Mapping[str, np.ndarray],
    images: np.ndarray,
) -> dict[str, Any]:
    """Check what fits what, and make it small."""
    points = _check.finite("points", points, ndim=3)
    count, n, axes = points.shape
    if not 3 <= axes <= MOST_AXES:
        raise ValueError(
            f"`points` must have 3 to {MOST_AXES} axes; got {axes}. Pass the first ones"
        )
    if points.size > MOST_NUMBERS or count < 2 or n < 2 * ENDS:
        raise ValueError(
            f"`points` must hold 2 snapshots of {2 * ENDS} images or more, and at most "
            f"{MOST_NUMBERS} numbers; got shape {points.shape}"
        )
    t = _check.times("t", t)
    images, labels = np.asarray(images), np.asarray(labels)
    step, opened = np.asarray(step), np.asarray(opened)
    wanted = {  # what, its length, the length that the points ask for
        "t": (len(t), count),
        "step": (len(step), count),
        "opened": (len(opened), axes),
        "labels": (len(labels), n),
        "images": (len(images), n),
        **{f"quantities[{k!r}]": (len(v), n) for k, v in quantities.items()},
    }
    for name, (found, length) in wanted.items():
        if found != length:
            raise ValueError(
                f"`{name}` must have length {length}, for `points` of shape "
                f"{points.shape}; got {found}"
            )
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise ValueError(
            f"`classes` must be 1 to {MOST_CLASSES} names; got {len(classes)}"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"`labels` must be places in `classes`, 0 to {len(classes) - 1}; got "
            f"{labels.min()} to {labels.max()}"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            "`images` must be uint8 of shape (n, height, width, 3); got "
            f"{images.dtype} {images.shape}. Use data.load(...).x"
        )
    packed, peaks = _pack(points)
    return {
        "points": packed,
        "peaks": peaks,
        "t": _short(t, 5),
        "step": step.tolist(),
        "opened": opened.tolist(),
        "labels": labels.tolist(),
        "classes": [str(name) for name in classes],
        "quantities": {
            name: _ranks(_check.finite(name, values, ndim=1))
            for name, values in quantities.items()
        },
        "curves": _curves(run),
        "sprite": _sprite(points, images),
    }


class Unfolding(anywidget.AnyWidget):
    """A cloud of embedded images that opens, beside the staircase that it climbs.

    Three axes of the embedding at a time, turned by hand, at any time of training: a
    point, a line, a sheet, a body. The axes are the same at all times, and so is the
    scale, unless the reader asks to fit the picture to the cloud. Between two snapshots
    every point moves straight. Under the cloud stand the images at both ends of each
    axis, outermost the average of all, weighed by where they lie along it. Introduced
    in chapter 12.

    Parameters
    ----------
    points : (snapshots, n, axes)
        Centred embeddings in fixed axes, 3 to 8 of them, as ``modes.unfold`` gives.
    run : Trajectory
        Loss and eigenvalues while training.
    t, step : (snapshots,)
        Flow time and step of each snapshot.
    opened : (axes,)
        The snapshot in which each axis opened; -1 for one that never did.
    labels : (n,)
        The class of each image.
    classes : up to 15 names
        Names of the classes, told apart by colour and shape.
    quantities : mapping of str to (n,)
        What else may colour the points, by rank from lowest to highest.
    images : (n, height, width, 3) uint8
        The images.
    time : float or None
        Flow time shown; None is the end.
    first : int
        The axes drawn are `first` and the next two.
    colour : str
        "class" or the name of a quantity.
    highlight : str
        Name of the one class in colour; empty for all of them.
    turn, tilt : float
        Degrees from which one looks, -180 to 180 and -90 to 90.
    fit : bool
        Magnify the cloud until it fills the picture, whatever its size.

    Raises
    ------
    ValueError
        If a value is out of its range, unknown or not finite, or the arrays do not fit.
    """

    _esm = compose(
        *("draw", "words", "marks", "unfolding_math", "unfolding_pictures"),
        *("unfolding_film", "chart", "controls", "mount", "unfolding"),
    )
    _css = _compose.style("figure", "unfolding")

    film = traitlets.Dict(read_only=True).tag(sync=True)
    time = Guarded(_compose.moment, None)
    first = Guarded(_compose.whole(1, MOST_AXES - 2), 1)
    colour = traitlets.Unicode("class").tag(sync=True)
    highlight = traitlets.Unicode("").tag(sync=True)
    turn = Guarded(_compose.between(-180.0, 180.0), 35.0)
    tilt = Guarded(_compose.between(-90.0, 90.0), 20.0)
    fit = Guarded(_compose.switch, False)

    def __init__(
        self,
        points: Float[np.ndarray, "snapshots n axes"],
        run: Trajectory,
        *,
        t: Float[np.ndarray, " snapshots"],
        step: Int[np.ndarray, " snapshots"],
        opened: Int[np.ndarray, " axes"],
        labels: Int[np.ndarray, " n"],
        classes: Sequence[str],
        quantities: Mapping[str, Float[np.ndarray, " n"]],
        images: UInt8[np.ndarray, "n height width 3"],
        time: float | None = None,
        first: int = 1,
        colour: str = "class",
        highlight: str = "",
        turn: float = 35.0,
        tilt: float = 20.0,
        fit: bool = False,
        **widget: Any,
    ) -> None:
        film = _film(points, run, t, step, opened, labels, classes, quantities, images)
        self.set_trait("film", film)
        super().__init__(
            time=time,
            first=first,
            colour=colour,
            highlight=highlight,
            turn=turn,
            tilt=tilt,
            fit=fit,
            **widget,
        )

    @traitlets.validate("first")
    def _in_range(self, proposal: Any) -> int:
        # Before the film is there, only the default can come by.
        axes = len(self.film.get("opened", range(3)))
        return _check.count("first", proposal["value"], high=axes - 2)

    @traitlets.validate("colour", "highlight")
    def _known(self, proposal: Any) -> str:
        name = proposal["trait"].name
        known = {
            "colour": ("class", *self.film.get("quantities", ())),
            "highlight": ("", *self.film.get("classes", ())),
        }
        return _check.choice(name, proposal["value"], known[name])
