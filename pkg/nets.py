"""Networks: fully connected ones of any width, small convolutional ones, ResNets.

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
from pkg._resnets import Norm, ResNet, demo, draw_, normalisation, resnet18, resnet50

__all__ = [
    "Centred",
    "ResNet",
    "Scale",
    "conv",
    "demo",
    "mlp",
    "projector",
    "resnet18",
    "resnet50",
    "scale_init_",
]

NORMALISATIONS = (
    *(nn.GroupNorm, nn.LayerNorm, nn.SyncBatchNorm),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)


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


def projector(
    features: int,
    d: int,
    *,
    hidden: Sequence[int],
    norm: Norm = "group",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build the head that published recipes put between the features and the loss.

    Linear layers with a normalisation and a ReLU behind each but the last, all without
    bias: ``net.fc = nets.projector(net.fc.in_features, d, hidden=(2048,))``. The
    theory's own head is one linear layer, the ``fc`` of these networks. Introduced in
    chapter 11.

    Parameters
    ----------
    features, d : int
        Features that come in, and embedding dimensions.
    hidden : sequence of int
        Units of each hidden layer, at least one layer.
    norm : "group" or "batch"
        BatchNorm is the published one.
    generator : torch.Generator, optional
        On the CPU; torch's own when left out.

    Returns
    -------
    nn.Sequential
        Maps (n, features) to (n, d).

    Raises
    ------
    ValueError
        If a size is not a whole number of at least one, or `hidden` is empty or does
        not suit GroupNorm.
    """
    before = _check.count("features", features)
    if not hidden:
        raise ValueError(
            "`hidden` is empty; name the units of at least one layer, or keep the "
            "network's own linear readout"
        )
    layers: list[nn.Module] = []
    for units in hidden:
        units = _check.count("hidden", units)
        normalise = normalisation(norm, units, images=False)
        layers += [nn.Linear(before, units, bias=False), normalise, nn.ReLU()]
        before = units
    layers.append(nn.Linear(before, _check.count("d", d), bias=False))
    head = nn.Sequential(*layers)
    draw_(head, generator)
    return head


def scale_init_(
    model: nn.Module,
    scale: float,
    *,
    which: Literal["readout", "weights"] = "readout",
) -> dict[str, str]:
    """Multiply initial weights by `scale`, in place: the small start of a network.

    What that does depends on what stands behind a layer. In front of a normalisation
    the size of a weight w changes no output: normalise(s w x) is normalise(w x). Its
    gradient grows by 1 / s, and so, as a share of w, each step grows by 1 / s^2: it is
    that layer's learning rate that is scaled. In a ResNet only the readout sets the
    size of the embedding; without normalisation "weights" shrinks the output by `scale`
    once a layer. Introduced in chapter 9.

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
    dict of str
        For each parameter that was scaled, by name, what its size is: "size of the
        output", or "learning rate of the layer" where a normalisation is registered
        next behind it (and it has no bias).

    Raises
    ------
    ValueError
        If `scale` is not positive, or the model has no such layer.
    """
    factor = float(_check.positive("scale", scale, ndim=0))
    _check.choice("which", which, ("readout", "weights"))
    convolutions = () if which == "readout" else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    leaves = [(k, v) for k, v in model.named_modules() if not next(v.children(), None)]
    found: dict[Tensor, tuple[str, str]] = {}  # weights that layers share come once
    for i, (name, layer) in enumerate(leaves):
        if isinstance(layer, nn.Linear) or isinstance(layer, convolutions):
            behind = leaves[i + 1][1] if i + 1 < len(leaves) else None
            free = layer.bias is None and isinstance(behind, NORMALISATIONS)
            meaning = "learning rate of the layer" if free else "size of the output"
            found[layer.weight] = f"{name}.weight".lstrip("."), meaning
    if not found:
        raise ValueError(
            f"`model` has no {'linear layer' if which == 'readout' else 'weights'} to "
            "scale; scale its parameters yourself"
        )
    chosen = list(found)[-1:] if which == "readout" else list(found)
    with torch.no_grad():
        for weight in chosen:
            weight.mul_(factor)
    return dict(found[weight] for weight in chosen)


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
