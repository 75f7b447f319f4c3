"""Losses of embeddings: against batch normalisation, a loop, and the linear theory."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from pkg import flow, losses


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 12, 5, dtype=torch.float64, generator=generator).unbind()


def test_defaults_are_the_published_loss_term_by_term(pairs):
    """The published code: batch normalisation, one matrix, two sums of squares."""
    z, z_prime = pairs
    normal = [functional.batch_norm(v, None, None, training=True) for v in pairs]
    C = normal[0].T @ normal[1] / 12
    expected = 0.0
    for i in range(5):
        for j in range(5):
            expected += (1 - C[i, j]) ** 2 if i == j else 0.0051 * C[i, j] ** 2
    torch.testing.assert_close(losses.barlow_twins(z, z_prime), expected)
    torch.testing.assert_close(losses.cross_correlation(z, z_prime), C)


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


def test_a_normalised_output_may_grow_for_nothing(pairs):
    """Which is why a small start shows no small-start steps under this loss."""
    z, z_prime = (100 * v for v in pairs)
    small, large = losses.barlow_twins(z, z_prime), losses.barlow_twins(10 * z, z_prime)
    # The guard 1e-5 under the root is all that feels the size.
    torch.testing.assert_close(small, large, rtol=1e-8, atol=0)


def test_the_loss_keeps_the_dtype_and_its_gradient_exists(pairs):
    for dtype in (torch.float32, torch.float64):
        z = pairs[0].to(dtype).requires_grad_()
        loss = losses.barlow_twins(z, pairs[1].to(dtype))
        assert loss.dtype == dtype
        assert torch.autograd.grad(loss, z)[0].isfinite().all()


Z = torch.ones(3, 2)
REFUSALS = {
    "other shapes": (
        lambda: losses.barlow_twins(Z, torch.ones(4, 2)),
        "`z` and `z_prime` must have one shape, row i with row i; got (3, 2) and "
        "(4, 2)",
    ),
    "one embedding without its axis": (
        lambda: losses.barlow_twins(Z[0], Z[0]),
        "`z` must be (n, d), one embedding a row; got (2,)",
    ),
    "normalised about zero": (
        lambda: losses.cross_correlation(Z, Z, center=False),
        "pass center=True, or normalize=False",
    ),
    "negative weight": (
        lambda: losses.barlow_twins(Z, Z, lambd=-1.0),
        "`lambd` must be zero or positive; it is -1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
