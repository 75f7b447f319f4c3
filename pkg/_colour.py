"""What the colour numbers of a view do: the private half of the room ``views``.

Pure functions of a batch (n, 3, h, w) in [0, 1] and one number a view. Nothing here is
a matrix product: its rounding would depend on how many images share the batch, and a
slice of a draw must give exactly that slice of the views.
"""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

# ITU-R BT.601: how bright the eye finds red, green and blue.
LUMA = (0.299, 0.587, 0.114)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
# Every order of the four; number 0 is the order of their names.
ORDERS = torch.tensor(list(itertools.permutations(range(4))))


def grey(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return how bright each pixel looks."""
    red, green, blue = x.unbind(1)
    luma = LUMA[0] * red
    luma += LUMA[1] * green
    luma += LUMA[2] * blue
    return luma.unsqueeze(1)


def jitter(
    x: Float[Tensor, "n 3 h w"],
    factors: Float[Tensor, "n 3"],
    turn: Float[Tensor, " n"],
    order: Int[Tensor, " n"],
) -> Float[Tensor, "n 3 h w"]:
    """Change brightness, contrast, saturation and hue in place, each view in its order.

    The first three are one blend, base + f (x - base), away from a base: black, the
    view's mean grey, or each pixel's own grey. So a step of the order is one pass over
    all views, whichever of the three each of them takes. Hue is another thing, and
    done for the views whose turn it is. Every result is cut to [0, 1].

    Parameters
    ----------
    x : (n, 3, h, w)
        Overwritten by the result.
    factors : (n, 3)
        On the CPU: brightness, contrast and saturation; 1 changes nothing.
    turn : (n,)
        On the CPU: share of the colour circle; 0 changes nothing.
    order : (n,)
        On the CPU: row of ``ORDERS``.
    """
    # Numbers stay on the CPU until they are used: no step waits for a device.
    ones = torch.ones((len(x), 1))
    factors = torch.cat([factors, ones], dim=1)
    for step in ORDERS[order].unbind(1):
        if bool((step != HUE).any()):
            factor = _column(factors.gather(1, step[:, None]), x)
            x.sub_(base := _base(x, step)).mul_(factor).add_(base).clamp_(0, 1)
        turned = torch.nonzero((step == HUE) & (turn != 0)).squeeze(1)
        if len(turned):
            rows = there(turned, x)
            x[rows] = hue(x[rows], _column(turn[turned], x))
    return x


def _base(x: Float[Tensor, "n 3 h w"], step: Int[Tensor, " n"]) -> Tensor:
    """Return what each view is blended away from in this step."""
    at_contrast, at_saturation = step == CONTRAST, step == SATURATION
    base = x.new_zeros(())
    if not bool((at_contrast | at_saturation).any()):
        return base
    luma = grey(x)
    # Products with 0 and 1 choose exactly, and faster than torch.where.
    if bool(at_contrast.any()):
        base = luma.mean(dim=(2, 3), keepdim=True) * _column(at_contrast, x)
    return base + luma.mul_(_column(at_saturation, x))


def hue(
    x: Float[Tensor, "n 3 h w"], turn: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Turn the colour circle of HSV; largest and smallest channel keep their values.

    Round the circle, in sixths from red, a channel rests at its largest value for two
    sixths, falls for one, rests for two and rises for one: a trapezium. With all three
    taken to [0, 1], the distance from red is 1 + green + blue - red, and the sign of
    green - blue says which way. So the usual six cases need not be told apart.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(low)
    # Grey has no hue; any will do, since its chroma of 0 multiplies it.
    scale = chroma.clamp(min=1e-12).reciprocal_()
    sixths = (green + blue).sub_(red).sub_(low).mul_(scale).add_(1)
    sixths = sixths.copysign_(green - blue).add_(6 * turn.squeeze(1))
    sixths -= 6 * torch.round(sixths / 6)  # back into [-3, 3]
    result = torch.empty_like(x)
    for channel, highest in enumerate((0, 2, -2)):  # green is highest at +2
        # With a the distance, min(a, 6 - a) goes the short way round.
        rise = (sixths - highest).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
        torch.add(low, rise.mul_(chroma), out=result[:, channel])
    return result


def blur(
    x: Float[Tensor, "n 3 h w"], sigma: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """Convolve with a Gaussian, along rows and then along columns.

    Its half-width is a twentieth of the image's height and at least one pixel; what
    lies beyond is cut off and the rest made to sum to one. The border is repeated.

    Parameters
    ----------
    x : (n, 3, h, w)
        Views.
    sigma : (n,)
        Standard deviation in pixels, above 0.
    """
    radius = blur_radius(x.shape[2])
    distance = torch.arange(radius + 1)
    weights = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)  # (n, radius + 1)
    weights /= weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True)
    for axis in (3, 2):
        x = _smooth(x, weights, radius, axis)
    return x


def blur_radius(height: int) -> int:
    """Return how many pixels the blur's kernel reaches to each side."""
    return max(1, height // 20)


def _smooth(
    x: Float[Tensor, "n 3 h w"], weights: Float[Tensor, "n k"], radius: int, axis: int
) -> Float[Tensor, "n 3 h w"]:
    """Weigh each pixel's neighbours along one axis, both sides at once."""
    sides = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
    wide, length = pad(x, sides, mode="replicate"), x.shape[axis]
    total, both = x * _column(weights[:, 0], x), torch.empty_like(x)
    for k in range(1, radius + 1):
        before = wide.narrow(axis, radius - k, length)
        torch.add(before, wide.narrow(axis, radius + k, length), out=both)
        total.add_(both.mul_(_column(weights[:, k], x)))
    return total


def solarise(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Invert every value from one half up, as an over-exposed film does."""
    # Below one half, x is the smaller of the two; from there on, 1 - x.
    return torch.minimum(x, 1 - x)


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Move one number a view to where the views are, to be spread over each."""
    return there(values.reshape(-1, 1, 1, 1), x)


def there(values: Tensor, x: Tensor) -> Tensor:
    """Move numbers to where the views are, without waiting for that device."""
    return values.to(x.device, non_blocking=True)
