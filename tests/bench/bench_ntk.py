"""The empirical NTK of a small ResNet against the recipes that a user would copy.

Each method runs in fresh processes on one thread, in turns. Seconds are those of the
processor, so that a busy machine disturbs them little. Peak memory is given twice: of
the whole process, and without what Python, torch and the network take by themselves.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from pkg import ntk
from tests.bench import Row
from tests.test_ntk import small_resnet

ROOT = Path(__file__).resolve().parents[2]
N, LARGE, D, REPEATS = 200, 1000, 10, 5
CHUNK = 25  # points whose Jacobians are computed together; all are kept
BUDGET = 1.0  # GB, for the large kernel
FASTER, SLIMMER = 1.3, 4


def rows() -> list[Row]:
    """Time and memory against two recipes, agreement, and the limit."""
    runs: dict[str, list[dict]] = {name: [] for name in METHODS}
    for _ in range(REPEATS):
        for name in METHODS:
            runs[name].append(_measure(name, N))
    ours, jacobian, per_output, limit = (_median(runs[name]) for name in METHODS)
    large = _measure("ours", LARGE)
    return [
        *_compare("vmap(jacrev)", ours, jacobian, FASTER, SLIMMER),
        *_compare("vmap(grad) per output", ours, per_output, None, None),
        *(_agreement(dtype, goal) for dtype, goal in AGREE.items()),
        Row(
            what=f"the same against its limit, 2n = {N}",
            ours=f"{ours['seconds']:.2f} s",
            peer=f"{D} backward passes over all points, {limit['seconds']:.2f} s",
            ratio=f"{ours['seconds'] / limit['seconds']:.1f}x the limit",
            goal="",
            reached=None,
        ),
        Row(
            what=f"empirical NTK, small ResNet, 2n = {LARGE}, memory_gb={BUDGET}",
            ours=f"{large['seconds']:.1f} s, {_memory(large)}",
            peer=f"the budget, {BUDGET} GB",
            ratio=f"{large['grown'] / BUDGET:.0%} of the budget",
            goal="100%",
            reached=large["grown"] <= BUDGET,
        ),
    ]


def _compare(
    peer: str, ours: dict, theirs: dict, faster: float | None, slimmer: float | None
) -> list[Row]:
    task = f"empirical NTK, small ResNet, 2n = {N}, d = {D}"
    speed = theirs["seconds"] / ours["seconds"]
    whole, grown = (theirs[key] / ours[key] for key in ("peak", "grown"))
    return [
        Row(
            what=f"{task}: processor time",
            ours=f"{ours['seconds']:.2f} s",
            peer=f"{peer}, {theirs['seconds']:.2f} s",
            ratio=f"{speed:.2f}x",
            goal=f"{faster}x" if faster else "",
            reached=speed >= faster if faster else None,
        ),
        Row(
            what=f"{task}: peak memory",
            ours=_memory(ours),
            peer=f"{peer}, {_memory(theirs)}",
            ratio=f"{whole:.1f}x whole, {grown:.1f}x grown",
            goal=f"{slimmer}x, both" if slimmer else "",
            reached=min(whole, grown) >= slimmer if slimmer else None,
        ),
    ]


def _memory(run: dict) -> str:
    return f"{run['peak']:.2f} GB, of which {run['grown']:.2f} GB grown"


AGREE = {torch.float32: 1e-6, torch.float64: 1e-10}


def _agreement(dtype: torch.dtype, goal: float) -> Row:
    model, x = _problem(60, dtype)
    exact = vmap_jacrev(model, x)
    error = np.abs(ntk.empirical(model, x) - exact).max() / np.abs(exact).max()
    return Row(
        what=f"the same kernel, 60 points, {str(dtype).removeprefix('torch.')}",
        ours=f"largest difference {error:.0e} of the largest entry",
        peer="vmap(jacrev)",
        ratio="",
        goal=f"{goal:.0e}",
        reached=bool(error <= goal),
    )


def ours(model: torch.nn.Module, x: Tensor) -> np.ndarray:
    """What this package computes; a budget only where it is needed."""
    return ntk.empirical(model, x, memory_gb=BUDGET)


def vmap_jacrev(model: torch.nn.Module, x: Tensor) -> np.ndarray:
    """Torch's tutorial: the Jacobian of all points, then its inner products."""
    f, own = _functional(model)
    jacobian = vmap(jacrev(f), (None, 0), chunk_size=CHUNK)(own, x)
    rows = [j.flatten(2) for j in jacobian.values()]
    return sum(torch.einsum("iap,jap->ij", j, j) for j in rows).double().numpy() / D


def vmap_grad(model: torch.nn.Module, x: Tensor) -> np.ndarray:
    """One output at a time: its gradients at all points, then their inner products."""
    f, own = _functional(model)
    theta = torch.zeros(len(x), len(x))
    for a in range(D):

        def output(own: dict, point: Tensor, a: int = a) -> Tensor:
            return f(own, point)[a]

        rows = vmap(grad(output), (None, 0), chunk_size=CHUNK)(own, x)
        for row in rows.values():
            theta += row.flatten(1) @ row.flatten(1).T
    return theta.double().numpy() / D


def backward_passes(model: torch.nn.Module, x: Tensor) -> None:
    """What no exact method can avoid: one ordinary backward pass an output."""
    z = model(x)
    own = list(model.parameters())
    for a in range(D):
        torch.autograd.grad(z[:, a].sum(), own, retain_graph=True)


METHODS: dict[str, Callable[[torch.nn.Module, Tensor], object]] = {
    "ours": ours,
    "vmap(jacrev)": vmap_jacrev,
    "vmap(grad)": vmap_grad,
    "backward": backward_passes,
}


def _functional(model: torch.nn.Module) -> tuple[Callable, dict[str, Tensor]]:
    def f(own: dict[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(model, own, (point[None],))[0]

    return f, {name: p.detach() for name, p in model.named_parameters()}


def _problem(n: int, dtype: torch.dtype) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    return small_resnet(D).to(dtype), torch.randn(n, 1, 14, 14, dtype=dtype)


def _median(runs: list[dict]) -> dict:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _measure(name: str, n: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.bench_ntk", name, str(n)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)


def main(name: str, n: int) -> None:
    """Run one method in this process; print its seconds and its memory in GB."""
    torch.set_num_threads(1)
    model, x = _problem(n, torch.float32)
    METHODS[name](model, x[:2])  # libraries load late
    before, begun = _peak(), time.process_time()
    METHODS[name](model, x)
    seconds, after = time.process_time() - begun, _peak()
    print(json.dumps({"seconds": seconds, "peak": after, "grown": after - before}))


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
