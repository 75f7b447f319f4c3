"""How the records of climbing networks are made: fresh pairs, a spectrum a step.

A private half of ``pkg.recipes``.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pkg import data, distributed, spectra, trainer
from pkg._guards import LostRun
from pkg._keep import METRICS
from pkg._network_cost import step_cost, steps_of
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
# Entries of a recorded curve; steps are judged on every step, before thinning. A run
# that is lost within so few has none.
KEPT, FEWEST = 200, 10


def network_staircases(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    *,
    progress: bool,
    keep: Path | None = None,
) -> Made:
    """Train a network in several ways, and judge each run's staircase.

    Parameters
    ----------
    config : mapping
        ``data``, ``split``, ``n`` images of ``size`` pixels; ``train``, settings of
        ``trainer.TrainConfig`` that all runs share; ``cases``, each a name and the
        settings that it changes, with ``seeds`` of its own if it has fewer;
        ``seeds``. Each seed draws its own images, network, batches and views.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a step.
    keep : path, optional
        Folder for checkpoints, one folder in it a run: the same call goes on where it
        was stopped.

    Returns
    -------
    runs : tuple of Trajectory
        Of the cross-correlation, case by case and seed by seed, at some 200 steps.
    arrays : dict
        By run: ``case`` and ``seed``; ``covariance`` (T, d), the other spectrum at the
        same steps (rows beyond a run's end are NaN). By run and matrix, the
        covariance first and then the cross-correlation, from all steps: ``score``,
        ``score_any_start``, ``learned``, ``relapse``, ``start_ratio``; ``times`` and
        ``levels`` (d,), NaN where nothing was learned. ``rates`` (L, 3): every look at
        gamma_1; ``lost``, whether it ended early because it diverged or collapsed. With
        a probe, of the first run: ``z`` (S, n, d), ``z_step``, ``y``.
    said : str
        Where the images came from.
    """
    # One session for all runs; without torchrun it does nothing.
    with distributed.session(), tempfile.TemporaryDirectory() as scratch:
        return _all(config, roots, progress, keep or Path(scratch))


def network_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes on this machine, by timing a step."""
    seconds, peak = step_cost(config)
    return seconds * steps_of(config), peak


def _all(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    progress: bool,
    keep: Path,
) -> Made:
    rows, runs, first, said = [], [], None, ""
    for number, (_, changes) in enumerate(config["cases"]):
        changes = dict(changes)
        for seed in changes.pop("seeds", config["seeds"]):
            images = data.load(
                config["data"],
                split=config.get("split", "train"),
                n=config["n"],
                size=config["size"],
                seed=seed,
                root=roots.get(config["data"]),
            )
            said = re.sub("; seed [0-9]+$", "", images.provenance)
            settings = {**config["train"], **changes, "seed": seed}
            run = _train(settings, images, keep / f"{number}-{seed}", progress)
            rows.append({"case": number, "seed": seed, **run["row"]})
            runs.append(run["cross"])
            if first is None and run["row"]["z"] is not None:
                first = {**run["row"]["z"], "y": images.y[: settings["probe"]]}
    arrays = {key: _stack([row[key] for row in rows]) for key in rows[0] if key != "z"}
    return tuple(runs), {**arrays, **(first or {})}, said


def _train(
    settings: Mapping[str, Any],
    images: data.Images,
    folder: Path,
    progress: bool,
) -> dict[str, Any]:
    config = trainer.TrainConfig(**settings)
    row: dict[str, Any] = {"lost": False, "rates": np.full((1, 3), np.nan), "z": None}
    try:
        run = trainer.fit(config, images, checkpoint=folder, progress=progress)
        row["rates"], covariance, cross = run.rates, run.covariance, run.cross
        if config.probe:
            kept = run.snapshots
            row["z"] = {"z": np.float16(kept.z), "z_step": kept.step}
    except LostRun:  # no longer finite: what came before stays
        row["lost"] = True
        # Rank 0 alone has written it.
        seen = _until_lost(folder, config) if distributed.is_main() else None
        covariance, cross = distributed.same(seen)
    found = [_steps(one, row["lost"]) for one in (covariance, cross)]
    chosen = np.unique(np.linspace(0, len(cross.t) - 1, KEPT).round().astype(int))
    row |= {
        "covariance": covariance.eigenvalues[chosen],
        "score": [s.score for s in found],
        "score_any_start": [s.score_any_start for s in found],
        "learned": [s.n_learned for s in found],
        "relapse": [s.relapse for s in found],
        "start_ratio": [s.start_ratio for s in found],
        "times": [_padded(s.times, config.d) for s in found],
        "levels": [_padded(s.levels, config.d) for s in found],
    }
    return {"row": row, "cross": cross.at(chosen)}


def _until_lost(
    folder: Path, config: trainer.TrainConfig
) -> tuple[Trajectory, Trajectory]:
    """Read the spectra of a lost run from its lines of JSON."""
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    covariance, cross = (
        Trajectory(
            t=np.array([row["t"] for row in rows]),
            step=np.array([row["step"] for row in rows]),
            loss=np.array([row["loss"] for row in rows]),
            eigenvalues=np.array([row[matrix] for row in rows]),
            order="rank",
            matrix="covariance" if matrix == "covariance" else "cross-correlation",
            source=f"{config.method}, {config.encoder}, lost",
        )
        for matrix in ("covariance", "cross")
    )
    return covariance, cross


def _steps(run: Trajectory, lost: bool) -> Any:
    if lost and len(run.t) < FEWEST:
        none = np.zeros(0)
        return SimpleNamespace(
            **{"score": 0.0, "score_any_start": 0.0, "n_learned": 0, "relapse": 0.0},
            **{"start_ratio": np.inf, "times": none, "levels": none},
        )
    return spectra.find_steps(np.asarray(run.step, float), run.eigenvalues)


def _padded(values: np.ndarray, d: int) -> np.ndarray:
    return np.pad(values, (0, d - len(values)), constant_values=np.nan)


def _stack(values: list[Any]) -> np.ndarray:
    """Stack arrays of unlike lengths, NaN beyond the end of the shorter ones."""
    arrays = [np.asarray(value) for value in values]
    longest = max((len(a) for a in arrays if a.ndim), default=0)
    if all(a.ndim == 0 or len(a) == longest for a in arrays):
        return np.stack(arrays)
    full = np.full((len(arrays), longest, *arrays[0].shape[1:]), np.nan)
    for row, array in zip(full, arrays, strict=True):
        row[: len(array)] = array
    return full
