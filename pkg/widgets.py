"""Figures that move: with a kernel, and in a page that has none.

A figure's mathematics and drawing are JavaScript, so that it follows the reader's hand
without asking Python. Here are only its traits; `compose` makes one self-contained text
of its plain modules.
"""

from collections.abc import Iterable
from typing import Any

import anywidget

from pkg import _compose
from pkg._compose import Guarded, compose

__all__ = ["Staircase", "compose"]

FOLDER = _compose.FOLDER
FEWEST, MOST = 2, 8  # bars of a spectrum, as in staircase_story.js


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
        "words",
        "staircase_story",
        "staircase_curves",
        "staircase_bars",
        "staircase_controls",
        "staircase",
    )
    _css = _compose.read("staircase.css")

    gammas = Guarded(_compose.spectrum(FEWEST, MOST), (1.0, 0.6, 0.36, 0.2, 0.1))
    s0 = Guarded(_compose.between(1e-6, 1.0), 1e-3)
    time = Guarded(_compose.moment, None)
    log_time = Guarded(_compose.switch, True)
    revealed = Guarded(_compose.whole(1, MOST), 1)
    # Between the steps: does the figure ask for the next one, and what was guessed?
    asking = Guarded(_compose.switch, True)
    guess = Guarded(_compose.moment, None)

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
