"""How the records of learned kernels are made: a network beside its own kernels.

A private half of ``pkg.recipes``.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pkg import (
    data,
    dynamics,
    kernels,
    kpca,
    nets,
    ntk,
    optim,
    spectra,
    trainer,
    views,
)
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
Row = dict[str, Any]

# Which modes are held against the embedding after training, in this order.
PREDICTORS = (
    *("NTK after", "its readout part", "all other layers", "NTK half-way"),
    *("NTK at the start", "another network's NTK after"),
    *("kernel PCA, NTK after", "kernel PCA, NTK at the start"),
    *("ReLU NTK", "linear kernel", "network at the start"),
)
UNSEEN = ("NTK after", "NTK at the start", "network at the start")


def after_training(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Train convolutional networks and ask which kernel knew what they would learn.

    Losses, kernels and embeddings are centred view by view. *Captured* is
    `spectra.subspace_overlap` of the embedding after training with the leading k
    columns that a predictor names.

    Parameters
    ----------
    config : mapping
        ``data``, ``views`` (a recipe of `pkg.views`), ``n`` pairs (as many more are
        kept from training), ``size`` in pixels, ``d``, ``channels``, ``starts``
        (factors of the readout), ``rate`` (learning rate times gamma_1), ``refresh``,
        ``levels`` (losses at which the kernel is kept; training ends at the last)
        within ``steps``, and ``seeds``. Each seed draws its own images, views and
        network.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a network.

    Returns
    -------
    runs : tuple of Trajectory
        One per seed and start, start by start, at some 150 times.
    arrays : dict
        By seed and start:

        - ``captured`` (predictors, d) in the order of `PREDICTORS`, column k - 1 for k;
          ``unseen`` (three, d) on the pairs that were kept from training.
        - ``residual`` (2,): what the best rotation leaves of the embedding, as a share,
          with the modes of the NTK after training and at the start.
        - At the start and at each level: ``gammas`` (d + 1,) of the NTK, ``top`` the
          largest of its full blocks, ``moved`` its distance from the start as a share,
          ``trace`` over that of the start, ``readout`` the readout's share of it.
        - ``measured`` and ``predicted`` step times (d,); the latter from the features
          at the start, which then stay as they are.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    networks = [(start, seed) for start in config["starts"] for seed in config["seeds"]]
    done = [
        _train(config, roots, start, seed)
        for start, seed in tqdm(networks, unit="network", disable=not progress)
    ]
    per = len(config["seeds"])
    for i, end in enumerate(done):
        # The next seed's network, of the same start: it has never seen these images.
        stranger = done[i // per * per + (i + 1) % per]["model"]
        _compare(end, ntk.empirical(stranger, torch.cat(end["views"])))
    kept = (
        *("captured", "unseen", "residual", "gammas", "top", "moved", "trace"),
        *("readout", "measured", "predicted"),
    )
    arrays = {}
    for key in kept:
        rows = np.stack([end[key] for end in done])
        rows = rows.reshape(len(config["starts"]), per, *rows.shape[1:])
        arrays[key] = rows.swapaxes(0, 1)  # (seeds, starts, ...)
    return tuple(thin(end["run"], 150) for end in done), arrays, done[0]["said"]


def after_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a few steps of the run's size."""
    seconds_step, peak = step_cost(config)
    # A kernel takes about as long as 60 steps; few runs take all their steps.
    networks = len(config["seeds"]) * len(config["starts"])
    steps = config["steps"] / 2 + 60 * (len(config["levels"]) + 6)
    return networks * steps * seconds_step, peak


def step_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Time one step of descent, and estimate the peak bytes of a run."""
    x = torch.zeros(config["n"], 3, config["size"], config["size"])
    x += torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    net = network(config, 0)
    started = time.perf_counter()
    trainer.descend(net, x, x, lr=1e-9, steps=5)
    seconds_step = (time.perf_counter() - started) / 5
    activations = 4.0 * x.numel() / 3 * sum(config["channels"]) * 8
    return seconds_step, activations + 0.6e9


def pairs(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, str]:
    """Load the pairs of a seed.

    Parameters are those of `after_training`; the result is x, x' (n, 3, size, size), as
    many pairs that are kept from training, and where the images came from.
    """
    n, size = config["n"], config["size"]
    images = data.load(
        config["data"],
        n=2 * n,
        size=size,
        seed=seed,
        root=roots.get(config["data"]),
    )
    rows = views.flat_pairs(images.x, config["views"], seed=seed)
    x, x_prime = (
        torch.tensor(view.reshape(-1, 3, size, size), dtype=torch.float32)
        for view in rows
    )
    said = images.provenance.rsplit("; seed", 1)[0]
    return x[:n], x_prime[:n], x[n:], x_prime[n:], said


def network(
    config: Mapping[str, Any], seed: int, groups: int | None = 8
) -> nn.Sequential:
    """Build the network of a seed, at torch's own start.

    Parameters are those of `after_training` and `nets.conv`, as is the result.
    """
    generator = torch.Generator().manual_seed(seed)
    return nets.conv(
        config["d"], channels=config["channels"], groups=groups, generator=generator
    )


def _train(
    config: Mapping[str, Any],
    roots: Mapping[str, str | Path],
    start: float,
    seed: int,
) -> Row:
    x, x_prime, new, new_prime, said = pairs(config, roots, seed)
    both, unseen = torch.cat([x, x_prime]), torch.cat([new, new_prime])
    net = network(config, seed)
    nets.scale_init_(net, start)
    first = {"z": _embed(net, both), "z_new": _embed(net, unseen)}
    first["k_new"] = ntk.empirical(net, unseen, both)
    features = _embed(net[:-1], both)  # (2n, m), which the readout sees
    readout = net.state_dict()[f"{len(net) - 1}.weight"].double().numpy()  # (d, m)
    predicted = _predict(features, readout, config["rate"])
    stages, kept = [], [_look(net, x, x_prime)]
    for level in config["levels"]:
        stages.append(
            trainer.descend(
                net,
                x,
                x_prime,
                steps=config["steps"],
                rate=config["rate"],
                refresh=config["refresh"],
                until=level,
                center=True,
            )
        )
        kept.append(_look(net, x, x_prime))
    run = join(stages)
    K0 = kept[0]["K"]
    return {
        "said": said,
        "model": net,
        "views": (x, x_prime),
        "run": run,
        "kernels": [look["K"] for look in kept],
        "parts": _split(net, both),
        "first": first,
        "z": _embed(net, both),
        "z_new": _embed(net, unseen),
        "k_new": ntk.empirical(net, unseen, both),
        "flat": both.flatten(1).double().numpy(),
        "measured": spectra.crossing_times(run.t, run.eigenvalues),
        "predicted": predicted,
        "gammas": np.stack(
            [_modes(look["K"], config["d"] + 1).gammas for look in kept]
        ),
        "top": np.array([look["top"] for look in kept]),
        "moved": np.array([_distance(look["K"], K0) for look in kept]),
        "trace": np.array([np.trace(look["K"]) / np.trace(K0) for look in kept]),
        "readout": np.array([look["readout"] for look in kept]),
        "half": len(config["levels"]) // 2,
    }


def _look(net: nn.Sequential, x: Tensor, x_prime: Tensor) -> Row:
    readout, rest = _split(net, torch.cat([x, x_prime]))
    return {
        "K": readout + rest,
        "readout": np.trace(readout) / np.trace(readout + rest),
        "top": optim.top_gamma(net, x, x_prime, center=True),
    }


def _split(net: nn.Sequential, both: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Split the centred NTK into the readout's part and that of all other layers."""
    features = _centre(_embed(net[:-1], both))
    readout = features @ features.T  # gradients of W h by W, for every output alike
    K = _centre(_centre(ntk.empirical(net, both)).T)
    return readout, K - readout


def _compare(end: Row, stranger: np.ndarray) -> None:
    """Hold the embedding after training against everything that might know it."""
    after, at_start = end["kernels"][-1], end["kernels"][0]
    half = end["kernels"][end["half"]]
    z, first = _centre(end["z"]), end["first"]
    d = z.shape[1]
    flat = end["flat"]

    def modes(K: np.ndarray) -> np.ndarray:
        return _modes(_centre(_centre(K).T), d).embeddings

    spaces = [
        modes(after),
        *(modes(part) for part in end["parts"]),
        modes(half),
        modes(at_start),
        modes(stranger),
        spectra.top_eigenpairs(after, d)[1],
        spectra.top_eigenpairs(at_start, d)[1],
        modes(kernels.relu_ntk(flat, depth=2)),
        modes(kernels.linear(flat)),
        _leading(_centre(first["z"])),
    ]
    end["captured"] = np.stack([_captured(z, space) for space in spaces])
    unseen = [
        _modes(after, d).embed(end["k_new"]),
        _modes(at_start, d).embed(first["k_new"]),
        _leading(_centre(first["z_new"])),
    ]
    z_new = _centre(end["z_new"])
    end["unseen"] = np.stack([_captured(z_new, _centre(space)) for space in unseen])
    end["residual"] = np.array(
        [_residual(z, space) for space in (spaces[0], spaces[4])]
    )


def _modes(K: np.ndarray, d: int) -> kpca.ContrastiveModes:
    with warnings.catch_warnings():
        # Small gaps are part of what is recorded: `gammas` tells them.
        warnings.filterwarnings("ignore", message="gamma_")
        return kpca.fit(K, d)


def _captured(z: np.ndarray, space: np.ndarray) -> np.ndarray:
    return np.array(
        [spectra.subspace_overlap(z, space[:, :k]) for k in range(1, z.shape[1] + 1)]
    )


def _residual(z: np.ndarray, expected: np.ndarray) -> float:
    left, _, right = np.linalg.svd(expected.T @ z)
    turned = expected @ left @ right
    return float(np.linalg.norm(z - turned) / np.linalg.norm(turned))


def _leading(z: np.ndarray) -> np.ndarray:
    """Turn the columns of z so that the leading k hold most of it, for every k."""
    return np.linalg.svd(z, full_matrices=False)[0]


def _predict(features: np.ndarray, readout: np.ndarray, rate: float) -> np.ndarray:
    """Predict step times as if the features stayed as they are: a linear model."""
    h, h_prime = np.split(features, 2)
    Gamma = dynamics.cross_correlation(h, h_prime, center=True)
    start = dynamics.effective_start(readout, Gamma)
    if np.max(start.gammas * start.s0**2) > 0.4:  # no small start: nothing steps
        return np.full(len(start.gammas), np.nan)
    lr = rate / spectra.top_eigenvalues(Gamma, 1)[0]
    return np.sort(dynamics.step_times(start.gammas, start.s0, lr=lr))


def _embed(net: nn.Module, both: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net(both).double().numpy()


def _centre(rows: np.ndarray) -> np.ndarray:
    """Subtract from each view, one half of the rows, its own mean."""
    halves = np.split(rows, 2)
    return np.concatenate([half - half.mean(axis=0) for half in halves])


def _distance(K: np.ndarray, K0: np.ndarray) -> float:
    return float(np.linalg.norm(K - K0) / np.linalg.norm(K0))


def join(stages: Sequence[Trajectory]) -> Trajectory:
    """Join runs that follow each other; the first entry of each repeats the last."""
    t, step = stages[0].t, _steps(stages[0])
    for stage in stages[1:]:
        t = np.concatenate([t, t[-1] + stage.t[1:]])
        step = np.concatenate([step, step[-1] + _steps(stage)[1:]])
    rest = [stage.loss[i > 0 :] for i, stage in enumerate(stages)]
    spectra = [stage.eigenvalues[i > 0 :] for i, stage in enumerate(stages)]
    return replace(
        stages[0],
        t=t,
        step=step,
        loss=np.concatenate(rest),
        eigenvalues=np.concatenate(spectra),
    )


def thin(run: Trajectory, points: int) -> Trajectory:
    """Keep some `points` entries of a run, evenly spaced."""
    keep = np.unique(np.linspace(0, len(run.t) - 1, points).round().astype(int))
    return run.at(keep)


def _steps(run: Trajectory) -> np.ndarray:
    return np.asarray(run.step)
