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


def jacobian_blocks(model: nn.Module, x: Tensor, y: Tensor | None = None) -> np.ndarray:
    """Theta as (d, n, d, m) by the recipe of torch's tutorial."""
    own = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def f(own: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(model, own, (point[None],))[0]

    def rows(points: Tensor) -> Tensor:
        jacobian = vmap(jacrev(f), (None, 0))(own, points)
        return torch.cat([j.flatten(2) for j in jacobian.values()], dim=2).double()

    left = rows(x)
    right = left if y is None else rows(y)
    return torch.einsum("iap,jbp->aibj", left, right).numpy()


def jacobian_trace(model: nn.Module, x: Tensor, y: Tensor | None = None) -> np.ndarray:
    blocks = jacobian_blocks(model, x, y)
    return np.einsum("aiaj->ij", blocks) / len(blocks)


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

    close(K, jacobian_trace(model, x), tolerance)
    assert np.array_equal(K, K.T)


def test_a_wide_network_of_this_package_is_layerwise(rng):
    model = nets.mlp(5, 3, width=64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(7, 5)
    close(ntk.empirical(model, x, method="layerwise"), jacobian_trace(model, x), 1e-6)
