"""How the staircase records are made: descent on image pairs beside its prediction.

A private half of ``pkg.recipes``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pkg import data, dynamics, flow, spectra, views
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]


def linear_staircase(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Descend on image pairs from small random starts, and predict each run.

    Parameters
    ----------
    config : mapping
        ``data``, ``views`` (a recipe of `pkg.views`), ``n`` pairs, ``size`` in pixels,
        ``d``, ``scale`` (standard deviation of the entries of W(0)), ``rate`` (learning
        rate times the largest gamma), ``steps`` and ``seeds``. Each seed draws its own
        images, views and W(0).
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a seed.

    Returns
    -------
    runs : tuple of Trajectory
        One per seed, at some 400 times evenly spaced on a log axis.
    arrays : dict
        ``gammas`` (seeds, 2d), ``s0``, ``predicted`` and ``measured`` (seeds, d),
        ``overlap`` (seeds,) of learned and predicted space; ``captured`` (seeds, 2d),
        the share of each eigenvector of Gamma inside the learned one; of the first seed
        ``learned`` and ``expected`` (d, size, size, 3) directions.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    runs, rows = [], []
    for seed in tqdm(config["seeds"], unit="seed", disable=not progress):
        images = data.load(
            config["data"],
            n=config["n"],
            size=config["size"],
            seed=seed,
            root=roots.get(config["data"]),
        )
        x, x_prime = views.flat_pairs(images.x, config["views"], seed=seed)
        run, row = _descend_and_predict(x, x_prime, config, seed)
        # Evenly spaced on a log axis.
        kept = np.geomspace(1, len(run.t) - 1, 400).round().astype(int)
        runs.append(run.at(np.unique(kept)))
        rows.append(row)
    arrays = {
        key: np.stack([row[key] for row in rows])
        for key in ("gammas", "s0", "predicted", "measured", "overlap", "captured")
    }
    # Rows of flat pairs are channel first; a picture wants its channels last.
    pixels = (config["d"], 3, config["size"], config["size"])
    for key in ("learned", "expected"):
        pictures = rows[0][key].T.reshape(pixels).transpose(0, 2, 3, 1)
        arrays[key] = pictures.astype(np.float32)
    return tuple(runs), arrays, images.provenance.rsplit("; seed", 1)[0]


def staircase_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a few steps of the run's size."""
    m, r = 3 * config["size"] ** 2, 2 * config["n"]
    rng = np.random.default_rng(0)
    small, square = rng.standard_normal((2, config["n"], r))
    started = time.perf_counter()
    W0 = 1e-6 * small[: config["d"]]
    flow.descend(W0, small, square, lr=1e-6, steps=50)
    seconds_step = (time.perf_counter() - started) / 50
    # Basis and spectrum: some 2 m r^2 + 10 r^3 operations against 2 d r^2 a step.
    setup = (m / config["d"] + 5 * r / config["d"]) * seconds_step
    seconds = len(config["seeds"]) * (config["steps"] * seconds_step + setup)
    # Views, their stack, its factors and the span's coordinates; Gamma and two copies.
    array_bytes = 8.0 * (6 * r * m + 4 * r**2)
    return seconds, array_bytes + 0.4e9  # torch and NumPy themselves


def _descend_and_predict(
    x: np.ndarray, x_prime: np.ndarray, config: Mapping[str, Any], seed: int
) -> tuple[Trajectory, dict[str, np.ndarray]]:
    Q = spectra.span(x, x_prime)
    x, x_prime = x @ Q, x_prime @ Q
    Gamma = dynamics.cross_correlation(x, x_prime)
    gammas, V = spectra.top_eigenpairs(Gamma, 2 * config["d"])
    rng = np.random.default_rng(seed)
    W0 = config["scale"] * rng.standard_normal((config["d"], Q.shape[1]))
    start = dynamics.effective_start(W0, Gamma)
    lr = config["rate"] / gammas[0]
    run = flow.descend(W0, x, x_prime, lr=lr, steps=config["steps"])
    learned = spectra.learned_directions(np.asarray(run.weights), Gamma)
    # Measured eigenvalues come sorted, so the predictions are sorted too: two near-tied
    # modes may be learned in either order.
    return run, {
        "gammas": gammas,
        "s0": start.s0,
        "predicted": np.sort(dynamics.step_times(start.gammas, start.s0, lr=lr)),
        "measured": spectra.crossing_times(run.t, run.eigenvalues),
        "overlap": np.array(spectra.subspace_overlap(learned, start.V)),
        "captured": np.sum((learned.T @ V) ** 2, axis=0),
        "learned": Q @ learned,
        "expected": Q @ V[:, : config["d"]],
    }
