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
LEVEL = 0.25  # of a unit of variance: a mode that holds so much is there
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
    embedding of the probe holds ``level`` of the variance of such a function: in the
    theory's own trajectories, and in the network's snapshots, alike. The unit is that
    of the theory, 1; for a network it is the ``unit`` of the configuration, or, if
    there is none, the variance along the widest direction at the end.

    A tiny embedding grows by Gamma - kappa Sigma. Kappa is 0, or, where the
    configuration says that each loss has its own growth, that of `penalty`.

    Parameters
    ----------
    config : mapping
        ``data``, ``n`` images of ``size`` pixels; ``recipes``, each a name and what it
        changes of the recipe ``views``; ``cases``, each a name and settings of
        `trainer.TrainConfig`; ``train``, those that all share; ``pairs`` of the
        kernels; ``dim`` of their sketch; ``seeds``; perhaps ``level``, a quarter if
        it is missing, ``unit``, and ``growth``, which is "own" or missing.
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
        ``kappas`` (K,), and ``own`` (cases,), which of them is a loss's own.
        ``gammas`` (K, kernels, seeds, recipes, 12), eigenvalues of Gamma - kappa Sigma;
        ``predicted`` (K, kernels, seeds, recipes, 5), flow times of the reference modes
        in units in which the first gamma under the first recipe is 1, infinite where
        one never comes; and ``predicted_rank``, of the j-th mode whatever it is.
        ``observed`` (cases, K, kernels, seeds, recipes, 5) and ``observed_rank``
        (cases, seeds, recipes, 5) likewise, flow times of the networks; ``alike`` (K,
        kernels, seeds, recipes, 5), the largest squared correlation of a reference mode
        with a predicted mode; ``overlap`` (cases, K, kernels, seeds, recipes), of the
        first directions that a network opened, at most three, with as many predicted
        modes. ``power`` (cases, seeds, recipes, snapshots, 5), variance of the
        embedding along the reference modes of its own kappa and the first kernel, at
        flow times ``power_t`` (cases, seeds, recipes, snapshots), and ``widest``
        (cases, seeds, recipes), along the widest direction at the end: so that any
        other level can be asked for.
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


def penalty(settings: Mapping[str, Any]) -> float:
    """Return kappa of a loss under which a tiny embedding grows by Gamma - kappa Sigma.

    Barlow Twins and SimCLR feel partners only. The invariance of VICReg works against
    all that views disagree on, and wins unless they agree well (chapter 10).
    """
    if settings["method"] != "vicreg":
        return 0.0
    terms = {"sim_coeff": 25.0, "std_coeff": 25.0, **settings["terms"]}
    push = terms["std_coeff"] / (4 * terms["sim_coeff"] * terms["eps"] ** 0.5)
    return float(1 - push)


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
    recipes, seeds, cases = recipes_of(config), config["seeds"], config["cases"]
    own = config.get("growth") == "own"
    theirs = [penalty(settings) if own else 0.0 for _, settings in cases]
    kappas = sorted({0.0, *theirs})
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
        asked = _ask_kernels(config, images, recipes, seed)
        theories = [_theory(asked, kappa, config) for kappa in kappas]
        for key in ("gammas", "predicted", "predicted_rank", "alike"):
            row = np.stack([theory[key] for theory in theories])
            table.setdefault(key, []).append(row)
        for (a, (_, case)), (b, recipe) in itertools.product(
            enumerate(cases), enumerate(recipes)
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
            seen = [
                _observe(
                    run.snapshots,
                    run.covariance,
                    theory["reference"],
                    theory["shapes"][:, b],
                    config,
                )
                for theory in theories
            ]
            for key in ("observed", "overlap"):  # (K, kernels, ...)
                row = np.stack([of[key] for of in seen])
                table.setdefault(key, {})[a, i, b] = row
            of = seen[kappas.index(theirs[a])]
            for key in ("observed_rank", "power", "power_t", "widest"):
                table.setdefault(key, {})[a, i, b] = of[key]
    arrays = {
        key: np.stack(table[key], axis=2)
        for key in ("gammas", "predicted", "predicted_rank", "alike")
    }
    whole = range(len(cases)), range(len(seeds)), range(len(recipes))
    for key in ("observed", "overlap", "observed_rank", "power", "power_t", "widest"):
        rows = np.stack([table[key][at] for at in itertools.product(*whole)])
        rows = rows.reshape(*map(len, whole), *rows.shape[1:])
        # (cases, seeds, recipes, K, kernels, ...) with K and the kernels after cases
        asked_for = key in ("observed", "overlap")
        arrays[key] = np.moveaxis(rows, (3, 4), (1, 2)) if asked_for else rows
    arrays["kappas"] = np.array(kappas)
    arrays["own"] = np.array([kappas.index(kappa) for kappa in theirs])
    return tuple(runs), arrays, said


def _ask_kernels(
    config: Mapping[str, Any],
    images: data.Images,
    recipes: list[views.Recipe],
    seed: int,
) -> tuple[list[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]]:
    """Ask the untrained network for features of pairs, recipe by recipe, and probe."""
    method = config["cases"][0][1]["method"]
    first = trainer.TrainConfig(**config["train"], method=method, seed=seed)
    net = untrained(first)
    probe = images.x[: config["train"]["probe"]]
    at_rest = trainer.standardize(torch.tensor(probe).permute(0, 3, 1, 2) / 255)
    drawn = (
        pairs(images, replace(first, views=recipe), config["pairs"])
        for recipe in recipes
    )
    both = [_features(net, x, config) for x in drawn]
    return both, _features(net, at_rest, config)


def _theory(
    asked: tuple[list[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]],
    kappa: float,
    config: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Predict what comes, and when, under every recipe, before any training."""
    both, at_rest = asked
    found = [
        [_modes(*pair, kappa) for pair in zip(features, at_rest, strict=True)]
        for features in both
    ]  # recipe by recipe, kernel by kernel
    gammas, shapes = (
        np.array([[kernel[part] for kernel in row] for row in found]).swapaxes(0, 1)
        for part in (0, 1)
    )
    scaled = gammas / gammas[:, :1, :1]  # (kernels, recipes, 12)
    reference = shapes[:, 0, :, :MODES]  # (kernels, probe, 5)
    # Squared correlations of reference modes with the modes under each recipe.
    alike = np.einsum("kpj,krpi->krij", reference, shapes) ** 2
    s0, level = config["s0"], config.get("level", LEVEL)
    times = np.geomspace(0.05, 400.0, 1500)
    predicted = np.full((*alike.shape[:2], MODES), np.inf)
    ranks = np.full_like(predicted, np.inf)
    for k, r in np.ndindex(*alike.shape[:2]):
        positive = scaled[k, r] > 0
        if not positive.any():
            continue
        rise = dynamics.closed_form(times, scaled[k, r][positive], s0).eigenvalues
        held = rise @ alike[k, r][positive]  # (T, 5)
        predicted[k, r] = spectra.crossing_times(times, held, level)
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


def _modes(
    both: np.ndarray, at_rest: np.ndarray, kappa: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return gammas (12,) and the modes as functions on the probe, unit columns."""
    h, h_prime = np.split(both, 2)
    growth = dynamics.cross_correlation(h, h_prime, center=True)
    if kappa:
        growth = growth - kappa * dynamics.second_moment(h, h_prime, center=True)
    gammas, directions = spectra.top_eigenpairs(growth, FOLLOWED)
    values = (at_rest - at_rest.mean(axis=0)) @ directions
    return gammas, values / np.linalg.norm(values, axis=0)


def _observe(
    snapshots: Snapshots,
    covariance: Trajectory,
    reference: np.ndarray,
    shapes: np.ndarray,
    config: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """When did the embedding hold each reference mode, and what did it open first?"""
    z = snapshots.z.astype(np.float64)
    z = z - z.mean(axis=1, keepdims=True)  # (S, probe, d)
    t = np.asarray(snapshots.t)
    unit, level = config.get("unit"), config.get("level", LEVEL)
    held = np.einsum("kpj,spd->ksjd", reference, z)
    power = np.sum(held**2, axis=3) / z.shape[1]  # (kernels, S, 5)
    widest = np.linalg.eigvalsh(np.cov(z[-1].T))[-1]
    observed = [spectra.crossing_times(t, p / (unit or widest), level) for p in power]
    shares = covariance.eigenvalues / (unit or covariance.eigenvalues[-1, 0])
    ranks = spectra.crossing_times(covariance.t, shares, level)
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
        "power": power[0].astype(np.float32),
        "power_t": t,
        "widest": widest,
    }
