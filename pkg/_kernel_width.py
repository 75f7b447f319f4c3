"""The figure in which a kernel grows wider: frames computed beforehand, packed as text.

A private half of `pkg.widgets`.
"""

import base64
import itertools
from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import Float, Int

from pkg import _check, _compose
from pkg._compose import Guarded, compose

SHOWN = 4  # modes whose embeddings are drawn
MOST_OUTPUTS = 8
MOST_NUMBERS = 25_000  # in all embeddings: 67 kB of the page
LEVELS = 2**15 - 1  # of a packed number


def _still(embeddings: np.ndarray) -> np.ndarray:
    """Flip signs from frame to frame, so that a picture does not jump for nothing.

    Cosmetic: a mode and its negative are the same mode. We begin at the widest kernel,
    where modes are smooth. We do not rotate modes into each other, which would look
    smoother still: they have step times of their own.
    """
    still = embeddings[::-1].copy()
    still[0] *= np.where(still[0].sum(axis=0) < 0, -1.0, 1.0)
    for wider, now in itertools.pairwise(still):
        now *= np.where(np.sum(wider * now, axis=0) < 0, -1.0, 1.0)
    return still[::-1]


def _pack(embeddings: np.ndarray) -> tuple[str, list[list[float]]]:
    """16 bits a number, and the largest modulus of each mode of each frame."""
    peaks = np.maximum(np.abs(embeddings).max(axis=1), 1e-300)  # (frames, modes)
    levels = np.rint(embeddings / peaks[:, None] * LEVELS).astype("<i2")
    return base64.b64encode(levels.tobytes()).decode("ascii"), _short(peaks)


def _short(values: np.ndarray, digits: int = 6) -> list[Any]:
    """Numbers of a few digits: every page with the figure holds them."""
    short = np.vectorize(lambda value: float(f"{value:.{digits}g}"))(values)
    nested: list[Any] = short.tolist()
    return nested


def _frames(
    views: np.ndarray,
    labels: np.ndarray,
    widths: np.ndarray,
    gammas: np.ndarray,
    negatives: np.ndarray,
    embeddings: np.ndarray,
) -> dict[str, Any]:
    """Check what fits what, and make it small."""
    views = _check.finite("views", views, ndim=2)
    widths = _check.times("widths", _check.positive("widths", widths, ndim=1))
    gammas = _check.finite("gammas", gammas, ndim=2)
    negatives = _check.finite("negatives", negatives, ndim=2)
    embeddings = _check.finite("embeddings", embeddings, ndim=3)
    labels = np.asarray(labels)
    n = len(labels)
    # (what, its shape, the shape that the others ask for)
    wanted = {
        "views": (views.shape, (2 * n, 2)),
        "gammas": (gammas.shape, (len(widths), MOST_OUTPUTS)),
        "negatives": (negatives.shape, (len(widths), MOST_OUTPUTS)),
        "embeddings": (embeddings.shape, (len(widths), 2 * n, SHOWN)),
    }
    for name, (found, shape) in wanted.items():
        if found != shape:
            raise ValueError(
                f"`{name}` must be of shape {shape}, for {n} `labels` and "
                f"{len(widths)} `widths`; got {found}"
            )
    if embeddings.size > MOST_NUMBERS or len(widths) < 2:
        raise ValueError(
            f"`embeddings` must hold 2 or more widths and at most {MOST_NUMBERS} "
            f"numbers; got {len(widths)} and {embeddings.size}. Take fewer pairs"
        )
    if labels.dtype.kind not in "iu" or not set(labels.tolist()) <= {0, 1, 2}:
        raise ValueError("`labels` must be the whole numbers 0, 1 and 2, one a pair")
    packed, peaks = _pack(_still(embeddings))
    return {
        "views": _short(views, 4),
        "labels": labels.tolist(),
        "widths": _short(widths, 4),
        "gammas": _short(gammas),
        "negatives": _short(negatives),
        "peaks": peaks,
        "embeddings": packed,
    }


class KernelWidth(anywidget.AnyWidget):
    """Points in the plane, and what is learned of them as the kernel grows wider.

    The reader moves the width through frames that Python computed. Each shows the
    points with the kernel's width as a ring, their embedding at a chosen time, the two
    ends of the spectrum, and the staircase that it predicts from a small aligned start.
    A mode's sign is its own, so it is chosen to keep the picture still. Introduced in
    chapter 7.

    Parameters
    ----------
    views : (2n, 2)
        Points in the plane: all first views, then all second ones.
    labels : (n,)
        The cluster of each pair: 0, 1 or 2.
    widths : (frames,)
        Length scales, increasing.
    gammas, negatives : (frames, 8)
        The largest eigenvalues of each frame, descending, and the lowest, ascending.
    embeddings : (frames, 2n, 4)
        Embeddings of the views by the first four modes, at convergence.
    s0 : float
        Common initial singular value, from 1e-6 to 0.1.
    index : int
        The frame shown first.
    d : int
        Outputs, 1 to 8.
    first : int
        The embedding is drawn in the modes `first` and ``first + 1``, 1 to 3.
    time : float or None
        Flow time of the embedding; None is after training.

    Raises
    ------
    ValueError
        If a value is out of its range or not finite, or the arrays do not fit.
    """

    _esm = compose(
        "closed_form",
        "draw",
        "words",
        "marks",
        "kernel_width_math",
        "kernel_width_pictures",
        "chart",
        "controls",
        "mount",
        "kernel_width",
    )
    _css = _compose.style("figure", "kernel_width")

    frames = traitlets.Dict(read_only=True).tag(sync=True)
    s0 = Guarded(_compose.between(1e-6, 0.1), 1e-3)
    index = Guarded(_compose.whole(0), 0)
    d = Guarded(_compose.whole(1, MOST_OUTPUTS), 4)
    first = Guarded(_compose.whole(1, SHOWN - 1), 1)
    time = Guarded(_compose.moment, None)

    def __init__(
        self,
        views: Float[np.ndarray, "views 2"],
        labels: Int[np.ndarray, " pairs"],
        *,
        widths: Float[np.ndarray, " frames"],
        gammas: Float[np.ndarray, "frames 8"],
        negatives: Float[np.ndarray, "frames 8"],
        embeddings: Float[np.ndarray, "frames views 4"],
        s0: float = 1e-3,
        index: int = 0,
        d: int = 4,
        first: int = 1,
        time: float | None = None,
        **widget: Any,
    ) -> None:
        frames = _frames(views, labels, widths, gammas, negatives, embeddings)
        _check.count("index", index, low=0, high=len(frames["widths"]) - 1)
        self.set_trait("frames", frames)
        super().__init__(s0=s0, index=index, d=d, first=first, time=time, **widget)

    @traitlets.validate("index")
    def _fit(self, proposal: Any) -> int:
        last = len(self.frames.get("widths", [])) - 1
        # Before the frames are there, only the default can come by.
        return _check.count("index", proposal["value"], low=0, high=max(last, 0))
