"""Two figures that move: other losses, and descent on minibatches.

The private half of `pkg.widgets`. Traits only; the pictures are JavaScript.
"""

from collections.abc import Iterable
from typing import Any

import anywidget
import numpy as np
import traitlets

from pkg import _check, _compose
from pkg._compose import Guarded, compose

SEEDS = 2**31 - 1
SHARED = ("draw", "words", "chart", "controls", "mount", "work")


def _few(name: str, values: Any) -> list[float]:
    numbers = _check.positive(name, values, ndim=1)
    if not 2 <= len(numbers) <= 5:
        raise ValueError(f"`{name}` must hold 2 to 5 numbers; got {len(numbers)}")
    return numbers.tolist()


class Losses(anywidget.AnyWidget):
    """The staircase under another loss: overshoot, slow steps, thresholds, late swaps.

    Dashed is what theory predicts, solid is the matrix flow itself, integrated in the
    page from a random start of size `s0`. Gamma and Sigma commute. For ``lambd < 1``
    the first level and the last time hold best; in between, levels need neighbouring
    gammas twofold apart, and the second step may come up to 40 % early. Introduced in
    chapter 6.

    Parameters
    ----------
    loss : "barlow_twins" or "vicreg"
        Barlow Twins with weight `lambd`, or VICReg with weight `beta` on agreement;
        VICReg with ``beta=1`` is the spectral contrastive loss.
    lambd : float
        Weight of the off-diagonal entries of C, from 0.003 to 2.
    beta : float
        From 0 to 2.
    d : int
        Embedding dimensions, 1 to 5; more than there are modes count as that many.
    gammas, sigmas : 2 to 5 numbers each
        Eigenvalues of Gamma and of Sigma, mode by mode. Both are positive, and no gamma
        is larger than its sigma: two views correlate at most perfectly.
    s0 : float
        Common initial singular value of W, from 1e-6 to 0.1.
    seed : int
        Draw of the start; a button in the page takes the next one.
    log_time : bool
        Logarithmic time axis, on which every step is equally wide.

    Raises
    ------
    ValueError
        If a value is out of its range, or the two spectra do not fit each other. To
        change both, do so inside ``with figure.hold_trait_notifications():``.
    """

    _esm = compose(
        "algebra",
        "flow",
        "random",
        *SHARED[:2],
        "losses_math",
        "losses_story",
        *SHARED[2:],
        "losses_bars",
        "losses",
    )
    _css = _compose.style("figure", "losses")

    loss = Guarded(_compose.choice("barlow_twins", "vicreg"), "barlow_twins")
    lambd = Guarded(_compose.between(0.003, 2.0), 0.1)
    beta = Guarded(_compose.between(0.0, 2.0), 1.0)
    d = Guarded(_compose.whole(1, 5), 4)
    gammas = Guarded(_few, (1.0, 0.55, 0.3, 0.16, 0.08))
    sigmas = Guarded(_few, (1.25, 0.58, 0.75, 0.17, 0.3))
    s0 = Guarded(_compose.between(1e-6, 0.1), 1e-4)
    seed = Guarded(_compose.whole(0, SEEDS), 1)
    log_time = Guarded(_compose.switch, True)

    def __init__(
        self,
        loss: str = "barlow_twins",
        *,
        lambd: float = 0.1,
        beta: float = 1.0,
        d: int = 4,
        gammas: Iterable[float] = (1.0, 0.55, 0.3, 0.16, 0.08),
        sigmas: Iterable[float] = (1.25, 0.58, 0.75, 0.17, 0.3),
        s0: float = 1e-4,
        seed: int = 1,
        log_time: bool = True,
        **widget: Any,
    ) -> None:
        super().__init__(
            loss=loss,
            lambd=lambd,
            beta=beta,
            d=d,
            gammas=gammas,
            sigmas=sigmas,
            s0=s0,
            seed=seed,
            log_time=log_time,
            **widget,
        )

    @traitlets.validate("gammas", "sigmas")
    def _fit(self, proposal: Any) -> list[float]:
        spectra = {"gammas": self.gammas, "sigmas": self.sigmas}
        spectra[proposal["trait"].name] = proposal["value"]
        gammas, sigmas = spectra.values()
        if len(gammas) != len(sigmas):
            raise ValueError(
                f"`gammas` and `sigmas` must hold one number a mode each; got "
                f"{len(gammas)} and {len(sigmas)}"
            )
        above = np.flatnonzero(np.array(gammas) > np.array(sigmas))
        if len(above):
            j = above[0]
            raise ValueError(
                f"`gammas` must not be larger than `sigmas`; entry {j} is "
                f"{gammas[j]:.3g} against {sigmas[j]:.3g}"
            )
        return proposal["value"]


class Minibatch(anywidget.AnyWidget):
    """Descent on a few fresh pairs a step, and the plateau below one where it rests.

    The page draws Gaussian pairs and descends; solid are the eigenvalues of the whole
    population's C, dashed the flow of the average loss of a batch, dotted the level
    c* = 1 / (1 + (d + 1)(1 + rho^-2) / 2B). The split estimator rests at one. The
    learning rate is c* / 100. Introduced in chapter 4.

    Parameters
    ----------
    batch : int
        Pairs a step, B, from 2 to 512.
    d : int
        Embedding dimensions, and modes of Gamma, 1 to 10.
    rho : float
        Correlation of the two views in every mode, from 0.3 to 1.
    estimator : "paired" or "split"
        Gradient from one batch, or from two independent halves of it.
    seed : int
        Draw of the start and of the pairs; a button in the page takes the next one.

    Raises
    ------
    ValueError
        If a value is out of its range, now or whenever it is set later.
    """

    _esm = compose(
        "algebra",
        "flow",
        "random",
        *SHARED[:2],
        "minibatch_math",
        *SHARED[2:],
        "minibatch",
    )
    _css = _compose.style("figure")

    batch = Guarded(_compose.whole(2, 512), 16)
    d = Guarded(_compose.whole(1, 10), 8)
    rho = Guarded(_compose.between(0.3, 1.0), 0.9)
    estimator = Guarded(_compose.choice("paired", "split"), "paired")
    seed = Guarded(_compose.whole(0, SEEDS), 1)

    def __init__(
        self,
        batch: int = 16,
        *,
        d: int = 8,
        rho: float = 0.9,
        estimator: str = "paired",
        seed: int = 1,
        **widget: Any,
    ) -> None:
        super().__init__(
            batch=batch, d=d, rho=rho, estimator=estimator, seed=seed, **widget
        )
