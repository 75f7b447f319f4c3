"""Conventions for spectra, in one place: order, sign, rank, and overlap of subspaces.

Everywhere in this package eigenvalues descend, and an eigenvector's largest entry is
positive. The sign is cosmetic (it makes figures repeat); near-ties make single vectors
meaningless, so results are compared by `subspace_overlap`, never vector by vector.
"""

import numpy as np
from jaxtyping import Float

from pkg import _check
from pkg._steps import Steps, find_steps

__all__ = [
    "Steps",
    "count_positive",
    "crossing_times",
    "find_steps",
    "fix_signs",
    "learned_directions",
    "span",
    "subspace_overlap",
    "top_eigenpairs",
    "top_eigenvalues",
]


def top_eigenpairs(
    matrix: Float[np.ndarray, "m m"], d: int | None = None
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "m d"]]:
    """Find the `d` largest eigenvalues of a symmetric matrix with their eigenvectors.

    Introduced in chapter 1.

    Parameters
    ----------
    matrix : (m, m)
        Symmetric.
    d : int, optional
        How many; all of them when left out. Fewer than a quarter of m are found
        without computing the rest.

    Returns
    -------
    values : (d,)
        Descending, by value and not by modulus: negative ones come last.
    vectors : (m, d)
        Orthonormal columns, the largest entry of each positive.

    Raises
    ------
    ValueError
        If `matrix` is not finite, square and symmetric, or `d` is not in 1..m.
    """
    from scipy import linalg

    matrix = _check.symmetric("matrix", matrix)
    m = len(matrix)
    d = m if d is None else _check.count("d", d, high=m)
    subset = (m - d, m - 1) if 4 * d < m else None
    # SciPy ascends; its full solver is faster than its subset for many eigenpairs.
    values, vectors = linalg.eigh(matrix, subset_by_index=subset, check_finite=False)
    return values[::-1][:d].copy(), fix_signs(vectors[:, ::-1][:, :d])


def top_eigenvalues(
    matrix: Float[np.ndarray, "m m"], d: int | None = None
) -> Float[np.ndarray, " d"]:
    """Find the `d` largest eigenvalues of a symmetric matrix.

    Cheaper than `top_eigenpairs` where vectors are not needed. Introduced in chapter 2.

    Parameters
    ----------
    matrix, d
        As in `top_eigenpairs`.

    Returns
    -------
    (d,)
        Descending.

    Raises
    ------
    ValueError
        As `top_eigenpairs`.
    """
    from scipy import linalg

    matrix = _check.symmetric("matrix", matrix)
    m = len(matrix)
    d = m if d is None else _check.count("d", d, high=m)
    subset = (m - d, m - 1) if 4 * d < m else None
    values = linalg.eigvalsh(matrix, subset_by_index=subset, check_finite=False)
    return values[::-1][:d].copy()


def fix_signs(vectors: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Flip each column so that its entry of largest modulus is positive.

    Parameters
    ----------
    vectors : (m, d)
        A zero column stays zero.

    Returns
    -------
    (m, d)
    """
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs)


def count_positive(gammas: Float[np.ndarray, " m"]) -> int:
    """Count the eigenvalues that are positive beyond round-off.

    Round-off is m machine epsilons of the largest modulus: below that, the sign of a
    computed eigenvalue says nothing. Introduced in chapter 2.

    Parameters
    ----------
    gammas : (m,)
        All eigenvalues, in any order.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If an eigenvalue is not finite.
    """
    gammas = _check.finite("gammas", gammas, ndim=1)
    noise = len(gammas) * np.finfo(np.float64).eps * np.abs(gammas).max()
    return int(np.sum(gammas > noise))


def span(
    x: Float[np.ndarray, "n m"], x_prime: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, "m r"]:
    """Find an orthonormal basis in which all views can be written.

    n pairs span at most 2n of their m dimensions. Views ``x @ Q`` have the same
    nonzero spectrum of Gamma and the same trajectories, and ``Q @ v`` turns a direction
    back into features. Where views depend on each other the basis holds more than they
    span, which changes nothing. Introduced in chapter 5.

    Parameters
    ----------
    x, x_prime : (n, m)
        Two views, row i with row i.

    Returns
    -------
    (m, r)
        Orthonormal columns, r = min(m, 2n).

    Raises
    ------
    ValueError
        If the shapes differ or an entry is not finite.
    """
    x, x_prime = _check.paired("x", x, "x_prime", x_prime)
    return np.linalg.qr(np.concatenate([x, x_prime]).T)[0]


def subspace_overlap(A: Float[np.ndarray, "m k"], B: Float[np.ndarray, "m l"]) -> float:
    """Measure how much of the smaller of two column spaces lies in the other.

    With orthonormal bases Q_A and Q_B the overlap is ||Q_A^T Q_B||_F^2 / min(k, l): the
    mean squared cosine of the principal angles. It is 1 when one space contains the
    other and max(k, l) / m, on average, for random spaces; max(k, l) / (m - 1) where
    all columns are centred, as embeddings are. Introduced in chapter 2.

    Parameters
    ----------
    A, B : (m, k), (m, l)
        Columns span the two spaces; they need not be orthonormal.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the row counts differ, or the columns of one are linearly dependent.

    References
    ----------
    Principal angles: Bjorck and Golub, Mathematics of Computation 27 (1973).
    """
    A, B = _check.finite("A", A, ndim=2), _check.finite("B", B, ndim=2)
    if len(A) != len(B):
        raise ValueError(
            f"`A` and `B` must have the same number of rows; got {len(A)} and {len(B)}"
        )
    cosines = _basis("A", A).T @ _basis("B", B)
    return float(np.sum(cosines**2) / min(cosines.shape))


def learned_directions(
    W: Float[np.ndarray, "d m"], Gamma: Float[np.ndarray, "m m"]
) -> Float[np.ndarray, "m d"]:
    """Find the directions in feature space that weights have learned.

    The outputs may be rotated, so rows of W mean nothing by themselves. Inside the row
    space of W we take the eigenvectors of Gamma's restriction, largest eigenvalue
    first. Introduced in chapter 5.

    Parameters
    ----------
    W : (d, m)
        Weights after training.
    Gamma : (m, m)
        Symmetric cross-correlation.

    Returns
    -------
    (m, d)
        Orthonormal columns.

    Raises
    ------
    ValueError
        If the shapes disagree, Gamma is not symmetric, or W has dependent rows.
    """
    W = _check.finite("W", W, ndim=2)
    Gamma = _check.symmetric("Gamma", Gamma)
    if W.shape[1] != len(Gamma):
        raise ValueError(
            f"`W` is (d, m) = {W.shape}, so `Gamma` must be ({W.shape[1]}, "
            f"{W.shape[1]}); got {Gamma.shape}"
        )
    rows = _basis("W.T", W.T)  # (m, d)
    return fix_signs(rows @ top_eigenpairs(rows.T @ Gamma @ rows)[1])


def crossing_times(
    t: Float[np.ndarray, " T"],
    eigenvalues: Float[np.ndarray, "T d"],
    level: float = 0.5,
) -> Float[np.ndarray, " d"]:
    """Measure when each eigenvalue first reaches `level`, between recorded times.

    Introduced in chapter 2.

    Parameters
    ----------
    t : (T,)
        Increasing times.
    eigenvalues : (T, d)
        One column an eigenvalue.
    level : float
        One half is the step time of the linear theory.

    Returns
    -------
    (d,)
        Interpolated linearly; ``inf`` where the level is never reached.

    Raises
    ------
    ValueError
        If the lengths differ, times do not increase, or a number is not finite.
    """
    t = _check.times("t", t)
    eigenvalues = _check.finite("eigenvalues", eigenvalues, ndim=2)
    if len(t) != len(eigenvalues):
        raise ValueError(
            f"`t` and `eigenvalues` need one length; got {len(t)} and "
            f"{len(eigenvalues)}"
        )
    above = eigenvalues >= level
    first = above.argmax(axis=0)
    before, column = np.maximum(first - 1, 0), np.arange(above.shape[1])
    low, high = eigenvalues[before, column], eigenvalues[first, column]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(first > before, (level - low) / rise, 0.0)
    times = t[before] + share * (t[first] - t[before])
    return np.where(above.any(axis=0), times, np.inf)


def _basis(name: str, columns: np.ndarray) -> np.ndarray:
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    rank = int(np.sum(s > max(columns.shape) * np.finfo(np.float64).eps * s[0]))
    if rank < columns.shape[1]:
        raise ValueError(
            f"`{name}` has {columns.shape[1]} columns of rank {rank}; "
            "pass linearly independent columns"
        )
    return u
