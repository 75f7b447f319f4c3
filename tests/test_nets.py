"""Networks: shapes, seeds, the limit of many units, and what a small start scales."""

import re

import numpy as np
import pytest
import torch

from pkg import nets


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_seed_is_one_network():
    for build in (lambda g: nets.mlp(4, 3, width=8, generator=g), conv):
        a, b, other = build(seeded()), build(seeded()), build(seeded(1))
        for p, q, r in zip(*map(weights, (a, b, other)), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=0)
            # GroupNorm starts at ones and zeros, whatever the seed.
            assert p.ndim == 1 or not torch.equal(p, r)


def conv(generator):
    return nets.conv(3, channels=(8, 16), generator=generator)


def weights(model):
    return list(model.parameters())


@pytest.mark.parametrize("depth", [1, 3])
def test_outputs_have_the_variance_of_the_infinite_network(depth):
    """E f(x)^2 = 2 |x|^2 / m at any depth, over networks and outputs."""
    x = torch.linspace(-1, 1, 6)[None]
    many = [
        nets.mlp(6, 50, width=64, depth=depth, generator=seeded(s)) for s in range(200)
    ]
    squares = torch.cat([net(x) for net in many]).detach() ** 2
    assert squares.shape == (200, 50)
    # 200 networks whose outputs share their hidden layers: 5 % at this depth.
    assert float(squares.mean()) == pytest.approx(float(2 * (x**2).mean()), rel=0.15)


def test_the_convolutional_network_embeds_each_image_by_itself():
    """A kernel needs a function of one image: a batch must not matter."""
    model = conv(seeded()).double()
    x = torch.rand(5, 3, 9, 9, dtype=torch.float64, generator=seeded())
    together, alone = model(x), torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_a_small_readout_makes_the_embedding_small_in_proportion():
    model, x = conv(seeded()), torch.rand(4, 3, 8, 8, generator=seeded())
    before = model(x)
    assert nets.scale_init_(model, 0.01) == ["8.weight"]
    torch.testing.assert_close(model(x), 0.01 * before)


def test_small_convolutions_do_nothing_under_group_norm():
    """The scale of a weight in front of a normalisation is no size of anything."""
    model, x = conv(seeded()).double(), torch.rand(4, 3, 8, 8, generator=seeded())
    before = model(x.double())
    named = nets.scale_init_(model, 0.5, which="weights")
    assert named == ["0.weight", "3.weight", "8.weight"]
    # Half, from the readout alone; GroupNorm's own 1e-5 under the root leaves the rest.
    torch.testing.assert_close(model(x.double()), 0.5 * before, rtol=1e-2, atol=1e-3)
    bare = nets.conv(3, channels=(8, 16), groups=None, generator=seeded()).double()
    before = bare(x.double())
    nets.scale_init_(bare, 0.5, which="weights")
    torch.testing.assert_close(bare(x.double()), 0.5**3 * before)


def test_a_centred_network_starts_small_with_its_gradients_whole():
    model = nets.mlp(4, 2, width=16, generator=seeded()).double()
    x = torch.randn(3, 4, dtype=torch.float64, generator=seeded())
    before = model(x)
    gradient = torch.autograd.grad(before.sum(), weights(model))
    centred = nets.Centred(model, 1e-3)
    torch.testing.assert_close(centred(x), 1e-3 * before)
    trained = [p for p in centred.parameters() if p.requires_grad]
    assert len(trained) == 2
    for ours, theirs in zip(
        torch.autograd.grad(centred(x).sum(), trained), gradient, strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        trained[0].add_(1.0)
    moved = (model(x) - before) + 1e-3 * before
    np.testing.assert_allclose(centred(x).detach(), moved.detach(), rtol=1e-10)


def test_a_weight_that_two_layers_share_is_scaled_once():
    model = nets.mlp(3, 3, width=3)
    model[3].weight = model[0].weight
    before = model[0].weight.clone()
    assert nets.scale_init_(model, 0.5, which="weights") == ["3.weight"]
    torch.testing.assert_close(model[0].weight, 0.5 * before)


REFUSALS = {
    "no units": (
        lambda: nets.mlp(4, 2, width=0),
        "`width` must be at least 1; got 0",
    ),
    "half a layer": (
        lambda: nets.mlp(4, 2, width=3, depth=0.5),
        "`depth` must be a whole number; got 0.5",
    ),
    "groups that do not divide": (
        lambda: nets.conv(2, channels=(12,), groups=8),
        "`groups` is 8, which does not divide 12 channels",
    ),
    "no start": (
        lambda: nets.Centred(nets.mlp(2, 2, width=2), 0.0),
        "`start` must be finite and positive; it is 0",
    ),
    "no convolutions": (
        lambda: nets.conv(2, channels=()),
        "`channels` is empty; name at least one convolution's",
    ),
    "negative channels": (
        lambda: nets.conv(2, channels=(-8,)),
        "`channels` must be at least 1; got -8",
    ),
    "nothing to scale": (
        lambda: nets.scale_init_(torch.nn.ReLU(), 0.1),
        "`model` has no linear layer to scale",
    ),
    "a layer unheard of": (
        lambda: nets.scale_init_(nets.mlp(2, 2, width=2), 0.1, which="readot"),
        "`which` is 'readot', which is not known; did you mean 'readout'?",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
