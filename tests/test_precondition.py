"""The gradient on its way back: multiplied by the matrix it says, and by nothing else.

`torch.autograd.gradcheck` would rightly fail here: what comes back is no derivative.
"""

import re

import numpy as np
import pytest
import torch

from pkg import dynamics, flow, losses, optim


def batch(rng, dtype=torch.float64):
    """Two views whose C has eigenvalues near 1, 1e-2 and -0.3."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    z = rng.standard_normal((50, 3)) @ np.diag([1.0, 0.1, 0.55])
    z_prime = z * [1.0, 1.0, -1.0] + 0.01 * rng.standard_normal((50, 3)) + 0.3
    views = (torch.tensor(v @ turn, dtype=dtype) for v in (z, z_prime))
    return tuple(v.requires_grad_() for v in views)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("power", "floor"), [(0.5, 1e-2), (1.0, 0.2), (0.25, 1e-4)])
@pytest.mark.parametrize("center", [False, True])
def test_the_gradient_is_multiplied_by_the_power_of_C(
    dtype, power, floor, center, rng, tolerance
):
    """Against SciPy's matrix power of the written-out C, with a negative eigenvalue."""
    from scipy import linalg

    z, z_prime = batch(rng, dtype)
    a, b = (v.detach().double().numpy() for v in (z, z_prime))
    if center:
        a, b = a - a.mean(0), b - b.mean(0)
    C = (a.T @ b + b.T @ a) / 100
    assert np.linalg.eigvalsh(C)[0] < -0.05
    modulus = linalg.sqrtm(C @ C).real
    P = linalg.fractional_matrix_power(modulus + floor * np.eye(3), -power).real

    weights = torch.tensor(rng.standard_normal((2, 50, 3)), dtype=dtype)
    there = optim.precondition(z, z_prime, power=power, floor=floor, center=center)
    assert torch.equal(there[0], z) and torch.equal(there[1], z_prime)
    sum((w * v).sum() for w, v in zip(weights, there, strict=True)).backward()
    rtol = 10 * tolerance[str(dtype).removeprefix("torch.")]
    for view, expected in zip((z, z_prime), weights, strict=True):
        np.testing.assert_allclose(
            view.grad, expected.numpy() @ P, rtol=rtol, atol=rtol / np.sqrt(floor)
        )


@pytest.mark.parametrize(("power", "method"), [(0.5, "inverse_root"), (1.0, "inverse")])
def test_a_linear_network_then_takes_the_step_of_the_theory(power, method, rng):
    """Autograd through the identity against (|C| + floor)^-power (I - C) W Gamma."""
    x = rng.standard_normal((40, 6))
    x_prime = x * [1.0, 0.9, 0.8, 0.5, 0.2, -0.4] + 0.1 * rng.standard_normal((40, 6))
    W0 = 0.2 * rng.standard_normal((3, 6))
    run = flow.descend_accelerated(
        W0,
        dynamics.cross_correlation(x, x_prime),
        lr=0.01,
        steps=20,
        method=method,
        floor=0.05,
    )
    W = torch.tensor(W0, requires_grad=True)
    views = [torch.tensor(v) for v in (x, x_prime)]
    for _ in range(20):
        z, z_prime = optim.precondition(
            *(view @ W.T for view in views), power=power, floor=0.05
        )
        loss = losses.barlow_twins(z, z_prime, **losses.THEORY)
        (gradient,) = torch.autograd.grad(loss, W)
        W = (W - 0.01 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(W.detach(), run.weights, rtol=1e-10, atol=1e-13)


def test_at_power_zero_nothing_stands_between(rng):
    """Not even an identity: the very tensors come back."""
    z, z_prime = batch(rng)
    there = optim.precondition(z, z_prime, power=0.0, floor=1.0)
    assert there[0] is z and there[1] is z_prime


def test_an_embedding_of_zero_gets_the_largest_gain_and_no_more():
    z = torch.zeros(5, 2, requires_grad=True)
    one, other = optim.precondition(z, z, power=0.5, floor=0.04)
    (one + 0 * other).sum().backward()
    np.testing.assert_allclose(z.grad, 5.0, rtol=1e-6)  # 0.04^(-1/2)


def test_numbers_that_are_lost_pass_on_to_where_a_run_is_stopped():
    """The guard of the trainer speaks in words; an eigensolver would not."""
    z = torch.tensor([[1.0, torch.inf], [torch.nan, 2.0]], requires_grad=True)
    one, _ = optim.precondition(z, z, power=1.0, floor=0.1)
    one.sum().backward()
    assert torch.isfinite(z.grad).all()


Z = torch.ones(4, 2)
REFUSALS = {
    "no floor": (
        lambda: optim.precondition(Z, Z, power=0.5, floor=0.0),
        "`floor` must be finite and positive; it is 0",
    ),
    "a power that slows late modes": (
        lambda: optim.precondition(Z, Z, power=-0.5, floor=0.1),
        "`power` must be zero or positive; it is -0.5",
    ),
    "views of two lengths": (
        lambda: optim.precondition(Z, torch.ones(5, 2), power=0.5, floor=0.1),
        "`z` and `z_prime` must be (n, d), row i with row i; got (4, 2) and (5, 2)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
