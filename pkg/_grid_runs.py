"""How the record of augmentations at every strength is made: a grid of spectra.

A private half of ``pkg.recipes``. No network is trained.
"""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from pkg import data, dynamics, spectra, views
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]

PEAK = 127  # of a mode's picture: eight bits with a sign


def augmentation_grid(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Find the leading modes of Gamma under every combination of strengths.

    Channels are standardised by the images and not by their views: one ruler for all
    settings, which all see the same images. Views are drawn at the images' size and
    then averaged over blocks of pixels, so that the modes are small pictures.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images of ``size`` pixels, ``pool`` (side of a block), ``bare``
        (what all recipes of `pkg.views` share), ``levels`` (pairs of an augmentation's
        name and its levels, each a name and what it changes of ``bare``), ``top``
        modes to keep, and ``seeds``. Each seed draws its own images and views.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a setting.

    Returns
    -------
    runs : empty tuple
    arrays : dict
        ``settings`` (S, augmentations), the level of each; ``gammas`` (seeds, S, top);
        ``modes`` (S, top, height, width, 3) of the first seed, int8, each scaled to a
        largest entry of 127.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    counts = [range(len(levels)) for _, levels in config["levels"]]
    settings = list(itertools.product(*counts))
    gammas: list[list[np.ndarray]] = []
    modes: list[np.ndarray] = []
    for seed in config["seeds"]:
        images = data.load(
            config["data"],
            n=config["n"],
            size=config["size"],
            seed=seed,
            root=roots.get(config["data"]),
        )
        found = [
            _leading(images.x, _recipe(config, setting), config, seed)
            for setting in tqdm(settings, unit="setting", disable=not progress)
        ]
        gammas.append([values for values, _ in found])
        if not modes:
            modes = [_picture(vectors, config) for _, vectors in found]
    arrays = {
        "settings": np.array(settings, dtype=np.int8),
        "gammas": np.array(gammas),
        "modes": np.array(modes),
    }
    return (), arrays, images.provenance.rsplit("; seed", 1)[0]


def grid_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing one setting on noise."""
    shape = (config["n"], config["size"], config["size"], 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    strongest = tuple(len(levels) - 1 for _, levels in config["levels"])
    started = time.perf_counter()
    _leading(images, _recipe(config, strongest), config, 0)
    seconds = time.perf_counter() - started
    settings = np.prod([len(levels) for _, levels in config["levels"]])
    return seconds * float(settings) * len(config["seeds"]), 80.0 * images.size + 0.4e9


def _recipe(config: Mapping[str, Any], setting: tuple[int, ...]) -> views.Recipe:
    fields = dict(config["bare"])
    for (_, levels), level in zip(config["levels"], setting, strict=True):
        fields |= levels[level][1]
    # JSON has no tuples.
    spans = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
    return views.Recipe(**{**fields, **spans})


def _leading(
    images: np.ndarray, recipe: views.Recipe, config: Mapping[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading eigenpairs of Gamma of pooled views, (top,) and (m, top)."""
    mean, spread = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255  # (3,)
    generator = torch.Generator().manual_seed(seed)
    x, x_prime = [
        ((v.permute(0, 2, 3, 1).double().numpy() - mean) / spread).reshape(len(v), -1)
        for v in (
            avg_pool2d(view, config["pool"])
            for view in views.pair(images, recipe, generator=generator)
        )
    ]
    Gamma = dynamics.cross_correlation(x, x_prime)  # (m, m)
    return spectra.top_eigenpairs(Gamma, config["top"])


def _picture(vectors: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    side = config["size"] // config["pool"]
    pictures = vectors.T.reshape(-1, side, side, 3)
    peaks = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True)
    return np.rint(PEAK * pictures / peaks).astype(np.int8)
