"""What a mode means: properties of images, and how closely modes follow them.

A private half of `pkg.modes`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int, UInt8

from pkg import _check

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


@dataclass(frozen=True, eq=False, kw_only=True)
class Correlations:
    """How closely each mode follows each property, one row a property.

    Attributes
    ----------
    names : tuple of str
        Of the properties.
    r : (properties, d)
        Pearson's correlation for a property of one column. For one of several columns
        the multiple correlation, 0 to 1: that with the best mixture of them.
    low, high : (properties, d)
        Bootstrap interval that holds 95 % of `r` over resampled images. Of a multiple
        correlation it says nothing about zero: none of its resamples is below.
    p : (properties, d)
        Share of shuffles that correlate at least as much as the images do.
    p_any : (properties, d)
        Share of shuffles in which any mode follows any property as far beyond what is
        usual for its number of columns: `p` corrected for asking so often.
    """

    names: tuple[str, ...]
    r: Float[np.ndarray, "properties d"]
    low: Float[np.ndarray, "properties d"]
    high: Float[np.ndarray, "properties d"]
    p: Float[np.ndarray, "properties d"]
    p_any: Float[np.ndarray, "properties d"]


def pictured(
    images: UInt8[np.ndarray, "n h w 3"],
) -> dict[str, Float[np.ndarray, "n _"]]:
    """Measure hue, edges and where the light is, for `correlate`.

    They go beside `statistics`, which knows nothing of them. A hue is an angle, so it
    takes two columns: a mean of angles as numbers would call red and red opposites.
    Introduced in chapter 14.

    Parameters
    ----------
    images : (n, height, width, 3) uint8

    Returns
    -------
    dict of str to (n, 1) or (n, 2)
        "hue": cosine and sine of the mean hue, each pixel weighed by its chroma; red
        is (1, 0), and an image without colour has (0, 0). "edges": mean squared step
        between neighbours in grey. "mass up" and "mass right": the centre of mass of
        grey, -1 to 1 from edge to edge.

    Raises
    ------
    ValueError
        If `images` are not bytes of this shape, at least 2 by 2.

    References
    ----------
    Hue in the plane of two opponent colours, red against the mean of green and blue,
    and green against blue: Hanbury 2003, "Circular statistics applied to colour
    images", weighs hues by saturation in the same way.
    """
    pixels, grey = shades(images)
    red, green, blue = np.moveaxis(pixels.mean(axis=(1, 2)), 1, 0)  # (n,) each
    # Means commute with both: the mean of chroma times direction is all that enters.
    chroma = np.stack([red - (green + blue) / 2, np.sqrt(3) / 2 * (green - blue)], 1)
    length = np.linalg.norm(chroma, axis=1, keepdims=True)
    # Round-off of an image of grey has no hue.
    hue = np.where(length > 1e-9, chroma / np.maximum(length, 1e-9), 0.0)
    across, down = np.diff(grey, axis=2) ** 2, np.diff(grey, axis=1) ** 2
    mass = np.maximum(grey.sum(axis=(1, 2)), 1e-12)  # black: nothing has no centre
    up, right = np.linspace(1, -1, grey.shape[1]), np.linspace(-1, 1, grey.shape[2])
    return {
        "hue": hue,
        "edges": (across.mean(axis=(1, 2)) + down.mean(axis=(1, 2)))[:, None] / 2,
        "mass up": (np.sum(grey * up[:, None], axis=(1, 2)) / mass)[:, None],
        "mass right": (np.sum(grey * right, axis=(1, 2)) / mass)[:, None],
    }


def agreement(a: Float[np.ndarray, "n ..."], b: Float[np.ndarray, "n ..."]) -> float:
    """Correlate a property of one view with that of the other view of the same image.

    Of all functions of a view those become modes whose agreement is high and whose
    spread among the network's features is wide. Introduced in chapter 14.

    Parameters
    ----------
    a, b : (n,) or (n, k), of one shape
        The property of the first and of the second view, row i of image i; k columns
        count as one vector.

    Returns
    -------
    float
        -1 to 1; 0 where one has no spread.

    Raises
    ------
    ValueError
        If the shapes differ or a number is not finite.
    """
    a, b = (_check.finite(name, v) for name, v in (("a", a), ("b", b)))
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` must have one shape; got {a.shape}, {b.shape}")
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / size if size > 0 else 0.0


def correlate(
    points: Float[np.ndarray, "n d"],
    properties: Mapping[str, np.ndarray],
    *,
    draws: int = 1000,
    rng: np.random.Generator,
) -> Correlations:
    """Measure how closely modes follow properties of images, with what chance does.

    Two questions, two resamplings. How sure is a correlation? Draw as many images
    again, with replacement (bootstrap). Could it be none? Shuffle which image has
    which property, which leaves nothing but chance (permutation test). One set of
    shuffles serves the whole table, so the largest entry of each tells how large a
    table of chance gets. Both take images as independent: crops of one photograph are
    not. Introduced in chapter 14.

    Parameters
    ----------
    points : (n, d)
        One column a mode, as ``Unfolded.points[-1]``.
    properties : mapping of str to (n,) or (n, k)
        Numbers, or several columns that are one property, such as a hue. Whole numbers
        (n,) are labels of classes: their multiple correlation is the root of
        `separation`.
    draws : int
        Resamples, and as many shuffles. No p is below 1 / (draws + 1).
    rng : numpy.random.Generator
        Draws both.

    Returns
    -------
    Correlations
        A property or a mode without any spread correlates 0.

    Raises
    ------
    ValueError
        If a length differs, a number is not finite, there are no `properties`, or there
        are no more images than columns of a property.

    References
    ----------
    Largest of a table: Westfall and Young, "Resampling-based multiple testing" (1993).
    """
    points = _check.finite("points", points, ndim=2)
    draws = _check.count("draws", draws)
    columns = _columns(properties, len(points))
    bases, unit, n = [_basis(x) for x in columns], _unit(points), len(points)
    r = _table(bases, unit)
    again, chance = np.empty((draws, *r.shape)), np.empty((draws, *r.shape))
    for i in range(draws):
        drawn = rng.integers(n, size=n)
        again[i] = _table([_basis(x[drawn]) for x in columns], _unit(points[drawn]))
        chance[i] = np.abs(_table(bases, unit[rng.permutation(n)]))
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    # Equal by symmetry is no evidence, whatever the last digit says.
    size = np.abs(r) * (1 - 1e-9)
    k = np.array([max(basis.shape[1], 1) for basis in bases])[:, None]
    most = _score(chance, k, n).max(axis=(1, 2))[:, None, None]
    return Correlations(
        names=tuple(properties),
        r=r,
        low=low,
        high=high,
        p=(1 + np.sum(chance >= size, axis=0)) / (draws + 1),
        p_any=(1 + np.sum(most >= _score(size, k, n), axis=0)) / (draws + 1),
    )


def extremes(
    values: Float[np.ndarray, " n"], k: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Find the images at both ends of a mode.

    Which end is which means nothing: the sign of a mode is a convention. Introduced in
    chapter 14.

    Parameters
    ----------
    values : (n,)
        Where each image lies along the mode.
    k : int
        How many at either end.

    Returns
    -------
    low, high : (k,), (k,)
        Indices, the outermost first; of equal values the earlier image.

    Raises
    ------
    ValueError
        If `values` is not finite, or the two ends would meet.
    """
    values = _check.finite("values", values, ndim=1)
    k = _check.count("k", k, high=max(len(values) // 2, 1))
    return (
        np.argsort(values, kind="stable")[:k],
        np.argsort(-values, kind="stable")[:k],
    )


def same_order(
    predicted: Float[np.ndarray, "seeds n"], measured: Float[np.ndarray, "seeds n"]
) -> tuple[float, float]:
    """Measure whether predicted times come in the order of measured ones.

    Spearman's rank correlation over n cases, the median over seeds. Its null is
    exact: if cases meant nothing, any assignment of the measured times to the cases,
    the same for all seeds, would be as likely, and all n! of them are tried.
    Introduced in chapter 14.

    Parameters
    ----------
    predicted, measured : (seeds, n)
        Times. Those that never come are ``inf`` and share the last rank. A row of equal
        times has no order and correlates 0.

    Returns
    -------
    rho : float
        -1 to 1.
    p : float
        Share of the assignments that do at least as well, from 1 / n! to 1.

    Raises
    ------
    ValueError
        If the shapes differ, a time is not a number, or n is not 2 to 8: beyond that
        draw assignments at random instead.
    """
    from scipy import stats

    one, other = np.asarray(predicted, float), np.asarray(measured, float)
    if one.ndim != 2 or one.shape != other.shape or not 2 <= one.shape[1] <= 8:
        raise ValueError(
            "`predicted` and `measured` must be (seeds, n) of one shape, with n from 2 "
            f"to 8; got {one.shape} and {other.shape}"
        )
    for name, times in (("predicted", one), ("measured", other)):
        if np.isnan(times).any():
            raise ValueError(
                f"`{name}` holds NaN; write inf for a time that never comes"
            )
    one, other = (_unit(stats.rankdata(x, axis=1).T).T for x in (one, other))
    orders = _orders(one.shape[1])
    null = np.median(np.einsum("son,sn->so", other[:, orders], one), axis=0)
    rho = float(np.median(np.sum(one * other, axis=1)))
    return rho, float(np.mean(null >= rho - 1e-9))


@functools.cache
def _orders(n: int) -> np.ndarray:
    return np.array([*permutations(range(n))])  # (n!, n)


def shades(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (n, h, w, 3) and grey (n, h, w) in units of full scale."""
    images = np.asarray(images)
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or min(images.shape) < 1
        or min(images.shape[1:3]) < 2
    ):
        raise ValueError(
            "`images` must be uint8 of shape (n, height, width, 3), at least 2 by 2; "
            f"got {images.dtype} {images.shape}. Use data.load(...).x"
        )
    pixels = images / 255.0
    return pixels, pixels @ np.array(LUMA)


def _columns(properties: Mapping[str, np.ndarray], n: int) -> list[np.ndarray]:
    """Each property as (n, k) numbers: classes one column each."""
    if not properties:
        raise ValueError("`properties` is empty; pass at least one, by name")
    columns = []
    for name, given in properties.items():
        values = np.asarray(given)
        if values.ndim == 1 and values.dtype.kind in "iu":
            classes, which = np.unique(values, return_inverse=True)
            if len(classes) < 2:
                raise ValueError(f"`properties[{name!r}]` holds one class only")
            # The first class is where all others are zero.
            values = np.eye(len(classes))[which][:, 1:]
        values = _check.finite(f"properties[{name!r}]", values)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or len(values) != n or values.shape[1] >= n:
            raise ValueError(
                f"`properties[{name!r}]` must have a row for each of {n} images, and "
                f"fewer columns than images; got shape {values.shape}"
            )
        columns.append(values)
    return columns


def _table(bases: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Correlate each property with each mode of unit length, (properties, d)."""
    rows = []
    for basis in bases:
        shared = basis.T @ points  # (k, d)
        rows.append(shared[0] if len(shared) == 1 else np.linalg.norm(shared, axis=0))
    return np.minimum(np.stack(rows), 1.0)


def _score(r: np.ndarray, k: np.ndarray, n: int) -> np.ndarray:
    """Bring correlations with k columns to one scale: a normal score, about.

    By chance (n - 1) r^2 is chi-squared with k degrees of freedom; its cube root is
    nearly normal. Unscaled, a property of many columns would drown all others. Wilson
    and Hilferty, PNAS 17 (1931).
    """
    spread = 2 / (9 * k)
    return np.asarray((np.cbrt((n - 1) * r**2 / k) - 1 + spread) / np.sqrt(spread))


def _unit(x: np.ndarray) -> np.ndarray:
    """Columns about their mean, of length one; zero where there is no spread."""
    centred = x - x.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    spread = length > len(x) * np.finfo(np.float64).eps * np.abs(x).max(axis=0)
    return np.where(spread, centred / np.where(spread, length, 1.0), 0.0)


def _basis(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those of a property about their means."""
    x = _unit(x)
    if x.shape[1] == 1:
        return x
    # A resample may lack a class, and two columns may be one: drop what is not there.
    values, vectors = np.linalg.eigh(x.T @ x)
    there = values > 1e-12 * x.shape[1]
    return np.asarray(x @ (vectors[:, there] / np.sqrt(values[there])))
