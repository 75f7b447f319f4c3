"""How the record of one principle is made: kernels, modes and neighbours of networks.

A private half of ``pkg.recipes``.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pkg import data, kernels, modes, nets, spectra, trainer
from pkg._after_runs import thin
from pkg._looks import (
    centre,
    centred,
    embed,
    features_of,
    kernel_parts,
    leading_modes,
    network_of,
    numbers,
    pairs,
    untrained,
)
from pkg._network_cost import step_cost, steps_of
from pkg._other_networks import others
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
Row = dict[str, Any]

# What might know the embedding after training, in this order.
PREDICTORS = (
    *("NTK after", "its readout part", "all other layers"),
    *("kernel PCA, NTK after", "NTK at initialisation", "features at initialisation"),
    *("kernel PCA, NTK at initialisation", "linear kernel", "untrained network"),
)
PARTS = ("first", "last", "single", "random", "untrained", "pixels")
EDGE = 50  # images whose mean is shown for each end of a mode
TEST_SEED = 0  # no seed of a run


def one_principle(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    *,
    progress: bool,
    keep: Path | None = None,
) -> Made:
    """Train networks under several losses, and ask what they have in common.

    *Captured* is `spectra.subspace_overlap` of the embedding of ``pairs`` pairs after
    training, centred view by view, with the leading k columns that a predictor names.

    Parameters
    ----------
    config : mapping
        As for ``network_staircases``, with a probe in ``train``; ``test`` images of
        the test split, the same for all; ``pairs``; ``kernels``, seeds whose kernels
        are kept; ``others``, steps of the two neighbours.
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
        By run: ``case``, ``seed``; ``opened`` (8,) the step at which each axis of
        `modes.unfold` opened, -1 for never; ``captured`` (predictors, 8), column k - 1
        for k; ``readout``, its share of the trace of the NTK after; ``points``
        (test, 8), the test images along the axes; ``probe`` and ``neighbours``
        (parts, 8), accuracies of a linear probe and of 20 neighbours with k modes;
        ``trunk`` (2,), of the probe on the features; ``ends`` (8, 2, size, size, 3),
        mean images at both ends of each axis. By network, the runs first, then those
        untrained, supervised and of SimSiam, seed by seed: ``cka`` (networks,
        networks) of features, ``trunk_others``; of the runs and the untrained,
        ``cka_z`` of embeddings. Kernels of the kept seeds, as lower triangles:
        ``after`` (kept runs, n (2n + 1)), ``kept`` their runs, and ``z_pairs`` (kept
        runs, 2n, 8); ``before`` (views and seeds, n (2n + 1)), at initialisation.
        ``y``, ``statistics`` and ``pictured`` (test, 5) of the test images.
    said : str
        Where the images came from.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _all(config, roots, progress, keep or Path(scratch))


def principle_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes on this machine, by timing a step."""
    seconds, peak = step_cost(config)
    steps = steps_of(config) + 2 * len(config["seeds"]) * config["others"]
    return seconds * steps, peak + 1e9  # kernels, and the gradients behind them


def _all(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    progress: bool,
    keep: Path,
) -> Made:
    test = data.load(
        config["data"],
        split="test",
        n=config["test"],
        size=config["size"],
        seed=TEST_SEED,
        root=roots.get(config["data"]),
    )
    runs = [
        _train(config, roots, number, seed, keep, progress)
        for number in range(len(config["cases"]))
        for seed in config["seeds"]
    ]
    rows, plain, first, said = [], {}, {}, ""
    for i, run in enumerate(runs):
        seed = run.config.seed
        images = _images(config, roots, seed)
        said = images.provenance.rsplit("; seed", 1)[0]
        row = {"case": i // len(config["seeds"]), "seed": seed}
        if seed not in plain:
            fresh = untrained(run.config)
            plain[seed] = _without_training(fresh, run.config.d, images, test)
        row |= _by_modes(run, images, test, plain[seed])
        both = pairs(images, run.config, config["pairs"])
        at = (seed, run.config.views)  # the same pairs, and the same network at first
        if at not in first:
            first[at] = kernel_parts(untrained(run.config), both)
        row |= _by_kernels(run, both, first[at])
        rows.append(row)
    networks = [network_of(run) for run in runs]
    arrays: dict[str, np.ndarray] = {}
    kept = [
        i
        for i, row in enumerate(rows)
        if row["seed"] in config["kernels"] and row["case"] in config["cases_kept"]
    ]
    for key in set(rows[0]) - {"after", "z_pairs"}:
        arrays[key] = np.stack([row[key] for row in rows])
    for key in ("after", "z_pairs"):
        arrays[key] = np.stack([np.float32(rows[i][key]) for i in kept])
    arrays["kept"] = np.array(kept)
    arrays["before"] = np.stack(
        [
            np.float32(_triangle(np.add(*first[seed, views])))
            for views in dict.fromkeys(run.config.views for run in runs)
            for seed in config["kernels"]
        ]
    )
    arrays |= _side_by_side(config, roots, networks, test, keep, progress)
    arrays["y"] = test.y
    arrays["statistics"] = np.stack([*modes.statistics(test.x).values()])
    arrays["pictured"] = np.concatenate([*modes.pictured(test.x).values()], axis=1)
    return tuple(thin(run.cross, 150) for run in runs), arrays, said


def _train(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    number: int,
    seed: int,
    keep: Path,
    progress: bool,
) -> trainer.Run:
    changes = config["cases"][number][1]
    return trainer.fit(
        trainer.TrainConfig(**config["train"], **changes, seed=seed),
        _images(config, roots, seed),
        checkpoint=keep / f"{number}-{seed}",
        device="cpu",
        progress=progress,
    )


def _images(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], seed: int
) -> data.Images:
    return data.load(
        config["data"],
        n=config["n"],
        size=config["size"],
        seed=seed,
        root=roots.get(config["data"]),
    )


def _judges(
    images: data.Images, test: data.Images
) -> dict[str, Callable[[np.ndarray, np.ndarray, Any], float]]:
    """Return both judges of chosen columns: fitted on `images`, asked about `test`."""

    def probe(a: np.ndarray, b: np.ndarray, chosen: Any) -> float:
        return modes.linear_probe(a[:, chosen], images.y, b[:, chosen], test.y)

    def neighbours(a: np.ndarray, b: np.ndarray, chosen: Any) -> float:
        return modes.knn_probe(a[:, chosen], images.y, b[:, chosen], test.y)

    return {"probe": probe, "neighbours": neighbours}


def _without_training(
    fresh: nets.ResNet, d: int, images: data.Images, test: data.Images
) -> Row:
    """Judge what needs no training: an untrained network, and pixels."""
    flat = [s.x.reshape(len(s.x), -1) / 255.0 for s in (images, test)]
    plain = [embed(fresh, s.x) for s in (images, test)]
    clouds = [_principal(a, b, d) for a, b in (plain, flat)]
    row: Row = {
        name: [[judge(*cloud, slice(k + 1)) for k in range(d)] for cloud in clouds]
        for name, judge in _judges(images, test).items()
    }
    return {**row, "trunk": _trunk(fresh, images, test)}


def _by_modes(
    run: trainer.Run, images: data.Images, test: data.Images, beside: Row
) -> Row:
    """Follow the modes from their birth, and ask what they are good for."""
    seen = modes.unfold(run.snapshots.z.astype(np.float64))
    d = len(seen.axes)
    z, z_test = embed(run.model, images.x), embed(run.model, test.x)
    middle = z.mean(axis=0)
    z, z_test = (z - middle) @ seen.axes, (z_test - middle) @ seen.axes
    generator = np.random.default_rng(run.config.seed)
    subsets = [generator.choice(d, k + 1, replace=False) for k in range(d)]
    columns = (
        [slice(k + 1) for k in range(d)],
        [slice(d - k - 1, d) for k in range(d)],
        [[k] for k in range(d)],
        subsets,
    )
    answers = {
        name: [[judge(z, z_test, chosen) for chosen in part] for part in columns]
        + beside[name]
        for name, judge in _judges(images, test).items()
    }
    order = np.argsort(z_test, axis=0)  # (test, d)
    ends = [
        [
            test.x[order[part, j]].mean(axis=0)
            for part in (slice(EDGE), slice(-EDGE, None))
        ]
        for j in range(d)
    ]
    return {
        "opened": np.where(seen.opened < 0, -1, run.snapshots.step[seen.opened]),
        "points": np.float16(z_test),
        **{name: np.array(rows) for name, rows in answers.items()},
        "trunk": np.array([_trunk(network_of(run), images, test), beside["trunk"]]),
        "ends": np.round(ends).astype(np.uint8),
    }


def _by_kernels(
    run: trainer.Run, both: Tensor, first: tuple[np.ndarray, np.ndarray]
) -> Row:
    """Hold the embedding of some pairs against everything that might know it."""
    z = centre(numbers(run.model(both)))
    readout, rest = kernel_parts(network_of(run), both)
    fresh = untrained(run.config)
    features, after, before = first[0], readout + rest, np.add(*first)
    d = z.shape[1]
    linear = both.flatten(1).double().numpy()
    spaces = [
        leading_modes(after, d),
        leading_modes(readout, d),
        leading_modes(rest, d),
        spectra.top_eigenpairs(after, d)[1],
        leading_modes(before, d),
        leading_modes(features, d),
        spectra.top_eigenpairs(before, d)[1],
        leading_modes(centred(kernels.linear(linear)), d),
        np.linalg.svd(centre(numbers(fresh(both))), full_matrices=False)[0],
    ]
    return {
        "captured": np.array(
            [
                [spectra.subspace_overlap(z, s[:, : k + 1]) for k in range(d)]
                for s in spaces
            ]
        ),
        "readout": np.trace(readout) / np.trace(after),
        "after": _triangle(after),
        "z_pairs": z,
    }


def _side_by_side(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    networks: list[nets.ResNet],
    test: data.Images,
    keep: Path,
    progress: bool,
) -> Row:
    """Compare all networks, and their neighbours, on the same test images."""
    first = trainer.TrainConfig(**config["train"], **config["cases"][0][1])
    beside: list[nets.ResNet] = []
    scores = []
    made: dict[str, list[nets.ResNet]] = {
        "untrained": [],
        "supervised": [],
        "simsiam": [],
    }
    for seed in config["seeds"]:
        images = _images(config, roots, seed)
        found = others(first, images, seed, config["others"], keep, progress)
        for kind, net in found.items():
            made[kind].append(net)
            scores.append((kind, _trunk(net, images, test)))
    for kind in made:
        beside += made[kind]
    features = [features_of(net, test.x) for net in [*networks, *beside]]
    z = [embed(net, test.x) for net in [*networks, *made["untrained"]]]
    return {
        "cka": _all_pairs(features),
        "cka_z": _all_pairs(z),
        "trunk_others": np.array(
            [[s for k, s in scores if k == kind] for kind in made]
        ),
    }


def _all_pairs(clouds: list[np.ndarray]) -> np.ndarray:
    table = np.ones((len(clouds), len(clouds)))
    for i, a in enumerate(clouds):
        for j in range(i):
            table[i, j] = table[j, i] = modes.cka(a, clouds[j])
    return table


def _triangle(K: np.ndarray) -> np.ndarray:
    return K[np.tril_indices(len(K))]


def _trunk(net: nets.ResNet, images: data.Images, test: data.Images) -> float:
    h, h_test = features_of(net, images.x), features_of(net, test.x)
    return float(modes.linear_probe(h, images.y, h_test, test.y))


def _principal(a: np.ndarray, b: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    middle = a.mean(axis=0)
    directions = spectra.top_eigenpairs(np.cov(a.T), d)[1]
    return (a - middle) @ directions, (b - middle) @ directions
