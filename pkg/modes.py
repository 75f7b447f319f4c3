"""What modes mean: the axes in which an embedding unfolds, and what images say of them.

Everything here looks at embeddings of fixed images, (snapshots, n, d), after the run
that made them. Introduced in chapter 12.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from pkg import _check, spectra
from pkg._meaning import (
    Correlations,
    agreement,
    correlate,
    extremes,
    pictured,
    same_order,
    shades,
)
from pkg._probes import chance_cka, cka, knn_probe, labelled, linear_probe

__all__ = [
    "Correlations",
    "Unfolded",
    "agreement",
    "chance_cka",
    "cka",
    "correlate",
    "dimension",
    "extremes",
    "hits",
    "knn_probe",
    "linear_probe",
    "pictured",
    "same_order",
    "separation",
    "statistics",
    "unfold",
]

# A direction has opened once the cloud is half as wide there as it ends in its widest
# direction: a quarter of that variance.
OPEN = 0.25


@dataclass(frozen=True, eq=False, kw_only=True)
class Unfolded:
    """An embedding along its run, seen from one side that never changes.

    Attributes
    ----------
    axes : (d, d)
        Orthonormal columns in output space, the same for every snapshot.
    points : (snapshots, n, d)
        Centred embeddings in these axes: a rotation, so distances are those of z.
    opened : (d,)
        The snapshot in which each axis opened; -1 for an axis that never did.
    eigenvalues : (snapshots, d)
        Each snapshot's own covariance eigenvalues, descending.
    """

    axes: Float[np.ndarray, "d d"]
    points: Float[np.ndarray, "snapshots n d"]
    opened: Int[np.ndarray, " d"]
    eigenvalues: Float[np.ndarray, "snapshots d"]


def unfold(z: Float[np.ndarray, "snapshots n d"]) -> Unfolded:
    """Turn an embedding so that the directions it opens first come first.

    Each axis is the direction in which the cloud is widest outside the axes before it,
    in the first snapshot where it is wide enough there: where its variance reaches a
    quarter of the largest one at the end. The axes are then kept. The last snapshot
    alone could not tell them: once all modes are learned their variances are alike, and
    its principal directions mix early modes with late ones. That output directions stay
    where they opened is what the theory says of its modes; of a network it is a
    finding, to be checked. Introduced in chapter 12.

    Parameters
    ----------
    z : (snapshots, n, d)
        Embeddings of the same n images, in the order of training.

    Returns
    -------
    Unfolded
        Axes that never open are the last ones, by their variance at the end.

    Raises
    ------
    ValueError
        If `z` has another shape, a number that is not finite, fewer than two images, or
        no spread at its end.
    """
    z = _check.finite("z", z, ndim=3)
    _, n, d = z.shape
    if n < 2:
        raise ValueError(f"`z` holds {n} image a snapshot; a spread needs two or more")
    centred = z - z.mean(axis=1, keepdims=True)
    covariances = centred.swapaxes(1, 2) @ centred / n  # (snapshots, d, d)
    eigenvalues = np.linalg.eigvalsh(covariances)[:, ::-1].copy()
    level = OPEN * eigenvalues[-1, 0]
    if not level > 0:
        raise ValueError(
            "`z` has no spread in its last snapshot: all images are embedded at one "
            "point. Train longer, or look at what made the run collapse"
        )
    rest = np.eye(d)  # columns span what no axis has taken yet
    axes, opened = [], []
    for _ in range(d):
        widths = np.linalg.eigvalsh(rest.T @ covariances @ rest)[:, -1]  # (snapshots,)
        wide = np.flatnonzero(widths >= level)
        opened.append(int(wide[0]) if len(wide) else -1)
        inside = rest.T @ covariances[opened[-1]] @ rest
        turned = rest @ np.linalg.eigh(inside)[1][:, ::-1]
        axes.append(turned[:, 0])
        rest = turned[:, 1:]
    basis = spectra.fix_signs(np.stack(axes, axis=1))
    return Unfolded(
        axes=basis,
        points=centred @ basis,
        opened=np.array(opened),
        eigenvalues=eigenvalues,
    )


def dimension(
    eigenvalues: Float[np.ndarray, "snapshots d"],
) -> Float[np.ndarray, " snapshots"]:
    """Count the directions in which a cloud is wide: the participation ratio.

    (sum of eigenvalues)^2 / sum of their squares: k equal eigenvalues and zeros beside
    them give k. It ignores size: a speck may have many dimensions. Introduced in
    chapter 11.

    Parameters
    ----------
    eigenvalues : (snapshots, d)
        Of one covariance a row. Round-off below zero counts as zero.

    Returns
    -------
    (snapshots,)
        Between 1 and d.

    Raises
    ------
    ValueError
        If a number is not finite, or a spectrum has nothing positive: a cloud without
        any spread has no dimension.
    """
    spread = np.maximum(_check.finite("eigenvalues", eigenvalues, ndim=2), 0.0)
    peak = spread.max(axis=-1, keepdims=True)
    if not (peak > 0).all():
        raise ValueError(
            "`eigenvalues` holds a spectrum without a positive entry; leave out the "
            "snapshots in which all embeddings are equal"
        )
    relative = spread / peak  # squares of 1e-200 would be zero
    return np.sum(relative, axis=-1) ** 2 / np.sum(relative**2, axis=-1)


def statistics(
    images: UInt8[np.ndarray, "n h w 3"],
) -> dict[str, Float[np.ndarray, " n"]]:
    """Measure what can be said of an image without knowing what it shows.

    Introduced in chapter 12.

    Parameters
    ----------
    images : (n, height, width, 3) uint8

    Returns
    -------
    dict of str to (n,)
        "brightness" and "contrast", mean and standard deviation of grey; "warmth", red
        minus blue; "saturation", largest minus smallest colour; "light from above" and
        "light from the left", upper minus lower and left minus right half of grey;
        "fine detail", mean step between neighbours over the contrast. All but the last
        in units of full scale.

    Raises
    ------
    ValueError
        If `images` are not bytes of this shape, at least 2 by 2.

    References
    ----------
    Grey: ITU-R BT.601.
    """
    pixels, grey = shades(images)  # (n, height, width, 3), (n, height, width)
    high, wide = (side // 2 for side in grey.shape[1:])
    flat = grey.reshape(len(grey), -1)
    contrast = flat.std(axis=1)
    across, down = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    step = (across.mean(axis=(1, 2)) + down.mean(axis=(1, 2))) / 2
    return {
        "brightness": flat.mean(axis=1),
        "contrast": contrast,
        "warmth": (pixels[..., 0] - pixels[..., 2]).mean(axis=(1, 2)),
        "saturation": np.ptp(pixels, axis=3).mean(axis=(1, 2)),
        "light from above": (grey[:, :high] - grey[:, -high:]).mean(axis=(1, 2)),
        "light from the left": (grey[..., :wide] - grey[..., -wide:]).mean(axis=(1, 2)),
        # A flat image has no detail, and no contrast to divide by.
        "fine detail": step / np.maximum(contrast, 1e-12),
    }


def separation(
    points: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " d"]:
    """Measure how far classes stand apart along each direction.

    The share of a direction's variance that lies between the means of the classes: 1
    where each class is one point, (classes - 1) / (n - 1) on average where labels mean
    nothing. Introduced in chapter 12.

    Parameters
    ----------
    points : (n, d)
        One column a direction.
    labels : (n,)
        The class of each image.

    Returns
    -------
    (d,)
        Between 0 and 1; 0 where a direction has no spread.

    Raises
    ------
    ValueError
        If the lengths differ, `points` is not finite, or there is one class only.

    References
    ----------
    The correlation ratio, Fisher's eta squared.
    """
    points, labels = labelled("points", points, "labels", labels)
    names, which = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError("`labels` holds one class only; there is nothing to separate")
    members = np.eye(len(names))[which]  # (n, classes)
    means = members.T @ points / members.sum(axis=0)[:, None]
    middle = points.mean(axis=0)
    between = members.sum(axis=0) @ (means - middle) ** 2
    total = np.sum((points - middle) ** 2, axis=0)
    return between / np.where(total > 0, total, 1.0)


def hits(points: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    """Measure how often the nearest other point has the same label.

    Introduced in chapter 12.

    Parameters
    ----------
    points : (n, d)
        One row an image.
    labels : (n,)
        The class of each image.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the lengths differ or `points` is not finite.
    """
    points, labels = labelled("points", points, "labels", labels)
    squares = np.sum(points**2, axis=1)
    apart = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(apart, np.inf)
    return float(np.mean(labels[apart.argmin(axis=1)] == labels))
