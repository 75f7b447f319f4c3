"""How the record of unfolding embeddings is made: one network a seed.

A private half of ``pkg.recipes``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pkg import data, modes, spectra, trainer
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]

PLATEAUS = 4  # halfway between two openings, the first four times
DARKER = 0.7  # of every pixel


def unfolding(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Train networks and measure how and into what their embeddings unfold.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images, ``size`` in pixels, ``training`` (keywords of
        `trainer.TrainConfig`, with a probe) and ``seeds``. Each seed draws its own
        images, batches, views and network.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a seed.

    Returns
    -------
    runs : tuple of Trajectory
        Covariance of the batches, every fourth step.
    arrays : dict
        Of each seed: ``opened`` (8,) steps, -1 for never; halfway between openings 1 to
        4 and the next, ``share``, ``ratio`` and ``overlap`` (4,); ``late``, overlap of
        the leading three at the end with the first three; ``correlation``
        (statistics, 8); ``moved`` (changes, 8); ``hits`` (8,) of the nearest neighbour,
        and ``before`` and ``pixels``; ``picture`` (size, size, 3) of axis 1.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    runs, rows, said = [], [], ""
    for seed in tqdm(config["seeds"], unit="seed", disable=not progress):
        images = data.load(
            config["data"],
            n=config["n"],
            size=config["size"],
            seed=seed,
            root=roots.get(config["data"]),
        )
        settings = trainer.TrainConfig(**config["training"], seed=seed)
        run = trainer.fit(settings, images, device="cpu", progress=False)
        runs.append(run.covariance.at(slice(None, None, 4)))
        rows.append(_measure(run, images))
        said = images.provenance.rsplit("; seed", 1)[0]
    return tuple(runs), {key: np.stack([r[key] for r in rows]) for key in rows[0]}, said


def unfolding_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a few steps of the run's size."""
    images = data.load(config["data"], n=config["n"], size=config["size"])
    settings = trainer.TrainConfig(**{**config["training"], "steps": 10})
    started = time.perf_counter()
    trainer.fit(settings, images, device="cpu", progress=False)
    seconds_step = (time.perf_counter() - started) / 10
    steps = len(config["seeds"]) * config["training"]["steps"]
    return seconds_step * steps, 0.6e9  # torch, and activations of one batch


def _measure(run: trainer.Run, images: data.Images) -> dict[str, np.ndarray]:
    z = run.snapshots.z.astype(np.float64)
    seen, n = modes.unfold(z), z.shape[1]
    x, labels, last = images.x[:n], images.y[:n], seen.points[-1]
    end = spectra.top_eigenpairs(np.cov(z[-1].T), 3)[1]
    properties = np.stack([*modes.statistics(x).values()])
    both = np.corrcoef(properties, last.T)
    outputs = range(1, last.shape[1] + 1)
    return {
        "opened": np.where(seen.opened < 0, -1, run.snapshots.step[seen.opened]),
        **_halfway(z, seen),
        "late": np.array(spectra.subspace_overlap(end, seen.axes[:, :3])),
        "correlation": both[: len(properties), len(properties) :],
        "moved": _moved(run, x, seen.axes),
        "hits": np.array([modes.hits(last[:, :k], labels) for k in outputs]),
        "before": np.array(modes.hits(seen.points[0], labels)),
        "pixels": np.array(modes.hits(x.reshape(n, -1) / 255.0, labels)),
        "picture": _picture(last[:, 0], x),
    }


def _halfway(z: np.ndarray, seen: modes.Unfolded) -> dict[str, np.ndarray]:
    """Measure how far the cloud lies in its open axes, halfway to the next opening."""
    moments = np.where(seen.opened < 0, len(z) - 1, seen.opened)
    middle = ((moments[:-1] + moments[1:]) // 2)[:PLATEAUS]
    share, overlap = [], []
    for k, moment in enumerate(middle, start=1):
        spread = seen.points[moment].var(axis=0)
        own = spectra.top_eigenpairs(np.cov(z[moment].T), k)[1]  # (d, k)
        share.append(spread[:k].sum() / spread.sum())
        overlap.append(spectra.subspace_overlap(own, seen.axes[:, :k]))
    ratio = modes.dimension(seen.eigenvalues[middle])
    return {"share": np.array(share), "ratio": ratio, "overlap": np.array(overlap)}


def _moved(run: trainer.Run, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """How far a change moves points along each axis, (changes, d)."""

    def embed(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            z = run.model(_seen_by_the_network(pixels)).double().numpy()
        return np.asarray((z - z.mean(axis=0)) @ axes)

    here = embed(x)
    darker = (DARKER * x).astype(np.uint8)
    changed = (x[:, ::-1], x[:, :, ::-1], darker, x[..., ::-1])
    moves = np.stack([embed(pixels) - here for pixels in changed])
    return np.asarray(np.mean(moves**2, axis=1) / (2 * here.var(axis=0)))


def _picture(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Average the images, weighed by where they lie along an axis."""
    views = _seen_by_the_network(x).permute(0, 2, 3, 1).double().numpy()
    return np.tensordot(values / len(x), views, axes=1).astype(np.float32)


def _seen_by_the_network(pixels: np.ndarray) -> torch.Tensor:
    return trainer.standardize(torch.tensor(pixels.copy()).permute(0, 3, 1, 2) / 255)
