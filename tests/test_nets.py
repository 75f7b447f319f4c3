"""Networks: shapes, seeds, the limit of many units, and what a small start scales.

The golden file was made once by torchvision; the script beside it says how.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp, vjp

from pkg import nets, ntk, optim
from tests.golden import make_resnets

GOLDEN = np.load(Path(__file__).parent / "golden" / "resnets.npz")


SIZE, RATE = "size of the output", "learning rate of the layer"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_seed_is_one_network():
    small = {"width": 8, "in_channels": 1}
    builders = (
        lambda g: nets.mlp(4, 3, width=8, generator=g),
        conv,
        lambda g: nets.demo(3, generator=g),
        lambda g: nets.resnet50(3, **small, generator=g),
        lambda g: nets.projector(16, 3, hidden=(8,), generator=g),
    )
    for build in builders:
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
    assert nets.scale_init_(model, 0.01) == {"8.weight": SIZE}
    torch.testing.assert_close(model(x), 0.01 * before)


def test_small_convolutions_do_nothing_under_group_norm():
    """The scale of a weight in front of a normalisation is no size of anything."""
    model, x = conv(seeded()).double(), torch.rand(4, 3, 8, 8, generator=seeded())
    before = model(x.double())
    named = nets.scale_init_(model, 0.5, which="weights")
    assert named == {"0.weight": RATE, "3.weight": RATE, "8.weight": SIZE}
    # Half, from the readout alone; GroupNorm's own 1e-5 under the root leaves the rest.
    torch.testing.assert_close(model(x.double()), 0.5 * before, rtol=1e-2, atol=1e-3)
    bare = nets.conv(3, channels=(8, 16), groups=None, generator=seeded()).double()
    before = bare(x.double())
    named = nets.scale_init_(bare, 0.5, which="weights")
    assert set(named.values()) == {SIZE}
    torch.testing.assert_close(bare(x.double()), 0.5**3 * before)


def test_in_front_of_a_normalisation_size_is_a_learning_rate():
    """Half the weight has the same output and twice the gradient: a step four times."""
    model = conv(seeded()).double()
    # A large first weight, so that GroupNorm's 1e-5 under the root counts for nothing.
    nets.scale_init_(model, 30.0, which="weights")
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=seeded())
    whole = torch.autograd.grad(model(x).square().sum(), model[0].weight)[0]
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    half = torch.autograd.grad(model(x).square().sum(), model[0].weight)[0]
    torch.testing.assert_close(half, 2 * whole, rtol=1e-4, atol=1e-6 * whole.max())


def test_a_bias_before_the_normalisation_gives_the_weight_a_size():
    """normalise(s w x + b) is not normalise(w x + b)."""
    model = nn.Sequential(nn.Linear(3, 8), nn.GroupNorm(2, 8), nn.Linear(8, 2))
    named = nets.scale_init_(model, 0.5, which="weights")
    assert named == {"0.weight": SIZE, "2.weight": SIZE}


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
    assert list(nets.scale_init_(model, 0.5, which="weights")) == ["3.weight"]
    torch.testing.assert_close(model[0].weight, 0.5 * before)


def golden_network(case, *, norm=None):
    network, stem, told, side = make_resnets.CASES[case]
    build = getattr(nets, network)
    model = build(make_resnets.D, stem=stem, norm=norm or told, generator=seeded())
    return model.double(), torch.tensor(make_resnets.images(side))


def golden_weights(case):
    shapes = dict(json.loads(str(GOLDEN[f"{case}_state"])))
    drawn = make_resnets.weights({k: tuple(v) for k, v in shapes.items()})
    return {k: torch.tensor(v) for k, v in drawn.items()}


@pytest.mark.parametrize("case", make_resnets.CASES)
def test_resnets_are_torchvisions(case):
    """Names and shapes in their order, outputs in both modes, every gradient's norm."""
    model, x = golden_network(case)
    state = [(k, list(v.shape)) for k, v in model.state_dict().items()]
    assert state == [(k, v) for k, v in json.loads(str(GOLDEN[f"{case}_state"]))]
    model.load_state_dict(golden_weights(case))
    for mode in ("eval", "train"):
        z = model.train(mode == "train")(x)
        # Sums over pixels and channels in another order, through up to 50 layers.
        np.testing.assert_allclose(z.detach(), GOLDEN[f"{case}_{mode}"], rtol=1e-8)
    (z * torch.tensor(make_resnets.signs())).sum().backward()
    norms = [float(p.grad.norm()) for p in model.parameters()]
    np.testing.assert_allclose(norms, GOLDEN[f"{case}_gradients"], rtol=1e-6)


def test_trained_weights_load_as_the_docstring_says():
    weights = golden_weights("resnet18")
    weights["fc.weight"] = torch.zeros(1000, 512)
    trunk = {k: v for k, v in weights.items() if not k.startswith("fc.")}
    model, _ = golden_network("resnet18")
    told = model.load_state_dict(trunk, strict=False)
    assert (told.missing_keys, told.unexpected_keys) == (["fc.weight"], [])
    model, _ = golden_network("resnet18", norm="group")
    told = model.load_state_dict(trunk, strict=False)
    assert told.missing_keys == ["fc.weight"]
    kinds = {key.rsplit(".", 1)[1] for key in told.unexpected_keys}
    assert kinds == {"running_mean", "running_var", "num_batches_tracked"}
    torch.testing.assert_close(model.conv1.weight, trunk["conv1.weight"])


def test_the_demo_network_has_its_77_thousand_weights():
    model = nets.demo(8, generator=seeded())
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sizes.pop("fc.weight") == 256 * 8
    assert sum(sizes.values()) == 77_392
    assert model(torch.rand(5, 3, 16, 16)).shape == (5, 8)


@pytest.mark.parametrize("side", [(9, 9), (16, 16), (20, 13), (28, 28)])
def test_quarters_are_those_of_adaptive_pooling(side):
    """Of odd sizes too, where the halves share their middle row."""
    model = nets.demo(3, generator=seeded()).double()
    x = torch.randn(2, 3, *side, dtype=torch.float64, generator=seeded())
    h = x
    for layer in list(model.children())[:-1]:
        h = layer(h)
    pooled = nn.functional.adaptive_avg_pool2d(h, 2).flatten(1)
    torch.testing.assert_close(model.features(x), pooled)
    torch.testing.assert_close(model(x), pooled @ model.fc.weight.T)


def test_a_resnet_embeds_each_image_by_itself():
    model = nets.demo(3, generator=seeded()).double()
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=seeded())
    together, alone = model(x), torch.cat([model(image[None]) for image in x])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def every_resnet():
    small = {"width": 8, "generator": seeded()}
    yield nets.demo(3, generator=seeded())
    yield nets.resnet18(3, **small)
    yield nets.resnet50(3, **small, pool=2)


def test_resnets_run_on_the_meta_device_and_back():
    """Nothing in them asks what a number is, and nothing is left on the CPU."""
    batch = nets.demo(3, norm="batch", generator=seeded())
    for model in (batch, *every_resnet()):
        model = model.to("meta")
        z = model(torch.empty(4, 3, 33, 40, device="meta"))
        z.sum().backward()
        assert z.shape == (4, 3)
        assert {p.grad.device.type for p in model.parameters()} == {"meta"}


def test_the_memory_format_changes_no_embedding():
    for model in every_resnet():
        x = torch.randn(3, 3, 40, 33, generator=seeded())
        plain = model(x)
        model = model.to(memory_format=torch.channels_last)
        last = model(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


def test_under_autocast_only_the_readout_keeps_its_precision():
    model = nets.demo(3, generator=seeded())
    x = torch.randn(8, 3, 16, 16, generator=seeded())
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, z = model.features(x), model(x)
    assert (features.dtype, z.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(z, features.float() @ model.fc.weight.T)
    # Eight bits in each of seven convolutions.
    torch.testing.assert_close(z, exact, rtol=0, atol=0.03 * exact.abs().max().item())
    model.fc = nets.projector(256, 3, hidden=(16,), generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.float32


def test_forward_and_backward_derivatives_are_each_others_transpose():
    """What `optim.top_gamma` asks of a network, through max-pool and quarters too."""
    for model in every_resnet():
        model = model.double()
        x = torch.randn(2, 3, 33, 36, dtype=torch.float64, generator=seeded())
        own = {k: p.detach() for k, p in model.named_parameters()}
        v = {k: torch.randn(p.shape, generator=seeded()).to(p) for k, p in own.items()}
        u = torch.randn(2, 3, dtype=torch.float64, generator=seeded())

        def embed(p, model=model, x=x):
            return functional_call(model, p, (x,))

        forward = jvp(embed, (own,), (v,))[1]
        (backward,) = vjp(embed, own)[1](u)
        product = sum((backward[k] * v[k]).sum() for k in own)
        torch.testing.assert_close((u * forward).sum(), product)
        assert optim.top_gamma(model, x, x) > 0


def test_the_kernel_of_a_resnet_can_be_had_layer_by_layer():
    model = nets.demo(2, generator=seeded()).double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=seeded())
    fast = ntk.empirical(model, x, method="layerwise")
    slow = ntk.empirical(model, x, method="per_output")
    np.testing.assert_allclose(fast, slow, rtol=1e-9)


def test_a_small_start_of_a_resnet_is_its_readout():
    for model in every_resnet():
        x = torch.randn(2, 3, 33, 33, generator=seeded())
        before = model(x)
        assert nets.scale_init_(model, 1e-3) == {"fc.weight": SIZE}
        torch.testing.assert_close(model(x), 1e-3 * before)
        named = nets.scale_init_(model, 0.5, which="weights")
        assert named.pop("fc.weight") == SIZE
        assert set(named.values()) == {RATE}
        assert len(named) == sum(isinstance(m, nn.Conv2d) for m in model.modules())


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_projector_takes_the_readouts_place(norm):
    model = nets.demo(3, generator=seeded())
    model.fc = nets.projector(model.fc.in_features, 5, hidden=(32, 16), norm=norm)
    assert model(torch.rand(4, 3, 16, 16)).shape == (4, 5)
    assert not [name for name, p in model.fc.named_parameters() if p.shape == (5,)]
    assert nets.scale_init_(model, 0.1) == {"fc.6.weight": SIZE}


def test_convolutions_begin_with_variance_two_over_fan_in():
    model = nets.resnet18(2, stem="imagenet", generator=seeded())
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            # The rarest layer has 9408 weights: four standard errors are 6 %.
            measured = layer.weight.square().mean().item() * fan_in / 2
            assert measured == pytest.approx(1, rel=0.06), name


REFUSALS = {
    "one image alone": (
        lambda: nets.demo(2)(torch.zeros(3, 16, 16)),
        "got shape (3, 16, 16). For one image pass x[None]",
    ),
    "channels last": (
        lambda: nets.demo(2)(torch.zeros(2, 16, 16, 3)),
        "`x` has 16 channels and the network takes 3: channels come second, so pass "
        "x.permute(0, 3, 1, 2)",
    ),
    "grey images": (
        lambda: nets.demo(2)(torch.zeros(2, 1, 16, 16)),
        "the network takes 3: build it with in_channels=1",
    ),
    "too small for quarters": (
        lambda: nets.resnet18(2, pool=2, stem="imagenet")(torch.zeros(2, 3, 40, 32)),
        "images of 40 by 32 pixels; this network makes one feature of 32 pixels along "
        "each side, and its grid of 2 by 2 needs at least 33",
    ),
    "an unknown stem": (
        lambda: nets.resnet18(2, stem="imagnet"),
        "`stem` is 'imagnet', which is not known; did you mean 'imagenet'?",
    ),
    "an unknown normalisation": (
        lambda: nets.demo(2, norm="layer"),
        "`norm` is 'layer', which is not known",
    ),
    "no output": (lambda: nets.demo(0), "`d` must be at least 1; got 0"),
    "nine quarters": (
        lambda: nets.resnet50(2, pool=3),
        "`pool` must be between 1 and 2; got 3",
    ),
    "a width that eight groups do not divide": (
        lambda: nets.resnet18(2, width=12),
        "`width` is 12, which GroupNorm's 8 groups do not divide; pass a multiple of 8",
    ),
    "a projector without a hidden layer": (
        lambda: nets.projector(8, 2, hidden=()),
        "`hidden` is empty; name the units of at least one layer",
    ),
    "hidden units that eight groups do not divide": (
        lambda: nets.projector(8, 2, hidden=(9,)),
        "`hidden` is 9, which GroupNorm's 8 groups do not divide",
    ),
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
