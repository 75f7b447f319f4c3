"""The empirical NTK: every route against the Jacobian, and every trap that we know."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import prune

from pkg import kernels, nets, ntk
from pkg._blocks import block_size, free_memory

ROOT = Path(__file__).resolve().parents[1]


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

    z = [model(point[None].clone())[0] for point in x]
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
    x = torch.randn(6, 1, 14, 14, dtype=dtype)

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


class Reordered(nn.Module):
    """Hands its points to a layer in another order, and takes that back."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.head = way, nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        order = torch.arange(len(x)).flip(0)
        if self.way == "sort":
            order = x.norm(dim=1).argsort()
        elif self.way == "route":
            order = torch.cat([(x[:, 0] > 0).nonzero(), (x[:, 0] <= 0).nonzero()])[:, 0]
        h = torch.tanh(self.first(x[order]))
        return self.head(h[order.argsort()])


@pytest.mark.parametrize("way", ["flip", "sort", "route"])
def test_a_layer_that_is_given_points_in_another_order_is_not_trusted(way):
    """Sums over points would not show it."""
    torch.manual_seed(0)
    model, x = Reordered(way).double(), drawn((7, 6))
    x[:3, 0] = torch.tensor([-1.0, -2.0, 1.0])
    x[0] *= 10  # neither sorted nor routed in the order of the points
    if way == "route":  # vmap cannot count how many points go where
        with pytest.raises(RuntimeError, match=r"(?s)point by point .*'first.weight'"):
            ntk.empirical(model, x)
        return
    wanted = by_hand(model, x)
    close(ntk.empirical(model, x), wanted, 1e-13)
    phi = ntk.sketch(model, x, 4096)
    close(phi @ phi.T, wanted, 0.1)
    with pytest.raises(ValueError, match=r"no layerwise rule for 'first.weight'"):
        ntk.empirical(model, x, method="layerwise")


@pytest.mark.parametrize("where", ["x", "y"])
def test_an_order_that_the_first_points_do_not_show_is_noticed(where):
    torch.manual_seed(0)
    model, z = Reordered("sort"), torch.randn(12, 6)
    order = z.norm(dim=1).argsort()
    x = z[order[[0, 1, 2, *range(11, 2, -1)]]]
    call = {"x": x} if where == "x" else {"x": x[:3], "y": x[3:]}
    message = "layer 'first' is not used as it was .*per_output"
    with pytest.raises(RuntimeError, match=message):
        ntk.empirical(model, **call)
    with pytest.raises(RuntimeError, match=message):
        ntk.sketch(model, x)


def pruned() -> nn.Module:
    """A weight that a hook makes of another parameter and a mask."""
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    prune.l1_unstructured(model[0], "weight", amount=0.3)
    return model


def extended() -> nn.Module:
    """A linear layer that owns a parameter and does not use it."""
    layer = nn.Linear(6, 2).double()
    layer.extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    return layer


@pytest.mark.parametrize("make", [pruned, extended])
def test_a_layer_with_other_parameters_has_no_rule_of_its_own(make):
    torch.manual_seed(0)
    model, x = make(), drawn(ROWS)
    wanted = by_hand(model, x)
    close(ntk.empirical(model, x), wanted, 1e-13)
    close(ntk.empirical(model, x, method="per_output"), wanted, 1e-13)
    for layer in model.modules():  # nothing of vmap's is left in it
        if isinstance(layer, nn.Linear):
            assert not torch._C._functorch.is_functorch_wrapped_tensor(layer.weight)


class Shifting(nn.Linear):
    """Writes on its own input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5))


@pytest.mark.parametrize("method", ["auto", "per_output"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 2)),
        lambda: Shifting(6, 2),
        lambda: nn.Sequential(Shifting(6, 6), Shifting(6, 2)),
    ],
)
def test_a_model_may_write_on_its_input_and_the_points_stay(make, method):
    torch.manual_seed(0)
    model, x = make().double(), drawn(ROWS)
    before = x.clone()
    wanted = by_hand(model, x.clone())
    close(ntk.empirical(model, x, method=method), wanted, 1e-13)
    close(ntk.empirical(model, x, x[:3], method=method), wanted[:, :3], 1e-13)
    ntk.sketch(model, x, 8)
    assert torch.equal(x, before)


def test_buffers_are_put_back_when_a_model_changes_them():
    torch.manual_seed(0)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))
    model, x = nn.Sequential(spectral, nn.Tanh(), nn.Linear(4, 2)).double(), drawn(ROWS)
    before = state(model)
    message = r"changes its buffer '0.parametrizations.*model.eval\(\)"
    with pytest.raises(ValueError, match=message):
        ntk.empirical(model, x)
    assert state(model) == before
    model.eval()
    close(ntk.empirical(model, x), by_hand(model, x), 1e-13)


@pytest.mark.parametrize("size", [1e25, 1e38])
def test_a_kernel_that_overflows_is_refused(size):
    model, x = nn.Sequential(nn.Linear(6, 2)), torch.full((4, 6), size)
    nn.init.constant_(model[0].weight, 1e-3)
    with pytest.raises(ValueError, match=r"not finite: .*float32.*model.double\(\)"):
        ntk.empirical(model, x)


def test_inference_mode_is_refused_with_the_remedy():
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"outside of torch.inference_mode"),
    ):
        ntk.empirical(**bare())


def test_a_wide_network_of_this_package_is_layerwise():
    model = nets.mlp(5, 3, width=64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(7, 5)
    close(ntk.empirical(model, x, method="layerwise"), by_hand(model, x), 1e-6)


def state(model: nn.Module) -> list:
    """Everything that a call could leave changed, with the identity of what it was."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return [
        [(name, id(t), t.requires_grad, t.grad, t.tolist()) for name, t in tensors],
        [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for m in model.modules()
        ],
        torch.is_grad_enabled(),
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize("way", ODD)
def test_the_model_is_left_as_it_was(way):
    torch.manual_seed(0)
    model = Odd(way).train()
    x = torch.randn(4, 6)
    before = state(model)
    with torch.no_grad():
        ntk.empirical(model, x)
        ntk.sketch(model, x, dim=8)
    assert state(model) == before


class Sulking(nn.Module):
    """Counts its calls, and fails at one of them."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.inner, self.calls, self.fails_at = nn.Linear(6, 2), 0, fails_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        h = self.inner(x)
        if self.calls == self.fails_at:
            raise OSError("no more")
        return h


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_the_model_is_left_as_it_was_when_it_fails(fails_at):
    """In either probe, in the plan, and in the computation itself."""
    model = Sulking(fails_at)
    x = torch.randn(4, 6)
    before = state(model)
    with pytest.raises(OSError, match="no more"):
        ntk.empirical(model, x)
    assert state(model) == before


def halves() -> nn.Module:
    """One layer in another precision, which mixed arithmetic would hide."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    model[0].double()
    return model


class Lambda(nn.Module):
    """A linear layer, and any function of what it puts out."""

    def __init__(self, function) -> None:
        super().__init__()
        self.inner, self.function = nn.Linear(6, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner(x))


def bare(**changes) -> dict:
    """A call that would succeed, changed in places."""
    return {"model": nn.Linear(6, 2), "x": torch.randn(4, 6), **changes}


# What is wrong, what to call, and what the error says: found, and remedy.
REFUSED = {
    "no module": (bare(model=torch.relu), r"`model` must be a torch.nn.Module"),
    "no parameters": (bare(model=nn.Flatten()), r"`model` has no parameter that"),
    "all frozen": (
        bare(model=nn.Linear(6, 2).requires_grad_(False)),
        r"`model` has no parameter that requires a gradient.*trainable",
    ),
    "lazy": (bare(model=nn.LazyLinear(2)), r"`model` has lazy layers; call it once"),
    "two precisions": (bare(model=halves()), r"more than one dtype: .*model.to"),
    "elsewhere": (
        bare(model=nn.Linear(6, 2, device="meta")),
        r"`x` is on cpu, `model` on meta; move",
    ),
    "other precision": (
        bare(x=torch.randn(4, 6).double()),
        r"`x` is torch.float64, `model` torch.float32; convert",
    ),
    "complex": (bare(x=torch.randn(4, 6) + 0j), r"`x` is torch.complex64"),
    "NumPy": (bare(x=np.ones((4, 6))), r"`x` must be a torch tensor; .*as_tensor"),
    "no point": (
        bare(x=torch.randn(0, 6)),
        r"`x` must hold at least one point.*\(0, 6\)",
    ),
    "a scalar": (bare(x=torch.tensor(1.0)), r"`x` must hold at least one point.*\(\)"),
    "NaN": (
        bare(x=torch.tensor([[0.0] * 6, [float("nan")] * 6])),
        r"`x` must be finite; point 1 is not",
    ),
    "NaN in y": (
        bare(y=torch.full((1, 6), float("inf"))),
        r"`y` must be finite; point 0",
    ),
    "no point in y": (bare(y=torch.randn(0, 6)), r"`y` must hold at least one point"),
    "another kind of points": (
        bare(y=torch.randn(3, 5)),
        r"`x` and `y` must hold points of one kind; got .*\(6,\).*\(5,\)",
    ),
    "batch norm in training": (
        bare(model=nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2))),
        r"`model` normalises over the batch in '1' \(BatchNorm1d\).*model.eval\(\)",
    ),
    "batch norm without statistics": (
        bare(
            model=nn.Sequential(
                nn.Linear(6, 2), nn.BatchNorm1d(2, track_running_stats=False)
            ).eval()
        ),
        r"normalises over the batch in '1'.*GroupNorm",
    ),
    "instance norm in training": (
        bare(
            model=nn.Sequential(
                nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
                nn.Flatten(),
                nn.Linear(6, 2),
            ),
            x=torch.randn(4, 2, 3),
        ),
        r"`model` gathers statistics in '0' \(InstanceNorm1d.*call model.eval\(\)",
    ),
    "complex parameters": (
        bare(model=nn.Linear(6, 2, dtype=torch.complex64)),
        r"`model` has complex parameters; hold",
    ),
    "dropout in training": (
        bare(model=nn.Sequential(nn.Linear(6, 2), nn.Dropout(0.1))),
        r"`model` is random in '1' \(Dropout in training mode\); call model.eval\(\)",
    ),
    "random without a layer for it": (
        bare(model=Lambda(lambda z: z + torch.rand_like(z))),
        r"`model` gives one point different outputs in different batches",
    ),
    "batch statistics without a layer for it": (
        bare(model=Lambda(lambda z: z - z.mean(0))),
        r"`model` gives one point different outputs in different batches.*GroupNorm",
    ),
    "no rows": (
        bare(model=Lambda(lambda z: z.sum(1))),
        r"`model` must return a tensor \(n, d\).*got shape \(3,\) for 3 points",
    ),
    "pictures": (
        bare(model=Lambda(lambda z: z[:, None])),
        r"must return a tensor \(n, d\).*\(3, 1, 2\)",
    ),
    "a pair": (
        bare(model=Lambda(lambda z: (z, z))),
        r"must return a tensor \(n, d\).*got tuple",
    ),
    "no outputs": (
        bare(model=Lambda(lambda z: z[:, :0])),
        r"must return d >= 1 real numbers",
    ),
    "complex outputs": (
        bare(model=Lambda(lambda z: z + 1j)),
        r"real numbers .*complex64",
    ),
    "cut off": (
        bare(model=Lambda(Tensor.detach)),
        r"no trainable parameter leads to them.*detach",
    ),
    "NaN in the model": (
        bare(model=Lambda(lambda z: z / 0)),
        r"`model` returns NaN or infinity; check",
    ),
    "unknown output": (
        bare(output="project"),
        r"`output` is 'project', which is not known",
    ),
    "unknown method": (
        bare(method="layer"),
        r"`method` is 'layer'.*did you mean 'layerwise'",
    ),
    "no memory": (bare(memory_gb=0), r"`memory_gb` must be finite and positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_with_the_remedy(case, as_a_user):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        ntk.empirical(**call)


@pytest.mark.parametrize(
    "change", [{"dim": 0}, {"dim": 2.5}, {"seed": -1}, {"seed": None}]
)
def test_a_sketch_refuses_by_name(change, as_a_user):
    [name] = change
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        ntk.sketch(nn.Linear(6, 2), torch.randn(4, 6), **change)


class Branching(nn.Module):
    """Takes another path when a batch holds a large point."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.inner, self.rare = nn.Linear(6, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.inner(x)
        if x.max() < 10:
            return z
        return z @ self.rare.weight if self.way == "weight" else self.inner(x - 1) + z


@pytest.mark.parametrize(
    ("way", "what"), [("weight", "parameter 'rare.weight'"), ("layer", "layer 'inner'")]
)
def test_a_path_that_the_probe_did_not_take_is_noticed(way, what):
    """Better an error than a kernel in which one layer is missing."""
    x = torch.randn(6, 6)
    x[5] = 20.0
    with pytest.raises(
        RuntimeError, match=f"{what} is not used as it was .*per_output"
    ):
        ntk.empirical(Branching(way), x)


def test_what_torch_cannot_take_point_by_point_is_said():
    with pytest.raises(
        RuntimeError, match="cannot differentiate `model` point by point"
    ):
        ntk.empirical(
            Lambda(lambda z: z * z.max().item()), torch.ones(2, 6), method="per_output"
        )


@pytest.mark.parametrize("output", ["trace", "block"])
@pytest.mark.parametrize("views", ["one set", "two sets"])
def test_blocks_that_fit_in_less_memory_give_the_same_kernel(
    output, views, monkeypatch
):
    torch.manual_seed(0)
    model = nets.conv(3, channels=(8, 16), groups=4).double()
    x = torch.randn(11, 3, 8, 8, dtype=torch.float64)
    y = None if views == "one set" else x[:7] + 0.1
    plans = []

    def watched(n, needed, most, instead):
        plans.append((block_size(n, needed, most, instead), needed))
        return plans[-1][0]

    monkeypatch.setattr(ntk, "block_size", watched)
    whole = ntk.empirical(model, x, y, output=output)
    needed = plans[0][1]
    some = ntk.empirical(model, x, y, output=output, memory_gb=needed(3) / 1e9)

    assert [size for size, _ in plans] == [11, 3]
    close(some, whole, 1e-13)
    if y is None:
        assert np.array_equal(
            some, some.transpose(2, 3, 0, 1) if output == "block" else some.T
        )


def test_too_little_memory_is_refused_with_the_number_and_the_knob():
    model, x = nn.Linear(100, 10), torch.randn(200, 100)
    with pytest.raises(
        MemoryError, match=r"takes 0.000\d+ GB, and `memory_gb` allows 0.0001\."
    ) as refused:
        ntk.empirical(model, x, memory_gb=1e-4)
    enough = float(re.search(r"memory_gb=([\d.e-]+)", str(refused.value))[1])
    assert ntk.empirical(model, x, memory_gb=enough).shape == (200, 200)
    with pytest.raises(MemoryError, match=r"or pass output='trace'"):
        ntk.empirical(model, x, output="block", memory_gb=1e-4)
    with pytest.raises(MemoryError, match=r"memory_gb=.*or pass a smaller `dim`$"):
        ntk.sketch(model, x, memory_gb=1e-4)


def test_a_container_with_less_memory_is_believed(tmp_path):
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free_memory(tmp_path) == 4_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > 4_000_000


GROWTH = """
import resource, sys, torch
from pkg import ntk
from tests.test_ntk import small_resnet
torch.manual_seed(0)
model, x = small_resnet(), torch.randn(400, 1, 14, 14)
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ntk.empirical(model, x[:2])
before = peak()
ntk.empirical(model, x, memory_gb=float(sys.argv[1]))
print((peak() - before) / 1e9)
"""


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0.06, 0.12, 0.24])
def test_the_memory_planned_is_the_memory_taken(allowed):
    """Peak growth of a fresh process: at most what is allowed, and half of it used.

    400 points alone would take 0.18 GB, so two of the three need several blocks.
    """
    command = [sys.executable, "-c", GROWTH, str(allowed)]
    run = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    share = float(run.stdout) / allowed
    # A few MB more belong to the allocator and to libraries that load late.
    assert 0.5 < share < 1.1


class Chorus(nn.Module):
    """The sum of 300 linear layers, each with the same kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.voices = nn.ModuleList(nn.Linear(6, 1) for _ in range(300))

    def forward(self, x: Tensor) -> Tensor:
        return sum(voice(x) for voice in self.voices)


def test_halves_are_added_up_in_single_precision():
    """In half precision, a sum of 256 equal terms no longer grows."""
    torch.manual_seed(0)
    x = torch.randn(5, 6).bfloat16()
    K = ntk.empirical(Chorus().bfloat16(), x)
    assert K.dtype == np.float64
    points = x.double()
    close(K, 300 * (points @ points.T + 1).numpy(), 0.01)


def test_centring_a_network_does_not_touch_its_kernel():
    """The network subtracted is frozen; only the other one has gradients."""
    net = nets.mlp(6, 3, width=16, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 6)
    wanted = ntk.empirical(net, x)
    centred = ntk.empirical(nets.Centred(net, 1e-3), x, method="layerwise")
    close(centred, wanted, 1e-6)


def test_a_bar_shows_on_request(capsys):
    model, x = nn.Linear(6, 2), torch.randn(4, 6)
    ntk.empirical(model, x)
    ntk.sketch(model, x, 8)
    assert capsys.readouterr().err == ""
    ntk.empirical(model, x, progress=True)
    ntk.sketch(model, x, 8, progress=True)
    shown = capsys.readouterr().err
    assert "NTK" in shown and "100%" in shown


@pytest.fixture
def toy() -> tuple[nn.Module, Tensor, np.ndarray]:
    """A small network in float64, points, and their kernel."""
    generator = torch.Generator().manual_seed(0)
    model = nets.mlp(6, 4, width=32, generator=generator).double()
    x = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    return model, x, ntk.empirical(model, x)


def test_a_sketch_is_right_on_average(toy):
    """Fact 17. Each entry's mean of 50 draws lies within its own standard errors."""
    model, x, K = toy
    draws = []
    for seed in range(50):
        phi = ntk.sketch(model, x, 64, seed=seed)
        draws.append(phi @ phi.T)
    error = np.std(draws, axis=0, ddof=1) / 50**0.5
    z = (np.mean(draws, axis=0) - K) / error
    # 78 correlated entries: their mean square is about 1, their largest about 3.
    assert 0.2 < np.mean(z**2) < 3
    assert np.abs(z).max() < 5


def test_a_sketch_four_times_as_wide_is_twice_as_good(toy):
    """Fact 17: the error falls like dim^(-1/2)."""
    model, x, K = toy

    def error(dim: int) -> float:
        phis = [ntk.sketch(model, x, dim, seed=seed) for seed in range(12)]
        return np.mean([np.sum((phi @ phi.T - K) ** 2) for phi in phis]) ** 0.5

    slope = np.log(error(4096) / error(64)) / np.log(4096 / 64)
    assert -0.6 < slope < -0.4


def test_views_sketched_with_one_seed_share_their_buckets(toy):
    """Twice, at once, in blocks: the same features; and another seed shares nothing."""
    model, x, K = toy
    phi = ntk.sketch(model, x, 512)
    twice = np.concatenate([ntk.sketch(model, half, 512) for half in (x[:6], x[6:])])
    close(twice, phi, 1e-13)
    close(ntk.sketch(model, x, 512, memory_gb=8e-5), phi, 1e-13)
    other = ntk.sketch(model, x, 512, seed=1)
    assert np.linalg.norm(phi @ phi.T - K) < 0.2 * np.linalg.norm(K)
    assert np.linalg.norm(phi @ other.T) < 0.3 * np.linalg.norm(K)


@pytest.mark.slow
def test_a_wide_network_tends_to_its_kernel_of_infinite_width(rng):
    """Fact 15: the distance to the analytic NTK falls like width^(-1/2)."""
    x = rng.standard_normal((20, 10))
    limit = kernels.relu_ntk(x)
    points = torch.as_tensor(x)
    widths = [64, 256, 1024, 4096]
    spreads = []
    for width in widths:
        draws = []
        for seed in range(8):
            generator = torch.Generator().manual_seed(seed)
            model = nets.mlp(10, 2, width=width, generator=generator).double()
            draws.append(ntk.empirical(model, points) - limit)
        spreads.append(np.mean(np.sum(np.square(draws), axis=(1, 2))) ** 0.5)
        # The mean of eight draws lies 8^(-1/2) = 0.35 as far from the limit as one.
        assert np.linalg.norm(np.mean(draws, axis=0)) < 0.7 * spreads[-1]
    slope = np.polyfit(np.log(widths), np.log(spreads), 1)[0]
    assert -0.6 < slope < -0.4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_kernel_of_the_cpu():
    torch.manual_seed(0)
    model, x = small_resnet().double(), torch.randn(12, 1, 14, 14, dtype=torch.float64)
    K, phi = ntk.empirical(model, x), ntk.sketch(model, x, 256)
    model, x = model.cuda(), x.cuda()
    close(ntk.empirical(model, x), K, 1e-10)
    close(ntk.empirical(model, x, memory_gb=0.02), K, 1e-10)
    close(ntk.sketch(model, x, 256), phi, 1e-10)
    with pytest.raises(ValueError, match="`x` is on cpu, `model` on cuda:0; move"):
        ntk.empirical(model, x.cpu())
