"""The list of recipes; a new record begins with an entry here.

A private half of ``pkg.recipes``, as are the functions that the entries call.
"""

from pkg._after_runs import after_cost, after_training
from pkg._grid_runs import augmentation_grid, grid_cost
from pkg._meeting_list import MEETING
from pkg._network_list import CLIMBING
from pkg._rate_runs import overtaken_rate, rate_cost
from pkg._recipe import Recipe
from pkg._scale_runs import kernel_scale, scale_cost
from pkg._spectra_runs import augmentation_spectra, dataset_spectra, spectra_cost
from pkg._staircase_runs import linear_staircase, staircase_cost
from pkg._unfolding_runs import unfolding, unfolding_cost
from pkg._wide_runs import wide_cost, wide_networks

_STAIRCASE = {
    "views": "standard",
    "n": 500,
    "size": 32,
    "d": 10,
    "scale": 1e-6,
    "rate": 0.05,
    "steps": 6000,
    "seeds": [10, 11, 12, 13, 14],
}


def _jitter(strength: float) -> dict[str, float]:
    """Colour as SimCLR changes it, in four views of five."""
    names = ("brightness", "contrast", "saturation")
    share = 0.8 * strength
    return {"jitter": 0.8, **dict.fromkeys(names, share), "hue": 0.2 * strength}


_AFTER = {
    "views": "weak",
    "n": 100,
    "size": 12,
    "d": 8,
    "channels": [16, 32, 64],
}
_LEARNED = {
    **_AFTER,
    "rate": 1 / 8,
    "refresh": 25,
    "levels": [6.5, 4.5, 2.5, 0.02],
    "steps": 3000,
    "seeds": [10, 11, 12, 13, 14],
}
# Name, groups of GroupNorm, factor of all weights, factor of the readout, rule of the
# learning rate.
_FIXED = ["plain, fixed", None, 0.7, 1.0, {"lr": 0.03}]
_FOLLOWS = ["plain, follows", None, 0.7, 1.0, {"rate": 1 / 16}]

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="staircase-photos",
            summary="500 pairs of the bundled photographs, gradient descent",
            make=linear_staircase,
            cost=staircase_cost,
            config={"data": "photos", **_STAIRCASE},
        ),
        Recipe(
            name="staircase-cifar10",
            summary="500 pairs of CIFAR-10 (JPEG copy), gradient descent",
            make=linear_staircase,
            cost=staircase_cost,
            config={"data": "cifar10-jpeg", **_STAIRCASE},
            roots=("cifar10-jpeg",),
        ),
        Recipe(
            name="spectra-datasets",
            summary="spectra and staircases of four data sets side by side",
            make=dataset_spectra,
            cost=spectra_cost,
            config={
                "data": ["photos", "cifar10-jpeg", "fashion_mnist", "digits"],
                "views": "standard",
                "n": 500,
                "d": 10,
                "scale": 1e-6,
                "top": 50,
                "seeds": [10, 11, 12, 13, 14],
            },
            roots=("cifar10-jpeg", "fashion_mnist"),
        ),
        Recipe(
            name="spectra-augmentations",
            summary="what each augmentation leaves of the modes of the photographs",
            make=augmentation_spectra,
            cost=spectra_cost,
            config={
                "data": "photos",
                "n": 500,
                "bare": {
                    "scale": [1.0, 1.0],
                    "ratio": [1.0, 1.0],
                    "flip": 0.0,
                    "jitter": 0.0,
                    "grey": 0.0,
                },
                # A list, because JSON forgets the order of names.
                "views": [
                    ["none", {}],
                    ["flip", {"flip": 0.5}],
                    ["crop", {"scale": [0.2, 1.0], "ratio": [3 / 4, 4 / 3]}],
                    ["jitter", {"jitter": 0.8}],
                    ["grey", {"grey": 0.2}],
                    ["blur", {"blur": 0.5}],
                    ["standard", "standard"],
                    ["simclr", "simclr"],
                    ["barlow_twins", "barlow_twins"],
                    ["vicreg", "vicreg"],
                ],
                "top": 100,
                "d": 10,
                "seeds": [10, 11, 12, 13, 14],
            },
        ),
        Recipe(
            name="augmentation-grid",
            summary="leading modes under every strength of four augmentations",
            make=augmentation_grid,
            cost=grid_cost,
            config={
                "data": "photos",
                "n": 500,
                "size": 16,
                "pool": 2,
                "bare": {"flip": 0.0},
                # Lists, because JSON forgets the order of names. The smallest crops
                # and the full strength of colour are SimCLR's.
                "levels": [
                    [
                        "crop",
                        [
                            ["none", {"scale": [1.0, 1.0], "ratio": [1.0, 1.0]}],
                            ["area from 0.6", {"scale": [0.6, 1.0]}],
                            ["area from 0.3", {"scale": [0.3, 1.0]}],
                            ["area from 0.08", {"scale": [0.08, 1.0]}],
                        ],
                    ],
                    [
                        "jitter",
                        [
                            ["none", {"jitter": 0.0}],
                            ["a quarter", _jitter(0.25)],
                            ["half", _jitter(0.5)],
                            ["full", _jitter(1.0)],
                        ],
                    ],
                    [
                        "grey",
                        [
                            ["never", {"grey": 0.0}],
                            ["1 view in 5", {"grey": 0.2}],
                            ["every other view", {"grey": 0.5}],
                        ],
                    ],
                    [
                        "blur",
                        [
                            ["never", {"blur": 0.0}],
                            ["every other view", {"blur": 0.5}],
                            ["always", {"blur": 1.0}],
                        ],
                    ],
                ],
                "top": 8,
                "seeds": [10, 11, 12],
            },
        ),
        Recipe(
            name="kernel-scale",
            summary="20,000 pairs of CIFAR-10 (JPEG copy), kernels never stored",
            make=kernel_scale,
            cost=scale_cost,
            config={
                "data": "cifar10-jpeg",
                "views": "standard",
                "n": 20_000,
                "size": 8,
                "d": 10,
                "tol": 1e-5,
                # Two rows differ by some sqrt(2 m) = 20.
                "kernels": [
                    ["rbf", {"length_scale": 14.0}],
                    ["relu_ntk", {"depth": 1}],
                ],
                "tile": 1024,
                "threads": 2,
                "small": 500,
                # A measurement of cost: one draw.
                "seeds": [10],
            },
            roots=("cifar10-jpeg",),
        ),
        Recipe(
            name="wide-networks",
            summary="networks of seven widths beside their infinite limit",
            make=wide_networks,
            cost=wide_cost,
            config={
                "data": "photos",
                "views": "standard",
                "n": 60,
                "size": 8,
                "widths": [64, 128, 256, 512, 1024, 2048, 4096],
                # A name, d, and the start as a share of the network's first output.
                "cases": [
                    ["gap", 2, 1e-4],
                    ["larger start", 2, 1e-2],
                    ["small gap", 5, 1e-4],
                ],
                "rate": 1 / 16,
                "until": 1e-3,
                "steps": 5000,
                "scales": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
                "seeds": [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
            },
        ),
        Recipe(
            name="after-training-photos",
            summary="what the kernels of a network knew of its embedding, photographs",
            make=after_training,
            cost=after_cost,
            config={
                "data": "photos",
                **_LEARNED,
                # Factors of the readout: small, torch's own, large.
                "starts": [0.01, 1.0, 10.0],
            },
        ),
        Recipe(
            name="after-training-cifar10",
            summary="the same on CIFAR-10 (JPEG copy), from the small start alone",
            make=after_training,
            cost=after_cost,
            config={"data": "cifar10-jpeg", **_LEARNED, "starts": [0.01]},
            roots=("cifar10-jpeg",),
        ),
        Recipe(
            name="overtaken-rate",
            summary="a fixed learning rate overtaken by the kernel, photographs",
            make=overtaken_rate,
            cost=rate_cost,
            config={
                "data": "photos",
                **_AFTER,
                "look": 10,
                "steps": 250,
                "cases": [
                    _FIXED,
                    _FOLLOWS,
                    ["plain half, fixed", None, 0.5, 1.0, {"lr": 0.03}],
                    ["GroupNorm, fixed", 8, 1.0, 0.01, {"lr": 0.06}],
                ],
                "seeds": [10, 11, 12, 13, 14],
            },
        ),
        Recipe(
            name="followed-rate",
            summary="the same with gamma_1 measured every two steps, photographs",
            make=overtaken_rate,
            cost=rate_cost,
            config={
                "data": "photos",
                **_AFTER,
                "look": 2,
                "steps": 200,
                "cases": [_FIXED, _FOLLOWS],
                "seeds": [20, 21, 22, 23, 24],
            },
        ),
        Recipe(
            name="unfolding-photos",
            summary="how and into what an embedding unfolds, photographs",
            make=unfolding,
            cost=unfolding_cost,
            config={
                "data": "photos",
                "n": 2080,
                "size": 16,
                "training": {
                    "method": "barlow_twins",
                    "lr": 0.01,
                    "steps": 480,
                    "probe": 300,
                    "snapshots": 49,
                },
                "seeds": [10, 11, 12, 13, 14],
            },
        ),
        *CLIMBING,
        *MEETING,
    )
}
