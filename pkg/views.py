"""Two random views of each image: crop, flip, colour.

Drawing and applying are apart. ``draw`` makes the random numbers on the CPU, so they
agree on every machine; ``apply`` is a plain function of images and numbers, so the
same views can be made again anywhere, in batches or all at once. Introduced in
chapter 5.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from pkg import _check

# ITU-R BT.601: how bright the eye finds red, green and blue.
LUMA = (0.299, 0.587, 0.114)


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
    jitter : float
        Probability that a view has those three changed, all together.
    grey : float
        Probability that a view loses its colour.

    Raises
    ------
    ValueError
        If a range is not 0 < low <= high, `scale` passes 1, or a probability or
        strength is not between 0 and 1.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    jitter: float = 0.8
    grey: float = 0.2

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            span = _check.positive(name, getattr(self, name), ndim=1)
            highest = 1.0 if name == "scale" else np.inf
            if len(span) != 2 or not span[0] <= span[1] <= highest:
                limit = " <= 1" if name == "scale" else ""
                raise ValueError(
                    f"`{name}` must be (low, high) with low <= high{limit}; got "
                    f"{getattr(self, name)}"
                )
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"`{field.name}` must be between 0 and 1; got {value}")


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
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Params:
    """The random numbers of n views: CPU tensors, one row a view.

    ``params[a:b]`` are the numbers of views a to b: applied to ``images[a:b]`` they
    give exactly those views, so a global draw can be shared out.

    Attributes
    ----------
    box : (n, 4)
        Left, top, width and height of the crop, as shares of the image's sides.
    flip : (n,)
        Whether the crop is mirrored left to right.
    brightness, contrast, saturation : (n,)
        Factors; 1 changes nothing.
    grey : (n,)
        Whether colour is lost.
    """

    box: Float32[Tensor, "n 4"]
    flip: Bool[Tensor, " n"]
    brightness: Float32[Tensor, " n"]
    contrast: Float32[Tensor, " n"]
    saturation: Float32[Tensor, " n"]
    grey: Bool[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, rows: slice) -> "Params":
        return Params(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def draw(n: int, recipe: str | Recipe, generator: torch.Generator) -> Params:
    """Draw the random numbers of `n` views.

    Parameters
    ----------
    n : int
        How many views.
    recipe : str or Recipe
        A name in ``RECIPES``, or a recipe of your own.
    generator : torch.Generator
        On the CPU; it moves on, so the next draw differs.

    Returns
    -------
    Params
        One row a view, independent of each other.

    Raises
    ------
    ValueError
        If `n` is not positive, the recipe's name is unknown, or the generator is not
        on the CPU: draws on other devices would differ from machine to machine.
    """
    n = _check.count("n", n)
    recipe = _recipe(recipe)
    if generator.device.type != "cpu":
        raise ValueError(
            f"`generator` must be on the CPU, so that draws agree on every machine; "
            f"it is on {generator.device}. Make it with torch.Generator()"
        )
    # One column a number, all drawn whatever the recipe: two recipes with one seed
    # then share their crops.
    u = torch.rand((n, 10), generator=generator)
    jittered = u[:, 5] < recipe.jitter

    def factor(column: int, strength: float) -> Tensor:
        wide = 1 + strength * (2 * u[:, column] - 1)
        return torch.where(jittered, wide, torch.ones(n))

    return Params(
        box=_boxes(u[:, :4], recipe),
        flip=u[:, 4] < recipe.flip,
        brightness=factor(6, recipe.brightness),
        contrast=factor(7, recipe.contrast),
        saturation=factor(8, recipe.saturation),
        grey=u[:, 9] < recipe.grey,
    )


def apply(
    images: UInt8[np.ndarray, "n h w 3"] | UInt8[Tensor, "n h w 3"], params: Params
) -> Float32[Tensor, "n 3 h w"]:
    """Make one view of each image.

    The box is stretched to the image's own size by one bilinear look-up, mirrored or
    not. Pixels are little squares (``align_corners=False``): the full box gives the
    image back, and samples within half a pixel of the border repeat its last pixel.
    A box smaller than the image is enlarged, so nothing aliases.

    Colour follows in a fixed order, each result cut to [0, 1]: brightness multiplies;
    contrast scales the distance to the view's mean grey; saturation scales the
    distance to each pixel's grey; last, grey replaces all three channels.

    Parameters
    ----------
    images : (n, h, w, 3) uint8
        NumPy array, or tensor on any device.
    params : Params
        One row an image, from ``draw``.

    Returns
    -------
    (n, 3, h, w) float32
        Views in [0, 1], on the images' device.

    Raises
    ------
    ValueError
        If `images` is not (n, h, w, 3) uint8, or `params` has another length.
    """
    x = _floats(images)
    if len(x) != len(params):
        raise ValueError(
            f"`params` must have one row an image; got {len(params)} rows for "
            f"{len(x)} images. Slice both alike"
        )
    return _colour(_crop(x, params), params)


def pair(
    images: UInt8[np.ndarray, "n h w 3"] | UInt8[Tensor, "n h w 3"],
    recipe: str | Recipe,
    *,
    generator: torch.Generator,
) -> tuple[Float32[Tensor, "n 3 h w"], Float32[Tensor, "n 3 h w"]]:
    """Make two independent views of each image: a batch of positive pairs.

    Parameters
    ----------
    images : (n, h, w, 3) uint8
        NumPy array, or tensor on any device.
    recipe : str or Recipe
        A name in ``RECIPES``, or a recipe of your own.
    generator : torch.Generator
        On the CPU; the numbers of `x` are drawn first, then those of `x_prime`.

    Returns
    -------
    x, x_prime : (n, 3, h, w) float32
        Row i of both shows image i.

    Raises
    ------
    ValueError
        As ``draw`` and ``apply``.
    """
    first = draw(len(images), recipe, generator)
    second = draw(len(images), recipe, generator)
    return apply(images, first), apply(images, second)


def flat_pairs(
    images: UInt8[np.ndarray, "n h w 3"],
    recipe: str | Recipe,
    *,
    seed: int,
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "n m"]]:
    """Make positive pairs as rows of features, for the theory.

    Each channel is standardised over all views together, to mean 0 and standard
    deviation 1, so that brightness does not drown the rest. Introduced in chapter 5.

    Parameters
    ----------
    images : (n, h, w, 3) uint8
        At rest, as ``data.load`` returns them.
    recipe : str or Recipe
        A name in ``RECIPES``, or a recipe of your own.
    seed : int
        The same seed gives the same pairs.

    Returns
    -------
    x, x_prime : (n, m) float64
        m = 3 h w, channel by channel: ``x[i].reshape(3, h, w)`` is a picture.

    Raises
    ------
    ValueError
        As ``pair``; or if a channel is constant, which no scale makes standard.
    """
    generator = torch.Generator().manual_seed(_check.count("seed", seed, low=0))
    both = torch.stack(pair(images, recipe, generator=generator))
    views = both.numpy().astype(np.float64)  # (2, n, 3, h, w)
    over = (0, 1, 3, 4)
    spread = views.std(axis=over, keepdims=True)
    if not spread.all():
        raise ValueError(
            "`images` has a channel that never varies, so it cannot be standardised; "
            "pass images with some content"
        )
    views = (views - views.mean(axis=over, keepdims=True)) / spread
    x, x_prime = views.reshape(2, len(images), -1)
    return x, x_prime


def _recipe(recipe: str | Recipe) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return RECIPES[_check.choice("recipe", recipe, tuple(RECIPES))]


def _boxes(u: Float[Tensor, "n 4"], recipe: Recipe) -> Float32[Tensor, "n 4"]:
    """Turn uniform numbers into crops that lie inside the image."""
    low, high = recipe.scale
    area = low + (high - low) * u[:, 0]
    low, high = np.log(recipe.ratio).tolist()
    ratio = torch.exp(low + (high - low) * u[:, 1])
    width = torch.sqrt(area * ratio).clamp(max=1.0)
    height = torch.sqrt(area / ratio).clamp(max=1.0)
    left, top = u[:, 2] * (1 - width), u[:, 3] * (1 - height)
    return torch.stack([left, top, width, height], dim=1)


def _floats(images: np.ndarray | Tensor) -> Float32[Tensor, "n 3 h w"]:
    # torch.tensor copies: images at rest are read-only, which torch cannot share.
    x = torch.tensor(images) if isinstance(images, np.ndarray) else images
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[3] != 3 or not x.numel():
        raise ValueError(
            f"`images` must be (n, height, width, 3) of uint8, with n >= 1; got "
            f"{tuple(x.shape)} of {x.dtype}"
        )
    return x.permute(0, 3, 1, 2).to(torch.float32) / 255


def _crop(x: Float[Tensor, "n 3 h w"], params: Params) -> Float[Tensor, "n 3 h w"]:
    """Look up each box, mirrored or not, in one pass."""
    left, top, width, height = params.box.to(x.device).unbind(1)
    mirror = torch.where(params.flip.to(x.device), -1.0, 1.0)
    # grid_sample counts from -1 to 1 across the image: the box's half-widths scale,
    # its centre shifts.
    theta = x.new_zeros((len(x), 2, 3))
    theta[:, 0, 0] = mirror * width
    theta[:, 0, 2] = 2 * left + width - 1
    theta[:, 1, 1] = height
    theta[:, 1, 2] = 2 * top + height - 1
    grid = affine_grid(theta, list(x.shape), align_corners=False)
    return grid_sample(
        x, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _colour(x: Float[Tensor, "n 3 h w"], params: Params) -> Float[Tensor, "n 3 h w"]:
    def column(values: Tensor) -> Tensor:
        return values.to(x.device)[:, None, None, None]

    x = (x * column(params.brightness)).clamp(0, 1)
    mean = _luma(x).mean(dim=(2, 3), keepdim=True)
    x = (mean + column(params.contrast) * (x - mean)).clamp(0, 1)
    luma = _luma(x)
    x = (luma + column(params.saturation) * (x - luma)).clamp(0, 1)
    return torch.where(column(params.grey), _luma(x), x)


def _luma(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    # No matrix product: its rounding would depend on how many images are in x.
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)
