"""The axes in which an embedding unfolds, and what images say of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkg import dynamics, modes

GAMMAS = np.array([1.0, 0.5, 0.25, 0.125])


def film(rng, *, n=60, d=6, snapshots=80):
    """The closed form's own embeddings, in outputs turned at random.

    Four modes open one after another; two outputs keep what they began with.
    """
    t = np.linspace(0.0, 30.0, snapshots)
    s = dynamics.singular_values(t, GAMMAS, 1e-3)  # (snapshots, 4)
    points, _ = np.linalg.qr(rng.standard_normal((n, d + 1)))
    points -= points.mean(axis=0)
    points, _ = np.linalg.qr(points[:, :d])
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    sizes = np.hstack([s * np.sqrt(GAMMAS), np.full((snapshots, d - 4), 1e-3)])
    z = np.sqrt(n) * points * sizes[:, None] @ turn.T
    return t, s, points, turn, z + rng.standard_normal((snapshots, 1, d))


def test_axes_are_the_output_directions_of_the_modes_in_order_of_their_steps(rng):
    """The closed form knows which direction each mode took, and when it opened."""
    _, s, _, turn, z = film(rng)
    seen = modes.unfold(z)
    # Modes that have opened leave the next one's direction as it is, to the share of
    # later modes in it.
    np.testing.assert_allclose(np.abs(seen.axes.T @ turn)[:4, :4], np.eye(4), atol=1e-5)
    sizes = GAMMAS * s**2
    first = np.argmax(sizes >= 0.25 * sizes[-1].max(), axis=0)
    assert seen.opened.tolist() == [*first, -1, -1]
    assert np.all(np.diff(first) > 0)


def test_unfolding_is_a_rotation_about_the_middle(rng):
    *_, z = film(rng)
    seen = modes.unfold(z)
    np.testing.assert_allclose(seen.axes.T @ seen.axes, np.eye(6), atol=1e-12)
    assert np.abs(seen.points.mean(axis=1)).max() < 1e-12
    apart = np.linalg.norm(z[40, :, None] - z[40], axis=2)
    turned = np.linalg.norm(seen.points[40, :, None] - seen.points[40], axis=2)
    np.testing.assert_allclose(turned, apart, atol=1e-9)


def test_turning_the_outputs_changes_nothing_but_signs(rng):
    """An output has no meaning of its own."""
    *_, z = film(rng)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    one, other = modes.unfold(z), modes.unfold(z @ turn)
    np.testing.assert_allclose(
        np.abs(one.points[..., :4]), np.abs(other.points[..., :4]), atol=1e-9
    )
    np.testing.assert_allclose(one.eigenvalues, other.eigenvalues, atol=1e-9)
    assert one.opened.tolist() == other.opened.tolist()


def test_eigenvalues_are_each_snapshot_own(rng):
    *_, z = film(rng)
    expected = np.linalg.svd(z[50] - z[50].mean(axis=0), compute_uv=False) ** 2 / 60
    np.testing.assert_allclose(modes.unfold(z).eigenvalues[50], expected, atol=1e-12)


@given(st.integers(1, 7), st.integers(0, 5), st.floats(1e-200, 1e100))
def test_k_equal_eigenvalues_are_k_dimensions(k, zeros, size):
    spectrum = np.concatenate([np.full(k, size), np.zeros(zeros)])
    assert modes.dimension(spectrum[None]) == pytest.approx(k, rel=1e-12)


def test_dimension_takes_a_whole_film(rng):
    spectra = rng.random((5, 8))
    expected = spectra.sum(axis=1) ** 2 / (spectra**2).sum(axis=1)
    np.testing.assert_allclose(modes.dimension(spectra), expected, rtol=1e-12)


def picture(**channels):
    """One 8 x 8 picture; each channel is an (8, 8) array or a number."""
    planes = [np.broadcast_to(channels.get(c, 0), (8, 8)) for c in "rgb"]
    return np.stack(planes, axis=2).astype(np.uint8)


def test_statistics_say_what_was_painted():
    rows = np.repeat([200, 40], 4)[:, None] * np.ones((1, 8))
    stripes = np.tile([200, 40], 4)[None, :] * np.ones((8, 1))
    images = np.stack(
        [
            picture(r=255, g=255, b=255),
            picture(r=255),
            picture(b=255),
            picture(r=rows, g=rows, b=rows),
            picture(r=stripes, g=stripes, b=stripes),
        ]
    )
    found = modes.statistics(images)
    grey = 160 / 255
    np.testing.assert_allclose(
        found["brightness"], [1, 0.299, 0.114, 120 / 255, 120 / 255]
    )
    np.testing.assert_allclose(
        found["contrast"], [0, 0, 0, grey / 2, grey / 2], atol=1e-12
    )
    np.testing.assert_allclose(found["warmth"], [0, 1, -1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found["saturation"], [0, 1, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        found["light from above"], [0, 0, 0, grey, 0], atol=1e-12
    )
    turned = modes.statistics(images.swapaxes(1, 2))
    np.testing.assert_allclose(turned["light from the left"], found["light from above"])
    # Stripes: every step across is the whole range, none down.
    assert found["fine detail"][4] == pytest.approx(1.0)
    assert found["fine detail"][3] == pytest.approx(1 / 7)


def test_separation_is_the_share_between_the_classes(rng):
    """By the other road: the share that is left inside the classes, from one."""
    labels = np.repeat([0, 1, 4], [10, 25, 7])
    points = rng.standard_normal((42, 3)) + labels[:, None] * [0.0, 0.5, 9.0]
    inside = sum(
        np.var(points[labels == k], axis=0) * np.sum(labels == k) for k in (0, 1, 4)
    )
    expected = 1 - inside / (42 * np.var(points, axis=0))
    np.testing.assert_allclose(modes.separation(points, labels), expected, rtol=1e-12)


def test_labels_that_mean_nothing_separate_by_chance_alone(rng):
    points = rng.standard_normal((300, 200))
    labels = rng.integers(0, 13, 300)
    # Mean of a beta law with (13 - 1) / 2 and (300 - 13) / 2.
    mean = modes.separation(points, labels).mean()
    assert mean == pytest.approx(12 / 299, abs=4 * 0.016 / np.sqrt(200))


def test_a_hit_is_a_nearest_neighbour_of_the_same_class(rng):
    """scikit-learn's leave-one-out is the other road."""
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    labels = rng.integers(0, 4, 60)
    points = rng.standard_normal((60, 3)) + labels[:, None] + 100
    nearest = KNeighborsClassifier(1, algorithm="brute")
    expected = cross_val_score(nearest, points, labels, cv=LeaveOneOut()).mean()
    assert modes.hits(points, labels) == pytest.approx(expected)
    assert 0.3 < expected < 0.9


Z = np.random.default_rng(0).standard_normal((3, 9, 4))


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: modes.unfold(Z[0]), r"`z` must have 3 axes"),
        (lambda: modes.unfold(Z * np.nan), r"`z` must be finite"),
        (lambda: modes.unfold(Z[:, :1]), r"`z` holds 1 image a snapshot"),
        (lambda: modes.unfold(np.ones((3, 9, 4))), r"`z` has no spread in its last"),
        (
            lambda: modes.dimension(np.zeros((1, 4))),
            r"`eigenvalues` holds a spectrum without",
        ),
        (
            lambda: modes.dimension(np.full((1, 2), np.inf)),
            r"`eigenvalues` must be finite",
        ),
        (lambda: modes.statistics(Z), r"`images` must be uint8 .* got float64"),
        (
            lambda: modes.statistics(np.zeros((2, 1, 8, 3), np.uint8)),
            r"`images` must be uint8 .* at least 2 by 2",
        ),
        (
            lambda: modes.separation(Z[0], np.zeros(8, int)),
            r"`labels` must be one a row of `points`; got shape \(8,\) for 9 rows",
        ),
        (
            lambda: modes.hits(Z[0], np.zeros(8, int)),
            r"`labels` must be one a row of `points`",
        ),
        (
            lambda: modes.separation(Z[0], np.zeros(9, int)),
            r"`labels` holds one class only",
        ),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_what_cannot_be_measured_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()
