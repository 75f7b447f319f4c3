"""The figure in which augmentations grow stronger, and modes vanish or change places.

A private half of `pkg.widgets`. It packs a record; matching modes and drawing them is
JavaScript.
"""

import string
from typing import Any

import anywidget
import numpy as np
import traitlets

from pkg import _check, _compose
from pkg._compose import Guarded, compose
from pkg.record import Record

PARTS = ("crop", "jitter", "grey", "blur")  # as in augmentations_math.js
NEEDED = ("settings", "gammas", "modes")
# As in augmentations_math.js.
DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"


def _grid(record: Record) -> dict[str, Any]:
    """Check that this is a grid of all combinations, and make it small."""
    missing = [name for name in NEEDED if name not in record.arrays]
    if missing:
        raise ValueError(
            f"`record` {record.name!r} has no {' and no '.join(missing)}; pass "
            'record.load("augmentation-grid")'
        )
    levels = record.meta["config"]["levels"]
    names = tuple(name for name, _ in levels)
    if names != PARTS:
        raise ValueError(
            f"`record` {record.name!r} varies {', '.join(names)}, and the figure knows "
            f"{', '.join(PARTS)}"
        )
    # The page numbers settings itself: all of them, the last augmentation fastest.
    settings, gammas, modes = (record.arrays[name] for name in NEEDED)
    counts = [len(known) for _, known in levels]
    whole = np.stack(np.unravel_index(np.arange(np.prod(counts)), counts), axis=1)
    shape = (len(whole), gammas.shape[-1], modes.shape[2], modes.shape[2], 3)
    if not np.array_equal(settings, whole) or modes.shape != shape:
        raise ValueError(
            f"`record` {record.name!r} holds {len(settings)} settings and modes of "
            f"shape {modes.shape}, not all {len(whole)} in order; make it again with "
            f"`python -m pkg.recipes run {record.name}`"
        )
    off = np.abs(gammas / gammas.mean(axis=0) - 1)  # (seeds, settings, top)
    return {
        "levels": [[label for label, _ in known] for _, known in levels],
        "gammas": [[float(f"{value:.4g}") for value in row] for row in gammas[0]],
        "modes": _digits(modes),
        "side": modes.shape[2],
        "spread": [float(f"{share:.3g}") for share in (np.median(off), off.max())],
        "made": record.provenance,
    }


def _digits(modes: np.ndarray) -> str:
    """Write numbers from -127 to 127 as digits of base 64; two bits are lost."""
    steps = np.round(modes.ravel() * (31 / 127)).astype(int) + 32
    return "".join(DIGITS[step] for step in steps)


class Augmentations(anywidget.AnyWidget):
    """Four augmentations, each as strong as you like, and the modes they leave.

    The bars are the leading eigenvalues of Gamma, the rows their modes as small
    pictures, now and under the setting before (or under no augmentation), joined where
    they are the same: squared cosine at least one half. The curves are what theory
    predicts from a common aligned start. Eigenvalues and modes are those of the
    record's first draw, and the page says by how much draws differ. Introduced in
    chapter 14.

    Parameters
    ----------
    record : Record
        ``record.load("augmentation-grid")``.
    crop, jitter, grey, blur : int
        Level of each augmentation, from 0, which is none of it. The record knows four
        levels of the first two and three of the others, and calls them by name.
    s0 : float
        Common initial singular value of W, from 1e-6 to 0.01.
    reference : "before" or "none"
        What modes are matched to: those of the setting before, or of no augmentation.

    Raises
    ------
    ValueError
        If the record is another one or incomplete, or a value is out of its range, now
        or whenever it is set later.
    """

    _esm = compose(
        *("closed_form", "draw", "words", "augmentations_math"),
        *("augmentations_pictures", "chart", "controls", "mount", "augmentations"),
    )
    _css = _compose.style("figure", "augmentations")

    grid = traitlets.Dict(read_only=True).tag(sync=True)
    crop = Guarded(_compose.whole(0), 0)
    jitter = Guarded(_compose.whole(0), 0)
    grey = Guarded(_compose.whole(0), 0)
    blur = Guarded(_compose.whole(0), 0)
    s0 = Guarded(_compose.between(1e-6, 1e-2), 1e-3)
    reference = Guarded(_compose.choice("before", "none"), "before")

    def __init__(
        self,
        record: Record,
        *,
        crop: int = 2,
        jitter: int = 1,
        grey: int = 1,
        blur: int = 0,
        s0: float = 1e-3,
        reference: str = "before",
        **widget: Any,
    ) -> None:
        self.set_trait("grid", _grid(record))
        super().__init__(
            crop=crop,
            jitter=jitter,
            grey=grey,
            blur=blur,
            s0=s0,
            reference=reference,
            **widget,
        )

    @traitlets.validate(*PARTS)
    def _known(self, proposal: Any) -> int:
        name = proposal["trait"].name
        # Before the grid is there, only the default can come by.
        known = self.grid.get("levels", [[0]] * len(PARTS))[PARTS.index(name)]
        return _check.count(name, proposal["value"], low=0, high=len(known) - 1)
