"""Gradients of one layer, one a sample, from what it saw and what came back to it.

A rule returns one entry for each trainable parameter: a tuple of matrices whose rows
belong to the samples. Row i of the gradient is the outer product of the rows i, so that
the inner products of two gradients are the entrywise product of the matrices' own. A
linear layer never builds its gradient this way: inner products of inputs times inner
products of cotangents are all it needs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

Factors = tuple[Tensor, ...]  # each (n, k_i); a gradient has the product of all k_i
# (layer, names of its trainable parameters, input (n, ...), cotangent (n, ...))
Rule = Callable[[Any, tuple[str, ...], Tensor, Tensor], dict[str, Factors]]


def rule_for(layer: Any, seen: Tensor) -> Rule:
    """Choose the rule of a layer; `any_layer` where no faster one is known."""
    # The exact type: a subclass may compute something else.
    if type(layer) is nn.Linear:
        return linear
    if type(layer) is nn.Conv2d and seen.ndim == 4 and layer.padding_mode == "zeros":
        return any_layer if isinstance(layer.padding, str) else convolution
    return normalisation if type(layer) in _NORMALISE else any_layer


def flat(factors: Factors) -> Tensor:
    """Multiply (n, k_1) and (n, k_2) out to gradients of k_1 k_2 entries."""
    rows = factors[0]
    for more in factors[1:]:
        rows = (rows[:, :, None] * more[:, None, :]).flatten(1)
    return rows


def total(factors: Factors) -> Tensor:
    """Add the gradients of all samples, which need not be multiplied out for it."""
    if len(factors) == 1:
        return factors[0].sum(0)
    left, right = factors
    return (left.mT @ right).flatten()


def gram(left: Factors, right: Factors) -> Tensor:
    """Inner products of gradients: the entrywise product of those of their factors."""
    product = left[0] @ right[0].mT
    for one, other in zip(left[1:], right[1:], strict=True):
        product *= one @ other.mT
    return product


def linear(
    layer: nn.Linear, names: tuple[str, ...], seen: Tensor, back: Tensor
) -> dict[str, Factors]:
    """Row i of the weight's gradient is back_i seen_i^T, summed over positions.

    Parameters and result are those of every `Rule`.
    """
    rows: dict[str, Factors]
    if seen.ndim > 2:
        back, seen = back.flatten(1, -2), seen.flatten(1, -2)  # (n, positions, ...)
        rows = {"weight": ((back.mT @ seen).flatten(1),), "bias": (back.sum(1),)}
    else:
        rows = {"weight": (back, seen), "bias": (back,)}
    return {name: rows[name] for name in names}


def convolution(
    layer: Any, names: tuple[str, ...], seen: Tensor, back: Tensor
) -> dict[str, Factors]:
    """A convolution is a linear layer on patches, summed over positions.

    Parameters and result are those of every `Rule`.
    """
    rows: dict[str, Factors] = {}
    if "weight" in names:
        patches = F.unfold(
            seen,
            kernel_size=layer.kernel_size,
            dilation=layer.dilation,
            padding=layer.padding,
            stride=layer.stride,
        )  # (n, channels * kernel, positions), channels slowest
        n, groups, positions = len(seen), layer.groups, patches.shape[-1]
        patches = patches.reshape(n * groups, -1, positions)
        arrived = back.reshape(n * groups, -1, positions)
        rows["weight"] = (torch.bmm(arrived, patches.mT).reshape(n, -1),)
    if "bias" in names:
        rows["bias"] = (back.flatten(2).sum(2),)
    return rows


def normalisation(
    layer: nn.Module, names: tuple[str, ...], seen: Tensor, back: Tensor
) -> dict[str, Factors]:
    """Scale and shift act on the normalised input, channel by channel.

    Parameters and result are those of every `Rule`.
    """
    rows: dict[str, Factors] = {}
    if "weight" in names:
        rows["weight"] = (
            _sum_positions(layer, back * _NORMALISE[type(layer)](layer, seen)),
        )
    if "bias" in names:
        rows["bias"] = (_sum_positions(layer, back),)
    return rows


def any_layer(
    layer: nn.Module, names: tuple[str, ...], seen: Tensor, back: Tensor
) -> dict[str, Factors]:
    """Differentiate the layer itself, sample by sample, whatever it computes.

    Parameters and result are those of every `Rule`.
    """
    own = {name: layer.get_parameter(name).detach() for name in names}
    places = _places(layer, names)

    def along(own: dict[str, Tensor], point: Tensor, arrived: Tensor) -> Tensor:
        placed = {place: own[name] for place, name in places.items()}
        out = functional_call(layer, placed, (point[None],), tie_weights=False)
        return (out[0] * arrived).sum()

    with torch.no_grad():
        found = vmap(grad(along), in_dims=(None, 0, 0))(own, seen, back)
    return {name: (found[name].flatten(1),) for name in names}


def _places(layer: nn.Module, names: tuple[str, ...]) -> dict[str, str]:
    """Find all places of each parameter, one name a place.

    torch ties shared weights itself, but leaves a model broken in which one layer has
    two names: the second visit puts back what the first had put in.
    """
    known = {id(layer.get_parameter(name)): name for name in names}
    places = {}
    for at, module in layer.named_modules():
        for name, value in module.named_parameters(recurse=False):
            if id(value) in known:
                places[f"{at}.{name}".lstrip(".")] = known[id(value)]
    return places


def _sum_positions(layer: nn.Module, values: Tensor) -> Tensor:
    n = len(values)
    if isinstance(layer, nn.LayerNorm):  # its channels are the last axes
        channels = values.shape[values.ndim - len(layer.normalized_shape) :]
        return values.reshape(n, -1, channels.numel()).sum(1)
    return values.reshape(n, values.shape[1], -1).sum(2)


def _batch_norm(layer: Any, seen: Tensor) -> Tensor:
    return F.batch_norm(seen, layer.running_mean, layer.running_var, eps=layer.eps)


_NORMALISE: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.GroupNorm: lambda g, seen: F.group_norm(seen, g.num_groups, eps=g.eps),
    nn.LayerNorm: lambda g, seen: F.layer_norm(seen, g.normalized_shape, eps=g.eps),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
