"""How the record of scale is made: what contrastive modes cost when K fits nowhere.

A private half of ``pkg.recipes``.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from pkg import data, kernels, kpca, views
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
# Two pools of threads would fight for the same cores; ours takes whole tiles.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
# Images whose views are made at a time, and passes to expect before there is a record.
CHUNK, PASSES = 1000, 14


def kernel_scale(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Find contrastive modes of many pairs, K never stored, and measure what it costs.

    Each kernel has a fresh process of its own, which loads the images too: its peak
    memory is that of the whole task.

    Parameters
    ----------
    config : mapping
        ``data``, ``views`` (a recipe of `pkg.views`), ``n`` pairs, ``size`` in pixels,
        ``d`` modes, ``tol`` of `kpca.fit`, ``kernels`` (pairs of a name in
        `pkg.kernels` and its settings), ``tile`` and ``threads`` of `kernels.product`,
        ``small`` (pairs of a second run that a dense solver repeats), and ``seeds``, of
        which the first is used.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a pass over K.

    Returns
    -------
    runs : empty tuple
    arrays : dict
        By kernel: ``gammas`` and ``residuals`` (kernels, d), ``gap`` and ``passes``
        (kernels,); ``wall`` and ``cpu`` seconds of the solution alone, ``whole``, wall
        seconds from loading the images on, ``peak`` bytes, and ``load``, how many
        processes wanted a core on average over the minute before the solution and over
        the one before its end (kernels, 2); ``small`` and ``truth`` (kernels, d):
        gammas of the small run, and what the dense solver says they are.
    said : str
        Where the images came from, and whether other work ran beside.
    """
    root = roots.get(config["data"])
    rows, said = [], ""
    for name, how in config["kernels"]:
        # A process that is spawned begins anew: no memory but its own counts.
        with (
            patch.dict(os.environ, ONE_THREAD),
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh,
        ):
            row, said = fresh.submit(
                _measure, config, root, name, how, progress
            ).result()
        rows.append(row)
    arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    # Our own threads want cores as well.
    others = arrays["load"].mean() - config["threads"]
    if others > 0.5:
        said += f"; the machine was shared, with {others:.0f} others at work"
    return (), arrays, said


def scale_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing one tile of each kernel."""
    N, m, tile = 2 * config["n"], 3 * config["size"] ** 2, config["tile"]
    x, y = np.random.default_rng(0).standard_normal((2, min(tile, N), m))
    seconds = 0.0
    for name, how in config["kernels"]:
        started = time.perf_counter()
        getattr(kernels, name)(x, y, **how)
        tiles = PASSES * N**2 / (2 * len(x) ** 2)
        seconds += tiles * (time.perf_counter() - started) / config["threads"]
    # Views; basis and products; a few tiles and copies of their inputs a thread.
    array_bytes = 8.0 * (
        N * m + 700 * N + config["threads"] * tile * (4 * tile + 4 * m)
    )
    return seconds, array_bytes + 0.6e9  # torch and NumPy themselves, and the images


def _measure(
    config: Mapping[str, Any],
    root: str | Path | None,
    name: str,
    how: Mapping[str, Any],
    progress: bool,
) -> tuple[dict[str, Any], str]:
    """Solve with one kernel; return its row of the record, and the images' source."""
    import resource  # not on Windows, where only this recipe needs it

    started = time.perf_counter()
    seed, n, d = config["seeds"][0], config["n"], config["d"]
    images = data.load(config["data"], n=n, size=config["size"], seed=seed, root=root)
    x = _pairs(images.x, config["views"], seed)
    kernel = partial(getattr(kernels, name), **how)
    product = kernels.product(kernel, x, tile=config["tile"], threads=config["threads"])
    load = os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    modes = kpca.fit(_watched(product, name, progress), d, n=n, tol=config["tol"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    whole = time.perf_counter() - started
    # In kilobytes; read before the small run, which holds its K.
    peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    few = config["small"]
    part = np.concatenate([x[:few], x[n : n + few]])
    again = kernels.product(kernel, part, tile=config["tile"])
    small = kpca.fit(again, d, n=few, tol=config["tol"])
    row = {
        **{
            key: getattr(modes, key) for key in ("gammas", "residuals", "gap", "passes")
        },
        **{"wall": wall, "cpu": cpu, "whole": whole, "peak": peak},
        "load": np.array([load, os.getloadavg()[0]]),
        "small": small.gammas,
        "truth": kpca.fit(kernel(part), d, method="dense").gammas,
    }
    return row, images.provenance.rsplit("; seed", 1)[0]


def _pairs(images: np.ndarray, recipe: str, seed: int) -> np.ndarray:
    """Return the views (2n, m) float64 that `views.flat_pairs` makes, in little memory.

    They are made some images at a time, so the random numbers are others.
    """
    n, height, width, _ = images.shape
    generator = torch.Generator().manual_seed(seed)
    x = np.empty((2, n, 3, height, width))
    for top in range(0, n, CHUNK):
        rows = slice(top, top + CHUNK)
        pair = views.pair(images[rows], recipe, generator=generator)
        x[0, rows], x[1, rows] = (view.numpy() for view in pair)
    for channel in range(3):
        x[:, :, channel] -= x[:, :, channel].mean()
        x[:, :, channel] /= x[:, :, channel].std()
    return x.reshape(2 * n, -1)


def _watched(
    product: Callable[[np.ndarray], np.ndarray], name: str, progress: bool
) -> Callable[[np.ndarray], np.ndarray]:
    from tqdm import tqdm

    bar = tqdm(desc=name, unit="pass", disable=not progress)

    def multiply(V: np.ndarray) -> np.ndarray:
        bar.update()
        return product(V)

    return multiply
