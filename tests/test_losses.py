"""Losses of embeddings: against other libraries, the linear theory, and themselves.

The golden file was made by lightly and the published code; the script beside it says
how.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pkg import flow, losses

GOLDEN = np.load(Path(__file__).parent / "golden" / "losses.npz")
BATCHES = ("few", "small", "wide", "usual", "tiny", "large")
# As the golden file calls them: the published form, and the one that climbs stairs.
FORMS = {
    **{name: (method, {}) for name, method in losses.METHODS.items()},
    **{
        f"{name}_stepwise": (method, losses.STEPWISE[name])
        for name, method in losses.METHODS.items()
    },
}
STEPWISE = [name for name in FORMS if name.endswith("_stepwise")]


def evaluate(name, z, z_prime, **changes):
    """Value and gradients (2, n, d) of a form of `FORMS`."""
    method, terms = FORMS[name]
    views = [view.detach().requires_grad_() for view in (z, z_prime)]
    loss = method(*views, **terms | changes)
    return loss.detach(), torch.stack(torch.autograd.grad(loss, views))


def golden(batch):
    return torch.tensor(GOLDEN[batch]).unbind()


@pytest.fixture
def pairs():
    """Two views (12, 5) that share a part."""
    generator = torch.Generator().manual_seed(0)
    shared, *own = torch.randn(3, 12, 5, dtype=torch.float64, generator=generator)
    return [shared + 0.5 * noise for noise in own]


# --- what others say --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", [name for name in FORMS if f"few_{name}" in GOLDEN])
def test_values_and_gradients_are_the_published_ones(name, batch, dtype, tolerance):
    z, z_prime = (view.to(dtype) for view in golden(batch))
    value, gradients = evaluate(name, z, z_prime)
    rtol = tolerance[str(dtype).removeprefix("torch.")]
    expected = torch.tensor(GOLDEN[f"{batch}_{name}_grad"])
    scale = float(expected.abs().max())
    assert value.dtype == gradients.dtype == dtype
    assert float(value) == pytest.approx(float(GOLDEN[f"{batch}_{name}"]), rel=rtol)
    # Round-off of an entry is that of the terms it is summed from.
    torch.testing.assert_close(
        gradients.double(), expected, rtol=0, atol=10 * rtol * scale
    )


@pytest.mark.slow
def test_the_golden_values_are_still_those_of_lightly():
    pytest.importorskip("lightly", reason="lightly has an environment of its own")
    from tests.golden import make_losses

    for name, (_, other) in make_losses.LOSSES.items():
        for batch in BATCHES if other is not None else ():
            value, gradients = make_losses.evaluate(other, GOLDEN[batch])
            found, slopes = evaluate(name, *golden(batch))
            assert float(found) == pytest.approx(value, rel=1e-12)
            scale = np.abs(gradients).max()
            np.testing.assert_allclose(slopes, gradients, rtol=0, atol=1e-11 * scale)


def linear(W0, x, x_prime, name):
    """Value and gradient (d, m) of a form at the embeddings of a linear map."""
    W = torch.tensor(W0, requires_grad=True)
    method, terms = FORMS[name]
    loss = method(torch.tensor(x) @ W.T, torch.tensor(x_prime) @ W.T, **terms)
    return float(loss.detach()), torch.autograd.grad(loss, W)[0].numpy()


def test_the_theorys_form_is_what_the_linear_flow_descends(rng):
    """Loss and gradient of a linear map: two rooms, two languages, one step."""
    x, x_prime = rng.standard_normal((2, 9, 4))
    W0 = 0.3 * rng.standard_normal((3, 4))
    run = flow.descend(W0, x, x_prime, lr=0.01, steps=1)
    W = torch.tensor(W0, requires_grad=True)
    z, z_prime = torch.tensor(x) @ W.T, torch.tensor(x_prime) @ W.T
    loss = losses.barlow_twins(z, z_prime, **losses.THEORY)
    (gradient,) = torch.autograd.grad(loss, W)
    np.testing.assert_allclose(float(loss.detach()), run.loss[0], rtol=1e-13)
    np.testing.assert_allclose(W0 - 0.01 * gradient.numpy(), run.weights, rtol=1e-13)


def test_the_spectral_loss_of_every_pair_is_the_linear_models(rng):
    """-2 tr(W Gamma W^T) + ||W Sigma W^T||^2 and its gradient, from the moments."""
    x, x_prime = rng.standard_normal((2, 9, 4)) + 0.3
    W = 0.3 * rng.standard_normal((3, 4))
    mean = np.concatenate([x, x_prime]).mean(0)
    a, b = x - mean, x_prime - mean
    Gamma, Sigma = (a.T @ b + b.T @ a) / 18, (a.T @ a + b.T @ b) / 18
    value, gradient = linear(W, x, x_prime, "spectral_stepwise")
    M = W @ Sigma @ W.T
    assert value == pytest.approx(np.sum(M**2) - 2 * np.trace(W @ Gamma @ W.T))
    np.testing.assert_allclose(gradient, 4 * (M @ W @ Sigma - W @ Gamma), rtol=1e-12)


# --- small embeddings -------------------------------------------------------------


def simclr_to_second_order(z, z_prime, temperature):
    """Two terms of the loss in powers of the dot products, for any finite n.

    Of the log of a mean of exp(s) over the 2n - 1 others: mean and half the variance.
    """
    both = torch.cat([z, z_prime])
    s = both @ both.T / temperature
    others = ~torch.eye(len(both), dtype=torch.bool)
    s = s[others].reshape(len(both), -1)  # (2n, 2n - 1)
    aligned = (z * z_prime).sum(1).mean() / temperature
    spread = s.var(1, correction=0) / 2
    return np.log(len(both) - 1) + (s.mean(1) + spread).mean() - aligned


def test_tiny_dot_products_leave_two_terms_of_simclr(pairs):
    """What is left out is of sixth order in the embedding's size."""
    left = []
    for size in (0.2, 0.1, 0.05):
        z, z_prime = (size * view for view in pairs)
        exact = losses.simclr(z, z_prime, temperature=0.8, normalize=False)
        left.append(float(exact - simclr_to_second_order(z, z_prime, 0.8)))
    # Measured: 5.8 and 6.0, near the six of the next order.
    orders = np.log2(np.abs(left[:-1]) / np.abs(left[1:]))
    np.testing.assert_allclose(orders, 6.0, atol=0.4)


def test_tiny_simclr_is_half_the_spectral_loss_of_many_pairs(rng):
    """Up to a constant and terms of order 1 / n, about the mean of all views."""
    # Opposite twins, so that the mean is zero and stays out of the spread.
    half = torch.tensor(rng.standard_normal((2, 400, 3)))
    shared, own = torch.cat([half, -half], dim=1).unbind()
    z, z_prime = 0.05 * (shared + 0.3 * own), 0.05 * (shared - 0.3 * own)
    simclr, slopes = evaluate("simclr_stepwise", z, z_prime)
    half_spectral, half_slopes = (
        part / 2 for part in evaluate("spectral_stepwise", z, z_prime)
    )
    left = float(simclr - half_spectral) - np.log(2 * len(z) - 1)
    # Measured: 0.4 % of the value, 0.5 % of the gradient.
    assert abs(left) < 0.01 * abs(float(half_spectral))
    assert float((slopes - half_slopes).norm() / half_slopes.norm()) < 0.01


@pytest.mark.parametrize("name", STEPWISE)
def test_a_stepwise_push_is_linear_in_a_tiny_embedding(name, pairs):
    """Ten times smaller, ten times weaker; else a small start is no plateau."""
    pushes = [
        evaluate(name, *(size * view for view in pairs))[1] / size
        for size in (1e-4, 1e-5)
    ]
    # VICReg has eps under a root: 1e-7 of its push is not yet linear at 1e-4.
    torch.testing.assert_close(*pushes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["barlow_twins", "simclr"])
def test_a_published_push_grows_as_the_embedding_shrinks(name, pairs):
    """A loss that does not feel the size pushes with one over the size."""
    # Not tiny: under a deviation of 3e-3 the guard of the normalisation takes over.
    large, small = (
        evaluate(name, *(size * view for view in pairs))[1] for size in (1e4, 1e3)
    )
    torch.testing.assert_close(small, 10 * large, rtol=1e-6, atol=1e-12)


def test_a_normalised_output_may_grow_for_nothing(pairs):
    """Which is why a small start shows no small-start steps under this loss."""
    z, z_prime = (100 * v for v in pairs)
    small, large = losses.barlow_twins(z, z_prime), losses.barlow_twins(10 * z, z_prime)
    # The guard 1e-5 under the root is all that feels the size.
    torch.testing.assert_close(small, large, rtol=1e-8, atol=0)


def test_vicregs_push_is_linear_below_eps_and_constant_above(pairs):
    """Of the variance term: z / sqrt(eps) while var << eps, then one a deviation."""
    z = pairs[0] - pairs[0].mean(0)
    z = z / z.std(0)
    pushes = {}
    for size in (1e-4, 1e-3, 0.1, 0.5):
        scaled = (size * z).requires_grad_()
        (pushes[size],) = torch.autograd.grad(losses.variance(scaled), scaled)
    below = -z / (len(z) - 1) / z.shape[1]  # d std / dz, mean over outputs
    torch.testing.assert_close(pushes[1e-4], 1e-4 / 0.01 * below, rtol=1e-4, atol=0)
    torch.testing.assert_close(pushes[1e-3], 1e-3 / 0.01 * below, rtol=1e-2, atol=0)
    for size in (0.1, 0.5):
        torch.testing.assert_close(pushes[size], below, rtol=1e-2, atol=0)


# --- what must not matter ---------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_the_order_of_pairs_and_of_views_does_not_matter(name, pairs):
    value, gradients = evaluate(name, *pairs)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    again, shuffled = evaluate(name, *(view[order] for view in pairs))
    swapped, turned = evaluate(name, *reversed(pairs))
    near = {"rtol": 1e-11, "atol": 1e-11}
    torch.testing.assert_close(again, value, **near)
    torch.testing.assert_close(shuffled, gradients[:, order], **near)
    torch.testing.assert_close(swapped, value, **near)
    torch.testing.assert_close(turned, gradients.flip(0), **near)


def rotation(d):
    generator = torch.Generator().manual_seed(2)
    return torch.linalg.qr(
        torch.randn(d, d, dtype=torch.float64, generator=generator)
    ).Q


@pytest.mark.parametrize(
    "name",
    ["barlow_twins_stepwise", "simclr", "simclr_stepwise", "spectral",
     "spectral_stepwise"],
)  # fmt: skip
def test_turning_the_outputs_does_not_matter(name, pairs):
    value, gradients = evaluate(name, *pairs)
    Q = rotation(5)
    again, turned = evaluate(name, *(view @ Q for view in pairs))
    torch.testing.assert_close(again, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(turned, gradients @ Q, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg", "vicreg_stepwise"])
def test_losses_that_look_at_single_outputs_feel_a_turn(name, pairs):
    value, _ = evaluate(name, *pairs)
    again, _ = evaluate(name, *(view @ rotation(5) for view in pairs))
    assert abs(float(again / value) - 1) > 1e-3


@pytest.mark.parametrize(
    "name, moved",
    [("barlow_twins", True), ("vicreg", True), ("spectral_stepwise", True),
     ("barlow_twins_stepwise", True), ("simclr_stepwise", False), ("spectral", False)],
)  # fmt: skip
def test_a_common_shift_matters_only_where_nothing_is_centred(name, moved, pairs):
    value, _ = evaluate(name, *pairs)
    again, _ = evaluate(name, *(view + 0.7 for view in pairs))
    assert (abs(float(again / value) - 1) < 1e-12) == moved


@pytest.mark.parametrize("name", ["barlow_twins_stepwise", "spectral", "simclr"])
def test_perfect_embeddings_have_the_least_loss(name):
    """Orthogonal axes, both views alike; -d for the spectral loss, as derived."""
    n, d = 16, 3
    basis = torch.linalg.qr(torch.randn(n, d + 1, dtype=torch.float64)).Q
    if name == "simclr":
        # Antipodes are as far apart as two classes can be.
        z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
        expected = np.log(np.exp(2.0) + 2 * np.exp(-2.0)) - 2.0
    elif name == "spectral":
        # Nothing beside the pair itself: two images on two axes of length sqrt 2.
        z, expected = np.sqrt(2) * torch.eye(2, dtype=torch.float64), -4.0
    else:
        z = basis - basis.mean(0)
        z = np.sqrt(n) * torch.linalg.qr(z).Q[:, :d]
        expected = 0.0
    value, _ = evaluate(name, z, z)
    assert float(value) == pytest.approx(expected, abs=1e-12)


def test_vicreg_is_the_sum_of_its_terms(pairs):
    z, y = pairs
    spread = (losses.variance(z, eps=0.2) + losses.variance(y, eps=0.2)) / 2
    shared = losses.covariance(z) + losses.covariance(y)
    expected = 2 * losses.invariance(z, y) + 3 * spread + 5 * shared
    found = losses.vicreg(z, y, sim_coeff=2.0, std_coeff=3.0, cov_coeff=5.0, eps=0.2)
    torch.testing.assert_close(found, expected)
    for coefficient in ("sim_coeff", "std_coeff", "cov_coeff"):
        alone = {"sim_coeff": 0.0, "std_coeff": 0.0, "cov_coeff": 0.0, coefficient: 1.0}
        assert float(losses.vicreg(z, y, **alone)) > 0


@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_the_slopes(name, pairs):
    method, terms = FORMS[name]
    # VICReg's hinge is steep here: a deviation of 0.5 is below its target.
    views = [(0.5 * view[:4, :3]).detach().requires_grad_() for view in pairs]
    assert torch.autograd.gradcheck(lambda *v: method(*v, **terms), views)


@pytest.mark.parametrize("name", FORMS)
def test_nothing_waits_for_the_device(name):
    """Tensors without values: a look at one, or a tensor left on the CPU, fails."""
    z, z_prime = torch.randn(2, 6, 4, device="meta", requires_grad=True)
    method, terms = FORMS[name]
    loss = method(z, z_prime, **terms)
    assert loss.device.type == "meta"
    assert torch.autograd.grad(loss, z)[0].shape == (6, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", FORMS)
def test_a_gpu_gives_the_same_bits_twice_and_the_processors_numbers(
    name, pairs, monkeypatch
):
    # Else torch refuses a matrix product that it cannot promise to repeat.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    views = [view.cuda() for view in pairs]
    torch.use_deterministic_algorithms(True)
    try:
        first, again = evaluate(name, *views), evaluate(name, *views)
    finally:
        torch.use_deterministic_algorithms(False)
    for found, repeated, expected in zip(
        first, again, evaluate(name, *pairs), strict=True
    ):
        assert torch.equal(found, repeated)
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)


def test_every_method_has_a_stepwise_form():
    assert losses.METHODS.keys() == losses.STEPWISE.keys()
    assert all(losses.METHODS[name].__name__ == name for name in losses.METHODS)


# --- bad input --------------------------------------------------------------------

Z, FIVE = torch.ones(3, 2), torch.ones(3, 5)
REFUSALS = {
    "one embedding without its axis": (
        lambda: losses.barlow_twins(Z[0], Z[0]),
        "`z` must be (n, d), one embedding a row; got (2,)",
    ),
    "no outputs": (
        lambda: losses.simclr(Z[:, :0], Z[:, :0]),
        "`z` must be (n, d), one embedding a row; got (3, 0)",
    ),
    "normalised about zero": (
        lambda: losses.cross_correlation(Z, Z, center=False),
        "pass center=True, or normalize=False",
    ),
    "one output has no direction": (
        lambda: losses.simclr(Z[:, :1], Z[:, :1]),
        "`normalize` leaves only a sign of one output, d = 1; use d of at least 2",
    ),
    "one output covaries with none": (
        lambda: losses.vicreg(Z[:, :1], Z[:, :1]),
        "`z` has one output, d = 1, which covaries with no other",
    ),
    "negative weight": (
        lambda: losses.barlow_twins(Z, Z, lambd=-1.0),
        "`lambd` must be zero or positive; it is -1",
    ),
    "weight that is no number": (
        lambda: losses.vicreg(Z, Z, std_coeff=float("nan")),
        "`std_coeff` must be zero or positive; it is nan",
    ),
    "no temperature": (
        lambda: losses.simclr(Z, Z, temperature=0.0),
        "`temperature` must be positive; it is 0",
    ),
    "a root with no slope": (
        lambda: losses.variance(Z, eps=0.0),
        "`eps` must be positive; it is 0",
    ),
    "a deviation below zero": (
        lambda: losses.vicreg(Z, Z, target=-1.0),
        "`target` must be zero or positive; it is -1",
    ),
    **{
        f"{name} of other shapes": (
            lambda term=term: term(Z, FIVE),
            "`z` and `z_prime` must have one shape, row i with row i; got (3, 2) and "
            "(3, 5)",
        )
        for name, term in {**losses.METHODS, "invariance": losses.invariance}.items()
    },
    **{
        f"{name} of one pair": (
            lambda term=term: term(Z[:1], Z[:1]),
            "`z` needs at least 2 rows, one an image; it has 1. Use a larger batch",
        )
        for name, term in losses.METHODS.items()
    },
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
