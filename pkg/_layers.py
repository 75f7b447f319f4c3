"""Gradients of one layer, one a sample, from what it saw and what came back to it.

A rule returns one entry for each trainable parameter: a tuple of matrices whose rows
belong to the samples. Row i of the gradient is the outer product of the rows i, so that
the inner products of two gradients are the entrywise product of the matrices' own. A
linear layer never builds its gradient this way: inner products of inputs times inner
products of what its results are worth are all it takes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

Factors = tuple[Tensor, ...]  # each (n, k_i); a gradient has the product of all k_i
# (layer, names of its trainable parameters, input (n, ...), worth of output (n, ...))
Rule = Callable[[Any, tuple[str, ...], Tensor, Tensor], dict[str, Factors]]


def rule_for(layer: Any, names: tuple[str, ...], seen: Tensor) -> Rule:
    """Choose the rule of a layer; `any_layer` where no faster one is known.

    Parameters
    ----------
    layer : nn.Module
    names : tuple of str
        Its trainable parameters.
    seen : (n, ...)
        What goes into it.

    Returns
    -------
    Rule
    """
    # Pruned, or normalised: its weight is made of other parameters.
    if not {*names} <= {"weight", "bias"}:
        return any_layer
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
    layer: nn.Linear, names: tuple[str, ...], seen: Tensor, worth: Tensor
) -> dict[str, Factors]:
    """Row i of the weight's gradient is worth_i seen_i^T, summed over positions.

    Parameters and result are those of every `Rule`.
    """
    rows: dict[str, Factors]
    if seen.ndim > 2:
        worth, seen = worth.flatten(1, -2), seen.flatten(1, -2)  # (n, positions, ...)
        rows = {"weight": ((worth.mT @ seen).flatten(1),), "bias": (worth.sum(1),)}
    else:
        rows = {"weight": (worth, seen), "bias": (worth,)}
    return {name: rows[name] for name in names}


def convolution(
    layer: Any, names: tuple[str, ...], seen: Tensor, worth: Tensor
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
        worths = worth.reshape(n * groups, -1, positions)
        rows["weight"] = (torch.bmm(worths, patches.mT).reshape(n, -1),)
    if "bias" in names:
        rows["bias"] = (worth.flatten(2).sum(2),)
    return rows


def normalisation(
    layer: nn.Module, names: tuple[str, ...], seen: Tensor, worth: Tensor
) -> dict[str, Factors]:
    """Scale and shift act on the normalised input, channel by channel.

    Parameters and result are those of every `Rule`.
    """
    rows: dict[str, Factors] = {}
    if "weight" in names:
        rows["weight"] = (
            _sum_positions(layer, worth * _NORMALISE[type(layer)](layer, seen)),
        )
    if "bias" in names:
        rows["bias"] = (_sum_positions(layer, worth),)
    return rows


def any_layer(
    layer: nn.Module, names: tuple[str, ...], seen: Tensor, worth: Tensor
) -> dict[str, Factors]:
    """Differentiate the layer itself, sample by sample, whatever it computes.

    Parameters and result are those of every `Rule`.
    """
    own = {name: layer.get_parameter(name).detach() for name in names}
    places = _places(layer, names)

    def along(own: dict[str, Tensor], point: Tensor, worth: Tensor) -> Tensor:
        placed = {place: own[name] for place, name in places.items()}
        alone = point[None].clone()  # the layer may write on what it is given
        out = functional_call(layer, placed, (alone,), tie_weights=False)
        return (out[0] * worth).sum()

    # A hook that computes a weight leaves it as an attribute: vmap's, if not put back.
    held = [
        (module, {k: v for k, v in vars(module).items() if isinstance(v, Tensor)})
        for module in layer.modules()
    ]
    try:
        with torch.no_grad():
            found = vmap(grad(along), in_dims=(None, 0, 0))(own, seen, worth)
    finally:
        for module, tensors in held:
            vars(module).update(tensors)
    return {name: (found[name].flatten(1),) for name in names}


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put buffers back as they were, and refuse a model that changes them."""
    held = [
        (module, f"{at}.{name}".lstrip("."), name, buffer, buffer.clone())
        for at, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    changed = []
    try:
        yield
    finally:
        for module, full_name, name, buffer, values in held:
            now = module._buffers[name]
            same = now is not None and now.dtype == values.dtype
            if not (same and torch.equal(now, values)):
                changed.append(full_name)
                with torch.no_grad():
                    buffer.copy_(values)
            module._buffers[name] = buffer
    if changed:
        raise ValueError(
            f"`model` changes its buffer {changed[0]!r} when it is called; call "
            "model.eval()"
        )


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
