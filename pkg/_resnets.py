"""Residual networks: torchvision's names and shapes, a readout without bias, a seed.

The private half of `pkg.nets`. Two things differ from torchvision's ResNets, and both
for the theory's sake. GroupNorm treats each image by itself, which a kernel needs, and
keeps many GPUs equal to one. The last layer has no bias, so that a small readout is a
small embedding. Weights come from a CPU generator: a seed is one network everywhere.
"""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from pkg import _check

Norm = Literal["group", "batch"]
Stem = Literal["cifar", "imagenet", "demo"]
# Kernel, stride, and whether a max-pool halves the image once more.
STEMS = {"cifar": (3, 1, False), "imagenet": (7, 2, True), "demo": (3, 2, False)}
GROUPS = 8


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the block of ResNet-18.

    Introduced in chapter 11.

    Parameters
    ----------
    before, width : int
        Channels that come in, and that go out.
    stride : int
        2 halves the image in the first convolution.
    norm : "group" or "batch"
    """

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = _convolution(before, width, 3, stride)
        self.bn1 = normalisation(norm, width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = normalisation(norm, width)
        self.downsample = _shortcut(before, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut + residual)."""
        residual = relu(self.bn1(self.conv1(x)))
        return relu(self.downsample(x) + self.bn2(self.conv2(residual)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the block of ResNet-50.

    The stride stands in the 3x3 convolution, as in torchvision and not as in the first
    paper. Introduced in chapter 11.

    Parameters
    ----------
    before, width : int
        Channels that come in, and in the middle; four times as many go out.
    stride : int
        2 halves the image in the second convolution.
    norm : "group" or "batch"
    """

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        after = self.expansion * width
        self.conv1 = _convolution(before, width, 1)
        self.bn1 = normalisation(norm, width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = normalisation(norm, width)
        self.conv3 = _convolution(width, after, 1)
        self.bn3 = normalisation(norm, after)
        self.downsample = _shortcut(before, after, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut + residual)."""
        residual = relu(self.bn1(self.conv1(x)))
        residual = relu(self.bn2(self.conv2(residual)))
        return relu(self.downsample(x) + self.bn3(self.conv3(residual)))


class ResNet(nn.Sequential):
    """A stem, stages of blocks, an average over the image, a linear readout.

    Parts have torchvision's names: conv1, bn1, layer1, ..., fc. The readout works in
    its own precision, outside autocast: rounding to eight bits would blur a small
    embedding. Put another head in its place by ``net.fc = nets.projector(...)``.
    Introduced in chapter 11.

    Parameters
    ----------
    d : int
        Embedding dimensions.
    block : type
        `Basic` or `Bottleneck`.
    blocks : sequence of int
        Blocks in each stage; each stage doubles the width, and all but the first
        halve the image.
    stem : "cifar", "imagenet" or "demo"
        3x3; 7x7 with stride 2 and a max-pool; 3x3 with stride 2.
    norm, width, pool, in_channels, generator
        As in `resnet18`.
    """

    fc: nn.Module

    def __init__(
        self,
        d: int,
        block: type[Any],
        blocks: Sequence[int],
        stem: Stem,
        norm: Norm,
        width: int,
        pool: int,
        in_channels: int,
        generator: torch.Generator | None,
    ) -> None:
        d, width = _check.count("d", d), _check.count("width", width)
        self.in_channels = _check.count("in_channels", in_channels)
        self.pool = _check.count("pool", pool, high=2)
        kernel, stride, shrink = STEMS[_check.choice("stem", stem, tuple(STEMS))]
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=_convolution(self.in_channels, width, kernel, stride),
            bn1=normalisation(norm, width),
            relu=nn.ReLU(),
        )
        if shrink:
            layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
        before = width
        for i, many in enumerate(blocks):
            row = []
            for j in range(many):
                halve = 2 if i and not j else 1
                row.append(block(before, width * 2**i, halve, norm))
                before = width * 2**i * block.expansion
            layers[f"layer{i + 1}"] = nn.Sequential(*row)
        layers["fc"] = nn.Linear(before * self.pool**2, d, bias=False)
        super().__init__(layers)
        # Pixels of the image, along one side, for one of the last features.
        self.shrinks = stride * (2 if shrink else 1) * 2 ** (len(blocks) - 1)
        draw_(self, generator)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Embed images (n, in_channels, height, width) as (n, d)."""
        features = self.features(x)
        with _own_precision(features):
            return self.fc(features.to(next(self.fc.parameters()).dtype))

    def features(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p"]:
        """Return what the readout reads: the last features, averaged over the image."""
        self._check_images(x)
        for name, layer in self.named_children():
            x = x if name == "fc" else layer(x)
        if self.pool == 1:
            return x.mean((2, 3))
        # Halves that share the middle row of an odd height, as AdaptiveAvgPool2d(2)
        # has them. That one has no deterministic derivative on CUDA.
        h, w = x.shape[2:]
        quarters = avg_pool2d(x, ((h + 1) // 2, (w + 1) // 2), (h // 2, w // 2))
        return quarters.flatten(1)

    def _check_images(self, x: Tensor) -> None:
        if x.ndim != 4:
            raise ValueError(
                "`x` must be images (n, channels, height, width); got shape "
                f"{tuple(x.shape)}" + ". For one image pass x[None]" * (x.ndim == 3)
            )
        if x.shape[1] != self.in_channels:
            last = x.shape[3] == self.in_channels
            raise ValueError(
                f"`x` has {x.shape[1]} channels and the network takes "
                f"{self.in_channels}: "
                + ("channels come second, so pass x.permute(0, 3, 1, 2)" * last)
                + (f"build it with in_channels={x.shape[1]}" * (not last))
            )
        smallest = (self.pool - 1) * self.shrinks + 1
        if min(x.shape[2:]) < smallest:
            raise ValueError(
                f"`x` has images of {x.shape[2]} by {x.shape[3]} pixels; this network "
                f"makes one feature of {self.shrinks} pixels along each side, and its "
                f"grid of {self.pool} by {self.pool} needs at least {smallest}. Pass "
                "larger images, or build it with pool=1 or a stem that shrinks less"
            )


def resnet18(
    d: int,
    *,
    stem: Literal["cifar", "imagenet"] = "cifar",
    norm: Norm = "group",
    width: int = 64,
    pool: int = 1,
    in_channels: int = 3,
    generator: torch.Generator | None = None,
) -> ResNet:
    """Build a ResNet-18 whose parameters are named and shaped as torchvision's.

    Weights that torchvision has trained fit all but the readout (with the ImageNet
    stem)::

        trunk = {k: v for k, v in weights.items() if not k.startswith("fc.")}
        net.load_state_dict(trunk, strict=False)

    With ``norm="batch"`` only ``fc.weight`` is then missing. With ``norm="group"`` the
    scales and shifts fit as well, and the running statistics are left over. Under the
    CIFAR stem leave ``conv1.weight`` out too.

    Convolutions begin as Kaiming normal over fan-in. torchvision takes fan-out; in
    front of a normalisation the size changes no output, only how fast the layer itself
    learns, and fan-out would make a 7x7 stem 21 times as fast beside the others.
    Introduced in chapter 11.

    Parameters
    ----------
    d : int
        Embedding dimensions.
    stem : "cifar" or "imagenet"
        3x3 without stride, for images of about 32 pixels; or 7x7 with stride 2 and a
        max-pool behind it, for larger ones.
    norm : "group" or "batch"
        GroupNorm with 8 groups, or BatchNorm, under which the embedding of an image
        depends on the rest of its batch: no kernel, and many GPUs are not one.
    width : int
        Channels of the first stage, under GroupNorm a multiple of 8.
    pool : 1 or 2
        Average the last features over the whole image, or over each quarter of it:
        four times as many features, whose modes are nearer to one another.
    in_channels : int
        3 for colour, 1 for grey.
    generator : torch.Generator, optional
        On the CPU; torch's own when left out.

    Returns
    -------
    ResNet
        Maps (n, in_channels, height, width) to (n, d), in float32.

    Raises
    ------
    ValueError
        If a size is no whole number in its range, a name is unknown, or `width` does
        not suit GroupNorm; when called, if images do not fit the network.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385. Wu and He, "Group Normalization", arXiv:1803.08494.
    """
    kind, blocks = Basic, (2, 2, 2, 2)
    return ResNet(d, kind, blocks, stem, norm, width, pool, in_channels, generator)


def resnet50(
    d: int,
    *,
    stem: Literal["cifar", "imagenet"] = "imagenet",
    norm: Norm = "group",
    width: int = 64,
    pool: int = 1,
    in_channels: int = 3,
    generator: torch.Generator | None = None,
) -> ResNet:
    """Build a ResNet-50 whose parameters are named and shaped as torchvision's.

    Introduced in chapter 11.

    Parameters
    ----------
    d, stem, norm, width, pool, in_channels, generator
        As in `resnet18`; four times `width` channels leave the first stage.

    Returns
    -------
    ResNet
        Maps (n, in_channels, height, width) to (n, d), in float32.

    Raises
    ------
    ValueError
        As `resnet18`.
    """
    kind, blocks = Bottleneck, (3, 4, 6, 3)
    return ResNet(d, kind, blocks, stem, norm, width, pool, in_channels, generator)


def demo(
    d: int,
    *,
    norm: Norm = "group",
    in_channels: int = 3,
    generator: torch.Generator | None = None,
) -> ResNet:
    """Build the ResNet that learns in about a minute on one core.

    A 3x3 stem with stride 2, three stages of one block with 16, 32 and 64 channels,
    features averaged over each quarter of the image: 77 thousand weights and 256 d in
    the readout. Every operation in it is deterministic on CUDA too. Introduced in
    chapter 13.

    Parameters
    ----------
    d, norm, in_channels, generator
        As in `resnet18`.

    Returns
    -------
    ResNet
        Maps (n, in_channels, height, width), sides of at least 9 pixels, to (n, d).

    Raises
    ------
    ValueError
        As `resnet18`.
    """
    return ResNet(d, Basic, (1, 1, 1), "demo", norm, 16, 2, in_channels, generator)


def _convolution(before: int, after: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)


def normalisation(norm: Norm, width: int, *, images: bool = True) -> nn.Module:
    """Build the normalisation behind a layer.

    Parameters
    ----------
    norm : "group" or "batch"
    width : int
        Channels, or hidden units of a projector.
    images : bool
        Whether there are pixels behind each channel.

    Returns
    -------
    nn.Module
    """
    if _check.choice("norm", norm, ("group", "batch")) == "batch":
        return nn.BatchNorm2d(width) if images else nn.BatchNorm1d(width)
    if width % GROUPS:
        name = "width" if images else "hidden"
        raise ValueError(
            f"`{name}` is {width}, which GroupNorm's {GROUPS} groups do not divide; "
            f'pass a multiple of {GROUPS}, or norm="batch"'
        )
    return nn.GroupNorm(GROUPS, width)


def _shortcut(before: int, after: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(
        _convolution(before, after, 1, stride), normalisation(norm, after)
    )


def draw_(network: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of all convolutions and linear layers, in their order."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(
                layer.weight, nonlinearity="relu", generator=generator
            )
        elif isinstance(layer, nn.Linear):
            # Uniform within 1 / sqrt(fan-in): torch's own choice for a linear layer.
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)


def _own_precision(x: Tensor) -> contextlib.AbstractContextManager:
    # The meta device knows no autocast.
    if x.device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
