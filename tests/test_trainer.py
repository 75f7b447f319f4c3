"""Descent of a network: against the linear flow, its rate, its guard, its entries."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from pkg import dynamics, flow, nets, optim, spectra, trainer


@pytest.fixture
def pairs(rng):
    """Views with a known, falling spectrum and a few negative modes."""
    shared = rng.standard_normal((40, 6)) * [2.0, 1.2, 0.8, 0.5, 0.2, 0.1]
    noise = 0.2 * rng.standard_normal((2, 40, 6))
    return shared + noise[0], shared + noise[1]


def linear(W0):
    model = nn.Linear(W0.shape[1], W0.shape[0], bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(W0))
    return model


def tensors(pairs):
    return tuple(torch.tensor(view) for view in pairs)


def test_a_linear_network_descends_as_the_linear_model_does(pairs, rng):
    """Autograd on pairs of embeddings against a loop over (C - I) W Gamma."""
    W0 = 1e-2 * rng.standard_normal((3, 6))
    model = linear(W0)
    run = trainer.descend(model, *tensors(pairs), steps=80, lr=0.01)
    expected = flow.descend(W0, *pairs, lr=0.01, steps=80)
    np.testing.assert_allclose(run.loss, expected.loss, rtol=1e-10)
    np.testing.assert_allclose(run.eigenvalues, expected.eigenvalues, atol=1e-10)
    np.testing.assert_allclose(run.t, expected.t, rtol=1e-12)
    np.testing.assert_allclose(model.weight.detach(), expected.weights, rtol=1e-9)
    assert (run.order, run.matrix) == ("rank", "cross-correlation")


@pytest.mark.parametrize("center", [False, True])
def test_the_top_gamma_of_a_linear_network_is_that_of_the_views(pairs, rng, center):
    # As the published loss does: each view about its own mean.
    about = [view - center * view.mean(0) for view in pairs]
    expected = spectra.top_eigenvalues(dynamics.cross_correlation(*about), 1)[0]
    model = linear(rng.standard_normal((3, 6)))
    found = optim.top_gamma(model, *tensors(pairs), center=center, tol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_top_gamma_is_the_largest_and_not_the_largest_modulus(rng):
    """Views that mostly disagree have a large negative mode; it is never learned."""
    x = rng.standard_normal((30, 4)) * [3.0, 1.0, 1.0, 1.0]
    x_prime = x * [-1.0, 1.0, 1.0, 1.0]
    gammas = spectra.top_eigenvalues(dynamics.cross_correlation(x, x_prime))
    assert gammas[-1] < -4 * gammas[0]
    model = linear(np.eye(2, 4))
    found = optim.top_gamma(model, *tensors((x, x_prime)), tol=1e-10, iterations=2000)
    np.testing.assert_allclose(found, gammas[0], rtol=1e-6)


def test_the_top_gamma_of_a_network_is_that_of_its_jacobian(pairs):
    """Full blocks: every output of every view against every other."""
    x, x_prime = tensors(pairs)
    model = nets.mlp(6, 2, width=5, generator=torch.Generator().manual_seed(0)).double()
    rows = []
    for view in (x, x_prime):
        for z in model(view).flatten():
            gradient = torch.autograd.grad(z, model.parameters(), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradient]))
    J, J_prime = torch.stack(rows).chunk(2)
    Gamma = (J.T @ J_prime + J_prime.T @ J) / (2 * len(x))
    expected = float(torch.linalg.eigvalsh(Gamma)[-1])
    np.testing.assert_allclose(
        optim.top_gamma(model, x, x_prime, tol=1e-12), expected, rtol=1e-8
    )


def test_the_default_rate_is_a_sixteenth_of_the_inverse_top_gamma(pairs, rng):
    model = linear(1e-2 * rng.standard_normal((2, 6)))
    run = trainer.descend(model, *tensors(pairs), steps=3)
    gamma = spectra.top_eigenvalues(dynamics.cross_correlation(*pairs), 1)[0]
    # Power iteration stops at one per cent, from below.
    np.testing.assert_allclose(np.diff(run.t), 1 / (16 * gamma), rtol=0.02)


def test_descent_stops_where_it_is_told_and_keeps_its_last_entry(pairs, rng):
    seen = []
    run = trainer.descend(
        linear(1e-2 * rng.standard_normal((2, 6))),
        *tensors(pairs),
        steps=5000,
        until=0.5,
        record_every=7,
        watch=lambda step, model: seen.append((step, model.training)),
    )
    assert run.loss[-1] < 0.5 <= run.loss[-2]
    assert np.all(run.step[:-1] % 7 == 0)
    assert [step for step, _ in seen] == list(run.step)


def test_a_rate_beyond_the_limit_is_stopped_and_said(pairs, rng):
    x, x_prime = tensors(pairs)
    model = linear(rng.standard_normal((2, 6)))
    with pytest.raises(RuntimeError, match=r"rose from .* `lr`, or leave it out"):
        trainer.descend(model, x, x_prime, steps=50, lr=1.0)
    model = linear(rng.standard_normal((2, 6)))
    with pytest.raises(RuntimeError, match=r"smaller `rate` or a smaller `refresh`"):
        trainer.descend(model, x, x_prime, steps=200, rate=3.0)
    # A loss that is no longer a number is never waited for.
    model = linear(rng.standard_normal((2, 6)))
    with pytest.raises(RuntimeError, match=r"rose from .* to nan"):
        trainer.descend(model, x, x_prime, steps=200, lr=1e3, rise=np.inf)


def test_a_parameter_that_is_not_used_stays_where_it_is(pairs, rng):
    model = nn.Sequential(linear(1e-2 * rng.standard_normal((2, 6))))
    model.register_parameter("idle", nn.Parameter(torch.ones(3)))
    trainer.descend(model, *tensors(pairs), steps=5, lr=0.01)
    assert torch.equal(model.idle, torch.ones(3))


@pytest.mark.parametrize("scale", [1.0, 1e-2])
def test_a_small_positive_mode_behind_a_large_negative_one_is_measured(rng, scale):
    """With the default tolerance: the shift must not stop the iteration early."""
    x = np.sqrt(np.diag([1.0, 30.0]) * 2)
    x[0] *= np.sqrt(scale)
    x_prime = x * [1.0, -1.0]
    gammas = spectra.top_eigenvalues(dynamics.cross_correlation(x, x_prime))
    np.testing.assert_allclose(gammas, [scale, -30.0])
    found = optim.top_gamma(
        linear(rng.standard_normal((2, 2))), *tensors((x, x_prime)), iterations=20_000
    )
    np.testing.assert_allclose(found, scale, rtol=0.05)


X = torch.ones(3, 2)
MODEL = nn.Linear(2, 2)
UNFLAT = nn.Sequential(MODEL, nn.Unflatten(1, (1, 2)))
FROZEN = nn.Linear(2, 2).requires_grad_(False)
REFUSALS = {
    "an image out": (
        lambda: trainer.descend(UNFLAT, X, X, steps=1),
        "`model` must map (n, ...) to (n, d); 6 inputs became (6, 1, 2)",
    ),
    "views of two lengths": (
        lambda: trainer.descend(MODEL, X, torch.ones(5, 2), steps=1, lr=0.1),
        "`x` and `x_prime` must have one shape, row i with row i; got (3, 2) and "
        "(5, 2)",
    ),
    "pictures that are not numbers": (
        lambda: trainer.descend(MODEL, X, X / 0 * 0, steps=1, lr=0.1),
        "`x` and `x_prime` must be finite; one of them is not",
    ),
    "a frozen model": (
        lambda: trainer.descend(FROZEN, X, X, steps=1, lr=0.1),
        "`model` has no parameter that requires a gradient; call requires_grad_()",
    ),
    "no rise": (
        lambda: trainer.descend(MODEL, X, X, steps=1, rise=-1.0),
        "`rise` must be positive and `until` not negative; got -1.0 and 0.0",
    ),
    "batches that decide": (
        lambda: optim.top_gamma(nn.Sequential(MODEL, nn.BatchNorm1d(2)), X, X),
        "`model` has batch normalisation in training mode ('1')",
    ),
    "weights beyond numbers": (
        lambda: optim.top_gamma(nn.Linear(2, 2), X * torch.inf, X),
        "are so large, or not finite, that gamma_1 is nan",
    ),
    "no steps": (
        lambda: trainer.descend(MODEL, X, X, steps=0),
        "`steps` must be at least 1; got 0",
    ),
    "a rate below zero": (
        lambda: trainer.descend(MODEL, X, X, steps=1, lr=-1.0),
        "`lr` must be finite and positive; it is -1",
    ),
    "views of two shapes": (
        lambda: optim.top_gamma(MODEL, X, torch.ones(4, 2)),
        "`x` and `x_prime` must have one shape, row i with row i; got (3, 2) and "
        "(4, 2)",
    ),
    "nothing to train": (
        lambda: optim.top_gamma(nn.ReLU(), X, X),
        "`model` has no parameter that requires a gradient",
    ),
    "views that contradict": (
        lambda: optim.top_gamma(nn.Linear(2, 2, bias=False), X, -X),
        "no mode of the pairs `x`, `x_prime` was found to be positive",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
