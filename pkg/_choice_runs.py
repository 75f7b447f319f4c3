"""How the record of chosen modes is made: which views let which modes rise, and when.

A private half of ``pkg.recipes``.
"""

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pkg import data, dynamics, modes, nets, ntk, spectra, trainer, views
from pkg._after_runs import thin
from pkg._looks import pairs, untrained
from pkg._network_cost import step_cost
from pkg.record import Trajectory
from pkg.track import Snapshots

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]

KERNELS = ("NTK at initialisation", "features at initialisation", "pixels")
# A mode counts as there once this much of its variance is in the embedding.
LEVEL = 0.25
MODES = 5  # that are asked for
FOLLOWED = 12  # of which the theory's trajectories are made


def chosen_modes(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    *,
    progress: bool,
    keep: Path | None = None,
) -> Made:
    """Predict from untrained networks which modes each recipe of views lets rise.

    The reference modes of a seed are the leading ones that a kernel predicts under the
    first recipe, as functions on the probe. Their *time* under a recipe is when the
    embedding of the probe holds a quarter of the variance of such a function: in the
    theory's own trajectories, and in the network's snapshots, alike.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images of ``size`` pixels; ``recipes``, each a name and what it
        changes of the recipe ``views``; ``cases``, each a name and settings of
        `trainer.TrainConfig`; ``train``, those that all share; ``pairs`` of the
        kernels; ``dim`` of their sketch; ``seeds``.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a step.
    keep : path, optional
        Folder for checkpoints, one folder in it a run.

    Returns
    -------
    runs : tuple of Trajectory
        Covariance, first seed only: case by case and recipe by recipe, some 60 steps.
    arrays : dict
        ``gammas`` (kernels, seeds, recipes, 12); ``predicted`` (kernels, seeds,
        recipes, 5), flow times of the reference modes in units in which gamma of the
        first one under the first recipe is 1, infinite where it never comes; and
        ``predicted_rank``, of the j-th mode whatever it is. ``observed`` (cases,
        kernels, seeds, recipes, 5) and ``observed_rank`` (cases, seeds, recipes, 5)
        likewise, flow times of the networks; ``alike`` (kernels, seeds, recipes, 5),
        the largest squared correlation of a reference mode with a predicted mode;
        ``overlap`` (cases, kernels, seeds, recipes), of the first directions that a
        network opened, at most three, with as many predicted modes.
    said : str
        Where the images came from.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _all(config, roots, progress, keep or Path(scratch))


def recipes_of(config: Mapping[str, Any]) -> list[views.Recipe]:
    """Build the recipes of views that a configuration lists; JSON has no tuples."""
    made = []
    for _, changes in config["recipes"]:
        settings: dict[str, Any] = {**config["views"], **changes}
        for name in ("scale", "ratio"):
            settings[name] = tuple(settings[name])
        made.append(views.Recipe(**settings))
    return made


def choice_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a step."""
    seconds, peak = step_cost(config)
    steps = sum(case["steps"] for _, case in config["cases"])
    return seconds * steps * len(config["recipes"]) * len(config["seeds"]), peak + 1e9


def _all(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    progress: bool,
    keep: Path,
) -> Made:
    recipes = recipes_of(config)
    seeds = config["seeds"]
    table: dict[str, Any] = {}
    runs, said = [], ""
    for i, seed in enumerate(seeds):
        images = data.load(
            config["data"],
            n=config["n"],
            size=config["size"],
            seed=seed,
            root=roots.get(config["data"]),
        )
        said = images.provenance.rsplit("; seed", 1)[0]
        theory = _theory(config, images, recipes, seed)
        for key in ("gammas", "predicted", "predicted_rank", "alike"):
            table.setdefault(key, []).append(theory[key])
        for (a, (_, case)), (b, recipe) in itertools.product(
            enumerate(config["cases"]), enumerate(recipes)
        ):
            settings = trainer.TrainConfig(
                **config["train"], **case, views=recipe, seed=seed
            )
            run = trainer.fit(
                settings,
                images,
                checkpoint=keep / f"{a}-{b}-{seed}",
                device="cpu",
                progress=progress,
            )
            if i == 0:
                runs.append(thin(run.covariance, 60))
            seen = _observe(
                run.snapshots,
                run.covariance,
                theory["reference"],
                theory["shapes"][:, b],
            )
            for key, value in seen.items():
                table.setdefault(key, {})[a, i, b] = value
    arrays = {
        key: np.stack(table[key], axis=1)
        for key in ("gammas", "predicted", "predicted_rank", "alike")
    }
    whole = range(len(config["cases"])), range(len(seeds)), range(len(recipes))
    for key in ("observed", "observed_rank", "overlap"):
        rows = np.stack([table[key][at] for at in itertools.product(*whole)])
        rows = rows.reshape(*map(len, whole), *rows.shape[1:])
        # (cases, seeds, recipes, kernels, ...) with the kernels second
        arrays[key] = rows if key == "observed_rank" else np.moveaxis(rows, 3, 1)
    return tuple(runs), arrays, said


def _theory(
    config: Mapping[str, Any],
    images: data.Images,
    recipes: list[views.Recipe],
    seed: int,
) -> dict[str, np.ndarray]:
    """Predict from the untrained network, under every recipe, before any training."""
    method = config["cases"][0][1]["method"]
    first = trainer.TrainConfig(**config["train"], method=method, seed=seed)
    net = untrained(first)
    probe = images.x[: config["train"]["probe"]]
    at_rest = trainer.standardize(torch.tensor(probe).permute(0, 3, 1, 2) / 255)
    found: dict[str, list[Any]] = {"gammas": [], "shapes": []}
    for recipe in recipes:
        both = pairs(images, replace(first, views=recipe), config["pairs"])
        rows = zip(*(_features(net, x, config) for x in (both, at_rest)), strict=True)
        gammas, shapes = zip(*(_modes(*pair) for pair in rows), strict=True)
        found["gammas"].append(gammas)
        found["shapes"].append(shapes)
    gammas, shapes = (np.swapaxes(found[k], 0, 1) for k in ("gammas", "shapes"))
    scaled = gammas / gammas[:, :1, :1]  # (kernels, recipes, 12)
    reference = shapes[:, 0, :, :MODES]  # (kernels, probe, 5)
    # Squared correlations of reference modes with the modes under each recipe.
    alike = np.einsum("kpj,krpi->krij", reference, shapes) ** 2
    s0 = config["s0"]
    times = np.geomspace(0.05, 400.0, 1500)
    predicted = np.empty((*alike.shape[:2], MODES))
    ranks = np.full_like(predicted, np.inf)
    for k, r in np.ndindex(*alike.shape[:2]):
        positive = scaled[k, r] > 0
        rise = dynamics.closed_form(times, scaled[k, r][positive], s0).eigenvalues
        held = rise @ alike[k, r][positive]  # (T, 5)
        predicted[k, r] = spectra.crossing_times(times, held, LEVEL)
        crossed = spectra.crossing_times(times, rise, 0.5)[:MODES]
        ranks[k, r, : len(crossed)] = crossed
    return {
        "gammas": gammas,
        "predicted": predicted,
        "predicted_rank": ranks,
        "alike": alike.max(axis=2),
        "reference": reference,
        "shapes": shapes,
    }


def _features(
    net: nets.ResNet, x: torch.Tensor, config: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Return what each kernel is the inner product of, in the order of `KERNELS`."""
    sketch = ntk.sketch(net, x, config["dim"], seed=0)
    with torch.no_grad():
        features = torch.cat([net.features(part) for part in x.split(500)])
    return sketch, features.double().numpy(), x.flatten(1).double().numpy()


def _modes(both: np.ndarray, at_rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gammas (12,) and the modes as functions on the probe, unit columns."""
    h, h_prime = np.split(both, 2)
    Gamma = dynamics.cross_correlation(h, h_prime, center=True)
    gammas, directions = spectra.top_eigenpairs(Gamma, FOLLOWED)
    values = (at_rest - at_rest.mean(axis=0)) @ directions
    return gammas, values / np.linalg.norm(values, axis=0)


def _observe(
    snapshots: Snapshots,
    covariance: Trajectory,
    reference: np.ndarray,
    shapes: np.ndarray,
) -> dict[str, np.ndarray]:
    """When did the embedding hold each reference mode, and what did it open first?"""
    z = snapshots.z.astype(np.float64)
    z = z - z.mean(axis=1, keepdims=True)  # (S, probe, d)
    t = np.asarray(snapshots.t)
    level = np.linalg.eigvalsh(np.cov(z[-1].T))[-1]
    held = np.einsum("kpj,spd->skjd", reference, z)
    power = np.sum(held**2, axis=3) / z.shape[1] / level  # (S, kernels, 5)
    observed = [spectra.crossing_times(t, p, LEVEL) for p in power.swapaxes(0, 1)]
    widest = covariance.eigenvalues[-1, 0]
    ranks = spectra.crossing_times(covariance.t, covariance.eigenvalues / widest, LEVEL)
    seen = modes.unfold(snapshots.z.astype(np.float64))
    many = min(3, int(np.sum(seen.opened >= 0)))
    at_birth = np.stack(
        [seen.points[seen.opened[j], :, j] for j in range(many)], axis=1
    )
    overlap = [spectra.subspace_overlap(at_birth, s[:, :many]) for s in shapes]
    return {
        "observed": np.stack(observed),
        "observed_rank": ranks[:MODES],
        "overlap": np.array(overlap),
    }
