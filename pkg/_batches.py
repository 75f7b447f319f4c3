"""Positive pairs of a data set that lives on the device as bytes.

A private half of `pkg.trainer`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pkg import views


@dataclass(frozen=True, eq=False)
class Draw:
    """The random numbers of one global batch: which images, and both views of each."""

    rows: Int[Tensor, " n"]
    first: views.Params
    second: views.Params

    def __getitem__(self, part: slice) -> "Draw":
        return Draw(self.rows[part], self.first[part], self.second[part])


class Batches:
    """Batches of pairs, in a fresh random order each epoch.

    Every process draws the numbers of the whole global batch from one CPU generator
    and makes the views of its own share: one process or eight see the same batch.

    Parameters
    ----------
    images : (n, h, w, 3) uint8
        Copied to the device once, as bytes.
    recipe : views.Recipe
    batch : int
        Images of a global batch.
    generator : torch.Generator
        On the CPU; it moves on.
    device : torch.device
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        recipe: views.Recipe,
        batch: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        # A copy: images at rest are read-only, which torch cannot share.
        self.images = torch.tensor(images, device=device)
        self.recipe, self.batch, self.generator = recipe, batch, generator
        self.order, self.used = torch.empty(0, dtype=torch.int64), 0

    def draw(self) -> Draw:
        """Draw the next global batch; the last images that fill none are left out."""
        if self.used + self.batch > len(self.order):
            self.order = torch.randperm(len(self.images), generator=self.generator)
            self.used = 0
        rows = self.order[self.used : self.used + self.batch]
        self.used += self.batch
        second = self.recipe.second or self.recipe
        return Draw(
            rows,
            views.draw(self.batch, self.recipe, self.generator),
            views.draw(self.batch, second, self.generator),
        )

    def make(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Make both views of a draw, or of a slice of one, on the device."""
        rows = torch.cat([draw.rows, draw.rows])
        images = self.images[rows.to(self.images.device, non_blocking=True)]
        # One pass for both views takes three quarters of the time of two.
        both = standardize(views.apply(images, views.join(draw.first, draw.second)))
        x, x_prime = both.chunk(2)
        return x, x_prime

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs."""
        return {
            "generator": self.generator.get_state(),
            "order": self.order,
            "used": self.used,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.generator.set_state(state["generator"])
        self.order, self.used = state["order"], state["used"]


def standardize(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Give each view mean 0 and nearly unit deviation, over pixels and channels.

    Brightness and contrast of a whole view are then no modes, and the leading gammas
    lie within a factor of ten of each other. A tenth is added to the deviation, so
    that a flat view stays flat. Introduced in chapter 11.
    """
    x = x - x.mean((1, 2, 3), keepdim=True)
    deviation = (x**2).mean((1, 2, 3), keepdim=True).sqrt()
    return x / (deviation + 0.1)
