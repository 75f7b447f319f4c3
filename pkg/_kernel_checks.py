"""Guards for kernels: what is no kernel is refused, what is doubtful is warned of.

A private half of `pkg.kpca`.
"""

import sys
import warnings
from typing import Any

import numpy as np

from pkg import _check

EPS32 = float(np.finfo(np.float32).eps)


def single(name: str, values: Any) -> bool:
    """Tell whether an array or tensor is in float32; refuse halves and complexes."""
    dtype = str(getattr(values, "dtype", "")).removeprefix("torch.")
    if dtype in ("float16", "bfloat16"):
        raise ValueError(
            f"`{name}` is in {dtype}, too coarse for a kernel; build it in float32 or "
            "float64"
        )
    if dtype.startswith("complex"):
        raise ValueError(f"`{name}` must be real numbers; got {dtype}")
    return dtype == "float32"


def matrix(K: np.ndarray, n: int | None, single: bool) -> np.ndarray:
    """Check a whole kernel matrix, in tiles; a copy only where something must change.

    Solvers read one triangle, and would not see a fault in the other. `single` says
    that K was built in float32, whose round-off is larger. Parameters are otherwise
    those of `kpca.fit`; the result is K in float64.
    """
    n = None if n is None else _check.count("n", n)
    K = even(_check.finite("K", K, ndim=2), n)
    if K.shape[0] != K.shape[1]:
        raise ValueError(f"`K` must be square; got shape {K.shape}")
    diagonal = K.diagonal()
    if diagonal.min() < -1e-6 * np.abs(diagonal).max():
        i = int(diagonal.argmin())
        raise ValueError(
            f"`K` is not a kernel: entry ({i}, {i}) of its diagonal is "
            f"{diagonal[i]:.3g}, and no point has a negative product with itself"
        )
    largest = float(np.abs(diagonal).max())
    if largest == 0 and K.any():
        raise ValueError(
            "`K` is not a kernel: it is indefinite, since its diagonal is zero and "
            "other entries are not"
        )
    gap = _asymmetry(K)
    if gap > max(1e-8, 10 * EPS32 * single) * largest:
        raise ValueError(
            f"`K` must be symmetric; entries and their mirror images differ by up to "
            f"{gap:.3g}. Use (K + K.T) / 2 if that is what you mean"
        )
    return K if gap == 0 else (K + K.T) / 2


def _asymmetry(K: np.ndarray, tile: int = 256) -> float:
    # By tiles that stay in the cache: K.T as a whole is read against the grain.
    worst = 0.0
    for i in range(0, len(K), tile):
        for j in range(i, len(K), tile):
            here, there = K[i : i + tile, j : j + tile], K[j : j + tile, i : i + tile].T
            if not np.array_equal(here, there):
                worst = max(worst, float(np.abs(here - there).max()))
    return worst


def even(rows: np.ndarray, n: int | None, name: str = "K") -> np.ndarray:
    """Return `rows`; refuse an odd number of them, or one that is not 2n.

    Parameters are checked only in their length, and `name` is for the message.
    """
    if len(rows) % 2 or (n is not None and len(rows) != 2 * n):
        wanted = "an even number of" if n is None else f"2 n = {2 * n}"
        raise ValueError(
            f"`{name}` must have {wanted} rows, all views x first and then all x'; "
            f"got {len(rows)}"
        )
    return rows


def count(d: int, n: int) -> int:
    """Return `d`; refuse more modes than pairs."""
    d = _check.count("d", d)
    if d > n:
        raise ValueError(f"`d`: asked for {d} modes, but {n} pairs have at most {n}")
    return d


def scale(name: str, largest: Any) -> float:
    """Return the size of a kernel, which its solvers divide by; refuse zero."""
    if not largest > 0:
        raise ValueError(f"`{name}` is zero: it has no modes at all")
    return float(largest)


def refuse_missing(d: int | None, n_positive: int | None) -> None:
    """Refuse more modes than are positive; None says that their number is unknown."""
    if n_positive == 0:
        raise ValueError(
            "`K` has no positive mode: the two views of a pair are anti-correlated, as "
            "when phi(x') = -phi(x), or share nothing. Check the order of the rows"
        )
    if d is not None and n_positive is not None and n_positive < d:
        raise ValueError(f"`d`: asked for {d} modes, only {n_positive} positive")


def refuse_indefinite(lowest: float, noise: float) -> None:
    """Judge the least of K's spectrum, `lowest`, relative to its largest."""
    refuse_negative(lowest, noise)
    if lowest < -noise:
        warn(
            f"`K` is indefinite by {-lowest:.1e} of its largest eigenvalue, more than "
            "round-off; what is below zero was cut off"
        )


def refuse_negative(lowest: float, noise: float) -> None:
    """Refuse as `refuse_indefinite`, without its warning."""
    if lowest < -max(1e-6, noise):
        raise ValueError(
            f"`K` is not a kernel: it is indefinite, by {-lowest:.1e} of its largest "
            "eigenvalue"
        )


def doubt_single(gammas: np.ndarray) -> None:
    """Warn of modes that drown in the round-off of a kernel built in float32."""
    if gammas[-1] < 1e-6 * gammas[0]:
        warn(
            f"the kernel was built in float32, and gamma_{len(gammas)} is "
            f"{gammas[-1] / gammas[0]:.1e} of gamma_1: below 1e-6 it means little. "
            "Build the kernel in float64, or ask for fewer modes"
        )


def warn(message: str) -> None:
    """Warn at the line of the caller that is not of this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("pkg."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
