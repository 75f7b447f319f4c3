"""Networks that learn features beside their kernels: the experiment of P3, small."""

import numpy as np
import pytest
import torch

from pkg import _after_runs, kpca, nets, ntk, recipes, spectra, trainer

PAIRS = {
    "data": "photos",
    "views": "weak",
    "n": 24,
    "size": 8,
    "d": 3,
    "channels": [8, 8],
    "seeds": [3, 4],
}
SMALL = {
    **PAIRS,
    "starts": [0.01, 6.0],
    "rate": 1 / 8,
    "refresh": 25,
    "levels": [1.5, 0.2],
    "steps": 600,
}
RATES = {
    **PAIRS,
    "look": 5,
    "steps": 40,
    "cases": [
        ["fixed", None, 0.7, 1.0, {"lr": 0.1}],
        ["follows", None, 0.7, 1.0, {"rate": 1 / 32}],
    ],
}


@pytest.fixture(scope="module")
def tiny():
    return recipes.after_training(SMALL, {}, progress=False)


@pytest.fixture
def pairs():
    x, x_prime, *_ = _after_runs.pairs(PAIRS, {}, 5)
    return x, x_prime


def network(start=0.01):
    net = _after_runs.network(PAIRS, 5)
    nets.scale_init_(net, start)
    return net


def column(name):
    return recipes.PREDICTORS.index(name)


def test_the_record_keeps_what_its_docstring_says(tiny):
    """Everything by seed and start; the runs start by start."""
    runs, arrays, said = tiny
    assert len(runs) == 4 and said.startswith("photos: 48 crops of 8 px")
    by_cell = {
        "captured": (len(recipes.PREDICTORS), 3),
        "unseen": (len(recipes.UNSEEN), 3),
        "residual": (2,),
        "gammas": (3, 4),
        **dict.fromkeys(("top", "moved", "trace", "readout"), (3,)),
        **dict.fromkeys(("measured", "predicted"), (3,)),
    }
    assert {key: values.shape[2:] for key, values in arrays.items()} == by_cell
    assert all(values.shape[:2] == (2, 2) for values in arrays.values())
    assert all(run.loss[-1] < 0.2 for run in runs)
    assert np.isfinite(arrays["measured"]).all()


def test_from_a_small_start_the_readout_is_the_kernel_and_the_kernel_moves(tiny):
    _, arrays, _ = tiny
    small, large = arrays["readout"][:, 0], arrays["readout"][:, 1]
    assert (small[:, 0] > 0.999).all() and (small[:, -1] < 0.9).all()
    assert (large[:, 0] < 0.1).all()
    moved = arrays["moved"]
    assert (moved[:, 0, -1] > moved[:, 1, -1]).all() and (moved[..., 0] == 0).all()


def test_a_large_start_is_its_own_best_predictor(tiny):
    """And a small one is the worst: claims 2 and 10, with other numbers."""
    _, arrays, _ = tiny
    captured = arrays["captured"][..., -1]  # (seeds, starts, predictors)
    first = captured[..., column("network at the start")]
    after = captured[..., column("NTK after")]
    readout = captured[..., column("its readout part")]
    assert (first[:, 1] > after[:, 1] + 0.2).all()
    assert (after[:, 0] > first[:, 0] + 0.1).all()
    assert (readout[:, 0] > after[:, 0]).all()
    # A small start is needed for a prediction of times; the large one has none.
    assert np.isfinite(arrays["predicted"][:, 0]).all()


def test_the_readout_part_is_the_kernel_of_the_readout_alone(pairs):
    """Split by hand against the NTK of a network whose other layers are frozen."""
    net, both = network(), torch.cat(pairs)
    readout, rest = _after_runs._split(net, both)
    for layer in net[:-1]:
        layer.requires_grad_(False)
    alone = ntk.empirical(net, both)
    H = np.kron(np.eye(2), np.eye(24) - 1 / 24)  # each view about its own mean
    np.testing.assert_allclose(readout, H @ alone @ H, atol=1e-5 * alone.max())
    assert 0 < np.trace(rest) < 1e-3 * np.trace(readout)


def test_frozen_features_learn_the_modes_at_the_times_of_the_linear_model(pairs):
    """Were the features to stay, the theory would be exact: centred, in a network."""
    # In float64: 32 features of 48 views leave a kernel that single precision blurs.
    net = network(1e-4).double()
    pairs = [view.double() for view in pairs]
    for layer in net[:-1]:
        layer.requires_grad_(False)
    both = torch.cat(pairs)
    features = _after_runs._embed(net[:-1], both)
    W0 = net[-1].weight.detach().numpy()
    predicted = _after_runs._predict(features, W0, 1 / 16)
    modes = kpca.fit(sum(_after_runs._split(net, both)), 3)
    run = trainer.descend(net, *pairs, rate=1 / 16, steps=2000, until=1e-2, center=True)
    measured = spectra.crossing_times(run.t, run.eigenvalues)
    np.testing.assert_allclose(measured, predicted, rtol=0.03)
    z = _after_runs._centre(_after_runs._embed(net, both))
    assert spectra.subspace_overlap(z, modes.embeddings) > 0.99
    assert _after_runs._residual(z, modes.embeddings) < 0.1


def test_joined_stages_are_one_run(pairs):
    """Stopped twice and taken up again, with a rate that does not change."""
    whole = trainer.descend(network(), *pairs, lr=0.02, steps=60, center=True)
    net = network()
    stages = [
        trainer.descend(net, *pairs, lr=0.02, steps=20, center=True) for _ in range(3)
    ]
    joined = _after_runs.join(stages)
    np.testing.assert_array_equal(joined.step, whole.step)
    np.testing.assert_allclose(joined.t, whole.t, rtol=1e-12)
    np.testing.assert_array_equal(joined.loss, whole.loss)
    np.testing.assert_array_equal(joined.eigenvalues, whole.eigenvalues)
    thin = _after_runs.thin(joined, 10)
    assert len(thin.t) == 10 and thin.step[0] == 0 and thin.step[-1] == 60


def test_a_rate_that_follows_the_kernel_is_not_overtaken():
    runs, arrays, _ = recipes.overtaken_rate(RATES, {}, progress=False)
    assert len(runs) == 4 and arrays["top"].shape == (2, 2, 8)
    limit = 1 / (4 * arrays["top"])
    above = np.nanmax(arrays["lr"] / limit, axis=2)  # (seeds, cases)
    assert (above[:, 0] > 1).all()
    np.testing.assert_allclose(above[:, 1], 1 / 8)
    assert (arrays["rise"][:, 0] > 0.3).all() and (arrays["rise"][:, 1] < 0.05).all()


def test_what_is_captured_is_one_for_the_space_itself_and_ignores_rotation(rng):
    z = rng.standard_normal((20, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    np.testing.assert_allclose(_after_runs._captured(z, z @ turn), 1.0)
    assert _after_runs._residual(z @ turn, z) < 1e-12
    leading = _after_runs._leading(z)
    share = np.linalg.norm(leading.T @ z, axis=1)
    assert (np.diff(share) < 0).all()  # the first column holds most
