"""How the record of the race is made: descent, plain and with its gradient changed.

A private half of ``pkg.recipes``.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pkg import data, modes, spectra, trainer
from pkg._network_cost import step_cost, steps_of
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]

HALF = 0.5  # of an eigenvalue of C that ends at 1: it is half learned
KEPT = 150


def race(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    *,
    progress: bool,
    keep: Path | None = None,
) -> Made:
    """Train networks with and without a preconditioner, and count steps to each mode.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images of ``size`` pixels; ``train``, settings of
        `trainer.TrainConfig` that all runs share, with a probe; ``judged``, how many
        images of the probe are kept from the fit of the linear probe; ``cases``, each a
        name and the settings that it changes; ``seeds``.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a step.
    keep : path, optional
        Folder for checkpoints, one folder in it a run.

    Returns
    -------
    runs : tuple of Trajectory
        Of the cross-correlation, case by case and seed by seed, at some 150 steps.
    arrays : dict
        By run: ``case``, ``seed``; ``crossings`` (d,), the step at which each
        eigenvalue of C first reaches one half, infinite where none does; ``score``,
        ``score_any_start``, ``learned``, ``relapse``; ``probe`` (S,), the
        accuracy of a linear probe on the embedding, at the steps ``probe_steps`` (S,);
        ``variance`` (d,), like ``crossings``, but of the covariance of all views: an
        embedding may be wide before its two views agree.
    said : str
        Where the images came from.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _all(config, roots, progress, keep or Path(scratch))


def race_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a step."""
    seconds, peak = step_cost(config)
    return seconds * steps_of(config), peak


def _all(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    progress: bool,
    keep: Path,
) -> Made:
    rows, runs, said = [], [], ""
    for number, (_, changes) in enumerate(config["cases"]):
        for seed in config["seeds"]:
            images = data.load(
                config["data"],
                n=config["n"],
                size=config["size"],
                seed=seed,
                root=roots.get(config["data"]),
            )
            said = images.provenance.rsplit("; seed", 1)[0]
            settings = trainer.TrainConfig(**config["train"], **changes, seed=seed)
            run = trainer.fit(
                settings,
                images,
                checkpoint=keep / f"{number}-{seed}",
                device="cpu",
                progress=progress,
            )
            rows.append({"case": number, "seed": seed, **_judge(run, images, config)})
            runs.append(_thin(run.cross))
    arrays = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return tuple(runs), arrays, said


def _judge(
    run: trainer.Run, images: data.Images, config: Mapping[str, Any]
) -> dict[str, Any]:
    steps = np.asarray(run.cross.step, float)
    found = spectra.find_steps(steps, run.cross.eigenvalues)
    z, judged = run.snapshots.z.astype(np.float64), config["judged"]
    labels = images.y[: z.shape[1]]
    accuracy = [
        modes.linear_probe(at[judged:], labels[judged:], at[:judged], labels[:judged])
        for at in z
    ]
    return {
        "crossings": spectra.crossing_times(steps, run.cross.eigenvalues, HALF),
        "variance": spectra.crossing_times(steps, run.covariance.eigenvalues, HALF),
        "score": found.score,
        "score_any_start": found.score_any_start,
        "learned": found.n_learned,
        "relapse": found.relapse,
        "probe": np.array(accuracy),
        "probe_steps": np.asarray(run.snapshots.step),
    }


def _thin(run: Trajectory) -> Trajectory:
    """Keep some entries, most of them early, where much happens."""
    last = len(run.t) - 1
    return run.at(np.unique((np.linspace(0, 1, KEPT) ** 2 * last).round().astype(int)))
