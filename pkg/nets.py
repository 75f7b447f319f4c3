"""Networks: fully connected ones of any width, and a small convolutional one.

Every function draws its weights from a CPU generator, so that one seed means one
network on every device. No network here has a bias after its last layer: from a small
start the embedding then begins near zero.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pkg import _check


class Scale(nn.Module):
    """Multiply by a constant; it has no parameters.

    Behind a linear layer with weights of unit variance it makes the NTK
    parametrisation: the width stands in the forward pass, and not in the weights, so
    that one learning rate serves every width. Introduced in chapter 8.

    Parameters
    ----------
    factor : float
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the factor."""
        return x * self.factor

    def extra_repr(self) -> str:
        """Say the factor where torch prints the network."""
        return f"{self.factor:.4g}"


def mlp(
    m: int,
    d: int,
    *,
    width: int,
    depth: int = 1,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a fully connected ReLU network in the NTK parametrisation, without biases.

    Each layer computes sqrt(2 / fan-in) W h with entries of W drawn from N(0, 1). As
    `width` grows, its empirical NTK tends to ``kernels.relu_ntk`` with the same depth
    and the default variances. Introduced in chapter 8.

    Parameters
    ----------
    m, d : int
        Input features and embedding dimensions.
    width : int
        Units in each hidden layer.
    depth : int
        Hidden layers.
    generator : torch.Generator, optional
        On the CPU; torch's own when left out.

    Returns
    -------
    nn.Sequential
        Maps (n, m) to (n, d), in float32; call ``.double()`` to compare with theory.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least one.

    References
    ----------
    Jacot, Gabriel and Hongler, "Neural Tangent Kernel", arXiv:1806.07572.
    """
    sizes = [_check.count("m", m), _check.count("d", d)]
    sizes[1:1] = [_check.count("width", width)] * _check.count("depth", depth)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out, bias=False)
        nn.init.normal_(linear.weight, generator=generator)
        layers += [linear, Scale(math.sqrt(2 / fan_in)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def conv(
    d: int,
    *,
    channels: Sequence[int] = (32, 64, 128),
    groups: int | None = 8,
    in_channels: int = 3,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a small convolutional network: 3x3 convolutions, averages, a readout.

    The first convolution keeps the resolution, each later one halves it; then features
    are averaged down to a grid of 2x2. GroupNorm stands behind every convolution: it
    treats each image by itself, which a kernel of the network needs. Under it the size
    of the convolutions' weights does not matter to the output; only the readout's
    does. Introduced in chapter 9.

    Parameters
    ----------
    d : int
        Embedding dimensions.
    channels : sequence of int
        Output channels of each convolution.
    groups : int or None
        Groups of GroupNorm, a divisor of every entry of `channels`; None for a network
        without normalisation.
    in_channels : int
        3 for colour, 1 for grey.
    generator : torch.Generator, optional
        On the CPU; torch's own when left out.

    Returns
    -------
    nn.Sequential
        Maps (n, in_channels, height, width) to (n, d).

    Raises
    ------
    ValueError
        If a size is not a whole number of at least one, or `groups` does not divide.
    """
    d = _check.count("d", d)
    layers: list[nn.Module] = []
    before = _check.count("in_channels", in_channels)
    channels = [_check.count("channels", after) for after in channels]
    if not channels:
        raise ValueError("`channels` is empty; name at least one convolution's")
    for after in channels:
        stride = 2 if layers else 1
        bias = groups is None
        layers.append(nn.Conv2d(before, after, 3, stride, padding=1, bias=bias))
        if groups is not None:
            if after % _check.count("groups", groups):
                raise ValueError(
                    f"`groups` is {groups}, which does not divide {after} channels; "
                    "pass a common divisor of `channels`"
                )
            layers.append(nn.GroupNorm(groups, after))
        layers.append(nn.ReLU())
        before = after
    readout = nn.Linear(4 * before, d, bias=False)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), readout)
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(
                layer.weight, nonlinearity="relu", generator=generator
            )
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    # Uniform within 1 / sqrt(fan-in): torch's own choice for a linear layer.
    nn.init.kaiming_uniform_(readout.weight, a=math.sqrt(5), generator=generator)
    return network


def scale_init_(
    model: nn.Module,
    scale: float,
    *,
    which: Literal["readout", "weights"] = "readout",
) -> list[str]:
    """Multiply initial weights by `scale`, in place: the small start of a network.

    With a normalisation behind every convolution only the readout sets the size of the
    embedding; scaling the weights in front of a normalisation changes nothing but
    their own learning rate. Without normalisation "weights" shrinks the output by
    `scale` once a layer. Introduced in chapter 9.

    Parameters
    ----------
    model : nn.Module
    scale : float
        Positive.
    which : "readout" or "weights"
        The linear layer that was registered last, or every weight of a linear or
        convolutional layer.

    Returns
    -------
    list of str
        Names of the parameters that were scaled.

    Raises
    ------
    ValueError
        If `scale` is not positive, or the model has no such layer.
    """
    factor = float(_check.positive("scale", scale, ndim=0))
    _check.choice("which", which, ("readout", "weights"))
    convolutions = () if which == "readout" else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers: dict[Tensor, str] = {}  # two layers that share a weight scale it once
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) or isinstance(layer, convolutions):
            layers[layer.weight] = f"{name}.weight".lstrip(".")
    found = [(name, weight) for weight, name in layers.items()]
    if not found:
        raise ValueError(
            f"`model` has no {'linear layer' if which == 'readout' else 'weights'} to "
            "scale; scale its parameters yourself"
        )
    chosen = found[-1:] if which == "readout" else found
    with torch.no_grad():
        for _, weight in chosen:
            weight.mul_(factor)
    return [name for name, _ in chosen]


class Centred(nn.Module):
    """Subtract from a network nearly all of what it computed at its start.

    f(x) = net(x) - (1 - start) net_0(x), where net_0 is the network as it was given.
    The embedding begins `start` times smaller, while the gradients, and so the NTK,
    are those of the network at its usual size: the small start in the lazy regime.
    Introduced in chapter 8.

    Parameters
    ----------
    model : nn.Module
        Trained; a frozen copy is kept beside it.
    start : float
        Size of the first output, as a share of the network's own.

    Raises
    ------
    ValueError
        If `start` is not positive.
    """

    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__()
        self.start = float(_check.positive("start", start, ndim=0))
        self.model = model
        self.first = copy.deepcopy(model).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network has learned, and a little of where it began."""
        return self.model(x) - (1 - self.start) * self.first(x)
