"""How much two views may differ: the recipes of the room ``views``, with their sources.

A private half: chapters write ``views.Recipe`` and ``views.RECIPES``.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pkg import _check


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much two views of an image may differ.

    Attributes
    ----------
    scale : (low, high)
        Area of the crop, uniform, as a share of the image's area.
    ratio : (low, high)
        Width over height of the crop, log-uniform, in units of the image's own
        ratio. A side that would be longer than the image is cut to its length.
    flip : float
        Probability of a mirror image, left to right.
    brightness, contrast, saturation : float
        Strength b of each: its factor is uniform in [1 - b, 1 + b].
    hue : float
        Largest turn of the colour circle, uniform in [-hue, hue]; 1 is once round.
    jitter : float
        Probability that a view has those four changed, all together.
    order : "fixed" or "random"
        Brightness, contrast, saturation, hue as they stand here, or in an order that
        each view draws for itself.
    grey : float
        Probability that a view loses its colour.
    blur : float
        Probability of a Gaussian blur.
    sigma : (low, high)
        Its standard deviation in pixels, uniform; ``apply`` cuts the kernel short.
    solarise : float
        Probability that every value from one half up is inverted.
    second : Recipe, optional
        What ``pair`` makes the second view with; by default the same recipe. A copy
        with ``dataclasses.replace`` keeps it: replace `second` too.

    Raises
    ------
    ValueError
        If a range is not 0 < low <= high, `scale` passes 1, `hue` passes one half, a
        probability or strength is not between 0 and 1, or `second` is no Recipe or
        has a `second`.

    References
    ----------
    The numbers of four recipes in ``RECIPES`` are published; "standard", "strong" and
    "weak" are ours.

    - "simclr": Chen et al. 2020, arXiv:2002.05709, at colour strength 1, from
      data_util.py of github.com/google-research/simclr.
    - "simclr_cifar": the command for CIFAR-10 in that repository's README, with half
      the colour and no blur.
    - "barlow_twins": Zbontar et al. 2021, arXiv:2103.03230, from class Transform in
      main.py of github.com/facebookresearch/barlowtwins.
    - "vicreg": Bardes, Ponce and LeCun 2022, arXiv:2105.04906, appendix C.1, which
      makes the two views of Barlow Twins alike. The code that came with it
      (augmentations.py of github.com/facebookresearch/vicreg, commit cc1ef4f) has the
      two unlike views: for those, ask for "barlow_twins".

    ``apply`` is known to differ from that code in four ways.

    - Blur: the kernel is cut off at a twentieth of the height to each side, and at
      least one pixel, as SimCLR cuts it. At 32 pixels that is one pixel, and a `sigma`
      of 2 acts like one of about 0.8. Barlow Twins and VICReg call Pillow's, uncut.
    - Border: the blur repeats the last pixel; SimCLR's pads with zeros, which darkens
      the rim.
    - Crop: ours is bilinear, and a side that would be longer than the image is cut to
      its length. Theirs is bicubic, and such a crop is drawn again.
    - Contrast: about the view's mean grey, as Barlow Twins and VICReg have it; in
      SimCLR, about each channel's mean.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    jitter: float = 0.8
    order: Literal["fixed", "random"] = "fixed"
    grey: float = 0.2
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    second: "Recipe | None" = None

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "sigma"):
            self._check_span(name, 1.0 if name == "scale" else np.inf)
        for name in ("flip", "brightness", "contrast", "saturation", "jitter"):
            self._check_share(name)
        for name in ("grey", "blur", "solarise"):
            self._check_share(name)
        self._check_share("hue", 0.5)
        _check.choice("order", self.order, ("fixed", "random"))
        if not isinstance(self.second, Recipe | None):
            raise ValueError(
                f"`second` must be a Recipe, such as RECIPES['weak']; got "
                f"{self.second!r}"
            )
        if self.second is not None and self.second.second is not None:
            raise ValueError(
                "`second` must not have a `second` of its own; there are two views. "
                "Pass replace(recipe, second=None)"
            )

    def _check_span(self, name: str, highest: float) -> None:
        value = getattr(self, name)
        span = _check.positive(name, value, ndim=1)
        if len(span) != 2 or not span[0] <= span[1] <= highest:
            limit = f" <= {highest:g}" if np.isfinite(highest) else ""
            raise ValueError(
                f"`{name}` must be (low, high) with low <= high{limit}; got {value}"
            )

    def _check_share(self, name: str, highest: float = 1.0) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float | np.number)
        if not number or not 0 <= value <= highest:
            raise ValueError(
                f"`{name}` must be between 0 and {highest:g}; got {value!r}"
            )


# Sources of the published recipes, and where we differ, are in Recipe's docstring.
_SIMCLR = Recipe(
    scale=(0.08, 1.0),
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    jitter=0.8,
    order="random",
    grey=0.2,
    blur=0.5,
)

_SIMCLR_CIFAR = replace(
    _SIMCLR, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0
)

# The two views differ in blur and solarise alone.
_BARLOW_TWINS = Recipe(
    scale=(0.08, 1.0),
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    jitter=0.8,
    order="random",
    grey=0.2,
    blur=1.0,
    solarise=0.0,
)
_BARLOW_TWINS_SECOND = replace(_BARLOW_TWINS, blur=0.1, solarise=0.2)

_VICREG = replace(_BARLOW_TWINS, blur=0.5, solarise=0.1)

# "standard" is ours: SimCLR's crop, flip, jitter and grey, weaker in colour, without
# hue and blur. "strong" and "weak" are the two ends that the demo networks train with.
RECIPES = {
    "standard": Recipe(),
    "strong": Recipe(scale=(0.3, 1.0), jitter=1.0),
    "weak": Recipe(
        scale=(0.7, 1.0),
        ratio=(0.9, 1.1),
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        jitter=1.0,
        grey=0.0,
    ),
    "simclr": _SIMCLR,
    "simclr_cifar": _SIMCLR_CIFAR,
    "barlow_twins": replace(_BARLOW_TWINS, second=_BARLOW_TWINS_SECOND),
    "vicreg": _VICREG,
}


def named(recipe: str | Recipe) -> Recipe:
    """Return the recipe of that name; the error names the nearest right one."""
    if isinstance(recipe, Recipe):
        return recipe
    return RECIPES[_check.choice("recipe", recipe, tuple(RECIPES))]
