"""How the record of one principle is made: kernels, modes and neighbours of networks.

A private half of ``pkg.recipes``.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pkg import data, kernels, kpca, modes, nets, ntk, spectra, trainer, views
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
RANDOM = 3  # draws of k modes
EDGE = 50  # images whose mean is shown for each end of a mode
PAIRS_SEED, TEST_SEED = 1000, 0  # no seed of a run


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
        ``after`` and ``before`` (kept runs, n (2n + 1)), ``kept`` their runs, and
        ``z_pairs`` (kept runs, 2n, 8). ``y`` and ``statistics`` of the test images.
    said : str
        Where the images came from.
    """
    scratch = tempfile.TemporaryDirectory() if keep is None else None
    keep = Path(scratch.name) if scratch else keep
    assert keep is not None
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
    rows, said = [], ""
    for i, run in enumerate(runs):
        seed = run.config.seed
        images = _images(config, roots, seed)
        said = images.provenance.rsplit("; seed", 1)[0]
        row = {"case": i // len(config["seeds"]), "seed": seed}
        row |= _by_modes(run, images, test) | _by_kernels(run, images, config)
        rows.append(row)
    networks = [_network(run) for run in runs]
    arrays: dict[str, np.ndarray] = {}
    kept = [i for i, row in enumerate(rows) if row["seed"] in config["kernels"]]
    for key in set(rows[0]) - {"after", "before", "z_pairs"}:
        arrays[key] = np.stack([row[key] for row in rows])
    for key in ("after", "before", "z_pairs"):
        arrays[key] = np.stack([np.float32(rows[i][key]) for i in kept])
    arrays["kept"] = np.array(kept)
    arrays |= _side_by_side(config, roots, networks, test, keep, progress)
    arrays["y"] = test.y
    arrays["statistics"] = np.stack([*modes.statistics(test.x).values()])
    if scratch:
        scratch.cleanup()
    return tuple(_thin(run.cross, 150) for run in runs), arrays, said


def principle_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes on this machine, by timing a step."""
    seconds, peak = step_cost(config)
    steps = steps_of(config) + 2 * len(config["seeds"]) * config["others"]
    return seconds * steps, peak + 1e9  # kernels, and the gradients behind them


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


def _by_modes(run: trainer.Run, images: data.Images, test: data.Images) -> Row:
    """Follow the modes from their birth, and ask what they are good for."""
    seen = modes.unfold(run.snapshots.z.astype(np.float64))
    d = len(seen.axes)
    z, z_test = embed(run.model, images.x), embed(run.model, test.x)
    middle = z.mean(axis=0)
    z, z_test = (z - middle) @ seen.axes, (z_test - middle) @ seen.axes
    generator = np.random.default_rng(run.config.seed)
    subsets = [
        [generator.choice(d, k + 1, replace=False) for _ in range(RANDOM)]
        for k in range(d)
    ]
    flat, flat_test = (s.x.reshape(len(s.x), -1) / 255.0 for s in (images, test))
    fresh = untrained(run.config)
    plain, plain_test = embed(fresh, images.x), embed(fresh, test.x)
    pixels = _principal(flat, flat_test, d)
    plain, plain_test = _principal(plain, plain_test, d)
    answers = {}
    for name, judge in (("probe", modes.linear_probe), ("neighbours", _neighbours)):

        def score(
            a: np.ndarray, b: np.ndarray, columns: Any, judge: Any = judge
        ) -> float:
            return float(judge(a[:, columns], images.y, b[:, columns], test.y))

        answers[name] = np.array(
            [
                [score(z, z_test, slice(k + 1)) for k in range(d)],
                [score(z, z_test, slice(d - k - 1, d)) for k in range(d)],
                [score(z, z_test, [k]) for k in range(d)],
                [np.mean([score(z, z_test, s) for s in subsets[k]]) for k in range(d)],
                [score(plain, plain_test, slice(k + 1)) for k in range(d)],
                [score(*pixels, slice(k + 1)) for k in range(d)],
            ]
        )
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
        **answers,
        "trunk": np.array(
            [_trunk(net, images, test) for net in (_network(run), fresh)]
        ),
        "ends": np.round(ends).astype(np.uint8),
    }


def _by_kernels(
    run: trainer.Run, images: data.Images, config: Mapping[str, Any]
) -> Row:
    """Hold the embedding of some pairs against everything that might know it."""
    both = pairs(images, run.config, config["pairs"])
    z = _centre(_numbers(run.model(both)))
    readout, rest = kernel_parts(_network(run), both)
    fresh = untrained(run.config)
    features, others_at_first = kernel_parts(fresh, both)
    after, before = readout + rest, features + others_at_first
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
        np.linalg.svd(_centre(_numbers(fresh(both))), full_matrices=False)[0],
    ]
    return {
        "captured": np.array(
            [
                [spectra.subspace_overlap(z, s[:, : k + 1]) for k in range(d)]
                for s in spaces
            ]
        ),
        "readout": np.trace(readout) / np.trace(after),
        "after": after[np.tril_indices(len(after))],
        "before": before[np.tril_indices(len(before))],
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


def _network(run: trainer.Run) -> nets.ResNet:
    assert isinstance(run.model, nets.ResNet)
    return run.model


def untrained(config: trainer.TrainConfig) -> nets.ResNet:
    """Build the network of a run as it was drawn, with torch's own readout."""
    build = getattr(nets, config.encoder)
    generator = torch.Generator().manual_seed(config.seed)
    network: nets.ResNet = build(config.d, generator=generator, **config.options)
    return network


def pairs(images: data.Images, config: trainer.TrainConfig, n: int) -> Tensor:
    """Draw n pairs as the run sees them: (2n, 3, h, w), all x first."""
    generator = torch.Generator().manual_seed(config.seed + PAIRS_SEED)
    x, x_prime = views.pair(images.x[:n], config.recipe, generator=generator)
    return trainer.standardize(torch.cat([x, x_prime]))


def kernel_parts(net: nets.ResNet, both: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute the centred NTK in two parts: the readout's, and all other layers'."""
    features = _centre(_numbers(net.features(both)))
    net.fc.requires_grad_(False)
    try:
        rest = centred(ntk.empirical(net, both))
    finally:
        net.fc.requires_grad_(True)
    return features @ features.T, rest


def leading_modes(K: np.ndarray, d: int) -> np.ndarray:
    """Return the leading contrastive modes of a kernel of all views, (2n, d)."""
    with warnings.catch_warnings():
        # Small gaps are part of what is recorded.
        warnings.filterwarnings("ignore", message="gamma_")
        return kpca.fit(K, d).embeddings


def centred(K: np.ndarray) -> np.ndarray:
    """Centre a kernel view by view."""
    return _centre(_centre(K).T)


def _centre(rows: np.ndarray) -> np.ndarray:
    halves = np.split(rows, 2)
    return np.concatenate([half - half.mean(axis=0) for half in halves])


def _numbers(z: Tensor) -> np.ndarray:
    return z.detach().double().numpy()


def embed(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Embed images at rest, without augmentation: (n, d) float64."""
    x = trainer.standardize(torch.tensor(pixels).permute(0, 3, 1, 2) / 255)
    with torch.no_grad():
        return np.concatenate([_numbers(net(part)) for part in x.split(500)])


def features_of(net: nets.ResNet, pixels: np.ndarray) -> np.ndarray:
    """Return what the readout reads of images at rest: (n, p) float64."""
    x = trainer.standardize(torch.tensor(pixels).permute(0, 3, 1, 2) / 255)
    with torch.no_grad():
        return np.concatenate([_numbers(net.features(part)) for part in x.split(500)])


def _trunk(net: nets.ResNet, images: data.Images, test: data.Images) -> float:
    h, h_test = features_of(net, images.x), features_of(net, test.x)
    return float(modes.linear_probe(h, images.y, h_test, test.y))


def _neighbours(
    a: np.ndarray, labels: np.ndarray, b: np.ndarray, wanted: np.ndarray
) -> float:
    return float(modes.knn_probe(a, labels, b, wanted, neighbours=20))


def _principal(a: np.ndarray, b: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    middle = a.mean(axis=0)
    directions = spectra.top_eigenpairs(np.cov(a.T), d)[1]
    return (a - middle) @ directions, (b - middle) @ directions


def _thin(run: Trajectory, points: int) -> Trajectory:
    assert run.step is not None
    chosen = np.unique(np.linspace(0, len(run.t) - 1, points).round().astype(int))
    return Trajectory(
        t=run.t[chosen],
        step=run.step[chosen],
        loss=run.loss[chosen],
        eigenvalues=run.eigenvalues[chosen],
        order=run.order,
        matrix=run.matrix,
        source=run.source,
    )
