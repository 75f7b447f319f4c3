"""How the records of spectra are made: data sets, and augmentations, side by side.

A private half of ``pkg.recipes``. No network is trained.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pkg import data, dynamics, flow, spectra, views
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
# Modes that the flow is integrated with, from the top and from the bottom. The rest
# have gamma below a tenth of the last learned one, and stay as small as they start.
TOP, BOTTOM = 60, 10


def dataset_spectra(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Lay the spectra and staircases of several data sets side by side.

    Parameters
    ----------
    config : mapping
        ``data`` (names), ``views`` (a recipe of `pkg.views`), ``n`` pairs, ``d``,
        ``scale`` of W(0), ``top`` eigenvalues to keep, and ``seeds``. Images keep the
        size they come in. Each seed draws its own images, views and W(0).
    roots : mapping of str to path
        Folders of the data sets that need one.
    progress : bool
        Show a bar on the terminal, one unit a data set and seed.

    Returns
    -------
    runs : empty tuple
    arrays : dict
        By data set and seed: ``gammas`` (sets, seeds, top), ``n_positive``, ``least``
        (most negative eigenvalue over the largest), ``share`` (the largest over the
        trace of Gamma), ``s0``, ``predicted`` step times, sorted, ``measured`` ones of
        the matrix flow (sets, seeds, d), ``apart``, how many of the d - 1 predicted
        waits exceed half of both rises, and ``score`` of `spectra.find_steps`.
    said : str
        Where the images came from, a data set between two bars.
    """
    from tqdm import tqdm

    cells, said = [], []
    both = [(name, seed) for name in config["data"] for seed in config["seeds"]]
    for name, seed in tqdm(both, unit="run", disable=not progress):
        images = data.load(name, n=config["n"], seed=seed, root=roots.get(name))
        x, x_prime = views.flat_pairs(images.x, config["views"], seed=seed)
        cells.append(_staircase_of(x, x_prime, config, seed))
        said.append(images.provenance.rsplit("; seed", 1)[0])
    shape = (len(config["data"]), len(config["seeds"]))
    arrays = {key: np.stack([cell[key] for cell in cells]) for key in cells[0]}
    arrays = {key: a.reshape(*shape, *a.shape[1:]) for key, a in arrays.items()}
    return (), arrays, " | ".join(dict.fromkeys(said))


def augmentation_spectra(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Measure what each augmentation leaves of the modes of unaugmented images.

    Channels are standardised by the images and not by their views: one ruler for all.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images, ``bare`` (what a `pkg.views` recipe without any
        augmentation sets), ``views`` (pairs of a name and what is changed in it, or
        the name of a recipe), ``top`` modes to keep, ``d`` of them to compare, and
        ``seeds``. Each seed draws its own images and views; all augmentations see the
        same images.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a seed.

    Returns
    -------
    runs : empty tuple
    arrays : dict
        ``plain`` (seeds, top): eigenvalues of the images' second moment; by
        augmentation and seed ``gammas`` (views, seeds, top), ``survival``, the share
        v^T Gamma v / v^T S v left of each plain mode, ``total``, the same of the second
        moment of the views, and ``overlap`` (views, seeds) of the leading d modes with
        the plain ones; ``mirror`` (seeds, top), each plain mode's inner product with
        its mirror image, and ``colour``, its share outside grey.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    rows = []
    for seed in tqdm(config["seeds"], unit="seed", disable=not progress):
        images = data.load(
            config["data"], n=config["n"], seed=seed, root=roots.get(config["data"])
        )
        rows.append(_survival_of(images.x, config, seed))
    by_view = ("gammas", "survival", "total", "overlap")
    arrays = {
        key: np.stack([row[key] for row in rows], axis=1 if key in by_view else 0)
        for key in rows[0]
    }
    return (), arrays, images.provenance.rsplit("; seed", 1)[0]


def spectra_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing one spectrum of 32-pixel images."""
    m, n = 3072, config["n"]
    x, x_prime = np.random.default_rng(0).standard_normal((2, n, m))
    started = time.perf_counter()
    _spectrum(x, x_prime)
    seconds = time.perf_counter() - started
    times = 1 if isinstance(config["views"], str) else len(config["views"])
    # As much again for views, and for the flow where there is one.
    count = len(config["seeds"]) * times * len(np.atleast_1d(config["data"]))
    return 2 * count * seconds, 8.0 * (12 * n * m + 16 * n**2) + 0.4e9


def _spectrum(
    x: np.ndarray, x_prime: np.ndarray, d: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the eigenpairs of Gamma within the views' span, and that span."""
    Q = spectra.span(x, x_prime)
    Gamma = dynamics.cross_correlation(x @ Q, x_prime @ Q)
    return *spectra.top_eigenpairs(Gamma, d), Q


def _staircase_of(
    x: np.ndarray, x_prime: np.ndarray, config: Mapping[str, Any], seed: int
) -> dict[str, np.ndarray]:
    gammas, V, Q = _spectrum(x, x_prime)
    rng = np.random.default_rng(seed)
    W0 = config["scale"] * rng.standard_normal((config["d"], Q.shape[1]))
    # In the eigenbasis Gamma is diagonal, and most of it can be left out of the flow.
    ends = np.r_[: min(TOP, len(gammas) - BOTTOM), -BOTTOM:0]
    kept, W_kept = np.diag(gammas[ends]), (W0 @ V)[:, ends]
    start = dynamics.effective_start(W_kept, kept)
    times = dynamics.step_times(start.gammas, start.s0)
    widths = dynamics.step_widths(start.gammas)
    order = np.argsort(times)
    wait, rise = np.diff(times[order]), widths[order]
    t = np.geomspace(0.2 * times.min(), 1.3 * times.max(), 600)
    run = flow.integrate(W_kept, kept, t, rtol=1e-8, atol=1e-12)
    return {
        "gammas": gammas[: config["top"]],
        "n_positive": np.array(spectra.count_positive(gammas)),
        "least": gammas[-1] / gammas[0],
        "share": gammas[0] / gammas.sum(),
        "s0": start.s0,
        "predicted": times[order],
        "measured": spectra.crossing_times(run.t, run.eigenvalues),
        "apart": np.sum(wait > (rise[1:] + rise[:-1]) / 2),
        "score": np.array(spectra.find_steps(run.t, run.eigenvalues).score),
    }


def _survival_of(
    images: np.ndarray, config: Mapping[str, Any], seed: int
) -> dict[str, np.ndarray]:
    z = images.transpose(0, 3, 1, 2) / 255  # (n, 3, h, w)
    over = (0, 2, 3)
    mean, spread = z.mean(over, keepdims=True), z.std(over, keepdims=True)
    z = (z - mean) / spread
    flat, top, d = z.reshape(len(z), -1), config["top"], config["d"]
    plain, V, Q = _spectrum(flat, flat, top)
    V = Q @ V
    pictures = V.T.reshape(top, *z.shape[1:])
    grey = pictures.mean(axis=1)
    found: dict[str, list[Any]] = {
        key: [] for key in ("gammas", "survival", "total", "overlap")
    }
    bare = _recipe(views.Recipe(), config["bare"])
    for _, change in config["views"]:
        generator = torch.Generator().manual_seed(seed)
        pair = views.pair(images, _recipe(bare, change), generator=generator)
        x, x_prime = [
            ((v.numpy() - mean) / spread).reshape(len(z), -1).astype(np.float64)
            for v in pair
        ]
        gammas, U, Q = _spectrum(x, x_prime, top)
        a, b = x @ V, x_prime @ V  # (n, top)
        found["gammas"].append(gammas)
        found["survival"].append(np.mean(a * b, axis=0) / plain)
        found["total"].append(np.mean(a**2 + b**2, axis=0) / 2 / plain)
        found["overlap"].append(spectra.subspace_overlap(Q @ U[:, :d], V[:, :d]))
    return {key: np.array(values) for key, values in found.items()} | {
        "plain": plain,
        "mirror": np.sum(pictures * pictures[..., ::-1], axis=(1, 2, 3)),
        "colour": 1 - pictures.shape[1] * np.sum(grey**2, axis=(1, 2)),
    }


def _recipe(bare: views.Recipe, change: str | Mapping[str, Any]) -> views.Recipe:
    """Return a recipe by name, or `bare` with some fields changed."""
    if isinstance(change, str):
        return views.RECIPES[change]
    # JSON knows no tuples.
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in change.items()
    }
    return replace(bare, **fields)
