"""Two random views of each image: crop, flip, colour, blur.

Drawing and applying are apart. ``draw`` makes the random numbers on the CPU, so they
agree on every machine; ``apply`` is a plain function of images and numbers, so the
same views can be made again anywhere, in batches or all at once. Introduced in
chapter 1.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from pkg import _check, _colour
from pkg._view_recipes import RECIPES, Recipe, named

__all__ = ["RECIPES", "Params", "Recipe", "apply", "draw", "flat_pairs", "join", "pair"]

# Colour takes some sixty small passes. A block of views that fits a processor's cache
# can stay there from pass to pass; a whole large batch cannot.
BLOCK_BYTES = 2**22


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
    hue : (n,)
        Turn of the colour circle; 1 is once round, 0 changes nothing.
    order : (n,)
        Which of the 24 orders of those four; 0 is the order of this list.
    grey : (n,)
        Whether colour is lost.
    blur : (n,)
        Standard deviation in pixels; 0 leaves the view sharp.
    solarise : (n,)
        Whether values from one half up are inverted.
    """

    box: Float32[Tensor, "n 4"]
    flip: Bool[Tensor, " n"]
    brightness: Float32[Tensor, " n"]
    contrast: Float32[Tensor, " n"]
    saturation: Float32[Tensor, " n"]
    hue: Float32[Tensor, " n"]
    order: Int64[Tensor, " n"]
    grey: Bool[Tensor, " n"]
    blur: Float32[Tensor, " n"]
    solarise: Bool[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, rows: slice) -> "Params":
        return Params(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def join(first: Params, second: Params) -> Params:
    """Put the numbers of some views behind those of others."""
    names = [f.name for f in fields(first)]
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in names}
    return Params(**{name: torch.cat(pair) for name, pair in pairs.items()})


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
        If `n` is not positive, the recipe's name is unknown, `generator` is none, or it
        is not on the CPU: draws on other devices would differ from machine to machine.
    """
    n = _check.count("n", n)
    recipe = named(recipe)
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"`generator` must be a torch.Generator, such as torch.Generator()"
            f".manual_seed(0); got {generator!r}"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"`generator` must be on the CPU, so that draws agree on every machine; "
            f"it is on {generator.device}. Make it with torch.Generator()"
        )
    # One column a number, all drawn whatever the recipe: two recipes with one seed
    # then share their crops.
    later = _branch(generator)
    u = torch.rand((n, 10), generator=generator)
    v = torch.rand((n, 5), generator=later)
    jittered, blurred = u[:, 5] < recipe.jitter, v[:, 2] < recipe.blur

    def spread(column: Tensor, centre: float, strength: float) -> Tensor:
        wide = centre + strength * (2 * column - 1)
        return torch.where(jittered, wide, centre)

    low, high = recipe.sigma
    order = (v[:, 0] * len(_colour.ORDERS)).long()
    return Params(
        box=_boxes(u[:, :4], recipe),
        flip=u[:, 4] < recipe.flip,
        brightness=spread(u[:, 6], 1.0, recipe.brightness),
        contrast=spread(u[:, 7], 1.0, recipe.contrast),
        saturation=spread(u[:, 8], 1.0, recipe.saturation),
        hue=spread(v[:, 1], 0.0, recipe.hue),
        order=order if recipe.order == "random" else torch.zeros_like(order),
        grey=u[:, 9] < recipe.grey,
        blur=torch.where(blurred, low + (high - low) * v[:, 3], 0.0),
        solarise=v[:, 4] < recipe.solarise,
    )


def apply(
    images: UInt8[np.ndarray, "n h w 3"] | UInt8[Tensor, "n h w 3"], params: Params
) -> Float32[Tensor, "n 3 h w"]:
    """Make one view of each image.

    The box is stretched to the image's own size by one bilinear look-up, mirrored or
    not. Pixels are little squares (``align_corners=False``): the full box gives the
    image back, and samples within half a pixel of the border repeat its last pixel.
    A box smaller than the image is enlarged, so nothing aliases.

    Colour follows in the view's own order, each result cut to [0, 1]: brightness
    multiplies; contrast scales the distance to the view's mean grey; saturation scales
    the distance to each pixel's grey; hue turns the colour circle of HSV. Then grey
    replaces all three channels; the blur, whose kernel reaches a twentieth of the
    height to each side and at least one pixel, repeats the border; last, solarise
    inverts what is bright. Values stay real numbers: nothing is rounded to 256 levels.

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
        If `images` is not (n, h, w, 3) uint8, `params` has another length, or a view
        is to be blurred whose kernel is longer than the image's sides.

    References
    ----------
    The colour operations are those of torchvision's ``ColorJitter``, which the code of
    Barlow Twins and VICReg calls. SimCLR's code calls TensorFlow's, whose contrast is
    about each channel's mean.
    """
    return _make(_floats(images), params)


def _make(x: Float32[Tensor, "n 3 h w"], params: Params) -> Float32[Tensor, "n 3 h w"]:
    if len(x) != len(params):
        raise ValueError(
            f"`params` must have one row an image; got {len(params)} rows for "
            f"{len(x)} images. Slice both alike"
        )
    reach = 2 * _colour.blur_radius(x.shape[2]) + 1
    if min(x.shape[2:]) < reach and bool(params.blur.any()):
        raise ValueError(
            f"`images` are {x.shape[2]} x {x.shape[3]} pixels, too small for a blur "
            f"whose kernel has {reach}; pass larger images or a recipe with blur=0"
        )
    x = _crop(x, params)
    block = len(x)
    if x.device.type == "cpu":
        block = max(1, BLOCK_BYTES // (x[0].numel() * x.element_size()))
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        _paint(x[rows], params[rows])
    return x


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
        A name in ``RECIPES``, or a recipe of your own; its `second`, if it has one,
        makes `x_prime`.
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
    recipe, whole = named(recipe), _floats(images)
    first = draw(len(whole), recipe, generator)
    second = draw(len(whole), recipe.second or recipe, generator)
    return _make(whole, first), _make(whole, second)


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
        As ``pair``; or if a channel is constant, which no scale makes standard. Images
        that are all one colour are refused too: their views differ by chance alone.
    """
    generator = torch.Generator().manual_seed(_check.count("seed", seed, low=0))
    both = torch.stack(pair(images, recipe, generator=generator))
    views = both.numpy().astype(np.float64)  # (2, n, 3, h, w)
    over = (0, 1, 3, 4)
    spread = views.std(axis=over, keepdims=True)
    # Interpolation leaves some 1e-8 on a constant.
    constant = np.all(images == images[:1, :1, :1])
    if constant or not (spread > 1e-6).all():
        raise ValueError(
            "`images` has a channel that never varies, so it cannot be standardised; "
            "pass images with some content"
        )
    views = (views - views.mean(axis=over, keepdims=True)) / spread
    x, x_prime = views.reshape(2, len(images), -1)
    return x, x_prime


def _branch(generator: torch.Generator) -> torch.Generator:
    """Return a stream of its own for the numbers that came with later editions.

    Its seed is what `generator` would draw next, and `generator` does not move: so
    the first ten numbers of every view, and all draws after it, are what they were.
    """
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return twin.manual_seed(int(torch.randint(2**62, (), generator=twin)))


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
    found = f"{type(images)}"
    if isinstance(images, np.ndarray | Tensor):
        found = f"{tuple(images.shape)} of {images.dtype}"
        if str(images.dtype).endswith("uint8") and images.ndim == 4:
            if images.shape[3] == 3 and min(images.shape) > 0:
                x = images
                if isinstance(x, np.ndarray):
                    # A copy: images at rest are read-only, and torch cannot share
                    # those, nor read an array that runs backwards.
                    x = torch.tensor(np.ascontiguousarray(x))
                return x.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    raise ValueError(
        f"`images` must be (n, height, width, 3) of uint8, with n >= 1; got {found}. "
        f"data.load returns such images, as .x"
    )


def _crop(x: Float[Tensor, "n 3 h w"], params: Params) -> Float[Tensor, "n 3 h w"]:
    """Look up each box, mirrored or not, in one pass."""
    left, top, width, height = _colour.there(params.box, x).unbind(1)
    mirror = torch.where(_colour.there(params.flip, x), -1.0, 1.0)
    # grid_sample counts from -1 to 1 across the image: the box's half-widths scale,
    # its centre shifts. Rows and columns apart cost less than affine_grid's matrices.
    grid = x.new_empty((len(x), *x.shape[2:], 2))
    for axis, scale, shift in (
        (0, mirror * width, 2 * left + width - 1),
        (1, height, 2 * top + height - 1),
    ):
        pixels = x.shape[3 - axis]
        centres = torch.linspace(-1, 1, pixels, device=x.device) * (pixels - 1) / pixels
        places = scale[:, None] * centres + shift[:, None]  # (n, pixels)
        grid[..., axis] = places[:, None, :] if axis == 0 else places[:, :, None]
    return grid_sample(
        x, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _paint(x: Float[Tensor, "n 3 h w"], params: Params) -> None:
    """Change colour and sharpness, in place."""
    factors = torch.stack([params.brightness, params.contrast, params.saturation], 1)
    _colour.jitter(x, factors, params.hue, params.order)
    for chosen, change in (
        (params.grey, lambda some, _: _colour.grey(some)),
        (params.blur > 0, lambda some, rows: _colour.blur(some, params.blur[rows])),
        (params.solarise, lambda some, _: _colour.solarise(some)),
    ):
        rows = torch.nonzero(chosen).squeeze(1)
        if len(rows):
            chosen_rows = _colour.there(rows, x)
            x[chosen_rows] = change(x[chosen_rows], rows)
