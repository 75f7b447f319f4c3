"""Records in which theory meets networks, in miniature: layout, truth, survival."""

import numpy as np
import pytest
import torch

from pkg import (
    _choice_runs,
    _looks,
    _other_networks,
    _principle_runs,
    data,
    dynamics,
    kpca,
    losses,
    recipes,
    spectra,
    trainer,
    views,
)
from pkg.record import Trajectory
from pkg.track import Snapshots

TRAIN = {
    **{"encoder": "demo", "precision": "float32", "d": 3, "batch": 16},
    **{"pairs": 4, "probe": 24, "snapshots": 3, "guard": False},
}
BARLOW = {"method": "barlow_twins", "start": 0.1, "steps": 6}
PRINCIPLE = {
    **{"data": "photos", "n": 64, "size": 12, "test": 60, "pairs": 20, "train": TRAIN},
    "cases": [["one", BARLOW], ["two", {**BARLOW, "views": "weak"}]],
    **{"others": 2, "kernels": [1], "cases_kept": [0], "seeds": [1, 2]},
}
load = data.load


@pytest.fixture(scope="module")
def principle(tmp_path_factory):
    """The photographs have no test split: other crops stand in for it."""
    folder = tmp_path_factory.mktemp("principle")

    def crops(name, *, split="train", **how):
        return load(name, **how)

    patch = pytest.MonkeyPatch()
    patch.setattr(_principle_runs.data, "load", crops)
    made = recipes.one_principle(PRINCIPLE, {}, progress=False, keep=folder)
    yield folder, made
    patch.undo()


def test_one_principle_holds_every_run_and_every_neighbour(principle):
    """Runs case by case; then untrained, supervised, SimSiam."""
    _, (runs, arrays, said) = principle
    assert arrays["case"].tolist() == [0, 0, 1, 1]
    assert arrays["seed"].tolist() == [1, 2, 1, 2]
    assert [len(run.t) for run in runs] == [7] * 4
    assert arrays["captured"].shape == (4, len(recipes.PRINCIPLES), 3)
    parts = (4, len(recipes.PARTS), 3)
    assert arrays["probe"].shape == arrays["neighbours"].shape == parts
    assert arrays["cka"].shape == (4 + 3 * 2, 4 + 3 * 2)
    assert arrays["cka_z"].shape == (4 + 2, 4 + 2)
    assert arrays["trunk_others"].shape == (3, 2)
    assert arrays["pictured"].shape == (60, 5)
    assert arrays["ends"].shape == (4, 3, 2, 12, 12, 3)
    np.testing.assert_allclose(np.diag(arrays["cka"]), 1.0)
    for share in ("captured", "probe", "neighbours", "cka", "readout", "trunk"):
        assert (arrays[share] >= 0).all() and (arrays[share] <= 1 + 1e-9).all()
    assert "photographs" in said


def test_kept_kernels_give_what_was_recorded_of_them(principle):
    """A reader can compute `captured` again from the triangle, in float32."""
    _, (_, arrays, _) = principle
    assert arrays["kept"].tolist() == [0]
    z = arrays["z_pairs"][0].astype(np.float64)
    before = 0  # strong views, seed 1
    for name, row in (("after", 0), ("before", before)):
        K = _whole(arrays[name][row], len(z))
        found = kpca.fit(K, 3).embeddings
        which = {"after": "NTK after", "before": "NTK at initialisation"}[name]
        recorded = arrays["captured"][0, recipes.PRINCIPLES.index(which)]
        again = [spectra.subspace_overlap(z, found[:, : k + 1]) for k in range(3)]
        np.testing.assert_allclose(again, recorded, atol=1e-3)
    assert len(arrays["before"]) == 2  # two sets of views


def test_the_parts_of_a_kernel_make_the_whole(principle):
    """Gradients of the readout are its features; the rest is all other layers'."""
    network = _looks.untrained(trainer.TrainConfig(**TRAIN, **BARLOW))
    images = load("photos", n=8, size=12)
    both = _looks.pairs(images, trainer.TrainConfig(**TRAIN, **BARLOW), 8)
    readout, rest = _looks.kernel_parts(network, both)
    from pkg import ntk

    whole = _looks.centred(ntk.empirical(network, both))
    np.testing.assert_allclose(readout + rest, whole, atol=1e-4 * np.abs(whole).max())
    assert all(p.requires_grad for p in network.parameters())


def test_a_second_call_trains_nothing_and_says_the_same(principle, monkeypatch):
    """Networks come back from their checkpoints, the neighbours too."""
    folder, (_, arrays, _) = principle
    monkeypatch.setattr(_other_networks, "_train", None)
    monkeypatch.setattr(torch.optim.SGD, "step", None)
    _, again, _ = recipes.one_principle(PRINCIPLE, {}, progress=False, keep=folder)
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values)


def test_simsiam_holds_its_target_still():
    """The gradient reaches the predicting view alone, and agreement is a cosine."""
    head = _other_networks._predictor(torch.Generator().manual_seed(0))
    z = torch.randn(12, 64, generator=torch.Generator().manual_seed(1))
    loss = _other_networks._agreement(head, z)
    assert -1 <= loss.item() <= 1
    # With a predictor that forgets its input, nothing is left to learn from: all that
    # could flow would flow through the target.
    with torch.no_grad():
        head[1].weight.zero_()
        head[2].bias.fill_(1.0)
    z.requires_grad_()
    _other_networks._agreement(head, z).backward()
    np.testing.assert_array_equal(z.grad, np.zeros((12, 64)))


WEAK = {"scale": [0.7, 1.0], "ratio": [0.9, 1.1], "grey": 0.0}
CHOICE = {
    **{"data": "photos", "n": 64, "size": 12, "pairs": 40, "dim": 64, "s0": 1e-3},
    **{"views": WEAK, "recipes": [["weak", {}], ["crops", {"scale": [0.1, 0.3]}]]},
    **{"train": {**TRAIN, "d": 8}, "cases": [["one", BARLOW]], "seeds": [1]},
}


@pytest.fixture(scope="module")
def choice():
    return recipes.chosen_modes(CHOICE, {}, progress=False)


def test_chosen_modes_has_a_row_for_every_kernel_loss_seed_and_recipe(choice):
    runs, arrays, _ = choice
    kernels = len(recipes.KERNELS)
    assert len(runs) == 2
    asked = (1, kernels, 1, 2)
    assert arrays["gammas"].shape == (*asked, _choice_runs.FOLLOWED)
    for name in ("predicted", "predicted_rank", "alike"):
        assert arrays[name].shape == (*asked, _choice_runs.MODES)
    assert arrays["observed"].shape == (1, *asked, _choice_runs.MODES)
    assert arrays["observed_rank"].shape == (1, 1, 2, _choice_runs.MODES)
    assert arrays["overlap"].shape == (1, *asked)
    times = arrays["power_t"].shape
    assert times[:3] == (1, 1, 2)
    assert arrays["power"].shape == (*times, _choice_runs.MODES)


def test_under_the_first_recipe_the_reference_modes_are_its_own(choice):
    """Each is itself, and they come in their order."""
    _, arrays, _ = choice
    np.testing.assert_allclose(arrays["alike"][0, :, 0, 0], 1.0)
    assert (np.diff(arrays["predicted_rank"][0, :, 0, 0]) >= 0).all()
    # Unlike views agree less: the leading mode is weaker, and so later.
    gammas, predicted = arrays["gammas"][0, :, 0], arrays["predicted"][0, :, 0]
    assert (gammas[:, 1, 0] < gammas[:, 0, 0]).all()
    assert (predicted[:, 1, 0] > predicted[:, 0, 0]).all()


def test_each_loss_may_have_its_own_growth():
    """VICReg is predicted by Gamma - kappa Sigma too, and the rest is as before."""
    vicreg = {**BARLOW, "method": "vicreg", "terms": {"eps": 0.8, "cov_coeff": 10.0}}
    config = {**CHOICE, "growth": "own", "cases": [["one", BARLOW], ["two", vicreg]]}
    _, arrays, _ = recipes.chosen_modes(config, {}, progress=False)
    kappa = 1 - 0.25 / 0.8**0.5
    np.testing.assert_allclose(arrays["kappas"], [0.0, kappa])
    assert arrays["own"].tolist() == [0, 1]
    # gamma_j - kappa sigma is below gamma_j, whatever the direction.
    assert (arrays["gammas"][1] < arrays["gammas"][0]).all()
    _, plain, _ = recipes.chosen_modes(CHOICE, {}, progress=False)
    for name in ("gammas", "predicted", "alike"):
        np.testing.assert_array_equal(arrays[name][0], plain[name][0])
    np.testing.assert_array_equal(arrays["observed"][0, 0], plain["observed"][0, 0])
    np.testing.assert_array_equal(arrays["power"][0], plain["power"][0])


def test_a_tiny_embedding_grows_by_what_the_penalty_says():
    """Against the gradients of the losses themselves, in the linear model."""
    rng = np.random.default_rng(0)
    # Spread falls with the direction, agreement rises.
    common = rng.standard_normal((4000, 6)) * np.linspace(1.0, 0.5, 6)
    own = rng.standard_normal((2, 4000, 6)) * np.linspace(0.9, 0.1, 6)
    x, x_prime = torch.tensor(common + own)
    Gamma = dynamics.cross_correlation(x.numpy(), x_prime.numpy(), center=True)
    Sigma = dynamics.second_moment(x.numpy(), x_prime.numpy(), center=True)
    W0 = 1e-4 * rng.standard_normal((3, 6))
    for method, terms in {
        "barlow_twins": None,
        "vicreg": {"eps": 0.8, "cov_coeff": 10.0},
    }.items():
        settings = {"method": method, "terms": terms}
        W = torch.tensor(W0, requires_grad=True)
        loss = losses.METHODS[method]
        loss(x @ W.T, x_prime @ W.T, **(terms or losses.STEPWISE[method])).backward()
        push = -W.grad.numpy()
        foreseen = W0 @ (Gamma - _choice_runs.penalty(settings) * Sigma)
        cosine = np.sum(push * foreseen)
        cosine /= np.linalg.norm(push) * np.linalg.norm(foreseen)
        assert cosine > 0.9999
    plain = W0 @ Gamma  # and Gamma alone is not it
    cosine = np.sum(push * plain) / np.linalg.norm(push) / np.linalg.norm(plain)
    assert cosine < 0.9


@pytest.mark.parametrize("clock", [{}, {"unit": 1.0, "level": 0.1}])
def test_a_reference_mode_is_there_once_its_share_is_embedded(clock):
    """Two outputs that switch on at known times hold two known functions."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((40, 3)))[0]
    basis -= basis.mean(axis=0)
    basis = np.linalg.qr(basis)[0]
    t = np.linspace(0.0, 10.0, 101)
    size = np.stack([np.clip(t - 2, 0, 1), np.clip(t - 6, 0, 1), 0 * t], axis=1)
    z = np.sqrt(40) * np.sqrt(size)[:, None, :] * basis  # (101, 40, 3)

    seen = _choice_runs._observe(
        Snapshots(z=z.astype(np.float32), step=np.arange(101), t=t),
        Trajectory(
            t=t,
            eigenvalues=-np.sort(-size, axis=1),
            loss=np.zeros(101),
            order="rank",
            matrix="covariance",
            source="made up",
        ),
        basis[None],
        basis[None],
        clock,
    )
    unit = clock.get("unit") or np.linalg.eigvalsh(np.cov(z[-1].T))[-1]
    expected = np.array([2, 6]) + clock.get("level", _choice_runs.LEVEL) * unit
    np.testing.assert_allclose(seen["observed"][0, :2], expected, atol=0.02)
    assert seen["observed"][0, 2] == np.inf
    np.testing.assert_allclose(seen["overlap"], 1.0)
    np.testing.assert_allclose(seen["power"], size, atol=1e-5)
    np.testing.assert_array_equal(seen["power_t"], t)


def test_the_race_counts_steps_to_each_mode():
    """Case by case and seed by seed; the probe is asked at the snapshots."""
    config = {
        **{"data": "photos", "n": 64, "size": 12, "judged": 20, "seeds": [1]},
        "train": {**TRAIN, "probe": 60, "method": "barlow_twins"},
        "cases": [
            ["plain", {"start": 0.1, "steps": 12, "rate": 0.1}],
            [
                "inverse",
                {"start": 0.1, "steps": 10, "rate": 0.1, "precondition": 1.0},
            ],
        ],
    }
    runs, arrays, _ = recipes.race(config, {}, progress=False)
    assert [run.step[-1] for run in runs] == [12, 10]
    assert arrays["crossings"].shape == arrays["variance"].shape == (2, 3)
    assert arrays["probe_steps"].tolist() == [[0, 6, 12], [0, 5, 10]]
    assert ((arrays["probe"] >= 0) & (arrays["probe"] <= 1)).all()
    # The first gradient is the same but for the gain of at least one: the changed run
    # cannot be behind after one step at one rate.
    plain, changed = (run.eigenvalues[1, 0] for run in runs)
    assert changed > plain


def test_estimates_are_positive():
    """Seconds and bytes of each new recipe, from a timed step."""
    for name in ("one-principle", "chosen-modes", "foreseen-delays", "race"):
        seconds, size = recipes.estimate(recipes.get(name))
        assert seconds > 0 and size > 0


def test_eight_recipes_of_views_differ_in_one_thing_each():
    config = recipes.get("chosen-modes").config
    names = [name for name, _ in config["recipes"]]
    assert len(set(names)) == len(names) >= 8
    made = _choice_runs.recipes_of(config)
    assert made[0] == views.RECIPES["weak"] and len(set(map(repr, made))) == len(made)


def _whole(triangle, n):
    K = np.zeros((n, n), np.float32)
    K[np.tril_indices(n)] = triangle
    return K + np.tril(K, -1).T
