"""How the record of wide networks is made: each laid beside the kernels of its start.

A private half of ``pkg.recipes``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from pkg import data, dynamics, kernels, kpca, nets, ntk, spectra, trainer, views
from pkg.record import Trajectory

Made = tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]
Row = dict[str, Any]


def wide_networks(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Train networks of growing width, and lay each beside the kernels that predict it.

    Misalignment is one minus `spectra.subspace_overlap`.

    Parameters
    ----------
    config : mapping
        ``data``, ``views`` (a recipe of `pkg.views`), ``n`` pairs, ``size`` in pixels,
        ``widths``, ``cases`` (each a name, d, and the start of `nets.Centred`),
        ``rate`` (learning rate times gamma_1 of infinite width), ``until`` (loss at
        which to stop) within ``steps``, ``scales`` of the starts of the floor, and
        ``seeds``. Each seed draws its own images, views and networks.
    roots : mapping of str to path
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a seed and case.

    Returns
    -------
    runs : tuple of Trajectory
        The widest network of the first case, one per seed.
    arrays : dict
        Named CASE.KEY, by seed and width unless said otherwise.

        - Shares: ``kernel``, the distance of K_0 from K_inf; ``off``, the blocks
          a != b of Theta; ``drift`` and ``weights``, how far kernel and weights moved;
          ``switched``, hidden units times points where a ReLU changed sides.
        - Misalignments: ``span`` of the modes of K_0 with those of K_inf; ``to_limit``
          and ``to_first`` of the embeddings with either; ``by_limit``, ``by_first``
          and ``by_blocks`` of the embeddings with descent in function space from the
          same start under K_inf, K_0 and all blocks of Theta.
        - By seed, width and step: ``measured``, ``predicted`` and ``blocks`` times.
        - By seed and scale: ``floor``, the misalignment left by descent under K_inf.
        - By seed: ``gammas`` (2d,) of K_inf. By seed and width: ``loss`` at the end.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    runs, said = [], ""
    arrays: dict[str, np.ndarray] = {}
    every = [(case, seed) for case in config["cases"] for seed in config["seeds"]]
    rows: dict[str, list[Row]] = {case[0]: [] for case in config["cases"]}
    for (name, d, start), seed in tqdm(every, unit="seed", disable=not progress):
        images = data.load(
            config["data"],
            n=config["n"],
            size=config["size"],
            seed=seed,
            root=roots.get(config["data"]),
        )
        both = np.concatenate(views.flat_pairs(images.x, config["views"], seed=seed))
        run, row = _widths(both, d, start, seed, config)
        runs += [run] if name == config["cases"][0][0] else []
        rows[name].append(row)
        said = images.provenance.rsplit("; seed", 1)[0]
    for name, found in rows.items():
        arrays |= {f"{name}.{k}": np.stack([row[k] for row in found]) for k in found[0]}
    return tuple(runs), arrays, said


def wide_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a few steps of the widest network."""
    widest, m = max(config["widths"]), 3 * config["size"] ** 2
    x, x_prime = torch.randn(2, config["n"], m, dtype=torch.float64)
    model = nets.Centred(nets.mlp(m, 2, width=widest).double(), 1e-4)
    started = time.perf_counter()
    trainer.descend(model, x, x_prime, lr=1e-9, steps=5)
    seconds_step = (time.perf_counter() - started) / 5
    widths = sum(config["widths"]) / widest
    # To learn d modes takes some 50 (d - 1) + 50 steps on pairs of photographs twice.
    steps = sum(100 * case[1] for case in config["cases"])
    seconds = len(config["seeds"]) * widths * steps * seconds_step
    return seconds, 8.0 * widest * (20 * m + 40 * config["n"]) + 0.4e9


def _widths(
    both: np.ndarray, d: int, start: float, seed: int, config: Mapping[str, Any]
) -> tuple[Trajectory, Row]:
    """Compare every width on one set of pairs; return the last run too."""
    K = kernels.relu_ntk(both)
    limit = kpca.fit(K)
    lr = config["rate"] / limit.gammas[0]
    found = []
    for width in config["widths"]:
        generator = torch.Generator().manual_seed(10_000 * seed + width)
        net = nets.mlp(both.shape[1], d, width=width, generator=generator).double()
        run, row = _compare(net, both, K, limit, start, lr, config)
        found.append(row)
    draw = np.random.default_rng(seed).standard_normal((len(both), d))
    ends = [
        function_descent(scale * draw, K, lr=lr, steps=config["steps"], until=1e-6)[0]
        for scale in config["scales"]
    ]
    modes = limit.embeddings[:, :d]
    return run, {
        **{key: np.stack([row[key] for row in found]) for key in found[0]},
        "gammas": limit.gammas[: 2 * d],
        "floor": np.array([_misaligned(F, modes) for F in ends]),
    }


def _compare(
    net: torch.nn.Sequential,
    both: np.ndarray,
    K: np.ndarray,
    limit: kpca.ContrastiveModes,
    start: float,
    lr: float,
    config: Mapping[str, Any],
) -> tuple[Trajectory, Row]:
    """Train one network, and measure how far each kernel is from it."""
    points = torch.as_tensor(both)
    Theta = ntk.empirical(net, points, output="block")  # (d, 2n, d, 2n)
    d = len(Theta)
    K_first = np.einsum("aiaj->ij", Theta) / d
    first = kpca.fit(K_first)
    theta = parameters_to_vector(net.parameters()).detach().clone()
    active = net[0](points) > 0  # (2n, width)
    model = _Held(net, start, points)
    F_first = _embeddings(model, points)
    limits = {"lr": lr, "steps": config["steps"], "until": config["until"]}
    run = trainer.descend(model, *points.chunk(2), **limits)
    F = _embeddings(model, points)
    K_last = ntk.empirical(net, points)
    moved = parameters_to_vector(net.parameters()).detach() - theta
    other = {
        "by_limit": function_descent(F_first, K, **limits)[0],
        "by_first": function_descent(F_first, K_first, **limits)[0],
    }
    other["by_blocks"], times = function_descent(F_first, Theta, **limits)
    # Coordinates of the start along the modes, as if they were weights.
    W0 = F_first.T @ limit.dual * np.sqrt(limit.gammas)  # (d, modes)
    effective = dynamics.effective_start(W0, np.diag(limit.gammas))
    predicted = dynamics.step_times(effective.gammas, effective.s0, lr=lr)
    return run, {
        "kernel": _share(K_first - K, K),
        "off": _share(Theta * (1 - np.eye(d))[:, None, :, None], Theta),
        "drift": _share(K_last - K_first, K_first),
        "weights": float(moved.norm() / theta.norm()),
        "switched": float(((net[0](points) > 0) != active).double().mean()),
        "span": _misaligned(first.embeddings[:, :d], limit.embeddings[:, :d]),
        "to_limit": _misaligned(F, limit.embeddings[:, :d]),
        "to_first": _misaligned(F, first.embeddings[:, :d]),
        **{key: _misaligned(F, G) for key, G in other.items()},
        "measured": spectra.crossing_times(run.t, run.eigenvalues),
        "predicted": np.sort(predicted),
        "blocks": times,
        "loss": run.loss[-1],
    }


def function_descent(
    F: np.ndarray, Theta: np.ndarray, *, lr: float, steps: int, until: float
) -> tuple[np.ndarray, np.ndarray]:
    """Descend on ||C - I||_F^2 in function space, under a kernel that stands still.

    Parameters
    ----------
    F : (2n, d)
        Embeddings at the start.
    Theta : (2n, 2n) or (d, 2n, d, 2n)
        One kernel for every output, or all blocks of a linearised network.
    lr, steps, until
        As in `trainer.descend`.

    Returns
    -------
    F : (2n, d)
        Embeddings at the end.
    times : (d,)
        When each eigenvalue of C first reaches one half; ``inf`` for never.
    """
    n, d = len(F) // 2, F.shape[1]
    spectrum = []
    for step in range(steps + 1):
        swapped = np.roll(F, n, axis=0) / (2 * n)
        C = F.T @ swapped
        spectrum.append(np.linalg.eigvalsh(C)[::-1])
        if step == steps or np.sum((spectrum[-1] - 1) ** 2) < until:
            break
        G = 4 * swapped @ (C - np.eye(d))  # (2n, d), the gradient by F
        if Theta.ndim == 2:
            F = F - lr * Theta @ G
        else:  # every output is moved by the gradients of all
            F = F - lr * np.tensordot(Theta, G.T, axes=2).T
    t = lr * np.arange(len(spectrum))
    return F, spectra.crossing_times(t, np.array(spectrum))


class _Held(torch.nn.Module):
    """`nets.Centred` on points that never change: its frozen half is computed once."""

    def __init__(
        self, net: torch.nn.Module, start: float, points: torch.Tensor
    ) -> None:
        super().__init__()
        self.net = net
        with torch.no_grad():
            self.register_buffer("held", (1 - start) * net(points))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.net(points) - self.held


def _embeddings(model: torch.nn.Module, points: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(points).numpy()


def _misaligned(F: np.ndarray, G: np.ndarray) -> float:
    return 1 - spectra.subspace_overlap(F, G)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.linalg.norm(part) / np.linalg.norm(whole))
