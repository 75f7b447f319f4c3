"""The figure in which six ways to learn the same modes race each other.

A private half of `pkg.widgets`. Traits only; mathematics and picture are JavaScript.
"""

from typing import Any

import anywidget

from pkg import _compose
from pkg._compose import Guarded, compose

# As in race_math.js, and in `pkg.dynamics.accelerated`.
METHODS = ("plain", "inverse_root", "inverse", "bures", "logdet", "whitened")
SEEDS = 2**31 - 1


class Race(anywidget.AnyWidget):
    """Six ways to learn the same modes, each at its own rate, counted in steps.

    Dotted is when the flow says that each mode is half learned, by the closed forms of
    `pkg.dynamics.accelerated` from the effective start; a mark is when descent has it,
    taken in the page from a random start. The learning rate is the same share of each
    method's own limit, so that steps compare. Eigenvalues of Gamma are j^-decay for
    twice as many modes as there are outputs, so that a method can learn wrong ones:
    the table says how much of its space is wrong when all have come. Introduced in
    chapter 15.

    Parameters
    ----------
    d : int
        Outputs, and modes to learn, 2 to 10.
    decay : float
        Power with which eigenvalues fall, from 0.3 to 1.5.
    s0 : float
        Size of the random start, d orthonormal rows times this, from 1e-6 to 0.1.
    share : float
        Learning rate, as a share of the rate at which the leading mode would no longer
        settle, from 0.2 to 0.95.
    floor : float
        What the methods that invert C add to it, from 1e-4 to 0.1.
    ridge : float
        What "whitened" adds to Gamma, from 1e-3 to 10.
    seed : int
        Draw of the start; a button in the page takes the next one.
    chosen : str
        Whose eigenvalues are drawn: a `method` of `pkg.dynamics.accelerated`.
    step : float or None
        Where the cursor stands; None is the end of what is shown.

    Raises
    ------
    ValueError
        If a value is out of its range, now or whenever it is set later.
    """

    _esm = compose(
        "algebra",
        "flow",
        "random",
        "draw",
        "words",
        "race_math",
        "race_story",
        "race_pictures",
        "chart",
        "controls",
        "mount",
        "work",
        "unfolding_film",
        "race",
    )
    _css = _compose.style("figure", "race")

    d = Guarded(_compose.whole(2, 10), 10)
    decay = Guarded(_compose.between(0.3, 1.5), 1.0)
    s0 = Guarded(_compose.between(1e-6, 0.1), 1e-4)
    share = Guarded(_compose.between(0.2, 0.95), 0.8)
    floor = Guarded(_compose.between(1e-4, 0.1), 1e-2)
    ridge = Guarded(_compose.between(1e-3, 10.0), 0.1)
    seed = Guarded(_compose.whole(0, SEEDS), 1)
    chosen = Guarded(_compose.choice(*METHODS), "bures")
    step = Guarded(_compose.moment, None)

    def __init__(
        self,
        *,
        d: int = 10,
        decay: float = 1.0,
        s0: float = 1e-4,
        share: float = 0.8,
        floor: float = 1e-2,
        ridge: float = 0.1,
        seed: int = 1,
        chosen: str = "bures",
        step: float | None = None,
        **widget: Any,
    ) -> None:
        super().__init__(
            d=d,
            decay=decay,
            s0=s0,
            share=share,
            floor=floor,
            ridge=ridge,
            seed=seed,
            chosen=chosen,
            step=step,
            **widget,
        )
