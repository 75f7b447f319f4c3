"""Contrastive kernel PCA against the literal formula, features, and integration."""

import re
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from sklearn.base import clone

from pkg import _kernel_checks, _krylov, data, dynamics, kernels, kpca, spectra, views

METHODS = ("dense", "cholesky", "krylov")
rbf = partial(kernels.rbf, length_scale=2.0)


def pairs(rng, n, m, noise=0.3):
    """Two views (n, m) with a falling spectrum, so that gammas are well apart."""
    x = rng.standard_normal((n, m)) * 2.0 ** -np.arange(m)
    spread = noise * 2.0 ** -np.arange(m)
    return (
        x + spread * rng.standard_normal((n, m)),
        x + spread * rng.standard_normal((n, m)),
    )


def stacked(x, x_prime):
    return np.concatenate([x, x_prime])


def swapping(n):
    """P, written out."""
    return np.roll(np.eye(2 * n), n, axis=0)


def root(K):
    values, Q = np.linalg.eigh(K)
    return (Q * np.sqrt(np.maximum(values, 0))) @ Q.T


def literal(K):
    """All eigenvalues of K^{1/2} P K^{1/2} / (2n): the formula as it stands."""
    n = len(K) // 2
    return np.linalg.eigvalsh(root(K) @ swapping(n) @ root(K) / (2 * n))[::-1]


def correlation(modes):
    n = len(modes.embeddings) // 2
    F = modes.embeddings
    return F.T @ swapping(n) @ F / (2 * n)


@pytest.fixture(scope="module")
def pictures():
    """Views of 200 bundled photographs and their ReLU NTK: a kernel as in the book."""
    images = data.load("photos", n=200, size=8)
    x, x_prime = views.flat_pairs(images.x, "simclr", seed=0)
    return x, x_prime, kernels.relu_ntk(stacked(x, x_prime), depth=2)


# --- one problem, many forms -------------------------------------------------------


def test_four_matrices_have_one_spectrum(rng):
    """Gamma, L^T P L / 2n, K^{1/2} P K^{1/2} / 2n and P K / 2n, where not zero."""
    n, m = 20, 6
    x, x_prime = pairs(rng, n, m)
    K = kernels.linear(stacked(x, x_prime))
    expected = spectra.top_eigenvalues(dynamics.cross_correlation(x, x_prime))
    positive = expected[expected > 0]
    crooked = np.sort(np.linalg.eigvals(swapping(n) @ K / (2 * n)).real)[::-1]
    np.testing.assert_allclose(crooked[: len(positive)], positive, rtol=1e-12)
    np.testing.assert_allclose(literal(K)[: len(positive)], positive, rtol=1e-12)
    for method in ("dense", "cholesky"):
        gammas = kpca.fit(K, method=method).gammas
        np.testing.assert_allclose(gammas, positive, rtol=1e-12)
    gammas = kpca.fit(K, len(positive), method="krylov").gammas
    np.testing.assert_allclose(gammas, positive, rtol=1e-12)


@st.composite
def problems(draw):
    """Kernels of any rank, with repeated pairs, views that agree or do not."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, x_prime = rng.standard_normal((2, n, m))
    x_prime = x + draw(st.sampled_from([0.0, 0.3, 2.0])) * x_prime
    repeats = draw(st.integers(1, 3))
    x, x_prime = np.tile(x, (repeats, 1)), np.tile(x_prime, (repeats, 1))
    X = stacked(x, x_prime) * draw(st.sampled_from([1.0, 1e-3, 1e40]))
    return X @ X.T, x.shape[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems(), st.sampled_from(METHODS), st.data())
def test_every_method_agrees_with_the_literal_formula(problem, method, data):
    K, n = problem
    expected = literal(K)
    # Below a millionth of the largest, round-off decides how many are positive.
    many = int(np.sum(expected > 1e-6 * expected[0]))
    assume(many > 0)
    d = data.draw(st.integers(1, many))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # near-ties at d
        modes = kpca.fit(K, d, method=method, n=n)
    np.testing.assert_allclose(modes.gammas, expected[:d], atol=1e-11 * expected[0])
    np.testing.assert_allclose(correlation(modes), np.eye(d), atol=1e-8)
    slack = 1e-7 * np.abs(modes.embeddings).max()
    np.testing.assert_allclose(K @ modes.dual, modes.embeddings, atol=slack)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_decorrelated_and_the_dual_needs_no_inverse(method, pictures):
    """C = I, K alpha = F, and embedding the training views returns them."""
    K = pictures[2]
    modes = kpca.fit(K, 6, method=method, tol=1e-13)
    np.testing.assert_allclose(correlation(modes), np.eye(6), atol=1e-12)
    scale = np.abs(modes.embeddings).max()
    np.testing.assert_allclose(K @ modes.dual, modes.embeddings, atol=1e-12 * scale)
    np.testing.assert_array_equal(modes.embed(K), K @ modes.dual)
    assert np.all(modes.residuals <= 1e-13 * modes.gammas[0])


@pytest.mark.parametrize("method", METHODS)
def test_new_points_are_embedded_as_by_the_formula_with_the_inverse_root(method, rng):
    """f_j(x) = gamma^{-1/2} b_j^T K^{-1/2} k(x), on a kernel that can be inverted."""
    x, x_prime = pairs(rng, 15, 3)
    X, new = stacked(x, x_prime), rng.standard_normal((7, 3))
    K = kernels.laplace(X, length_scale=1.0)
    k_new = kernels.laplace(new, X, length_scale=1.0)
    modes = kpca.fit(K, 4, method=method, tol=1e-12)
    matrix = root(K) @ swapping(15) @ root(K) / 30
    gammas, B = spectra.top_eigenpairs(matrix, 4)
    expected = k_new @ np.linalg.solve(root(K), B) / np.sqrt(gammas)
    signs = np.sign(np.sum(expected * modes.embed(k_new), axis=0))
    np.testing.assert_allclose(modes.embed(k_new), expected * signs, atol=1e-8)


def test_a_positive_definite_kernel_has_as_many_modes_as_pairs(rng):
    """Sylvester's law: P has n eigenvalues of each sign, and K cannot change that."""
    x, x_prime = pairs(rng, 12, 3)
    K = kernels.laplace(stacked(x, x_prime), length_scale=0.5)
    modes = kpca.fit(K)
    assert modes.n_positive == len(modes.gammas) == 12
    assert modes.rank == 24
    assert np.sum(literal(K) < 0) == 12


def test_equal_views_leave_plain_kernel_pca(rng):
    """Then the gammas are the eigenvalues of the n by n kernel, over n."""
    x = rng.standard_normal((20, 4))
    expected = spectra.top_eigenvalues(rbf(x), 5) / 20
    for method in METHODS:
        gammas = kpca.fit(rbf(stacked(x, x)), 5, method=method).gammas
        np.testing.assert_allclose(gammas, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_repeating_every_pair_changes_nothing(method, rng):
    x, x_prime = pairs(rng, 15, 4)
    once = kpca.fit(rbf(stacked(x, x_prime)), 5, method=method).gammas
    x, x_prime = np.repeat(x, 3, axis=0), np.repeat(x_prime, 3, axis=0)
    many = kpca.fit(rbf(stacked(x, x_prime)), 5, method=method).gammas
    np.testing.assert_allclose(many, once, rtol=0, atol=1e-14)


def test_exchanging_the_views_changes_nothing(rng):
    x, x_prime = pairs(rng, 15, 4)
    one = kpca.fit(rbf(stacked(x, x_prime)), 5)
    other = kpca.fit(rbf(stacked(x_prime, x)), 5)
    np.testing.assert_allclose(one.gammas, other.gammas, rtol=1e-13)
    halves = np.split(other.embeddings, 2)
    np.testing.assert_allclose(one.embeddings, stacked(*halves[::-1]), atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("c", [1e150, 1e-200, 7.0])
def test_scaling_the_kernel_scales_gammas_and_no_embedding(method, c, rng):
    x, x_prime = pairs(rng, 15, 4)
    K = rbf(stacked(x, x_prime))
    one = kpca.fit(K, 4, method=method, tol=1e-12)
    scaled = kpca.fit(c * K, 4, method=method, tol=1e-12)
    np.testing.assert_allclose(scaled.gammas / c, one.gammas, rtol=1e-13)
    np.testing.assert_allclose(scaled.embeddings, one.embeddings, atol=1e-10)
    np.testing.assert_allclose(scaled.dual * c, one.dual, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("m", [5, 80])
def test_features_give_the_modes_of_their_kernel(m, rng):
    """With fewer features than views and with more; and of the linear model."""
    phi, phi_prime = rng.standard_normal((2, 30, m))
    phi_prime = phi + 0.5 * phi_prime
    Phi = stacked(phi, phi_prime)
    modes = kpca.fit_features(phi, phi_prime, 4)
    expected = kpca.fit(Phi @ Phi.T, 4, method="dense")
    np.testing.assert_allclose(modes.gammas, expected.gammas, rtol=1e-12)
    np.testing.assert_allclose(modes.embeddings, expected.embeddings, atol=1e-10)
    np.testing.assert_allclose(modes.dual, expected.dual, atol=1e-10)
    np.testing.assert_allclose(modes.embed_features(Phi), modes.embeddings, atol=1e-10)
    assert modes.rank == expected.rank == min(m, 60)
    W = dynamics.final_weights(dynamics.cross_correlation(phi, phi_prime), 4)
    overlap = spectra.subspace_overlap(modes.weights, W.T)
    assert overlap == pytest.approx(1.0, abs=1e-10)


def test_one_pair_has_one_mode():
    """gamma = (k(x, x) + k(x, x')) / 2, here with k(x, x') one half."""
    K = np.array([[1.0, 0.5], [0.5, 1.0]])
    for method in METHODS:
        assert kpca.fit(K, 1, method=method).gammas == pytest.approx(0.75, abs=1e-15)


def test_ties_beyond_the_block_are_all_found():
    """K = I has n equal gammas, more than a block holds: no Krylov space sees them."""
    for method in METHODS:
        modes = kpca.fit(np.eye(60), 30, method=method)
        np.testing.assert_allclose(modes.gammas, np.full(30, 1 / 60), rtol=1e-12)
    assert modes.n_positive == 30 and modes.rank == 60  # Krylov exhausted K


def twice(B):
    """The kernel of equal views."""
    return np.block([[B, B], [B, B]])


def flat(rng, size, values):
    Q, _ = np.linalg.qr(rng.standard_normal((size, len(values))))
    B = (Q * values) @ Q.T
    return twice((B + B.T) / 2)


SINGULAR = {
    "flat": (lambda rng: flat(rng, 400, np.linspace(1, 0.8, 150)), 10),
    "ties": (
        lambda rng: twice(np.diag(np.r_[np.full(40, 2.0), np.linspace(1, 0.5, 160)])),
        30,
    ),
    "repeated": (
        lambda rng: kernels.rbf(
            np.tile(rng.standard_normal((100, 4)), (8, 1)), length_scale=0.1
        ),
        10,
    ),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_live_directions_of_a_singular_kernel_are_not_taken_for_null(name, rng):
    """Other eigenvalues lie away from zero; ties are more than a block holds."""
    make, d = SINGULAR[name]
    K = make(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of small gaps
        modes = kpca.fit(K, d, method="krylov")
        expected = kpca.fit(K, d, method="dense")
    # In a cluster of gammas a single one is settled less well.
    rtol = 1e-5 if name == "repeated" else 1e-8
    np.testing.assert_allclose(modes.gammas, expected.gammas, rtol=rtol)
    np.testing.assert_allclose(correlation(modes), np.eye(d), atol=1e-8)
    assert modes.rank in (None, expected.rank)
    assert modes.n_positive in (None, expected.n_positive)


def test_modes_below_the_round_off_of_krylov_come_from_cholesky_or_not_at_all(rng):
    """A wide kernel on a few dimensions: gamma_34 is 1e-13 of gamma_1."""
    x = rng.standard_normal((800, 3))
    K, d = kernels.rbf(stacked(x, x), length_scale=30.0), 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        modes = kpca.fit(K, d)
        expected = kpca.fit(K, d, method="cholesky")
        assert modes.method == "cholesky, after krylov"
        np.testing.assert_array_equal(modes.gammas, expected.gammas)
        for call in (
            lambda: kpca.fit(K, d, method="krylov"),
            lambda: kpca.fit(lambda V: K @ V, d, n=800),
        ):
            with pytest.raises(RuntimeError, match=r"residuals of \S+ gamma_1; ask"):
                call()


# --- training ----------------------------------------------------------------------


def test_trajectories_solve_the_flow_of_the_embeddings(rng):
    """dF/dt = -(4/2n) K P F (C - I), integrated with the real kernel."""
    n, d = 8, 3
    x, x_prime = pairs(rng, n, 4)
    K = rbf(stacked(x, x_prime))
    modes = kpca.fit(K, d)
    # One mode starts beyond its end, and must come down.
    s0 = np.array([1e-2, 1e-2, 1.5 / np.sqrt(modes.gammas[2])])
    t = np.linspace(0.0, 4.0 / modes.gammas[-1], 50)
    P = swapping(n)

    def velocity(_, flat):
        F = flat.reshape(2 * n, d)
        C = F.T @ P @ F / (2 * n)
        return (-4 / (2 * n) * K @ P @ F @ (C - np.eye(d))).ravel()

    start = modes.embeddings * np.sqrt(modes.gammas) * s0
    solved = solve_ivp(
        velocity, (0, t[-1]), start.ravel(), "DOP853", t, rtol=1e-11, atol=1e-13
    )
    Fs = solved.y.T.reshape(-1, 2 * n, d)
    C = Fs.transpose(0, 2, 1) @ P @ Fs / (2 * n)
    predicted = modes.trajectory(t, s0)
    diagonal = np.diagonal(C, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, predicted.eigenvalues, atol=1e-7)
    loss = np.sum((C - np.eye(d)) ** 2, axis=(1, 2))
    np.testing.assert_allclose(loss, predicted.loss, atol=1e-6)
    amplitude = np.sqrt(predicted.eigenvalues[25])
    np.testing.assert_allclose(Fs[25], modes.embeddings * amplitude, atol=1e-6)


def test_modes_have_their_limits_and_are_half_learned_at_their_step_times(rng):
    modes = kpca.fit(rbf(stacked(*pairs(rng, 10, 4))), 3)
    tau = modes.step_times(1e-4)
    for j, time in enumerate(tau):
        halfway = modes.trajectory(np.array([0.0, time, 1e300]), 1e-4).eigenvalues[:, j]
        expected = [modes.gammas[j] * 1e-8, 0.5, 1.0]
        np.testing.assert_allclose(halfway, expected, rtol=1e-12)
    np.testing.assert_allclose(tau, dynamics.step_times(modes.gammas, 1e-4), rtol=1e-14)


def test_descent_follows_the_flow_with_an_error_of_first_order(rng):
    """Half the learning rate, half the error."""
    n, d, s0 = 8, 2, 0.05
    K = rbf(stacked(*pairs(rng, n, 4)))
    modes = kpca.fit(K, d)
    T, P = modes.step_times(s0)[-1], swapping(n)
    errors = []
    for steps in (2000, 4000):
        F = modes.embeddings * np.sqrt(modes.gammas) * s0
        for _ in range(steps):
            C = F.T @ P @ F / (2 * n)
            F = F - T / steps * 4 / (2 * n) * K @ P @ F @ (C - np.eye(d))
        expected = modes.trajectory(np.array([T]), s0).eigenvalues[0]
        errors.append(np.abs(np.diag(F.T @ P @ F / (2 * n)) - expected).max())
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.02)


# --- products with K ---------------------------------------------------------------


def test_a_product_gives_what_its_matrix_gives(pictures):
    x, x_prime, K = pictures
    given = kpca.fit(K, 6, method="krylov")
    product = kpca.fit(lambda V: K @ V, 6, n=len(x))
    np.testing.assert_allclose(product.gammas, given.gammas, rtol=1e-12)
    overlap = spectra.subspace_overlap(product.embeddings, given.embeddings)
    assert overlap == pytest.approx(1.0, abs=1e-12)
    assert product.passes == given.passes and product.method == "krylov"
    ntk = partial(kernels.relu_ntk, depth=2)
    tiled = kernels.product(ntk, stacked(x, x_prime))
    never_stored = kpca.fit(tiled, 6, n=len(x))
    np.testing.assert_allclose(never_stored.gammas, given.gammas, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 3])
def test_ten_modes_of_pictures_take_at_most_fourteen_passes(depth, pictures):
    x, x_prime, _ = pictures
    K, calls = kernels.relu_ntk(stacked(x, x_prime), depth=depth), []

    def product(V):
        calls.append(V.shape[1])
        return K @ V

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the gap at ten
        modes = kpca.fit(product, 10, n=len(x))
    assert modes.passes == len(calls) <= 14
    expected = kpca.fit(K, 11, method="dense").gammas
    np.testing.assert_allclose(modes.gammas, expected[:10], rtol=1e-12)
    assert modes.gap == pytest.approx(expected[9] / expected[10], rel=1e-6)


@pytest.mark.parametrize("room", [82, 110, 200])
def test_restarts_cost_passes_and_no_digits(room, pictures):
    K = pictures[2]

    def product(V):
        return K @ V

    free = _krylov.solve(product, len(K), 10, tol=1e-10, noise=0.0, room=len(K))
    tight = _krylov.solve(product, len(K), 10, tol=1e-10, noise=0.0, room=room)
    np.testing.assert_allclose(tight.gammas[:10], free.gammas[:10], rtol=1e-13)
    overlap = spectra.subspace_overlap(tight.images, free.images)
    assert overlap == pytest.approx(1.0, abs=1e-12)
    assert tight.passes < 5 * free.passes


def test_two_hundred_modes_fit_in_bounded_memory(rng):
    """The basis holds 4 d columns and a block, twice: no more, however long it runs."""
    n, d, m = 1200, 200, 300
    Phi = rng.standard_normal((2 * n, m)) * np.arange(1, m + 1) ** -0.25
    Phi[n:] = Phi[:n] + 0.3 * Phi[n:]
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        modes = kpca.fit(lambda V: Phi @ (Phi.T @ V), d, n=n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    Gamma = dynamics.cross_correlation(Phi[:n], Phi[n:])
    expected = spectra.top_eigenvalues(Gamma, d)
    np.testing.assert_allclose(modes.gammas, expected, rtol=1e-11)
    basis = 2 * 8 * 2 * n * (4 * d + 64)
    assert peak < 1.6 * basis  # a compression copies half of one side


def test_kernels_in_float32_are_solved_in_float64(pictures):
    """What is left is the rounding of K itself; products in float32 stop at 1e-4."""
    K = pictures[2]
    single = K.astype(np.float32)
    exact = kpca.fit(K, 6).gammas
    for method in METHODS:
        gammas = kpca.fit(single, 6, method=method).gammas
        np.testing.assert_allclose(gammas, exact, rtol=1e-6)
    modes = kpca.fit(lambda V: single @ V.astype(np.float32), 6, n=len(K) // 2)
    np.testing.assert_allclose(modes.gammas, exact, rtol=1e-4)
    assert np.all(modes.residuals <= 1e-4 * modes.gammas[-1])
    np.testing.assert_allclose(correlation(modes), np.eye(6), atol=1e-4)


def test_auto_chooses_by_size_and_says_what_it_took(pictures):
    K = pictures[2]
    assert kpca.fit(K, 6).method == "cholesky"
    assert kpca.fit(lambda V: K @ V, 6, n=200).method == "krylov"
    large = np.diag(np.tile(np.linspace(1, 2, 760), 2))
    large += np.roll(large, 760, axis=0)  # views that agree
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert kpca.fit(large, 5).method == "krylov"
        assert kpca.fit(large, 80).method == "cholesky"


def test_round_off_in_the_symmetry_is_mended(rng):
    K = rbf(stacked(*pairs(rng, 15, 4)))
    crooked = K * (1.0 + 1e-12 * rng.standard_normal(K.shape))
    assert np.any(crooked != crooked.T)
    gammas = kpca.fit(crooked, 4).gammas
    np.testing.assert_allclose(gammas, kpca.fit(K, 4).gammas, rtol=1e-10)


def test_results_cannot_be_changed_and_their_largest_entries_are_positive(pictures):
    modes = kpca.fit(pictures[2], 4)
    F = modes.embeddings
    for values in (modes.gammas, F, modes.dual, modes.residuals):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0
    assert np.all(F[np.abs(F).argmax(axis=0), np.arange(4)] > 0)


# --- low rank ----------------------------------------------------------------------


@pytest.mark.parametrize("landmarks", ["pivoted", "uniform"])
def test_a_low_rank_underestimates_and_says_by_how_much_of_the_trace(
    landmarks, pictures
):
    """A principal submatrix has smaller eigenvalues: gammas can only be too low."""
    K = pictures[2]
    exact, errors, deficits = kpca.fit(K, 6).gammas, [], []
    for rank in (30, 100, 300):
        rng = np.random.default_rng(1)
        modes = kpca.fit_low_rank(K, 6, rank=rank, landmarks=landmarks, rng=rng)
        assert np.all(modes.gammas <= exact * (1 + 1e-12))
        np.testing.assert_allclose(correlation(modes), np.eye(6), atol=1e-10)
        errors.append(modes.error)
        deficits.append(1 - modes.gammas[-1] / exact[-1])
    assert 1 > errors[0] > errors[1] > errors[2] > 0
    assert deficits[0] > deficits[1] > deficits[2]
    whole = kpca.fit_low_rank(K, 6, rank=400, landmarks=landmarks, rng=rng)
    np.testing.assert_allclose(whole.gammas, exact, rtol=1e-9)
    assert whole.error < 1e-12


def test_the_error_of_a_low_rank_is_the_trace_it_leaves_out(pictures):
    """Against Nystrom's formula, C W^{-1} C^T, with the landmarks drawn again."""
    K = pictures[2]
    modes = kpca.fit_low_rank(
        K, 4, rank=50, landmarks="uniform", rng=np.random.default_rng(3)
    )
    chosen = np.random.default_rng(3).choice(len(K), 50, replace=False)
    C = K[:, chosen]
    low = C @ np.linalg.solve(C[chosen], C.T)
    missing = 1 - np.trace(low) / np.trace(K)
    assert modes.error == pytest.approx(missing, rel=1e-8)
    np.testing.assert_allclose(modes.gammas, literal((low + low.T) / 2)[:4], rtol=1e-8)


def test_pivoted_landmarks_beat_uniform_ones(pictures):
    K = pictures[2]
    rng = np.random.default_rng(0)
    greedy = kpca.fit_low_rank(K, 6, rank=80)
    random = [
        kpca.fit_low_rank(K, 6, rank=80, landmarks="uniform", rng=rng).error
        for _ in range(5)
    ]
    assert greedy.error < min(random)


def test_a_column_oracle_is_asked_for_no_more_than_its_landmarks(pictures):
    K, asked = pictures[2], []

    def columns(indices):
        asked.extend(indices)
        return K[:, indices]

    modes = kpca.fit_low_rank(columns, 4, rank=40, diagonal=K.diagonal())
    assert len(set(asked)) == len(asked) == 40
    given = kpca.fit_low_rank(K, 4, rank=40)
    np.testing.assert_array_equal(modes.gammas, given.gammas)
    # New points see the true kernel, so training views move by what the rank lacks.
    shift = np.abs(modes.embed(K) - modes.embeddings).max()
    assert 1e-6 < shift < np.abs(modes.embeddings).max()


def test_a_low_rank_never_predicts_times_in_silence(pictures):
    """They would come late: gammas are too low."""
    low, exact = kpca.fit_low_rank(pictures[2], 4, rank=60), kpca.fit(pictures[2], 4)
    said = re.escape(f"lacks {low.error:.2%} of K's trace")
    with pytest.warns(UserWarning, match=said):
        late = low.step_times(1e-3)
    assert np.all(late > exact.step_times(1e-3))
    with pytest.warns(UserWarning, match=said):
        low.trajectory(np.array([0.0, 1.0]), 1e-3)


# --- scikit-learn's manners --------------------------------------------------------


def test_the_estimator_fits_pairs_and_embeds_new_points(rng):
    x, x_prime = pairs(rng, 20, 4)
    new = rng.standard_normal((5, 4))
    estimator = kpca.ContrastiveKernelPCA(rbf, d=3).fit(x, x_prime)
    modes = kpca.fit(rbf(stacked(x, x_prime)), 3)
    expected = modes.embed(rbf(new, stacked(x, x_prime)))
    np.testing.assert_array_equal(estimator.transform(new), expected)
    seen = estimator.transform(x)
    np.testing.assert_allclose(seen, modes.embeddings[:20], atol=1e-10)


def test_the_estimator_can_be_cloned_and_set(rng):
    x, x_prime = pairs(rng, 20, 4)
    estimator = clone(kpca.ContrastiveKernelPCA(kernels.linear, d=3)).set_params(d=2)
    assert estimator.get_params() == {"kernel": kernels.linear, "d": 2}
    assert not hasattr(estimator, "modes_")
    assert estimator.fit(x, x_prime).transform(x).shape == (20, 2)


# --- what is doubtful, what is refused ---------------------------------------------

GOOD = np.array([[2.0, 1.0], [1.0, 2.0]])


def spoiled(i, j, value):
    K = np.eye(8)
    K[i, j] = value
    return K


def indefinite(share):
    """A kernel of eight views with one eigenvalue -share times the largest."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))
    values = np.linspace(1.0, 2.0, 40)
    values[0] = -2.0 * share
    K = (Q * values) @ Q.T
    return (K + K.T) / 2


@pytest.mark.parametrize("method", METHODS)
def test_an_indefinite_kernel_is_refused_and_a_slightly_indefinite_one_warned_of(
    method,
):
    with pytest.raises(ValueError, match="`K` is not a kernel: it is indefinite, by"):
        kpca.fit(indefinite(1e-3), 2, method=method)
    with pytest.warns(UserWarning) as said:
        kpca.fit(indefinite(1e-9), 2, method=method)
    assert any("`K` is indefinite by" in str(warning.message) for warning in said)


@pytest.mark.parametrize("method", METHODS)
def test_views_without_a_common_direction_are_explained(method, rng):
    """phi(x') = -phi(x): no mode is positive, and round-off is none."""
    x = rng.standard_normal((10, 4))
    K = kernels.linear(stacked(x, -x))
    with pytest.raises(ValueError, match=r"no positive mode.*anti-correlated"):
        kpca.fit(K, 2, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_modes_that_are_not_there_are_refused_by_number(method, rng):
    x = rng.standard_normal((10, 4))
    with pytest.raises(ValueError, match="asked for 6 modes, only 4 positive"):
        kpca.fit(kernels.linear(stacked(x, x)), 6, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_gap_is_warned_of_and_reported(method):
    K = np.diag([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    K += np.roll(K, 3, axis=0)
    gammas = kpca.fit(K, 3, method=method).gammas
    assert kpca.fit(K, 2, method=method).gap == pytest.approx(gammas[1] / gammas[2])
    assert kpca.fit(K, 3, method=method).gap == np.inf
    near = np.diag(np.tile([1.0, 1.01, 3.0], 2))
    near += np.roll(near, 3, axis=0)
    with pytest.warns(UserWarning, match=r"gamma_2 / gamma_3 is 1\.0100"):
        kpca.fit(near, 2, method=method)


def test_modes_below_the_round_off_of_float32_are_warned_of(rng):
    phi = rng.standard_normal((30, 5)) * 6.5 ** -np.arange(5.0)
    K = kernels.linear(stacked(phi, phi))
    for method in METHODS:
        with pytest.warns(
            UserWarning, match=r"built in float32, and gamma_5 is \S+e-07"
        ):
            kpca.fit(K.astype(np.float32), 5, method=method)
        assert kpca.fit(K, 5, method=method).rank == 5  # in silence


def test_a_solve_that_does_not_converge_says_so(monkeypatch, pictures):
    monkeypatch.setattr(_krylov, "MOST_PASSES", 4)
    with pytest.raises(RuntimeError, match="to `tol` 1e-08 in 4 passes over K; loosen"):
        kpca.fit(pictures[2], 10, method="krylov")


def overwriting(V):
    V *= 2.0
    return V


def test_a_product_may_work_in_place():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        modes = kpca.fit(overwriting, 2, n=4)
    np.testing.assert_allclose(modes.gammas, 2 / 8, rtol=1e-12)


def test_round_off_of_float32_in_the_symmetry_is_mended(pictures):
    K = pictures[2]
    crooked = (K * (1 + 1e-7 * np.triu(np.ones_like(K), 1))).astype(np.float32)
    assert np.abs(crooked - crooked.T).max() > 1e-8 * K.max()
    exact = kpca.fit(K, 6).gammas
    np.testing.assert_allclose(kpca.fit(crooked, 6).gammas, exact, rtol=1e-6)
    low = kpca.fit_low_rank(crooked, 6, rank=400)
    np.testing.assert_allclose(low.gammas, exact, rtol=1e-5)
    assert _kernel_checks.single("K", torch.from_numpy(crooked))


def test_a_failed_fit_leaves_the_estimator_as_it_was(rng):
    x, x_prime = pairs(rng, 20, 4)
    estimator = kpca.ContrastiveKernelPCA(rbf, d=3).fit(x, x_prime)
    before = estimator.transform(x)
    estimator.set_params(kernel=kernels.linear, d=90)
    with pytest.raises(ValueError, match="asked for 90 modes"):
        estimator.fit(x[:5], x_prime[:5])
    np.testing.assert_array_equal(estimator.transform(x), before)


BEYOND = np.eye(6) + 3.0 * np.roll(np.eye(6), 3, axis=0)

REFUSALS = {
    "a kernel of zero diagonal": (
        lambda: kpca.fit(np.array([[0.0, 1.0], [1.0, 0.0]]), 1),
        "`K` is not a kernel: it is indefinite, since its diagonal is zero",
    ),
    "a negative product": (
        lambda: kpca.fit(lambda V: -V, 2, n=4),
        "`K` is not a kernel: it is indefinite",
    ),
    "half a pair": (
        lambda: kpca.fit(np.eye(6), 2, n=2.5),
        "`n` must be a whole number; got 2.5",
    ),
    "float16": (
        lambda: kpca.fit(np.eye(6, dtype=np.float16), 2),
        "`K` is in float16, too coarse for a kernel",
    ),
    "complex numbers": (
        lambda: kpca.fit(np.eye(6, dtype=complex), 2),
        "`K` must be real numbers; got complex128",
    ),
    "features too large to square": (
        lambda: kpca.fit_features(np.full((3, 2), 1e170), np.full((3, 2), 1e170)),
        "`phi` has entries up to 1.0e+170, whose squares leave float64",
    ),
    "features too small to square": (
        lambda: kpca.fit_features(np.full((3, 2), 1e-170), np.full((3, 2), 1e-170)),
        "`phi` has entries up to 1.0e-170, whose squares leave float64",
    ),
    "an asymmetric matrix for a low rank": (
        lambda: kpca.fit_low_rank(spoiled(1, 6, 1e-3), 2, rank=4),
        "`K` must be symmetric",
    ),
    "a wide matrix for a low rank": (
        lambda: kpca.fit_low_rank(np.ones((4, 6)), 2, rank=4),
        "`K` must be square",
    ),
    "an indefinite matrix for a low rank": (
        lambda: kpca.fit_low_rank(BEYOND, 2, rank=6),
        "`K` is not a kernel: its columns explain more than its diagonal holds",
    ),
    "a matrix and a diagonal": (
        lambda: kpca.fit_low_rank(np.eye(6), 2, rank=4, diagonal=np.ones(6)),
        "`diagonal` goes with columns; a matrix has its own",
    ),
    "a diagonal of odd length": (
        lambda: kpca.fit_low_rank(
            lambda i: np.eye(5)[:, i], 2, rank=4, diagonal=np.ones(5)
        ),
        "`diagonal` must have an even number of rows",
    ),
    "a kernel by name": (
        lambda: kpca.ContrastiveKernelPCA("rbf").fit(np.eye(4), np.eye(4)),
        "`kernel` is 'rbf', which cannot be called",
    ),
    "a number missing in the upper triangle": (
        lambda: kpca.fit(spoiled(1, 6, np.nan), 2),
        "`K` must be finite; entry (1, 6) is nan",
    ),
    "an infinity in the lower triangle": (
        lambda: kpca.fit(spoiled(6, 1, np.inf), 2, method="krylov"),
        "`K` must be finite; entry (6, 1) is inf",
    ),
    "an asymmetric matrix": (
        lambda: kpca.fit(spoiled(1, 6, 1e-3), 2),
        "`K` must be symmetric; entries and their mirror images differ by up to 0.001",
    ),
    "an asymmetric product": (
        lambda: kpca.fit(lambda V: spoiled(1, 6, 1.0) @ V, 2, n=4),
        "`K` must be symmetric; for its product u^T K v and v^T K u differ",
    ),
    "a negative diagonal": (
        lambda: kpca.fit(spoiled(3, 3, -1.0), 2),
        "`K` is not a kernel: entry (3, 3) of its diagonal is -1",
    ),
    "a matrix that is not square": (
        lambda: kpca.fit(np.ones((4, 6)), 2),
        "`K` must be square; got shape (4, 6)",
    ),
    "an odd number of rows": (
        lambda: kpca.fit(np.eye(5), 2),
        "`K` must have an even number of rows, all views x first and then all x'",
    ),
    "another number of pairs": (
        lambda: kpca.fit(np.eye(6), 2, n=6),
        "`K` must have 2 n = 12 rows",
    ),
    "no pairs": (lambda: kpca.fit(np.zeros((0, 0))), "`K` is empty"),
    "a kernel of zeros": (lambda: kpca.fit(np.zeros((4, 4)), 1), "`K` is zero"),
    "a product that is zero": (
        lambda: kpca.fit(lambda V: 0 * V, 1, n=2),
        "`K` is zero",
    ),
    "more modes than pairs": (
        lambda: kpca.fit(np.eye(6), 4),
        "`d`: asked for 4 modes, but 3 pairs have at most 3",
    ),
    "no modes": (lambda: kpca.fit(np.eye(6), 0), "`d` must be at least 1; got 0"),
    "an unknown method": (
        lambda: kpca.fit(np.eye(6), 2, method="cholesk"),
        "did you mean 'cholesky'?",
    ),
    "no tolerance": (
        lambda: kpca.fit(np.eye(6), 2, tol=0.0),
        "`tol` must be finite and positive",
    ),
    "a product without n": (lambda: kpca.fit(lambda V: V, 2), "`n` is missing"),
    "a product without d": (lambda: kpca.fit(lambda V: V, n=4), "`d` is missing"),
    "a matrix method for a product": (
        lambda: kpca.fit(lambda V: V, 2, n=4, method="dense"),
        "`method` is 'dense', which needs the matrix",
    ),
    "a product of another shape": (
        lambda: kpca.fit(lambda V: V[1:], 2, n=4),
        "`K` must return the shape that it is given, (8, 8); got (7, 8)",
    ),
    "a product with nothing in it": (
        lambda: kpca.fit(lambda V: V * np.nan, 2, n=4),
        "`K @ V` must be finite",
    ),
    "features of two shapes": (
        lambda: kpca.fit_features(np.ones((3, 2)), np.ones((4, 2))),
        "`phi` and `phi_prime` must have one shape",
    ),
    "features that are zero": (
        lambda: kpca.fit_features(np.zeros((3, 2)), np.zeros((3, 2))),
        "`phi` is zero",
    ),
    "a rank below d": (
        lambda: kpca.fit_low_rank(np.eye(6), 3, rank=2),
        "`rank` must be between 3 and 6; got 2",
    ),
    "unknown landmarks": (
        lambda: kpca.fit_low_rank(np.eye(6), 3, rank=4, landmarks="random"),
        "`landmarks` is 'random'",
    ),
    "uniform landmarks without a generator": (
        lambda: kpca.fit_low_rank(np.eye(6), 3, rank=4, landmarks="uniform"),
        "`rng` is missing",
    ),
    "columns without their diagonal": (
        lambda: kpca.fit_low_rank(lambda i: np.eye(6)[:, i], 3, rank=4),
        "`diagonal` is missing",
    ),
    "columns of another length": (
        lambda: kpca.fit_low_rank(
            lambda i: np.ones((5, len(i))), 2, rank=4, diagonal=np.ones(6)
        ),
        "`K` must return (6, 1) for 1 indices; got (5, 1)",
    ),
    "new points of another kernel": (
        lambda: kpca.fit(GOOD, 1).embed(np.ones((3, 4))),
        "`k_new` must have 2 columns, one column a view, in K's order; got (3, 4)",
    ),
    "features where there are none": (
        lambda: kpca.fit(GOOD, 1).embed_features(np.ones((3, 2))),
        "modes of method 'cholesky' have none; use embed(k_new)",
    ),
    "a start at zero": (
        lambda: kpca.fit(GOOD, 1).trajectory(np.array([0.0, 1.0]), 0.0),
        "`s0` must be finite and positive",
    ),
    "a start half learned": (
        lambda: kpca.fit(GOOD, 1).step_times(0.9),
        "`s0` is too large for a step: mode 1 starts at",
    ),
    "an estimator that is not fitted": (
        lambda: kpca.ContrastiveKernelPCA(rbf).transform(np.ones((2, 2))),
        "call fit first",
    ),
    "a parameter that is none": (
        lambda: kpca.ContrastiveKernelPCA(rbf).set_params(dim=2),
        "`params` is 'dim'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
