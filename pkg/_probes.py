"""How useful an embedding is, and how alike two are.

A private half of `pkg.modes`.
"""

import warnings

import numpy as np
from jaxtyping import Float, Int

from pkg import _check


def linear_probe(
    train: Float[np.ndarray, "n p"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "k p"],
    test_labels: Int[np.ndarray, " k"],
) -> float:
    """Measure how well a linear classifier reads labels from features.

    Features are whitened first, with the covariance of `train`. So the probe asks what
    is there and not how loud it is: any invertible linear map of the features gives
    the same accuracy, and the choice of axes among outputs cannot matter. The first k
    modes are ``points[:, :k]``; equal numbers of features make a fair race. Introduced
    in chapter 14.

    Parameters
    ----------
    train, test : (n, p), (k, p)
        Features, one row an image. Directions without spread in `train` are left out.
    train_labels, test_labels : (n,), (k,)
        The class of each image.

    Returns
    -------
    float
        Accuracy on `test`. Chance is the share of the commonest class.

    Raises
    ------
    ValueError
        If lengths or widths differ, a number is not finite, `train_labels` holds one
        class only, or `train` has no spread.
    RuntimeError
        If the classifier does not converge: look for features of absurd size.

    References
    ----------
    Linear probes: Alain and Bengio 2016, arXiv:1610.01644. The classifier is
    scikit-learn's LogisticRegression with its own weak penalty, C = 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, train_labels, test, test_labels = _split(
        train, train_labels, test, test_labels
    )
    if len(np.unique(train_labels)) < 2:
        raise ValueError(
            "`train_labels` holds one class only; there is nothing to tell"
        )
    middle = train.mean(axis=0)
    _, s, axes = np.linalg.svd(train - middle, full_matrices=False)
    kept = s > max(train.shape) * np.finfo(np.float64).eps * np.linalg.norm(train)
    if not kept.any():
        raise ValueError("`train` has no spread: all its rows are equal")
    whiten = axes[kept].T / s[kept] * np.sqrt(len(train))  # (p, rank)
    probe = LogisticRegression(tol=1e-6, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            probe.fit((train - middle) @ whiten, train_labels)
        except ConvergenceWarning:
            raise RuntimeError(
                "the linear probe did not converge in 2000 iterations; look for "
                "features in `train` that are huge for a few images"
            ) from None
    found = probe.predict((test - middle) @ whiten)
    return float(np.mean(found == test_labels))


def knn_probe(
    train: Float[np.ndarray, "n p"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "k p"],
    test_labels: Int[np.ndarray, " k"],
    *,
    neighbours: int = 20,
) -> float:
    """Measure how often the nearest training images vote for the right label.

    Nothing is fitted, so distances decide: features count as loud as they are.
    Introduced in chapter 14.

    Parameters
    ----------
    train, test : (n, p), (k, p)
        Features, one row an image.
    train_labels, test_labels : (n,), (k,)
        The class of each image.
    neighbours : int
        How many vote, each once. Of classes with equally many votes the smallest
        label wins.

    Returns
    -------
    float
        Accuracy on `test`.

    Raises
    ------
    ValueError
        If lengths or widths differ, a number is not finite, or there are fewer
        training images than `neighbours`.

    References
    ----------
    scikit-learn's KNeighborsClassifier, with Euclidean distances.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, train_labels, test, test_labels = _split(
        train, train_labels, test, test_labels
    )
    neighbours = _check.count("neighbours", neighbours, high=len(train))
    votes = KNeighborsClassifier(neighbours, algorithm="brute")
    found = votes.fit(train, train_labels).predict(test)
    return float(np.mean(found == test_labels))


def cka(a: Float[np.ndarray, "n p"], b: Float[np.ndarray, "n q"]) -> float:
    """Measure how alike two embeddings of the same images are.

    Linear centred kernel alignment: the cosine between the two centred kernels,
    <K_a, K_b> / (||K_a|| ||K_b||). It ignores rotations of the outputs and one common
    size, and weighs directions by their variance: unlike
    ``spectra.subspace_overlap`` it needs no choice of how many directions to compare.
    Compare it with `chance_cka`. Introduced in chapter 13.

    Parameters
    ----------
    a, b : (n, p), (n, q)
        Row i of both belongs to image i.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the lengths differ, a number is not finite, or one has no spread.

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414.
    """
    a, b = _centred_pair(a, b)
    return float(np.sum((a.T @ b) ** 2) / (_size(a) * _size(b)))


def chance_cka(a: Float[np.ndarray, "n p"], b: Float[np.ndarray, "n q"]) -> float:
    """Average `cka` over all ways of pairing the rows of one with those of the other.

    A centred kernel averages over all permutations to tr(K) / (n - 1) times the
    centring matrix, so the mean of <K_a, P K_b P^T> is tr(K_a) tr(K_b) / (n - 1). In
    words: the geometric mean of the two participation ratios (`dimension`), over
    n - 1. The cka of few images is never near zero. Introduced in chapter 13.

    Parameters
    ----------
    a, b : (n, p), (n, q)
        The embeddings, as in `cka`.

    Returns
    -------
    float
        Exact, no permutation is drawn.

    Raises
    ------
    ValueError
        As `cka`.
    """
    a, b = _centred_pair(a, b)
    traces = np.sum(a**2) * np.sum(b**2)
    return float(traces / ((len(a) - 1) * _size(a) * _size(b)))


def _size(centred: np.ndarray) -> float:
    """Norm of the kernel K = a a^T, from the smaller of a a^T and a^T a."""
    n, p = centred.shape
    return float(np.linalg.norm(centred.T @ centred if p < n else centred @ centred.T))


def _centred_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = []
    for name, values in (("a", a), ("b", b)):
        values = _check.finite(name, values, ndim=2)
        values = values - values.mean(axis=0)
        largest = np.abs(values).max()
        if not largest > 0:
            raise ValueError(
                f"`{name}` has no spread: all images are embedded at one point"
            )
        centred.append(values / largest)  # fourth powers of 1e-100 would be zero
    if len(a) != len(b):
        raise ValueError(
            f"`a` and `b` must have one row an image; got {len(a)} and {len(b)} rows"
        )
    return centred[0], centred[1]


def _split(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, train_labels = labelled("train", train, "train_labels", train_labels)
    test, test_labels = labelled("test", test, "test_labels", test_labels)
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"`train` and `test` must have the same features; got {train.shape[1]} and "
            f"{test.shape[1]} columns"
        )
    return train, train_labels, test, test_labels


def labelled(
    name: str, points: np.ndarray, labels_name: str, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return points as float64 with one label a row, or say what does not fit.

    Parameters
    ----------
    name, labels_name : str
        What the caller calls them.
    points, labels : (n, d), (n,)
        What was given.

    Raises
    ------
    ValueError
        If the lengths differ, or a number is not finite.
    """
    points = _check.finite(name, points, ndim=2)
    labels = np.asarray(labels)
    if labels.shape != (len(points),):
        raise ValueError(
            f"`{labels_name}` must be one a row of `{name}`; got shape {labels.shape} "
            f"for {len(points)} rows"
        )
    return points, labels
