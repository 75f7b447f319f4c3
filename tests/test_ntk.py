"""The empirical NTK: every route against the Jacobian, and every trap that we know."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from pkg import nets, ntk


class Block(nn.Module):
    """Two convolutions with GroupNorm, beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm_too = nn.GroupNorm(8, after)
        self.short = nn.Identity()
        if stride > 1:
            short = nn.Conv2d(before, after, 1, stride)
            self.short = nn.Sequential(short, nn.GroupNorm(8, after))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.first(x)))
        return torch.relu(self.norm_too(self.second(h)) + self.short(x))


def small_resnet(d: int = 10) -> nn.Sequential:
    """A stem, blocks of 16, 32 and 64 channels, pooling, a readout: 77 866 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(8, 16),
        nn.ReLU(inplace=True),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, d),
    )


def tutorial(model: nn.Module, x: Tensor) -> np.ndarray:
    """Theta, averaged over outputs, by the recipe of torch's tutorial."""
    own = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def f(own: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(model, own, (point[None],))[0]

    jacobian = vmap(jacrev(f), (None, 0))(own, x)
    rows = torch.cat([j.flatten(2) for j in jacobian.values()], dim=2).double()
    return (torch.einsum("iap,jap->ij", rows, rows) / rows.shape[1]).numpy()


def gradients(model: nn.Module, x: Tensor) -> Tensor:
    """One output of one point at a time (d, n, p): slow, and beyond doubt."""
    own = [p for p in model.parameters() if p.requires_grad]

    def gradient(value: Tensor) -> Tensor:
        parts = torch.autograd.grad(value, own, allow_unused=True, retain_graph=True)
        pairs = zip(own, parts, strict=True)
        full = [torch.zeros_like(p) if part is None else part for p, part in pairs]
        return torch.cat([part.flatten() for part in full])

    z = [model(point[None])[0] for point in x]
    columns = range(len(z[0]))
    return torch.stack([torch.stack([gradient(row[a]) for row in z]) for a in columns])


def by_hand(
    model: nn.Module, x: Tensor, y: Tensor | None = None, output: str = "trace"
) -> np.ndarray:
    """Theta (n, m), or its blocks (d, n, d, m)."""
    left = gradients(model, x)
    right = left if y is None else gradients(model, y)
    blocks = torch.einsum("aip,bjp->aibj", left, right).numpy()
    return blocks if output == "block" else np.einsum("aiaj->ij", blocks) / len(blocks)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(
        found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max()
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)]
)
@pytest.mark.parametrize("method", ["layerwise", "per_output"])
def test_each_method_gives_the_jacobians_kernel(dtype, tolerance, method):
    """The small ResNet of the benchmark, in both precisions."""
    torch.manual_seed(0)
    model = small_resnet().to(dtype)
    assert sum(p.numel() for p in model.parameters()) == 77_866
    x = torch.randn(12, 1, 14, 14, dtype=dtype)

    K = ntk.empirical(model, x, method=method)

    close(K, tutorial(model, x), tolerance)
    assert np.array_equal(K, K.T)


class Scaled(nn.Linear):
    """A linear layer in name, and another function of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, 0.5 * self.weight, self.bias)


class Tokens(nn.Module):
    """Embedded tokens, mixed position by position, then averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.norm = nn.LayerNorm((6,))
        self.mix = nn.Linear(6, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.tanh(self.mix(self.norm(self.embed(tokens)))).mean(1)


def warmed(norm: nn.Module) -> nn.Module:
    """Batch norm with statistics of its own, in evaluation mode."""
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    return norm.eval()


def on_images(*layers: nn.Module) -> nn.Module:
    """Layers on images with 4 channels, and a readout of three outputs."""
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))


IMAGES, ROWS = (5, 4, 6, 5), (5, 6)
# Name, model, shape of the points, and whether every layer has a rule of its own.
LAYERS = {
    "linear": (lambda: nn.Linear(6, 3), ROWS, True),
    "linear without bias": (lambda: nn.Linear(6, 3, bias=False), ROWS, True),
    "linear on positions": (
        lambda: nn.Sequential(
            nn.Linear(5, 8), nn.Tanh(), nn.Flatten(), nn.Linear(192, 2)
        ),
        (5, 4, 6, 5),
        True,
    ),
    "stride and padding": (
        lambda: on_images(nn.Conv2d(4, 6, (3, 2), (2, 1), padding=(1, 2))),
        IMAGES,
        True,
    ),
    "groups": (lambda: on_images(nn.Conv2d(4, 6, 3, groups=2)), IMAGES, True),
    "each channel alone": (
        lambda: on_images(nn.Conv2d(4, 8, 3, groups=4)),
        IMAGES,
        True,
    ),
    "dilation": (lambda: on_images(nn.Conv2d(4, 5, 2, dilation=2)), IMAGES, True),
    "patches of one pixel": (
        lambda: on_images(nn.Conv2d(4, 5, 1, 2, bias=False)),
        IMAGES,
        True,
    ),
    "padding same": (
        lambda: on_images(nn.Conv2d(4, 5, 3, padding="same")),
        IMAGES,
        False,
    ),
    "reflected border": (
        lambda: on_images(nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect")),
        IMAGES,
        False,
    ),
    "group norm": (lambda: on_images(nn.GroupNorm(2, 4)), IMAGES, True),
    "layer norm": (lambda: on_images(nn.LayerNorm((6, 5))), IMAGES, True),
    "layer norm without shift": (
        lambda: nn.Sequential(nn.LayerNorm(6, bias=False), nn.Linear(6, 2)),
        ROWS,
        True,
    ),
    "batch norm": (lambda: on_images(warmed(nn.BatchNorm2d(4))), IMAGES, True),
    "batch norm of rows": (
        lambda: nn.Sequential(nn.Linear(6, 4), warmed(nn.BatchNorm1d(4))),
        ROWS,
        True,
    ),
    "instance norm": (
        lambda: on_images(nn.InstanceNorm2d(4, affine=True)),
        IMAGES,
        False,
    ),
    "transposed": (lambda: on_images(nn.ConvTranspose2d(4, 3, 2)), IMAGES, False),
    "a subclass with another forward": (
        lambda: nn.Sequential(Scaled(6, 8), nn.Tanh(), nn.Linear(8, 3)),
        ROWS,
        False,
    ),
    "tokens": (Tokens, "tokens", False),
    "one output": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1)),
        ROWS,
        True,
    ),
}


def drawn(shape: tuple[int, ...] | str) -> Tensor:
    """Points in float64, or tokens."""
    if shape == "tokens":
        return torch.randint(7, (5, 4))
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_gives_the_jacobians_kernel(name):
    """Known or not: to round-off, and a layer without a rule is told by name."""
    torch.manual_seed(0)
    make, shape, known = LAYERS[name]
    x, model = drawn(shape), make().double()
    model(x)

    wanted = by_hand(model, x)

    close(ntk.empirical(model, x), wanted, 1e-13)
    if known:
        close(ntk.empirical(model, x, method="layerwise"), wanted, 1e-13)
    else:
        with pytest.raises(ValueError, match=r"`method` is 'layerwise', but .*='auto'"):
            ntk.empirical(model, x, method="layerwise")


class Odd(nn.Module):
    """Every way of using parameters that a hook on a layer cannot see, by name."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.gain = nn.Parameter(torch.rand(6) + 0.5)
        self.head = nn.Linear(6, 2)
        if way == "two layers share a weight":
            self.second.weight = self.first.weight
        elif way == "two names for one layer":
            self.second = self.first
        elif way == "parametrised":
            nn.utils.parametrize.register_parametrization(
                self.first, "weight", nn.Tanh()
            )
        elif way == "half frozen":
            self.first.weight.requires_grad_(False)
            self.second.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gain * torch.tanh(self.first(x))
        if self.way == "called twice":
            h = torch.tanh(self.first(h))
        elif self.way == "used without its layer":
            h = h @ self.second.weight + self.second.bias
        elif self.way == "called, and used again":
            h = torch.tanh(self.second(h)) @ self.second.weight.T
        elif self.way == "called on all positions at once":
            h = self.second(h.reshape(-1, 2, 3).repeat(1, 1, 2).reshape(-1, 6))
            h = h.reshape(len(x), -1)[:, :6]
        elif self.way == "called by keyword":
            h = self.second(input=h)
        elif self.way != "a layer is not used":
            h = torch.tanh(self.second(h))
        return self.head(h)


ODD = (
    *("plain", "two layers share a weight", "two names for one layer", "parametrised"),
    *("half frozen", "called twice", "used without its layer"),
    *("called, and used again", "called on all positions at once"),
    *("called by keyword", "a layer is not used"),
)


@pytest.mark.parametrize("output", ["trace", "block"])
@pytest.mark.parametrize("way", ODD)
def test_no_parameter_is_skipped_however_it_is_used(way, output):
    """The container's own `gain` is always among them."""
    torch.manual_seed(0)
    model, x = Odd(way).double(), drawn(ROWS)
    y = drawn(ROWS)[:3]
    K = ntk.empirical(model, x, y, output=output)
    close(K, by_hand(model, x, y, output), 1e-13)


class Overwriting(nn.Module):
    """Each layer's result is overwritten by what follows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x)).relu_()
        h = self.second(h).add_(h).relu_()
        return self.head(h.mean((2, 3))).mul_(2)


def test_activations_in_place_do_not_disturb():
    """What a layer put out is gone; its place in the graph is not."""
    torch.manual_seed(0)
    model, x = Overwriting().double(), drawn(IMAGES)
    close(ntk.empirical(model, x, method="layerwise"), by_hand(model, x), 1e-13)


def test_a_wide_network_of_this_package_is_layerwise():
    model = nets.mlp(5, 3, width=64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(7, 5)
    close(ntk.empirical(model, x, method="layerwise"), by_hand(model, x), 1e-6)
