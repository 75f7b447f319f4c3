"""Block Krylov iteration for the contrastive kernel, from products with K alone.

A = P K / (2n) is self-adjoint in the inner product u^T K v, since K A = K P K / (2n) is
symmetric. So Lanczos' method applies in that inner product, and needs neither a root of
K nor an inverse. We keep a K-orthonormal basis V beside W = K V, and the small matrix
T = W^T P W / (2n), whose eigenvalues approach the largest gammas. A private half of
`pkg.kpca`.

Thick restarts are those of Wu and Simon, SIAM Journal on Matrix Analysis 22 (2000).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from pkg import spectra

Product = Callable[[np.ndarray], np.ndarray]

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
# A solve that has read K this often without converging does not converge.
MOST_PASSES = 500


@dataclass(frozen=True, eq=False, kw_only=True)
class Ritz:
    """What the iteration found; `rank` and `n_positive` only if it exhausted K.

    `settled` says whether the modes may be used: they converged, or K is exhausted.
    `gammas` (d + 1,) descend, or are fewer if K has no more; `images` (2n, d) are K a_j
    and `residuals` (d,) the K-norms of A a_j - gamma_j a_j. `lowest` is the smallest
    Rayleigh quotient of K that was met and `noise` what counts as zero, both relative
    to the norm of K; `single` says that products came in float32.
    """

    gammas: np.ndarray
    images: np.ndarray
    residuals: np.ndarray
    passes: int
    rank: int | None
    n_positive: int | None
    lowest: float
    noise: float
    single: bool
    settled: bool


class Unsettled(RuntimeError):
    """The modes did not converge; the message says how far they came."""


def solve(
    product: Product,
    size: int,
    d: int,
    *,
    tol: float,
    noise: float,
    room: int | None = None,
) -> Ritz:
    """Find the `d` largest eigenvalues of P K / (2n), and how far the next one is.

    Parameters
    ----------
    product : V (2n, b) -> K V (2n, b)
        Symmetric and positive semi-definite.
    size : int
        2n.
    d : int
        At most n.
    tol : float
        Stop when every K-norm residual is below tol gamma_d; with products in float32
        no less than 1e-4.
    noise : float
        Round-off that K itself brings, relative to its norm. Directions whose K-norm
        squared is below ten times this, or the products' own, are dropped.
    room : int, optional
        Columns that the basis may hold before it is compressed.

    Returns
    -------
    Ritz
        Look at `settled` first.

    Raises
    ------
    Unsettled
        After `MOST_PASSES`.
    """
    # K is read once a block: wider ones read it less often, but waste products.
    block = min(size, 8 * min(max(round(d / 16), 3), 8))
    room = max(4 * d, 12 * block) if room is None else max(room, d + 3 * block)
    # The start decides no digit above `tol`, so its seed is no parameter.
    start = np.random.default_rng(0).standard_normal((size, block))
    basis = _Basis(product, size, min(size, room) + block, noise)
    first = _iterate(basis, start, d, tol, room)
    if first.settled:
        return first
    # The null space of a singular K grows in the candidates, until live directions
    # drown in it. A start in the range of P K brings less of it.
    passes = basis.passes + 1
    start = swap(product(start)).astype(np.float64, copy=False)
    basis = _Basis(product, size, min(size, room) + block, noise)
    again = _iterate(basis, start, d, tol, room)
    lowest = min(first.lowest, again.lowest)
    return replace(again, passes=again.passes + passes, lowest=lowest)


def _iterate(basis: "_Basis", start: np.ndarray, d: int, tol: float, room: int) -> Ritz:
    """Iterate from `start` (2n, b) until the modes converge or K is exhausted."""
    block, whole = start.shape[1], True
    Z = basis.extend(start.copy())
    tol = max(tol, 1e-4 * basis.single)
    due, history = 2 + 2 * d // block, list[tuple[int, float]]()
    while basis.k and basis.passes < MOST_PASSES:
        k, newest, full = basis.k, basis.newest, basis.k + block > basis.room
        check = full or basis.passes >= due
        if check:
            gammas, S = basis.eigenpairs()
        if full:
            basis.compress(gammas, S[:, : d + (room - d) // 2])
        Z = basis.extend(Z)
        exhausted = basis.newest == 0
        if not check and not exhausted:
            continue
        if not check:
            gammas, S = basis.eigenpairs()
        # A maps all older blocks into the basis, so what it moves out of it comes from
        # the newest rows of S alone: the residual costs no product of its own.
        rows = S[k - newest : k, : d + 1]
        residuals = np.sqrt(np.maximum(np.sum(rows * (basis.tail @ rows), axis=0), 0))
        settled = _converged(gammas, residuals, d, tol)
        if settled or exhausted:
            W = basis.W
            images = W[:, :d] if full else W[:, :k] @ S[:, :d]
            images, counted = images.copy(), False
            if exhausted:
                noise = 10.0 * basis.noise
                enough = _many(gammas, noise) >= d
                rounded = _rounded(gammas, residuals, d, tol, noise)
                counted = rounded and whole and not full and basis.spans(block)
                cut = full or not whole  # then the basis cannot tell
                settled = settled or counted or (rounded and enough and cut)
            return Ritz(
                gammas=gammas[: d + 1],
                images=images,
                residuals=residuals[:d],
                passes=basis.passes,
                rank=k if counted else None,
                n_positive=spectra.count_positive(gammas) if counted else None,
                lowest=basis.lowest,
                noise=10.0 * basis.noise,
                single=basis.single,
                settled=settled,
            )
        whole &= not full  # a compressed basis no longer tells the rank
        due = basis.passes + 1
        if k >= d:
            history.append(
                (basis.passes, float(residuals[:d].max() / abs(gammas[d - 1])))
            )
            due = basis.passes + _wait(history, tol)
    if not basis.k:  # no direction of K is positive
        return Ritz(
            gammas=np.zeros(0),
            images=start[:, :0],
            residuals=np.zeros(0),
            passes=basis.passes,
            rank=None,
            n_positive=None,
            lowest=basis.lowest,
            noise=10.0 * basis.noise,
            single=basis.single,
            settled=False,
        )
    raise Unsettled(
        f"the Krylov iteration did not bring {d} modes to `tol` {tol:.3g} in "
        f"{basis.passes} passes over K; loosen `tol`, or give the matrix to method "
        "'cholesky'"
    )


class _Basis:
    """K-orthonormal columns V, their products W = K V, and T = W^T P W / (2n)."""

    def __init__(self, product: Product, size: int, room: int, noise: float) -> None:
        self.product, self.size, self.room = product, size, room
        self.noise = max(noise, size * EPS)
        # Columns lie one after another in memory, and those never filled cost nothing.
        self.V = np.empty((size, room), order="F")
        self.W = np.empty((size, room), order="F")
        self.T = np.zeros((room, room))
        self.k = self.newest = self.passes = 0
        self.previous = 0  # first column of the block before the newest
        self.norm = 0.0  # of K, as far as seen
        self.lowest, self.single = 0.0, False
        self.tail = np.zeros((0, 0))  # K-Gram matrix of the last candidates

    def extend(self, Z: np.ndarray) -> np.ndarray:
        """Take the candidates Z (2n, b) into the basis and return the next ones.

        Both are projected off the blocks they meet. Directions that K cannot tell from
        zero are dropped: the next block is narrower, or empty when K is exhausted.
        """
        V, W = self.V[:, : self.k], self.W[:, : self.k]
        Q, R = linalg.qr(Z, mode="economic", overwrite_a=True, check_finite=False)
        Q -= V @ (W.T @ Q)  # once more, off all blocks: twice is enough
        Y = self.product(Q)
        self.passes += 1
        if Y.dtype.itemsize < 8:
            self.single, Y = True, Y.astype(np.float64)
            # Sums of 2n terms whose errors are independent.
            self.noise = max(self.noise, math.sqrt(self.size) * EPS32)
        gram = Q.T @ Y
        self.tail = R.T @ gram @ R
        values, U = linalg.eigh((gram + gram.T) / 2)
        squares = np.sum(U * ((Q.T @ Q) @ U), axis=0)
        self.norm = max(self.norm, float(np.max(_lengths(Y) / _lengths(Q))))
        # Columns of Q had length one. The test is absolute: relative to the block,
        # round-off would pass for a direction.
        quotients = values / (self.norm * np.maximum(squares, 1.0))
        self.lowest = min(self.lowest, float(quotients[0]))
        skew = float(np.abs(gram - gram.T).max())
        if skew > max(1e-8, 10.0 * self.noise) * self.norm:
            raise ValueError(
                "`K` must be symmetric; for its product u^T K v and v^T K u differ by "
                f"{skew / self.norm:.1e} of its norm"
            )
        keep = quotients > 10.0 * self.noise
        U = U[:, keep] / np.sqrt(values[keep])
        old, self.newest = self.k, U.shape[1]
        self.k = old + self.newest
        np.matmul(Q, U, out=self.V[:, old : self.k])
        np.matmul(Y, U, out=self.W[:, old : self.k])
        Z = swap(self.W[:, old : self.k])
        Z /= self.size
        # One product gives new columns of T, and projects Z. Older blocks than the
        # previous one are moved inside the basis, so Z is orthogonal to them already.
        since, self.previous = self.previous, old
        H = self.W[:, since : self.k].T @ Z
        self.T[since : self.k, old : self.k] = H
        self.T[old : self.k, since : self.k] = H.T
        Z -= self.V[:, since : self.k] @ H
        return Z

    def spans(self, block: int) -> bool:
        """Tell whether K has nothing left, by one more block of this width."""
        if self.k == self.size:
            return True
        self.extend(np.random.default_rng(1).standard_normal((self.size, block)))
        return self.newest == 0

    def eigenpairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the eigenvalues of T, descending, and its eigenvectors."""
        values, vectors = linalg.eigh(self.T[: self.k, : self.k], check_finite=False)
        return values[::-1], vectors[:, ::-1]

    def compress(self, values: np.ndarray, S: np.ndarray) -> None:
        """Keep only the span of V S, where S (k, p) are eigenvectors of T."""
        k, self.k = self.k, S.shape[1]
        self.V[:, : self.k] = self.V[:, :k] @ S
        self.W[:, : self.k] = self.W[:, :k] @ S
        self.T[:] = 0.0
        np.fill_diagonal(self.T, values[: self.k])
        self.previous = 0  # the next block meets all of them


def swap(columns: np.ndarray) -> np.ndarray:
    """Return P times `columns` (2n, b): the two halves of the rows change places."""
    n = len(columns) // 2
    swapped = np.empty_like(columns)
    swapped[:n], swapped[n:] = columns[n:], columns[:n]
    return swapped


def _lengths(columns: np.ndarray) -> np.ndarray:
    # A column of zeros is divided by one, not by zero.
    return np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float64).tiny)


def _converged(gammas: np.ndarray, residuals: np.ndarray, d: int, tol: float) -> bool:
    if len(gammas) < d or gammas[d - 1] <= 0:
        return False
    # The next gamma is only compared with the last: its error is the square of this.
    limits = np.full(len(residuals), tol * gammas[d - 1])
    limits[d:] = math.sqrt(tol) * gammas[d - 1]
    return bool(np.all(residuals <= limits))


def _many(gammas: np.ndarray, noise: float) -> int:
    return int(np.sum(gammas > noise * np.abs(gammas).max()))


def _rounded(
    gammas: np.ndarray, residuals: np.ndarray, d: int, tol: float, noise: float
) -> bool:
    """Judge an exhausted K: what its positive modes lack must be round-off.

    A K-norm is the root of a form with an error of `noise`, so residuals have a floor;
    one of sqrt(noise gamma_1 gamma_j) moves gamma_j by noise gamma_1.
    """
    top = float(np.abs(gammas).max())
    found = gammas[: min(d, _many(gammas, noise))]
    floor = np.minimum(np.sqrt(noise * top * found), min(10 * noise**0.5, 1e-3) * found)
    limits = np.maximum(tol * found, floor)
    return bool(np.all(residuals[: len(found)] <= limits))


def _wait(history: list[tuple[int, float]], tol: float) -> int:
    """Guess how many passes to wait before looking at the residuals again.

    They fall at least geometrically, and looking costs an eigenproblem.
    """
    if len(history) < 2:
        return 2
    (before, high), (now, low) = history[-2:]
    rate = math.log(high / low) / (now - before) if 0 < low < high else 0.0
    if rate <= 0.05:
        return 4
    return max(1, min(16, int(0.6 * math.log(max(low / tol, 1.0)) / rate)))
