"""The ReLU NTK against its formulas written plainly, and a product without K."""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pkg import kernels
from tests.bench import Row

N, M, DEPTH, SIZE, COLUMNS = 1000, 784, 3, 4000, 16


def rows() -> list[Row]:
    """Time a table of the ReLU NTK, and one pass over a kernel never stored."""
    x = np.random.default_rng(0).standard_normal((N, M))
    exact = 2 * (DEPTH + 1) * np.sum(x**2, axis=1) / M
    network = partial(kernels.relu_ntk, x, depth=DEPTH)
    times = _interleaved([network, partial(_plain, x)])
    said = []
    for seconds, run in times:
        off = np.abs(np.diag(run()) / exact - 1).max()
        peak = _peak(run) / 1e6
        said.append(f"{1e3 * seconds:.3g} ms, {peak:.0f} MB, diagonal off by {off:.0e}")
    ratio = times[1][0] / times[0][0]
    table = Row(
        what=f"ReLU NTK of {N} inputs, m = {M}, depth {DEPTH}",
        ours=said[0],
        peer=f"the recursion with arccos on whole arrays: {said[1]}",
        ratio=f"{ratio:.2f}x",
        goal="1x",
        reached=bool(ratio >= 1),
    )
    return [table, _pass()]


def _pass() -> Row:
    """One pass K V with K computed on the way, beside K computed once and kept."""
    rng = np.random.default_rng(0)
    x, V = rng.standard_normal((SIZE, M)), rng.standard_normal((SIZE, COLUMNS))
    product = partial(kernels.product(kernels.relu_ntk, x), V)

    def stored() -> np.ndarray:
        return kernels.relu_ntk(x) @ V

    times = _interleaved([product, stored], repeats=3)
    ours, theirs = (f"{t:.2f} s, {_peak(f) / 1e6:.0f} MB" for t, f in times)
    return Row(
        what=f"one pass over the ReLU NTK of {SIZE} inputs, depth 1, K V of {COLUMNS}",
        ours=ours,
        peer=f"K computed whole and multiplied: {theirs}",
        ratio=f"{times[1][0] / times[0][0]:.2f}x",
        goal="",
        reached=None,
    )


def _plain(x: np.ndarray) -> np.ndarray:
    """What a reader of the formulas writes first."""
    Q = 2 * x @ x.T / x.shape[1]
    Theta = Q
    for _ in range(DEPTH):
        norms = np.sqrt(np.diag(Q))
        cosine = np.clip(Q / np.outer(norms, norms), -1, 1)
        theta = np.arccos(cosine)
        Q = np.outer(norms, norms) * (np.sin(theta) + (np.pi - theta) * cosine) / np.pi
        Theta = Q + Theta * (np.pi - theta) / np.pi
    return Theta


def _interleaved(
    runs: list[Callable[[], Any]], repeats: int = 5
) -> list[tuple[float, Callable[[], Any]]]:
    """Return the median seconds of processor time of each, in rounds."""
    spent: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, seconds in zip(runs, spent, strict=True):
            started = time.process_time()
            run()
            seconds.append(time.process_time() - started)
    # The first round warms up.
    return [(statistics.median(s[1:]), run) for s, run in zip(spent, runs, strict=True)]


def _peak(run: Callable[[], Any]) -> int:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
