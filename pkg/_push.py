"""The figure in which an embedding shrinks, and three losses push on it.

A private half of `pkg.widgets`. Traits only; mathematics and picture are JavaScript.
"""

from typing import Any

import anywidget
import numpy as np
import traitlets
from jaxtyping import Float

from pkg import _check, _compose
from pkg._compose import Guarded, compose

FEWEST, MOST = 3, 40  # pairs


class Push(anywidget.AnyWidget):
    """A cloud of pairs in the plane, as small as you like, and what three losses do.

    Above, the cloud in a square of its own size, with the push on each point, minus the
    gradient times the number of pairs; below, the push against the cloud's size. Solid
    is computed from the cloud, dashed is the law of a loss that is linear in a tiny
    embedding, or does not feel its size. Introduced in chapter 10.

    Parameters
    ----------
    z, z_prime : (n, 2)
        Embeddings of the two views, 3 to 40 pairs; the figure scales both alike.
    scale : float
        Size of the cloud, root mean square over all views, from 1e-4 to 10.
    form : "published" or "stepwise"
        The losses' defaults, or the forms that climb stairs from a small start.

    Raises
    ------
    ValueError
        If a value is out of its range or not finite, the two views have other shapes,
        or a view does not vary in both directions.
    """

    _esm = compose(
        "draw",
        "words",
        "push_math",
        "push_pictures",
        "chart",
        "controls",
        "mount",
        "push",
    )
    _css = _compose.style("figure", "push")

    # In quotes: the traitlets of Colab cannot be subscripted.
    z: "traitlets.List[Any]" = traitlets.List(read_only=True).tag(sync=True)
    z_prime: "traitlets.List[Any]" = traitlets.List(read_only=True).tag(sync=True)
    scale = Guarded(_compose.between(1e-4, 10.0), 1.0)
    form = Guarded(_compose.choice("published", "stepwise"), "published")

    def __init__(
        self,
        z: Float[np.ndarray, "n 2"],
        z_prime: Float[np.ndarray, "n 2"],
        *,
        scale: float = 1.0,
        form: str = "published",
        **widget: Any,
    ) -> None:
        z, z_prime = _check.paired("z", z, "z_prime", z_prime)
        if z.shape[1] != 2 or not FEWEST <= len(z) <= MOST:
            raise ValueError(
                f"`z` must be ({FEWEST} to {MOST}, 2), points in the plane; got "
                f"{z.shape}"
            )
        if min(z.std(axis=0).min(), z_prime.std(axis=0).min()) == 0:
            raise ValueError(
                "`z` and `z_prime` must vary in both directions; spread the points"
            )
        self.set_trait("z", z.tolist())
        self.set_trait("z_prime", z_prime.tolist())
        super().__init__(scale=scale, form=form, **widget)
