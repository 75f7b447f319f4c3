"""Wide networks beside their kernels: the experiment of P2 in miniature."""

import numpy as np
import pytest
import torch

from pkg import _wide_runs, data, dynamics, flow, kernels, kpca, nets, recipes, views

SMALL = {
    "data": "photos",
    "views": "standard",
    "n": 30,
    "size": 8,
    "widths": [64, 512],
    "cases": [["gap", 2, 1e-3], ["three", 3, 1e-3]],
    "rate": 1 / 16,
    "until": 1e-2,
    "steps": 2000,
    "scales": [1e-2, 1e-3],
    "seeds": [3, 4, 5],
}


@pytest.fixture(scope="module")
def tiny():
    return recipes.wide_networks(SMALL, {}, progress=False)


@pytest.fixture(scope="module")
def pairs():
    """A kernel of 30 pairs, and its modes."""
    images = data.load("photos", n=30, size=8, seed=3)
    both = np.concatenate(views.flat_pairs(images.x, "standard", seed=3))
    K = kernels.relu_ntk(both)
    return both, K, kpca.fit(K)


def test_the_record_keeps_what_its_docstring_says(tiny):
    """One run a seed; everything else by case, seed and width."""
    runs, arrays, said = tiny
    assert len(runs) == 3 and said.startswith("photos: 30 crops of 8 px")
    by_width = ("kernel", "off", "drift", "weights", "switched", "span", "loss")
    by_width += ("to_limit", "to_first", "by_limit", "by_first", "by_blocks")
    for name, d, _ in SMALL["cases"]:
        for key in by_width:
            assert arrays[f"{name}.{key}"].shape == (3, 2), key
        for key in ("measured", "predicted", "blocks"):
            assert arrays[f"{name}.{key}"].shape == (3, 2, d)
        assert arrays[f"{name}.gammas"].shape == (3, 2 * d)
        assert arrays[f"{name}.floor"].shape == (3, 2)
        assert arrays[f"{name}.loss"].max() < SMALL["until"]
    # The kept run is the widest network of the first case.
    last = [run.loss[-1] for run in runs]
    np.testing.assert_array_equal(last, arrays["gap.loss"][:, -1])


def test_a_wider_network_is_nearer_to_its_limit(tiny):
    """Eight times the width: kernel and weights by about 8^-1/2, in every seed."""
    _, arrays, _ = tiny
    for key, most in (("kernel", 0.7), ("off", 0.7), ("weights", 0.45), ("drift", 0.5)):
        narrow, wide = arrays[f"gap.{key}"].T
        assert np.all(wide < most * narrow), key
    narrow, wide = np.median(arrays["gap.span"], axis=0)
    assert wide < 0.4 * narrow


def test_all_blocks_explain_what_one_kernel_does_not(tiny):
    """The linearised network gives the step times; kernels that average it do not."""
    _, arrays, _ = tiny
    for name in ("gap", "three"):
        wide = {
            key: arrays[f"{name}.{key}"][:, -1] for key in ("by_blocks", "by_first")
        }
        assert np.median(wide["by_blocks"]) < 0.5 * np.median(wide["by_first"])
        measured = arrays[f"{name}.measured"][:, -1]
        by_blocks = np.abs(measured / arrays[f"{name}.blocks"][:, -1] - 1)
        by_limit = np.abs(measured / arrays[f"{name}.predicted"][:, -1] - 1)
        assert np.median(by_blocks) < 0.01 < np.median(by_limit)


def test_a_seed_gives_the_same_numbers_again(tiny):
    small = SMALL | {"seeds": [4], "cases": SMALL["cases"][:1]}
    again = recipes.wide_networks(small, {}, progress=False)[1]
    np.testing.assert_array_equal(again["gap.measured"][0], tiny[1]["gap.measured"][1])


def test_holding_the_first_network_changes_nothing(pairs):
    """The record computes it once; the chapter, through `nets.Centred`, every time."""
    points = torch.as_tensor(pairs[0])
    net = nets.mlp(points.shape[1], 3, width=16).double()
    held, centred = _wide_runs._Held(net, 1e-3, points), nets.Centred(net, 1e-3)
    with torch.no_grad():
        net[0].weight += 0.1
        torch.testing.assert_close(held(points), centred(points), rtol=0, atol=1e-13)


def test_descent_in_function_space_is_descent_on_features(rng, pairs):
    """One kernel, K = phi phi^T: the weights of `flow.descend`, seen from outside."""
    _, K, modes = pairs
    phi = np.linalg.cholesky(K)  # (2n, 2n)
    W0 = 1e-2 * rng.standard_normal((3, len(K)))
    lr, steps = 1 / (16 * modes.gammas[0]), 300
    run = flow.descend(W0, *np.split(phi, 2), lr=lr, steps=steps)
    F, times = _wide_runs.function_descent(
        phi @ W0.T, K, lr=lr, steps=steps, until=1e-300
    )
    np.testing.assert_allclose(F, phi @ run.weights.T, rtol=0, atol=1e-9)
    crossed = [np.interp(0.5, c, run.t) for c in run.eigenvalues.T if c[-1] > 0.5]
    np.testing.assert_allclose(times[np.isfinite(times)], crossed, rtol=1e-9)


def test_blocks_move_every_output_by_the_gradients_of_all(rng):
    """A model that is linear in shared parameters, trained by torch."""
    n, d, p, lr = 4, 3, 30, 1e-3
    J = rng.standard_normal((d, 2 * n, p))
    theta = torch.tensor(0.1 * rng.standard_normal(p), requires_grad=True)
    F0 = (J @ theta.detach().numpy()).T  # (2n, d)
    for _ in range(20):
        z, z_prime = torch.einsum("aip,p->ia", torch.tensor(J), theta).chunk(2)
        C = (z.T @ z_prime + z_prime.T @ z) / (2 * n)
        loss = ((C - torch.eye(d)) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, theta)
        theta = (theta - lr * gradient).detach().requires_grad_()
    Theta = np.einsum("aip,bjp->aibj", J, J)
    F, _ = _wide_runs.function_descent(F0, Theta, lr=lr, steps=20, until=1e-300)
    np.testing.assert_allclose(F, (J @ theta.detach().numpy()).T, atol=1e-12)


def test_a_start_in_function_space_predicts_its_step_times(rng, pairs):
    """F^T alpha sqrt(gamma) are the weights that the linear theory asks for."""
    _, K, modes = pairs
    F = 1e-5 * rng.standard_normal((len(K), 2))
    W0 = F.T @ modes.dual * np.sqrt(modes.gammas)
    start = dynamics.effective_start(W0, np.diag(modes.gammas))
    lr = 1 / (64 * modes.gammas[0])
    predicted = dynamics.step_times(start.gammas, start.s0, lr=lr)
    _, times = _wide_runs.function_descent(F, K, lr=lr, steps=9000, until=1e-4)
    np.testing.assert_allclose(times, np.sort(predicted), rtol=0.01)


def test_the_floor_falls_with_the_predicted_power_of_the_start():
    """Claim 11 of P2 on other seeds: one draw of F(0), two scales."""
    config = SMALL | {
        "n": 60,
        "widths": [16],
        "cases": [["gap", 2, 1e-2]],
        "scales": [1e-4, 1e-5],
        "seeds": [0, 1, 2],
    }
    arrays = recipes.wide_networks(config, {}, progress=False)[1]
    gammas = arrays["gap.gammas"]
    kappa = 4 * config["rate"] * gammas / gammas[:, :1]
    power = 2 * (1 - np.log1p(kappa[:, 2]) / np.log1p(kappa[:, 1]))
    floor = arrays["gap.floor"]
    np.testing.assert_allclose(np.log10(floor[:, 0] / floor[:, 1]), power, rtol=0.05)


def test_the_cost_is_estimated_without_running():
    seconds, size = recipes.estimate(recipes.get("wide-networks"))
    assert 1 < seconds < 1e5 and 1e8 < size < 1e10


@pytest.mark.slow
def test_slopes_over_widths():
    """Kernel and weights by N^-1/2, the span by 1/N: six seeds that P2 does not use."""
    widths = [64, 256, 1024, 4096]
    config = SMALL | {
        "n": 60,
        "widths": widths,
        "cases": [["gap", 2, 1e-4]],
        "until": 1e-3,
        "seeds": [30, 31, 32, 33, 34, 35],
    }
    arrays = recipes.wide_networks(config, {}, progress=False)[1]
    for key, low, high in (
        ("kernel", -0.65, -0.35),
        ("off", -0.65, -0.35),
        ("weights", -0.55, -0.45),
        ("span", -1.3, -0.7),
    ):
        median = np.median(arrays[f"gap.{key}"], axis=0)
        slope = np.polyfit(np.log(widths), np.log(median), 1)[0]
        assert low < slope < high, key
