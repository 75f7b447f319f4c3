"""Conventions of spectra: order, sign, rank, overlap."""

import re

import numpy as np
import pytest
from scipy import linalg

from pkg import spectra


@pytest.mark.parametrize("d", [None, 1, 3, 12])
def test_eigenpairs_descend_solve_their_equation_and_have_fixed_signs(d, rng):
    A = rng.standard_normal((12, 12))
    A = A + A.T
    values, vectors = spectra.top_eigenpairs(A, d)
    assert np.all(np.diff(values) <= 0)
    assert len(values) == vectors.shape[1] == (d or 12)
    np.testing.assert_allclose(A @ vectors, vectors * values, atol=1e-12)
    largest = np.abs(vectors).argmax(axis=0)
    assert np.all(vectors[largest, np.arange(len(values))] > 0)
    np.testing.assert_allclose(spectra.top_eigenvalues(A, d), values, atol=1e-12)


def test_round_off_is_not_counted_as_a_positive_eigenvalue(rng):
    low = rng.standard_normal((30, 4))
    gammas = spectra.top_eigenvalues(low @ low.T)
    assert spectra.count_positive(gammas) == 4


def test_overlap_is_the_mean_squared_cosine_of_principal_angles(rng):
    A, B = rng.standard_normal((2, 20, 3))
    cosines = np.cos(linalg.subspace_angles(A, B))
    expected = np.mean(cosines**2)
    assert spectra.subspace_overlap(A, B) == pytest.approx(expected, rel=1e-12)
    mixed = B @ rng.standard_normal((3, 3))
    assert spectra.subspace_overlap(A, mixed) == pytest.approx(expected, rel=1e-10)


def test_overlap_is_one_for_a_space_within_a_space(rng):
    A = rng.standard_normal((10, 4))
    assert spectra.subspace_overlap(A[:, :2], A) == pytest.approx(1.0, abs=1e-12)


def test_overlap_of_random_spaces_averages_the_larger_share(rng):
    overlaps = [
        spectra.subspace_overlap(*np.split(rng.standard_normal((20, 5)), [2], axis=1))
        for _ in range(400)
    ]
    # 400 draws: three standard errors.
    error = 3 * np.std(overlaps) / 20
    assert np.mean(overlaps) == pytest.approx(3 / 20, abs=error)


def test_learned_directions_undo_any_rotation_of_the_outputs(rng):
    A = rng.standard_normal((8, 8))
    V = spectra.top_eigenpairs(A + A.T)[1]
    mixed = rng.standard_normal((3, 3)) @ V[:, :3].T
    directions = spectra.learned_directions(mixed, A + A.T)
    np.testing.assert_allclose(directions, V[:, :3], atol=1e-10)


def test_crossing_times_interpolate_between_records():
    t = np.array([0.0, 1.0, 2.0, 4.0])
    columns = [
        [0.0, 0.2, 0.8, 0.1],  # reached between 1 and 2, halfway
        [0.0, 0.1, 0.1, 0.9],  # between 2 and 4, halfway
        [0.6, 0.7, 0.8, 0.9],  # there from the start
        [0.0, 0.1, 0.2, 0.3],  # never
    ]
    times = spectra.crossing_times(t, np.array(columns).T)
    np.testing.assert_allclose(times, [1.5, 3.0, 0.0, np.inf])


@pytest.mark.parametrize("m", [3, 12])
def test_a_span_holds_all_views_and_keeps_gamma(m, rng):
    """Also where views depend on each other, as when both views are the image."""
    x = rng.standard_normal((4, m))
    Q = spectra.span(x, x)
    assert Q.shape == (m, min(m, 8))
    np.testing.assert_allclose(Q.T @ Q, np.eye(min(m, 8)), atol=1e-12)
    np.testing.assert_allclose(x @ Q @ Q.T, x, atol=1e-12)
    whole = spectra.top_eigenvalues(x.T @ x)
    inside = spectra.top_eigenvalues((x @ Q).T @ (x @ Q))
    np.testing.assert_allclose(whole[: min(m, 4)], inside[: min(m, 4)], rtol=1e-10)


REFUSALS = {
    "weights that span too little": (
        lambda: spectra.learned_directions(np.ones((2, 3)), np.eye(3)),
        "`W.T` has 2 columns of rank 1",
    ),
    "more eigenvalues than times": (
        lambda: spectra.crossing_times(np.arange(3.0), np.ones((4, 1))),
        "`t` and `eigenvalues` need one length; got 3 and 4",
    ),
    "an asymmetric matrix": (
        lambda: spectra.top_eigenpairs(np.triu(np.ones((3, 3)))),
        "`matrix` must be symmetric",
    ),
    "weights of another width": (
        lambda: spectra.learned_directions(np.ones((2, 4)), np.eye(3)),
        "`W` is (d, m) = (2, 4), so `Gamma` must be (4, 4); got (3, 3)",
    ),
    "too many eigenvalues": (
        lambda: spectra.top_eigenvalues(np.eye(3), 4),
        "`d` must be between 1 and 3; got 4",
    ),
    "spaces in different rooms": (
        lambda: spectra.subspace_overlap(np.ones((3, 1)), np.ones((4, 1))),
        "same number of rows; got 3 and 4",
    ),
    "dependent columns": (
        lambda: spectra.subspace_overlap(np.ones((3, 2)), np.eye(3)),
        "`A` has 2 columns of rank 1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
