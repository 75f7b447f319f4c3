"""The numbers of the kernels: inner products, turned into entries block by block.

A private half of ``pkg.kernels``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pkg import _check

# Entries that are worked on at a time, 64 KiB of them. A dozen such arrays fit into a
# core's cache; and from 128 KiB on the system clears fresh memory for every new array,
# which costs more than the arithmetic.
HEIGHT, WIDTH = 16, 512
TINY = np.finfo(np.float64).tiny

# Inner products q (rows, p), squared norms p (rows, 1) and p' (1, p) -> entries.
Entries = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# The same and the noise of a cosine -> E[f(u) f(v)] and E[f'(u) f'(v)].
Dual = Callable[
    [np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]
]


class Inputs:
    """Checked inputs with their squared norms."""

    def __init__(self, x: object, y: object, *, centre: bool = False) -> None:
        self.same = y is None
        self.x = _check.finite("x", x, ndim=2)
        self.y = self.x if y is None else _check.finite("y", y, ndim=2)
        m = self.x.shape[1]
        if self.y.shape[1] != m:
            raise ValueError(
                f"`x` and `y` must have rows of one length; got {self.x.shape} and "
                f"{self.y.shape}"
            )
        if centre:
            # Distances do not change, and far from 0 they keep more digits. A median of
            # a few rows costs nothing, and one outlier does not move it.
            middle = np.median(self.x[:: max(1, len(self.x) // 9)], axis=0)
            self.x = self.x - middle
            self.y = self.x if self.same else self.y - middle
        with np.errstate(over="ignore"):
            self.p = np.einsum("im,im->i", self.x, self.x)
            self.p_prime = np.einsum("im,im->i", self.y, self.y)
            largest = 4 * (self.p.max() + self.p_prime.max())  # bounds any distance
        if not np.isfinite(largest):
            raise ValueError(
                "`x` or `y` is so large that its squares overflow; divide both by one "
                "constant, say their largest entry"
            )
        # Round-off in a cosine: a few epsilons, growing as the sum of m terms does.
        self.noise = np.finfo(np.float64).eps * (8 + np.sqrt(m))

    def gram(self) -> np.ndarray:
        """Return inner products, with the squared norms themselves on a diagonal."""
        q = self.x @ self.y.T
        if self.same:
            np.fill_diagonal(q, self.p)
        return q

    def blockwise(self, entries: Entries, p: Any = None, p_prime: Any = None) -> Any:
        """Turn inner products into kernel entries, a block at a time.

        `entries` gets a block of inner products with its part of `p` (..., n) and of
        `p_prime` (..., p), by default the squared norms.
        """
        p = self.p if p is None else p
        p_prime = self.p_prime if p_prime is None else p_prime
        q = self.gram()
        for top in range(0, q.shape[0], HEIGHT):
            for left in range(0, q.shape[1], WIDTH):
                rows, columns = slice(top, top + HEIGHT), slice(left, left + WIDTH)
                q[rows, columns] = entries(
                    q[rows, columns], p[..., rows, None], p_prime[..., None, columns]
                )
        return q


def decay(
    q: np.ndarray,
    p: np.ndarray,
    p_prime: np.ndarray,
    *,
    rate: float,
    root: bool,
    noise: float,
) -> np.ndarray:
    """Return exp(-rate ||x - y||^2), or with `root` exp(-rate ||x - y||).

    Parameters
    ----------
    q, p, p_prime, noise
        Inner products (rows, columns), squared norms (rows, 1) and (1, columns), and
        the round-off relative to them.
    rate, root
        See above.

    Returns
    -------
    (rows, columns)
    """
    squares = p + p_prime  # first, so that a symmetric table stays so to the bit
    squares -= 2 * q
    # Round-off may be negative, and its square root would part repeated inputs. Few
    # blocks have any: one look spares the others a mask.
    if squares.min() < noise * (p.max() + p_prime.max()):
        squares[squares < noise * (p + p_prime)] = 0.0
    if root:
        np.sqrt(squares, out=squares)
    squares *= -rate
    return np.exp(squares, out=squares)


@dataclass(frozen=True)
class Network:
    """The recursion that ``pkg.kernels`` begins with.

    Attributes
    ----------
    dual : callable
        `relu` or `erf`.
    tangent : bool
        Whether the kernel is the neural tangent kernel, or else the NNGP kernel.
    depth, weight_variance, bias_variance
        As in ``kernels.relu_nngp``.
    """

    dual: Dual
    tangent: bool
    depth: int
    weight_variance: float
    bias_variance: float

    def __post_init__(self) -> None:
        _check.count("depth", self.depth)
        _check.positive("weight_variance", self.weight_variance, ndim=0)
        _check.nonnegative("bias_variance", self.bias_variance, ndim=0)

    def kernel(self, x: object, y: object) -> np.ndarray:
        """Return the kernel of the inputs x (n, m) and y (p, m): (n, p)."""
        inputs = Inputs(x, y)
        p, p_prime = (self._variances(z, inputs) for z in (inputs.p, inputs.p_prime))
        entries = partial(self._entries, first=inputs.x.shape[1], noise=inputs.noise)
        return inputs.blockwise(entries, p, p_prime)

    def _variances(self, squares: np.ndarray, inputs: Inputs) -> np.ndarray:
        """Return the variance of each input before every hidden layer, (depth, n)."""
        w, b = self.weight_variance, self.bias_variance
        p = [w * squares / inputs.x.shape[1] + b]
        while len(p) < self.depth:
            # An input is parallel to itself, so that q is p.
            p.append(w * self.dual(p[-1], p[-1], p[-1], inputs.noise)[0] + b)
        return np.stack(p)

    def _entries(
        self,
        q: np.ndarray,
        p: np.ndarray,
        p_prime: np.ndarray,
        *,
        first: int,
        noise: float,
    ) -> np.ndarray:
        w, b = self.weight_variance, self.bias_variance
        q = w * q / first + b
        theta = q
        for layer in range(self.depth):
            q, slope = self.dual(q, p[layer], p_prime[layer], noise)
            q *= w
            q += b
            if self.tangent:
                slope *= w
                theta = np.multiply(slope, theta, out=slope)
                theta += q
        return theta if self.tangent else q


def relu(
    q: np.ndarray, p: np.ndarray, p_prime: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of two ReLUs, and of two steps, of jointly normal variables.

    Parameters
    ----------
    q, p, p_prime, noise
        Covariances (rows, columns), variances (rows, 1) and (1, columns), and the
        round-off in a cosine.

    Returns
    -------
    value, slope : (rows, columns)
        With the angle theta between them, sqrt(p p') (sin theta + (pi - theta)
        cos theta) / (2 pi), and (pi - theta) / (2 pi).
    """
    scale = np.sqrt(p) * np.sqrt(p_prime)
    cosine = np.maximum(scale, TINY)
    np.divide(q, cosine, out=cosine)  # 0 for an input of zeros
    # arccos turns round-off near 1 into its square root: repeated inputs would differ.
    np.copyto(cosine, 1.0, where=cosine > 1 - noise)
    np.copyto(cosine, -1.0, where=cosine < noise - 1)
    # In place, which halves the time.
    slope = np.arccos(cosine)
    slope *= -1 / (2 * np.pi)
    slope += 0.5
    value = 1 - cosine
    value *= 1 + cosine  # not 1 - cosine^2, which cancels for a small angle
    np.sqrt(value, out=value)
    value *= 1 / (2 * np.pi)
    cosine *= slope
    value += cosine
    value *= scale
    return value, slope


def erf(
    q: np.ndarray, p: np.ndarray, p_prime: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of two error functions, and of their two slopes.

    Parameters are those of `relu`, and so are the shapes of the result.
    """
    scale = np.sqrt(1 + 2 * p) * np.sqrt(1 + 2 * p_prime)
    sine = q / scale
    sine *= 2
    # Below 1 by (1 + p + p') / scale^2 at least, which round-off may eat.
    np.clip(sine, noise - 1, 1 - noise, out=sine)
    slope = 1 - sine
    slope *= 1 + sine
    np.sqrt(slope, out=slope)
    slope *= scale
    np.divide(4 / np.pi, slope, out=slope)
    value = np.arcsin(sine, out=sine)
    value *= 2 / np.pi
    return value, slope
