"""The closed form against roads it does not take: integration, descent, brute force."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pkg import dynamics, flow, spectra


def rotated(gammas, rng):
    """A symmetric matrix with these eigenvalues and a random basis."""
    basis, _ = np.linalg.qr(rng.standard_normal((len(gammas), len(gammas))))
    Gamma = basis @ np.diag(gammas) @ basis.T
    return (Gamma + Gamma.T) / 2, basis


@st.composite
def aligned_problems(draw):
    """Spectra of every sign with ties and zeros, aligned starts, rotated outputs."""
    m = draw(st.integers(2, 7))
    d = draw(st.integers(1, m))
    level = st.sampled_from([-1.0, -0.3, 0.0, 0.2, 0.5]) | st.floats(-1.0, 2.0).filter(
        lambda gamma: abs(gamma) > 1e-100  # below, a mode may stand still
    )
    gammas = sorted(draw(st.lists(level, min_size=m, max_size=m)), reverse=True)
    s0 = draw(st.lists(st.floats(1e-4, 1.5), min_size=d, max_size=d))
    return np.array(gammas), np.array(s0), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(aligned_problems())
def test_closed_form_agrees_with_integrating_the_matrix_flow(problem):
    """Two roads to one answer: the scalar formula and the full (d, m) equation."""
    gammas, s0, seed = problem
    rng, d = np.random.default_rng(seed), len(s0)
    Gamma, basis = rotated(gammas, rng)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    W0 = rotation @ np.diag(s0) @ basis[:, :d].T
    t = np.linspace(0.0, 6.0, 40)

    exact = dynamics.closed_form(t, gammas[:d], s0)
    numeric = flow.integrate(W0, Gamma, t)

    ranked = np.sort(exact.eigenvalues)[:, ::-1]
    # The integrator reaches some 5e-9 with its defaults.
    np.testing.assert_allclose(numeric.eigenvalues, ranked, rtol=0, atol=1e-8)
    # A start beyond one makes the loss large; it is held relative to its size.
    np.testing.assert_allclose(numeric.loss, exact.loss, rtol=1e-8, atol=1e-8)
    s = np.linalg.svd(numeric.weights, compute_uv=False)
    formula = np.sort(dynamics.singular_values(t, gammas[:d], s0)[-1])[::-1]
    np.testing.assert_allclose(s, formula, atol=1e-8)


def test_the_flow_is_exact_where_a_fast_mode_rests_and_a_slow_one_moves():
    """Steps at the edge of stability once cost five digits between them."""
    gammas, s0, t = (
        np.array([2.0, 0.0625]),
        np.array([1.0, 1e-4]),
        np.linspace(0, 6, 40),
    )
    exact = dynamics.closed_form(t, gammas, s0).eigenvalues
    found = flow.integrate(np.diag(s0), np.diag(gammas), t).eigenvalues
    np.testing.assert_allclose(found, np.sort(exact)[:, ::-1], rtol=0, atol=1e-10)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(-5, 5), st.floats(1e-6, 3.0))
def test_singular_values_keep_their_limits(gamma, s0):
    """At t = 0 the start; at t = infinity gamma^{-1/2}, the start, or zero."""
    assume(gamma == 0 or abs(gamma) > 1e-100)  # below, it may stand still
    gammas, t = np.array([gamma]), np.array([0.0, 1e300])
    first, last = dynamics.singular_values(t, gammas, s0)[:, 0]
    assert first == pytest.approx(s0, rel=1e-14)
    if gamma * 1e300 > 1e3:
        assert last == pytest.approx(gamma**-0.5, rel=1e-12)
    elif gamma == 0:
        assert last == s0
    elif gamma * 1e300 < -1e3:
        assert last == 0


def test_singular_values_solve_their_equation():
    """A finite difference of s(t) equals 4 gamma s (1 - gamma s^2)."""
    gammas, h = np.array([2.0, 0.3, 0.0, -0.4]), 1e-5
    for s0 in (1e-2, 0.5, 1.5):
        s = dynamics.singular_values(np.array([0.7 - h, 0.7, 0.7 + h]), gammas, s0)
        slope = (s[2] - s[0]) / (2 * h)
        # Central differences leave h^2 s''' ~ 1e-9.
        np.testing.assert_allclose(
            slope, 4 * gammas * s[1] * (1 - gammas * s[1] ** 2), atol=1e-7
        )


def test_step_times_are_where_the_eigenvalue_is_one_half():
    gammas, s0 = np.array([3.0, 1.0, 0.2]), np.array([1e-3, 1e-4, 0.3])
    for j, time in enumerate(dynamics.step_times(gammas, s0)):
        run = dynamics.closed_form(np.array([time]), gammas, s0)
        assert run.eigenvalues[0, j] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("kappa", "error"), [(0.02, 2e-3), (0.1, 1e-2), (0.4, 3e-2)])
def test_discrete_step_times_are_those_of_gradient_descent(kappa, error):
    """The correction holds to its stated error, which the plain formula exceeds."""
    gamma, s0 = 1.7, 1e-3
    lr = kappa / (4 * gamma)
    s, steps = s0, 0.0
    while gamma * s**2 < 0.5:
        before, s = s, s + 4 * lr * gamma * s * (1 - gamma * s**2)
        steps += 1
    low, high = gamma * before**2, gamma * s**2
    measured = lr * (steps - (high - 0.5) / (high - low))
    gammas = np.array([gamma])
    corrected = dynamics.step_times(gammas, s0, lr=lr)[0]
    plain = dynamics.step_times(gammas, s0)[0]
    assert abs(measured / corrected - 1) < error < abs(measured / plain - 1)


def test_the_closed_form_of_descent_is_near_descent_and_nearer_than_the_flow(rng):
    """One direction of start a mode; kappa_1 = 0.2 as in the recorded runs."""
    x = rng.standard_normal((40, 3)) * np.array([2.0, 1.0, 0.5])
    Gamma = dynamics.cross_correlation(x, x)
    gammas, V = spectra.top_eigenpairs(Gamma)
    lr = 0.05 / gammas[0]
    run = flow.descend(1e-4 * V.T, x, x, lr=lr, steps=1500)
    errors = [
        np.abs(
            dynamics.closed_form(run.t, gammas, 1e-4, lr=rate).eigenvalues
            - run.eigenvalues
        ).max()
        for rate in (lr, None)
    ]
    # The rest is the approach to one, where descent is the faster of the two.
    assert errors[0] < 0.08 < 0.3 < errors[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_small_random_start_behaves_like_its_effective_start(seed):
    """QR predicts the measured step times, and shrinking the start improves it."""
    rng = np.random.default_rng(seed)
    gammas = np.array([1.0, 0.6, 0.36, 0.2, 0.1, -0.1, -0.3])
    Gamma, _ = rotated(gammas, rng)
    direction = rng.standard_normal((3, 7))
    errors = []
    for scale in (1e-2, 1e-4):
        start = dynamics.effective_start(scale * direction, Gamma)
        assert start.n_positive == 5
        predicted = dynamics.step_times(start.gammas, start.s0)
        t = np.linspace(0.0, 1.3 * predicted[-1], 6000)
        run = flow.integrate(scale * direction, Gamma, t)
        measured = [np.interp(0.5, c, t) for c in run.eigenvalues.T]
        errors.append(np.max(np.abs(measured / predicted - 1)))
    # theory: 0.5 % at 1e-2 (an unlucky seed more), 5e-5 at 1e-4, then the time grid.
    assert errors[0] < 0.02
    assert errors[1] < min(5e-4, errors[0])


def test_tied_modes_take_singular_values_and_not_the_qr_diagonal():
    """Inside a tie the modes share a rate, so the block's own axes decide the times."""
    rng = np.random.default_rng(3)
    gammas = np.array([1.0, 0.5, 0.5, 0.5, 0.1])
    Gamma, _ = rotated(gammas, rng)
    W0 = 1e-3 * rng.standard_normal((4, 5))
    start = dynamics.effective_start(W0, Gamma)
    assert start.blocks == ((0, 1), (1, 4))
    predicted = dynamics.step_times(start.gammas, start.s0)
    t = np.linspace(0.0, 1.2 * predicted[-1], 8000)
    run = flow.integrate(W0, Gamma, t)
    measured = np.array([np.interp(0.5, c, t) for c in run.eigenvalues.T])
    np.testing.assert_allclose(measured, predicted, rtol=2e-3)
    untied = dynamics.effective_start(W0, Gamma, tie_tol=0.0)
    qr = np.sort(dynamics.step_times(untied.gammas, untied.s0))
    assert np.max(np.abs(measured / qr - 1)) > 1e-2


def test_a_tie_beyond_the_last_output_is_shared_out(rng):
    """Three tied modes, room for one of them: what is learned is their best mixture."""
    gammas = np.array([1.0, 0.5, 0.5, 0.5, 0.1])
    Gamma, _ = rotated(gammas, rng)
    W0 = 1e-4 * rng.standard_normal((2, 5))
    start = dynamics.effective_start(W0, Gamma)
    assert start.blocks == ((0, 1), (1, 4))
    predicted = dynamics.step_times(start.gammas, start.s0)
    t = np.linspace(0.0, 1.3 * predicted[-1], 8000)
    run = flow.integrate(W0, Gamma, t)
    measured = spectra.crossing_times(t, run.eigenvalues)
    np.testing.assert_allclose(measured, predicted, rtol=1e-3)
    late = flow.integrate(W0, Gamma, np.array([0.0, 20.0])).weights
    assert spectra.subspace_overlap(late.T, start.V) > 0.999


def test_effective_start_of_an_aligned_start_is_itself():
    rng = np.random.default_rng(1)
    gammas, s0 = np.array([1.0, 0.5, -0.2]), np.array([1e-3, 2e-3, 5e-4])
    Gamma, basis = rotated(gammas, rng)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    start = dynamics.effective_start(rotation @ np.diag(s0) @ basis.T, Gamma)
    np.testing.assert_allclose(start.s0, s0, rtol=1e-10)
    np.testing.assert_allclose(
        start.U @ np.diag(start.s0) @ start.V.T,
        rotation @ np.diag(s0) @ basis.T,
        atol=1e-15,
    )


def test_pairs_may_be_swapped_or_permuted(rng, tolerance):
    x, x_prime = rng.standard_normal((2, 20, 6))
    Gamma = dynamics.cross_correlation(x, x_prime)
    order = rng.permutation(20)
    same = [
        dynamics.cross_correlation(x_prime, x),
        dynamics.cross_correlation(x[order], x_prime[order]),
    ]
    for other in same:
        np.testing.assert_allclose(other, Gamma, atol=tolerance["float64"])
    by_hand = sum(
        np.outer(a, b) + np.outer(b, a) for a, b in zip(x, x_prime, strict=True)
    )
    np.testing.assert_allclose(Gamma, by_hand / 40, atol=tolerance["float64"])


def test_centring_removes_the_mean_of_all_views(rng, tolerance):
    x, x_prime = rng.standard_normal((2, 30, 4))
    shifted = dynamics.cross_correlation(x + 5.0, x_prime + 5.0, center=True)
    plain = dynamics.cross_correlation(x, x_prime, center=True)
    np.testing.assert_allclose(shifted, plain, atol=tolerance["float64"] * 25)


def test_a_finite_sample_learns_at_most_as_many_modes_as_it_has_pairs(rng):
    """With more features than views, n eigenvalues are positive and n negative."""
    x, x_prime = rng.standard_normal((2, 12, 40))
    gammas = spectra.top_eigenvalues(dynamics.cross_correlation(x, x_prime))
    assert spectra.count_positive(gammas) == spectra.count_positive(-gammas) == 12


def test_what_sigma_has_and_gamma_has_not_is_the_disagreement(rng, tolerance):
    x, x_prime = rng.standard_normal((2, 30, 4))
    Sigma = dynamics.second_moment(x, x_prime)
    gap = Sigma - dynamics.cross_correlation(x, x_prime)
    half = (x - x_prime).T @ (x - x_prime) / 60
    np.testing.assert_allclose(gap, half, atol=tolerance["float64"])
    swapped = dynamics.second_moment(x_prime, x)
    np.testing.assert_allclose(swapped, Sigma, atol=tolerance["float64"])
    shifted = dynamics.second_moment(x + 5.0, x_prime + 5.0, center=True)
    plain = dynamics.second_moment(x, x_prime, center=True)
    np.testing.assert_allclose(shifted, plain, atol=tolerance["float64"] * 25)


def test_final_weights_reach_zero_loss_with_the_least_norm(rng):
    gammas = np.array([2.0, 1.0, 0.4, 0.1, -0.3])
    Gamma, _ = rotated(gammas, rng)
    W = dynamics.final_weights(Gamma, 3)
    np.testing.assert_allclose(W @ Gamma @ W.T, np.eye(3), atol=1e-12)
    least = np.sum(1 / gammas[:3])
    assert np.sum(W**2) == pytest.approx(least)
    tried = 0
    for _ in range(2000):
        other = rng.standard_normal((3, 5))
        C = other @ Gamma @ other.T
        if np.linalg.eigvalsh(C)[0] > 1e-9:
            other = np.linalg.solve(np.linalg.cholesky(C), other)
            assert np.sum(other**2) >= least - 1e-9
            tried += 1
    assert tried > 100


def test_the_flow_ends_at_the_final_weights_up_to_a_rotation(rng):
    Gamma, _ = rotated(np.array([2.0, 1.0, 0.2, -0.3]), rng)
    run = flow.integrate(
        1e-5 * rng.standard_normal((2, 4)), Gamma, np.array([0.0, 40.0])
    )
    W = dynamics.final_weights(Gamma, 2)
    # What is left of the start is its order: 1e-5^(1 - gamma_2/gamma_1) = 3e-3.
    assert spectra.subspace_overlap(run.weights.T, W.T) > 1 - 1e-3
    np.testing.assert_allclose(run.loss[-1], 0.0, atol=1e-9)


def test_more_dimensions_than_positive_modes_leave_the_rest_collapsed(rng):
    """The loss ends at d - n_positive: what is not learned costs one each."""
    Gamma, _ = rotated(np.array([1.0, 0.5, -0.2, -0.4]), rng)
    run = flow.integrate(
        1e-6 * rng.standard_normal((4, 4)), Gamma, np.array([0.0, 60.0])
    )
    np.testing.assert_allclose(run.eigenvalues[-1], [1, 1, 0, 0], atol=1e-3)
    assert run.loss[-1] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("share", [0.9, 1.2])
def test_stable_lr_divides_settling_from_not_settling(share, rng):
    """With d = m every mode is needed: beyond the limit no flatter minimum is left."""
    x = rng.standard_normal((50, 3)) * np.array([2.0, 1.0, 0.5])
    gammas = spectra.top_eigenvalues(dynamics.cross_correlation(x, x))
    lr = share * dynamics.stable_lr(gammas)
    W0 = 0.1 * rng.standard_normal((3, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = flow.descend(W0, x, x, lr=lr, steps=3000)
    assert (run.loss[-100:].max() < 1e-6) == (share < 1) == (not caught)


GOOD = {"t": np.linspace(0, 1, 5), "gammas": np.array([1.0, 0.5]), "s0": 1e-3}
EYE = np.eye(3)

REFUSALS = {
    "a negative mode has no step": (
        lambda: dynamics.step_times(np.array([0.5, -0.1]), 1e-3),
        "`gammas` must be finite and positive; entry 1 is -0.1",
    ),
    "nothing grows from zero": (
        lambda: dynamics.closed_form(**GOOD | {"s0": 0.0}),
        "`s0` must be finite and positive; it is 0",
    ),
    "a negative start": (
        lambda: dynamics.closed_form(**GOOD | {"s0": np.array([1e-3, -1.0])}),
        "`s0` must be finite and positive; entry 1 is -1",
    ),
    "a start that underflows": (
        lambda: dynamics.closed_form(**GOOD | {"s0": 1e-200}),
        "and gamma s0^2 would leave float64",
    ),
    "a start that overflows": (
        lambda: dynamics.closed_form(**GOOD | {"s0": 1e200}),
        "and gamma s0^2 would leave float64",
    ),
    "two rates": (
        lambda: dynamics.step_times(np.array([1.0]), 1e-3, lr=np.array([0.1, 0.1])),
        "`lr` must have 0 axes, not 1",
    ),
    "a rate of zero": (
        lambda: dynamics.step_times(np.array([1.0]), 1e-3, lr=0.0),
        "`lr` must be finite and positive; it is 0",
    ),
    "a start with a hole": (
        lambda: dynamics.effective_start(np.array([[1.0, np.nan]]), np.eye(2)),
        "`W0` must be finite; entry (0, 1) is nan",
    ),
    "one start too many": (
        lambda: dynamics.closed_form(**GOOD | {"s0": np.full(3, 1e-3)}),
        "`s0` must be one number or one per mode; got shape (3,) for 2 gammas",
    ),
    "times out of order": (
        lambda: dynamics.closed_form(**GOOD | {"t": np.array([0.0, 2.0, 1.0])}),
        "`t` must increase; entry 2 is 1 after 2",
    ),
    "times before the start": (
        lambda: dynamics.closed_form(**GOOD | {"t": np.array([-1.0, 2.0])}),
        "`t` must start at 0 or later; got -1",
    ),
    "no times": (
        lambda: dynamics.closed_form(**GOOD | {"t": np.array([])}),
        "`t` is empty",
    ),
    "times as a table": (
        lambda: dynamics.closed_form(**GOOD | {"t": np.ones((2, 2))}),
        "`t` must have 1 axes, not 2",
    ),
    "a missing eigenvalue": (
        lambda: dynamics.closed_form(**GOOD | {"gammas": np.array([1.0, np.nan])}),
        "`gammas` must be finite; entry 1 is nan",
    ),
    "words for numbers": (
        lambda: dynamics.closed_form(**GOOD | {"gammas": ["large", "small"]}),
        "`gammas` must be real numbers",
    ),
    "a mode that is learned before it starts": (
        lambda: dynamics.step_times(np.array([1.0, 0.5]), 0.9),
        "`s0` is too large for a step: mode 1 starts at 0.81 of its final",
    ),
    "a rate beyond stability": (
        lambda: dynamics.step_times(np.array([1.0]), 1e-3, lr=0.3),
        "`lr` is 0.3; descent is stable only below 0.25",
    ),
    "an asymmetric Gamma": (
        lambda: dynamics.final_weights(np.array([[1.0, 2.0], [0.0, 1.0]]), 1),
        "`Gamma` must be symmetric; entries and their mirror images differ by up to 2",
    ),
    "a Gamma that is not square": (
        lambda: dynamics.effective_start(np.ones((1, 3)), np.ones((3, 2))),
        "`Gamma` must be square; got shape (3, 2)",
    ),
    "a Gamma with a hole": (
        lambda: dynamics.effective_start(np.ones((1, 2)), np.diag([1.0, np.inf])),
        "`Gamma` must be finite; entry (1, 1) is inf",
    ),
    "weights of another width": (
        lambda: dynamics.effective_start(np.ones((2, 4)), EYE),
        "`Gamma` must be (4, 4); got (3, 3)",
    ),
    "more dimensions than features": (
        lambda: dynamics.effective_start(np.ones((4, 3)), EYE),
        "embeds in d = 4 dimensions, more than m = 3 features",
    ),
    "a start that misses a mode": (
        lambda: dynamics.effective_start(np.diag([1.0, 0.0]) @ EYE[:2], EYE - 0.5),
        "`W0` misses mode",
    ),
    "more dimensions than positive modes": (
        lambda: dynamics.final_weights(np.diag([1.0, 0.5, -0.5]), 3),
        "`d` is 3, but Gamma has only 2 positive eigenvalues",
    ),
    "no dimensions": (
        lambda: dynamics.final_weights(EYE, 0),
        "`d` must be at least 1; got 0",
    ),
    "half a dimension": (
        lambda: dynamics.final_weights(EYE, 1.5),
        "`d` must be a whole number; got 1.5",
    ),
    "an unknown loss": (
        lambda: dynamics.closed_form(**GOOD, loss="vikreg"),
        "`loss` is 'vikreg', which is not known; did you mean 'vicreg'?",
    ),
    "a loss without its second moments": (
        lambda: dynamics.closed_form(**GOOD, loss="spectral"),
        "`sigmas` is missing: pass the eigenvalues of Sigma with loss 'spectral'",
    ),
    "second moments that no one reads": (
        lambda: dynamics.closed_form(**GOOD, sigmas=np.ones(2)),
        "`sigmas` is given: leave out the eigenvalues of Sigma",
    ),
    "a second moment too few": (
        lambda: dynamics.closed_form(**GOOD, loss="spectral", sigmas=np.ones(1)),
        "`sigmas` must have one entry a mode; got 1 for 2 gammas",
    ),
    "a beta that no one reads": (
        lambda: dynamics.step_times(np.array([1.0]), 1e-3, beta=0.5),
        "`beta` is 0.5, but only loss 'vicreg' has a beta",
    ),
    "a lambda that no one reads": (
        lambda: dynamics.step_times(
            np.array([1.0]), 1e-3, lambd=0.5, loss="spectral", sigmas=np.ones(1)
        ),
        "`lambd` is 0.5, but only Barlow Twins has off-diagonal terms",
    ),
    "a rate under another loss": (
        lambda: dynamics.closed_form(
            **GOOD, loss="spectral", sigmas=np.ones(2), lr=0.1
        ),
        "`lr` is 0.1, but descent is corrected for under Barlow Twins only",
    ),
    "a mode beyond the threshold of beta": (
        lambda: dynamics.step_times(
            np.array([0.9, 0.1]), 1e-3, loss="vicreg", sigmas=np.ones(2), beta=2.0
        ),
        "mode 2 is never learned: its rate 8 g is -6.4 with `beta` 2",
    ),
    "a lambda of zero": (
        lambda: dynamics.levels(3, 0.0),
        "`lambd` must be finite and positive; it is 0",
    ),
    "levels out of order": (
        lambda: dynamics.step_widths(np.ones(1), low=0.9, high=0.1),
        "`low` and `high` must satisfy 0 < low < high < 1; got 0.9 and 0.1",
    ),
    "a spectrum that ascends": (
        lambda: dynamics.error_order(np.array([0.5, 1.0]), 1),
        "`gammas` must descend",
    ),
    "an order of modes that are not learned": (
        lambda: dynamics.error_order(np.array([1.0, -0.5]), 2),
        "`d` is 2, but only 1 of `gammas` are positive",
    ),
    "a correlation above one": (
        lambda: dynamics.batch_plateau(np.array([0.9, 1.1]), 8),
        "`rhos` must be at most 1; the largest is 1.1",
    ),
    "an empty batch": (
        lambda: dynamics.batch_plateau(np.array([0.9]), 0),
        "`batch` must be at least 1; got 0",
    ),
    "a swap between spectra of two lengths": (
        lambda: dynamics.swap_rate(np.ones(2), np.ones(3)),
        "`gammas` and `sigmas` must have one length; got 2 and 3",
    ),
    "a beta without a second moment": (
        lambda: dynamics.final_weights(EYE, 1, beta=2.0),
        "`beta` is 2 without `Sigma`",
    ),
    "a second moment of another size": (
        lambda: dynamics.final_weights(EYE, 1, Sigma=np.eye(2)),
        "`Sigma` must have the shape of `Gamma`, (3, 3); got (2, 2)",
    ),
    "a second moment with a hole in it": (
        lambda: dynamics.final_weights(EYE, 1, Sigma=np.diag([1.0, 1.0, 0.0])),
        "`Sigma` must be positive definite, but 1 of its eigenvalues",
    ),
    "more dimensions than beta lets through": (
        lambda: dynamics.final_weights(
            np.diag([0.9, 0.1, 0.1]), 2, Sigma=EYE, beta=2.0
        ),
        "`d` is 2, but Gamma has only 1 modes with 1 - beta (1 - rho) > 0",
    ),
    "views that agree on nothing": (
        lambda: dynamics.stable_lr(np.array([-0.1, -0.2])),
        "`gammas` has no positive entry (the largest is -0.1)",
    ),
    "unequal view counts": (
        lambda: dynamics.cross_correlation(np.ones((3, 2)), np.ones((4, 2))),
        "`x` and `x_prime` must have one shape",
    ),
    "a missing pixel": (
        lambda: dynamics.cross_correlation(np.full((2, 2), np.nan), np.ones((2, 2))),
        "`x` must be finite; entry (0, 0) is nan",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
