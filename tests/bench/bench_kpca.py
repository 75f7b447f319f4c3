"""Contrastive modes of a kernel, against every solver that a user might try instead.

Times are the processor's, on one thread; every contender runs in a process of its own,
so that its peak memory is its own too, and contenders take turns.

    python -m tests.bench.bench_kpca CONTENDER KERNEL.npy D REPEATS    prints JSON
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigs

from tests.bench import Row

ROOT = Path(__file__).resolve().parents[2]
SMALL, LARGE = 1000, 4000  # pairs; K has twice as many rows
THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
OURS, PEER = "ours", "KernelPCA(arpack), tol 0"
LITERAL, CHOLESKY, ARPACK = "literal formula", "pivoted Cholesky", "ARPACK eigs on P K"
STREAM, GEMM = "one read of K", "one product K @ K"


def rows(small: int = SMALL, large: int = LARGE) -> list[Row]:
    """Compare at two sizes and two numbers of modes; then growth, passes, limits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for n in (small, large):
            _python("kernel", str(path / f"{n}.npy"), n)
        # Several runs in one process, and the process twice: turns even out a machine
        # that others use. What is dense at the large size takes minutes, and runs once.
        found = {
            (small, d): _turns(path / f"{small}.npy", d, contenders, repeats=3)
            for d, contenders in (
                (10, [OURS, PEER, ARPACK, STREAM, CHOLESKY, LITERAL, GEMM]),
                (50, [OURS, PEER, ARPACK, STREAM]),
            )
        }
        # These find all modes, however many are wanted.
        for name in (CHOLESKY, LITERAL):
            found[small, 50][name] = found[small, 10][name]
        for d in (10, 50):
            contenders = [OURS, PEER, ARPACK, STREAM]
            found[large, d] = _turns(path / f"{large}.npy", d, contenders, repeats=3)
        for name in (CHOLESKY, LITERAL, GEMM):
            once = _python(name, str(path / f"{large}.npy"), 10, 1)
            found[large, 10][name] = found[large, 50][name] = once
    return [
        *(row for (n, d), times in found.items() for row in _compare(n, d, times)),
        *(_growth(d, small, large, found) for d in (10, 50)),
        *(_limits(n, found[n, 10]) for n in (small, large)),
    ]


def _turns(
    path: Path, d: int, contenders: list[str], repeats: int
) -> dict[str, dict[str, Any]]:
    """Run each contender twice, in turns; pool their times, keep the highest peak."""
    runs = [
        {name: _python(name, str(path), d, repeats) for name in contenders}
        for _ in range(2)
    ]
    return {
        name: {
            **runs[0][name],
            "seconds": runs[0][name]["seconds"] + runs[1][name]["seconds"],
            "peak": max(run[name]["peak"] for run in runs),
        }
        for name in contenders
    }


def _python(*arguments: str | int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.bench_kpca", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **THREAD}, text=True, capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _seconds(result: dict[str, Any]) -> float:
    return statistics.median(result["seconds"])


def _said(result: dict[str, Any]) -> str:
    return f"{_seconds(result):.3g} s, {result['peak']:.2f} GB"


# Peer over ours, at least: by pairs n, modes d and contender.
GOALS = {
    (SMALL, 10, LITERAL): 25.0,
    (SMALL, 50, LITERAL): 6.0,
    (LARGE, 10, PEER): 1 / 0.7,
    (LARGE, 50, PEER): 1.0,
}


def _compare(n: int, d: int, found: dict[str, dict[str, Any]]) -> list[Row]:
    ours, table = found[OURS], []
    for name, result in found.items():
        if name in (OURS, STREAM):
            continue
        ratio, goal = _seconds(result) / _seconds(ours), GOALS.get((n, d, name))
        error = result.get("error")
        parity = "" if error is None else f", gammas differ by {error:.0e}"
        table.append(
            Row(
                what=f"contrastive modes, 2n = {2 * n}, d = {d}, one thread",
                ours=f"{_said(ours)}, {ours['passes']} passes",
                peer=f"{name}: {_said(result)}{parity}",
                ratio=f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x",
                goal="" if goal is None else f"{goal:.3g}x",
                reached=None if goal is None else bool(ratio >= goal),
            )
        )
    return table


def _growth(d: int, small: int, large: int, found: dict[Any, Any]) -> Row:
    times = [_seconds(found[n, d][OURS]) for n in (small, large)]
    exponent = np.log(times[1] / times[0]) / np.log(large / small)
    return Row(
        what=f"growth from 2n = {2 * small} to {2 * large}, d = {d}",
        ours=f"exponent {exponent:.2f}",
        peer="2: products with K; dense solvers 3",
        ratio="",
        goal="at most 2.0",
        reached=bool(exponent <= 2.0),
    )


def _limits(n: int, found: dict[str, dict[str, Any]]) -> Row:
    passes, stream = found[OURS]["passes"], _seconds(found[STREAM])
    limit, rate = passes * stream, 8 * (2 * n) ** 2 / stream / 1e9
    return Row(
        what=f"block passes over K, 2n = {2 * n}, d = 10",
        ours=f"{passes} passes, {_seconds(found[OURS]):.3g} s",
        peer=f"reading K {passes} times: {limit:.2g} s, {rate:.0f} GB/s",
        ratio=f"{_seconds(found[OURS]) / limit:.1f}x the limit",
        goal="at most 14 passes",
        reached=bool(passes <= 14),
    )


# --- one contender, in its own process ---------------------------------------------


def literal(K: np.ndarray, d: int) -> np.ndarray:
    """K^{1/2} P K^{1/2} / (2n), with two eigendecompositions, as the formula stands."""
    n = len(K) // 2
    values, Q = np.linalg.eigh(K)
    root = (Q * np.sqrt(np.maximum(values, 0))) @ Q.T
    matrix = root @ np.concatenate([root[n:], root[:n]]) / (2 * n)
    gammas, B = np.linalg.eigh(matrix)
    F = root @ B[:, ::-1][:, :d]  # what the others return too, but for a scale
    assert F.shape == (2 * n, d)
    return gammas[::-1][:d]


def arpack(K: np.ndarray, d: int) -> np.ndarray:
    """The largest eigenvalues of v -> P K v / (2n), which is not symmetric."""
    n = len(K) // 2
    operator = LinearOperator(K.shape, lambda v: np.roll(K @ v, n) / (2 * n))
    values, _ = eigs(operator, d, which="LR", tol=1e-8, v0=np.ones(2 * n))
    return np.sort(values.real)[::-1]


def contender(name: str, K: np.ndarray, d: int) -> Callable[[], Any]:
    """Return what to time."""
    from sklearn.decomposition import KernelPCA

    from pkg import kpca

    plain = KernelPCA(d, kernel="precomputed", eigen_solver="arpack", random_state=0)
    return {
        OURS: lambda: kpca.fit(K, d, method="krylov"),
        CHOLESKY: lambda: kpca.fit(K, d, method="cholesky").gammas,
        PEER: lambda: plain.fit_transform(K),
        LITERAL: lambda: literal(K, d),
        ARPACK: lambda: arpack(K, d),
        STREAM: lambda: linalg.blas.ddot(K.ravel(), K.ravel()),
        GEMM: lambda: K @ K,
    }[name]


def measure(name: str, path: str, d: int, repeats: int) -> dict[str, Any]:
    """Time one contender; its peak counts K, which all of them hold."""
    K = np.load(path)
    run = contender(name, K, d)
    # A small problem first: loading libraries is not the work.
    contender(name, np.eye(64) + np.roll(np.eye(64), 32, axis=0) / 2, 3)()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        found = run()
        seconds.append(time.process_time() - started)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result: dict[str, Any] = {"seconds": seconds, "peak": kilobytes / 1e6}
    if name == OURS:
        result["passes"] = found.passes
    elif name in (LITERAL, CHOLESKY, ARPACK):
        expected = contender(OURS, K, d)().gammas
        result["error"] = float(np.abs(found / expected - 1).max())
    return result


def write_kernel(path: str, n: int) -> None:
    """Store the NTK of a ReLU network of depth 2 on pairs of bundled photographs."""
    from pkg import data, kernels, views

    images = data.load("photos", n=n, size=8)
    both = views.flat_pairs(images.x, "simclr", seed=0)
    np.save(path, kernels.relu_ntk(np.concatenate(both), depth=2))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # of gaps at d, which is not at one
    name, path, *numbers = sys.argv[1:]
    if name == "kernel":
        write_kernel(path, *map(int, numbers))
        print("{}")
    else:
        print(json.dumps(measure(name, path, *map(int, numbers))))
