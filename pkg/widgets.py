"""Figures that move: with a kernel, and in a page that has none.

A figure's mathematics and drawing are JavaScript, so that it follows the reader's hand
without asking Python. Here are only its traits; `compose` makes one self-contained text
of its plain modules.
"""

from collections.abc import Iterable
from typing import Any

import anywidget
import traitlets

from pkg import _compose
from pkg._augmentations import Augmentations
from pkg._compose import Guarded, compose
from pkg._figures import Losses, Minibatch
from pkg._kernel_width import KernelWidth
from pkg._panel import TrainingPanel
from pkg._push import Push
from pkg._race import Race
from pkg._training import LivingNetwork
from pkg._unfolding import Unfolding

__all__ = [
    "Augmentations",
    "KernelWidth",
    "LivingNetwork",
    "Losses",
    "Minibatch",
    "Push",
    "Race",
    "SmallStart",
    "Staircase",
    "TrainingPanel",
    "Unfolding",
    "compose",
]

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
    _css = _compose.style("staircase")

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


class SmallStart(anywidget.AnyWidget):
    """The true flow from a random start, over the prediction from its aligned start.

    Solid is the matrix flow from W(0) = alpha times a draw of standard normals,
    integrated in the page in Gamma's eigenbasis; dashed is the closed form from the
    effective start, dotted its step times. The reader changes the scale, the outputs
    and the gaps of the spectrum, and draws another W(0). Introduced in chapter 4.

    Parameters
    ----------
    gammas : 2 to 10 numbers
        All eigenvalues of Gamma, of any sign, ties allowed; kept in descending order.
    d : int
        Outputs, 1 to 6, no more than there are `gammas`. Those beyond the number of
        positive eigenvalues stay collapsed.
    alpha : float
        Scale of the start, from 1e-6 to 1.
    seed : int
        Number of the draw; a button in the page takes the next one.
    log_time : bool
        Logarithmic time axis, on which every step is equally wide.
    pair : int
        Which two neighbours one slider brings together: k for modes k and k + 1.

    Raises
    ------
    ValueError
        If a value is out of its range, now or whenever it is set later, or `d` exceeds
        the number of `gammas`. To change both, do so inside
        ``with figure.hold_trait_notifications():``.
    """

    _esm = compose(
        "algebra",
        "flow",
        "start",
        "random",
        "closed_form",
        "draw",
        "words",
        "small_start_story",
        "spectrum",
        "chart",
        "controls",
        "mount",
        "small_start",
    )
    _css = _compose.style("figure")

    gammas = Guarded(_compose.spectrum(2, 10), (1.0, 0.6, 0.36, 0.2, 0.1, -0.1, -0.3))
    d = Guarded(_compose.whole(1, 6), 3)
    alpha = Guarded(_compose.between(1e-6, 1.0), 1e-2)
    seed = Guarded(_compose.whole(0, 2**32 - 1), 1)
    log_time = Guarded(_compose.switch, True)
    pair = Guarded(_compose.whole(1, 9), 2)

    def __init__(
        self,
        gammas: Iterable[float] = (1.0, 0.6, 0.36, 0.2, 0.1, -0.1, -0.3),
        *,
        d: int = 3,
        alpha: float = 1e-2,
        seed: int = 1,
        log_time: bool = True,
        pair: int = 2,
        **widget: Any,
    ) -> None:
        super().__init__(
            gammas=gammas,
            d=d,
            alpha=alpha,
            seed=seed,
            log_time=log_time,
            pair=pair,
            **widget,
        )

    @traitlets.validate("gammas", "d")
    def _fit(self, proposal: Any) -> Any:
        state = {"gammas": self.gammas, "d": self.d}
        state[proposal["trait"].name] = proposal["value"]
        if state["d"] > len(state["gammas"]):
            raise ValueError(
                f"`d` is {state['d']}, but there are only {len(state['gammas'])} "
                "`gammas`: use fewer outputs, or pass more eigenvalues of Gamma"
            )
        return proposal["value"]
