"""The record of scale: its experiment in miniature, and the goals that it must meet."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from pkg import _scale_runs, data, recipes, record, views

SMALL = {
    "data": "photos",
    "views": "standard",
    "n": 60,
    "size": 8,
    "d": 3,
    "tol": 1e-5,
    "kernels": [["rbf", {"length_scale": 14.0}], ["relu_ntk", {"depth": 2}]],
    "tile": 32,
    "threads": 2,
    "small": 25,
    "seeds": [4],
}


@pytest.mark.parametrize("chunk", [1000, 7])
def test_views_made_in_parts_are_those_of_flat_pairs(chunk, monkeypatch):
    """The same channels, standardised over all views; with one part, the same draws."""
    monkeypatch.setattr(_scale_runs, "CHUNK", chunk)
    images = data.load("photos", n=20, size=8).x
    x = _scale_runs._pairs(images, "standard", seed=5)
    assert x.shape == (40, 192) and x.dtype == np.float64
    if chunk > 20:
        whole = np.concatenate(views.flat_pairs(images, "standard", seed=5))
        np.testing.assert_allclose(x, whole, atol=1e-6)  # views come in float32
    else:
        generator = torch.Generator().manual_seed(5)
        first, _ = views.pair(images[:chunk], "standard", generator=generator)
        # A channel's shift and scale keep correlations.
        ours = x[:chunk].reshape(chunk, 3, -1)[:, 1].ravel()
        assert np.corrcoef(ours, first[:, 1].numpy().ravel())[0, 1] > 1 - 1e-9
    channels = x.reshape(40, 3, -1)
    np.testing.assert_allclose(channels.mean(axis=(0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(channels.std(axis=(0, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("chosen", SMALL["kernels"], ids=["rbf", "relu_ntk"])
def test_products_alone_find_the_modes_of_the_matrix(chosen):
    row, said = _scale_runs._measure(SMALL, None, *chosen, progress=False)
    np.testing.assert_allclose(row["small"], row["truth"], rtol=1e-8)
    assert np.all(row["residuals"] <= SMALL["tol"] * row["gammas"][-1])
    assert row["gap"] > 1 and row["passes"] >= 3
    assert 0 < row["wall"] < row["whole"] and row["cpu"] > 0 and row["peak"] > 1e7
    assert said.startswith("photos")


def test_the_recipe_measures_each_kernel_in_a_fresh_process():
    """It can be run, and says what others did meanwhile."""
    config = SMALL | {"kernels": SMALL["kernels"][:1], "n": 30}
    _, arrays, said = recipes.get("kernel-scale").make(config, {}, progress=False)
    alone, _ = _scale_runs._measure(config, None, *config["kernels"][0], False)
    np.testing.assert_allclose(arrays["gammas"], alone["gammas"][None], rtol=1e-9)
    busy = arrays["load"].mean() - config["threads"] > 0.5
    assert busy == bool(re.search(r"shared, with \d+ others at work$", said))


def test_the_cost_is_estimated_beforehand():
    small = dataclasses.replace(recipes.get("kernel-scale"), config=SMALL)
    seconds, peak = recipes.estimate(small)
    assert 0 < seconds < 60 and 0.6e9 < peak < 0.7e9


def test_the_record_of_scale_meets_its_goals():
    """20,000 pairs on two cores: RBF in 15 minutes, NTK in 60, 2 GB of memory."""
    kept = record.load("kernel-scale")
    assert kept.meta["config"]["n"] == 20_000
    arrays = kept.arrays
    assert [name for name, _ in kept.meta["config"]["kernels"]] == ["rbf", "relu_ntk"]
    # From the first image on; on a shared machine the others' work counts too.
    minutes = arrays["whole"] / 60
    assert minutes[0] < 15 and minutes[1] < 60
    assert arrays["peak"].max() < 2e9
    assert arrays["passes"].max() <= 14
    np.testing.assert_allclose(arrays["small"], arrays["truth"], rtol=1e-8)
    limit = kept.meta["config"]["tol"] * arrays["gammas"][:, -1:]
    assert np.all(arrays["residuals"] <= limit)
    # K alone would take six times as much as all that was used.
    assert 8 * (2 * 20_000) ** 2 > 6 * arrays["peak"].max()
