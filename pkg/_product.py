"""Products with a kernel matrix that is never stored.

A private half of ``pkg.kernels``.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pkg import _check

Kernel = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Product:
    """The map V -> K V of a kernel over some inputs; made by ``kernels.product``.

    Attributes
    ----------
    kernel : callable
        Called with rows of `x`, once or twice; returns their (rows, columns) entries.
    x : (N, m)
        Inputs.
    tile, threads : int
        Rows and columns of K that exist at a time, and how many such tiles at once.
    """

    kernel: Kernel
    x: np.ndarray
    tile: int
    threads: int

    @property
    def shape(self) -> tuple[int, int]:
        """That of K."""
        return len(self.x), len(self.x)

    def __call__(self, V: np.ndarray) -> np.ndarray:
        """Return K V, shaped as V: one vector (N,) or several (N, b)."""
        V = _check.finite("V", V)
        if V.ndim not in (1, 2) or len(V) != len(self.x):
            raise ValueError(
                f"`V` must have one row for each of the {len(self.x)} inputs; got "
                f"shape {V.shape}"
            )
        starts = range(0, len(self.x), self.tile)
        # K is symmetric: a tile above the diagonal serves twice.
        tiles = [(i, j) for i in starts for j in starts if i <= j]
        shares = [tiles[k :: self.threads] for k in range(self.threads)]
        if self.threads == 1:
            return self._sum(V, tiles)
        # Which thread takes which tile is fixed, so the last digits do not depend on
        # who is faster.
        with ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(lambda share: self._sum(V, share), shares))
        return np.sum(parts, axis=0)

    def _sum(self, V: np.ndarray, tiles: Sequence[tuple[int, int]]) -> np.ndarray:
        total = np.zeros_like(V)
        for i, j in tiles:
            rows, columns = slice(i, i + self.tile), slice(j, j + self.tile)
            if i == j:
                total[rows] += self.kernel(self.x[rows]) @ V[rows]
                continue
            K = self.kernel(self.x[rows], self.x[columns])
            total[rows] += K @ V[columns]
            total[columns] += K.T @ V[rows]
        return total


def product(
    kernel: Kernel,
    x: Float[np.ndarray, "N m"],
    *,
    tile: int = 1024,
    threads: int = 1,
) -> Product:
    """Make the map V -> K V of a kernel, a tile at a time: K is never stored.

    Each call computes the entries of K anew, those on one side of the diagonal. Memory
    is that of x and V and, for each thread, of a few tiles and another V. Introduced in
    chapter 7.

    Parameters
    ----------
    kernel : callable
        One of this room with its settings, such as ``partial(kernels.rbf,
        length_scale=3.0)``; or any symmetric function of one or two sets of rows.
    x : (N, m)
        Inputs: for `kpca.fit` the n of x first, then the n of x'.
    tile : int
        Rows and columns of K that exist at a time: 8 tile^2 bytes, some 8 MB.
    threads : int
        Tiles computed at once. NumPy's matrix products bring threads of their own, and
        the two get in each other's way: with more than one here, start Python with
        OMP_NUM_THREADS=1.

    Returns
    -------
    Product
        Call it with V, (N,) or (N, b); it also has the ``shape`` of K.

    Raises
    ------
    ValueError
        If `x` is not finite, a number is not positive, or `kernel` does not return one
        finite entry for one row.
    """
    x = _check.finite("x", x, ndim=2)
    tile, threads = _check.count("tile", tile), _check.count("threads", threads)
    entry = _check.finite("kernel(x[:1])", kernel(x[:1]))
    if entry.shape != (1, 1):
        raise ValueError(
            f"`kernel` must return a (1, 1) array for one row of `x`; got {entry.shape}"
        )
    return Product(kernel, x, tile, threads)
