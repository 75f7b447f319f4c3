"""Late modes pulled up: closed forms against the flow, and what steps make of them."""

import re

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkg import dynamics, flow, spectra
from pkg._acceleration import METHODS

SPECTRUM = np.array([1.0, 0.55, 0.3, 0.16, 0.08])
# What each method pulls on one mode with, gamma = 1 and c = s^2, written as scalars.
PULLS = {
    "plain": lambda c, gamma: 8 * gamma * c * (1 - c),
    "inverse_root": lambda c, gamma: 8 * gamma * np.sqrt(c) * (1 - c),
    "inverse": lambda c, gamma: 8 * gamma * (1 - c),
    "bures": lambda c, gamma: 4 * gamma * (np.sqrt(c) - c),
    "logdet": lambda c, gamma: 4 * gamma * (1 - c),
    "whitened": lambda c, gamma: 8 * gamma / (gamma + 0.2) * c * (1 - c),
}
# Times of c = 1/2 from a vanishing start: gamma times the limit.
LIMITS = {"inverse_root": 0.2203, "bures": 0.6140, "logdet": 0.1733, "inverse": 0.0866}


def settings(method):
    return {"method": method, "ridge": 0.2 * (method == "whitened")}


def aligned(gammas, s0, rng, more=(0.05, -0.2)):
    """An aligned start in a random basis, and its Gamma with further modes."""
    values = np.concatenate([gammas, more])
    d, m = len(gammas), len(values)
    V, _ = np.linalg.qr(rng.standard_normal((m, m)))
    U, _ = np.linalg.qr(rng.standard_normal((d, d)))
    Gamma = V @ np.diag(values) @ V.T
    return U @ np.diag(s0 * np.ones(d)) @ V[:, :d].T, (Gamma + Gamma.T) / 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("s0", [1e-2, np.array([1.3, 1e-3, 2.0, 0.5, 1e-2])])
def test_closed_forms_agree_with_the_matrix_flow(method, s0, rng):
    """Scalar formulas against all d m equations, a start above its end included."""
    W0, Gamma = aligned(SPECTRUM, s0, rng)
    t = np.linspace(0.0, 12.0, 60)
    exact = dynamics.accelerated(t, SPECTRUM, s0, **settings(method))
    numeric = flow.integrate_accelerated(W0, Gamma, t, **settings(method))
    ranked = np.sort(exact.eigenvalues, axis=1)[:, ::-1]
    # Under 5e-10 for all; the integrator's own tolerance is 1e-11 a step.
    np.testing.assert_allclose(numeric.eigenvalues, ranked, rtol=0, atol=1e-9)
    np.testing.assert_allclose(numeric.loss, exact.loss, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_flow_is_exact_where_a_fast_mode_rests_and_a_slow_one_moves(method):
    """Steps that grew to the edge of stability once cost five digits between them."""
    t = np.linspace(0.0, 60.0, 121)
    for gammas, s0 in (([2.0, 0.0625], [1.0, 1e-4]), ([2.0, 0.02], [0.1, 1e-2])):
        gammas, s0 = np.array(gammas), np.array(s0)
        exact = dynamics.accelerated(t, gammas, s0, **settings(method))
        numeric = flow.integrate_accelerated(
            np.diag(s0), np.diag(gammas), t, **settings(method)
        )
        ranked = np.sort(exact.eigenvalues)[:, ::-1]
        np.testing.assert_allclose(numeric.eigenvalues, ranked, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_one_mode_moves_as_its_own_equation_says(method):
    """A third road: the scalar equation, integrated from a start above one too."""
    t = np.linspace(0.0, 3.0, 40)
    for s0 in (1e-3, 0.4, 1.7):
        pull = PULLS[method]
        run = solve_ivp(
            lambda _, c, pull=pull: pull(c, 0.7),
            (0.0, 3.0),
            [0.7 * s0**2],
            "DOP853",
            t_eval=t,
            rtol=1e-11,
            atol=1e-14,
        )
        exact = dynamics.accelerated(t, np.array([0.7]), s0, **settings(method))
        np.testing.assert_allclose(exact.eigenvalues[:, 0], run.y[0], atol=1e-9)


def test_plain_and_whitened_are_the_known_logistic():
    t, s0 = np.linspace(0.0, 30.0, 50), 1e-3
    known = dynamics.closed_form(t, SPECTRUM, s0)
    plain = dynamics.accelerated(t, SPECTRUM, s0, method="plain")
    np.testing.assert_allclose(plain.eigenvalues, known.eigenvalues, rtol=1e-11)
    np.testing.assert_allclose(plain.loss, known.loss, atol=1e-11)
    # With a ridge far above every gamma whitening only slows the clock.
    slow = dynamics.accelerated(1e9 * t, SPECTRUM, s0, method="whitened", ridge=1e9)
    np.testing.assert_allclose(slow.eigenvalues, known.eigenvalues, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_step_times_are_where_the_curves_cross_one_half(method):
    s0 = np.array([1e-2, 1e-4, 0.3, 0.1, 1e-6])
    times = dynamics.accelerated_step_times(SPECTRUM, s0, **settings(method))
    for j, time in enumerate(times):
        run = dynamics.accelerated(
            np.array([time]), SPECTRUM[[j]], s0[[j]], **settings(method)
        )
        assert run.eigenvalues[0, 0] == pytest.approx(0.5, rel=1e-10)


@pytest.mark.parametrize("method", LIMITS)
def test_a_gain_from_the_left_takes_the_wait_and_leaves_gamma(method):
    """From 1e-8 and 1e-16 the same time, inversely as gamma; plain waits twice."""
    times = [
        dynamics.accelerated_step_times(SPECTRUM, s0, method=method)
        for s0 in (1e-8, 1e-16)
    ]
    np.testing.assert_allclose(times[0], times[1], rtol=1e-6)
    np.testing.assert_allclose(times[1] * SPECTRUM, LIMITS[method], atol=5e-5)
    plain = [
        dynamics.accelerated_step_times(SPECTRUM, s0, method="plain")
        for s0 in (1e-8, 1e-16)
    ]
    np.testing.assert_allclose(plain[1] / plain[0], 2.0, rtol=0.05)


def test_a_gain_from_the_right_takes_gamma_and_leaves_the_wait():
    times = dynamics.accelerated_step_times(
        SPECTRUM, 1e-6 / np.sqrt(SPECTRUM), method="whitened"
    )
    np.testing.assert_allclose(times, np.log(1e12 - 1) / 8, rtol=1e-12)


def test_whitening_is_solved_from_any_start_and_learns_what_it_finds(rng):
    """Any W(0), to 1e-9 of the integrator; the row space never moves."""
    values = np.geomspace(1.0, 0.05, 7)
    V, _ = np.linalg.qr(rng.standard_normal((7, 7)))
    Gamma = V @ np.diag(values) @ V.T
    Gamma = (Gamma + Gamma.T) / 2
    W0 = 0.02 * rng.standard_normal((3, 7))
    t = np.linspace(0.0, 3.0, 25)
    exact = dynamics.whitened(t, W0, Gamma)
    numeric = flow.integrate_accelerated(W0, Gamma, t, method="whitened")
    np.testing.assert_allclose(exact.eigenvalues, numeric.eigenvalues, atol=1e-9)
    np.testing.assert_allclose(exact.weights, numeric.weights, atol=1e-9)
    np.testing.assert_allclose(exact.eigenvalues[-1], 1.0, atol=1e-5)
    assert spectra.subspace_overlap(exact.weights.T, W0.T) == pytest.approx(1.0)
    # Plain descent from the same start turns towards the top modes.
    plain = flow.integrate(W0, Gamma, np.array([0.0, 40.0]), rtol=1e-8, atol=1e-11)
    kept, turned = (
        spectra.subspace_overlap(W.T, V[:, :3]) for W in (exact.weights, plain.weights)
    )
    assert turned > kept + 0.2


@pytest.mark.parametrize(
    ("method", "floor", "limit"),
    [
        ("plain", 0.0, 0.25),
        ("inverse_root", 0.21, 0.25 * 1.1),
        ("inverse", 0.2, 0.25 * 1.2),
        ("bures", 1e-8, 1.0),
        ("logdet", 1e-8, 0.5),
    ],
)
def test_descent_settles_below_its_limit_and_not_above(method, floor, limit, rng):
    """Linearised at C = I, gamma_1 = 1; the start is near, where that must hold."""
    W0, Gamma = aligned(SPECTRUM, 0.99 / np.sqrt(SPECTRUM), rng)
    below, above = (
        flow.descend_accelerated(
            W0, Gamma, lr=share * limit, steps=30, method=method, floor=floor
        ).loss
        for share in (0.97, 1.03)
    )
    # What is left of mode 1 is multiplied by -0.94 a step, or by -1.06.
    assert below[-1] < 0.1 * below[0] and above[-1] > 3 * above[0]


@pytest.mark.parametrize("method", METHODS)
def test_small_steps_follow_the_flow(method, rng):
    """Half the rate, half the error."""
    W0, Gamma = aligned(SPECTRUM[:3], 0.3, rng)
    floor = 0.1 * (method not in ("plain", "whitened"))
    errors = []
    for steps in (200, 400):
        run = flow.descend_accelerated(
            W0, Gamma, lr=1.0 / steps, steps=steps, floor=floor, **settings(method)
        )
        exact = flow.integrate_accelerated(
            W0, Gamma, run.t, floor=floor, **settings(method)
        )
        errors.append(np.abs(run.eigenvalues - exact.eigenvalues).max())
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


def test_a_negative_eigenvalue_of_C_is_pushed_up_by_its_modulus(rng):
    """A mode below zero has nothing to be a power of; all flows lift it towards one."""
    Gamma = np.diag([1.0, 0.5, -0.5])
    W0 = np.array([[0.3, 0.0, 0.0], [0.0, 0.1, 0.4]])
    assert np.linalg.eigvalsh(W0 @ Gamma @ W0.T)[0] < -0.07
    t = np.linspace(0.0, 12.0, 30)
    for method in ("inverse_root", "inverse", "bures", "logdet"):
        run = flow.integrate_accelerated(
            W0, Gamma, t, method=method, floor=0.05, rtol=1e-8, atol=1e-11
        )
        end = 0.95 if method in ("bures", "logdet") else 1.0
        np.testing.assert_allclose(run.eigenvalues[-1], end, atol=0.02)


# Ten modes of 1/j, twenty more behind them and ten below zero: what speed costs.
TEN = np.concatenate([1 / np.arange(1.0, 31.0), np.full(10, -0.02)])
STARTS = (1e-2, 1e-4, 1e-6)
# Method, lr, floor, ridge, length of the run; then medians of seven seeds from the
# three starts: steps until the last of ten modes is half learned, and the share of the
# top subspace that is missing in the end.
TABLE = [
    ("plain", 0.125, 0.0, 0.0, 520, (116, 214, 308), (0.081, 0.027, 0.0060)),
    ("plain", 0.24, 0.0, 0.0, 270, (62, 114, 164), (0.083, 0.0285, 0.0066)),
    ("inverse_root", 0.125, 0.01, 0.0, 150, (27, 37, 49), (0.094, 0.036, 0.0116)),
    ("inverse_root", 0.2, 0.01, 0.0, 100, (17, 25, 33), (0.099, 0.041, 0.0156)),
    ("inverse", 0.125, 0.01, 0.0, 60, (10, 12, 14), (0.145, 0.071, 0.045)),
    ("bures", 0.5, 1e-8, 0.0, 60, (15, 15, 15), (0.140, 0.122, 0.096)),
    ("logdet", 0.2, 0.01, 0.0, 60, (12, 14, 17), (0.138, 0.067, 0.040)),
    ("whitened", 0.125, 0.0, 0.1, 110, (25, 46, 67), (0.193, 0.084, 0.053)),
    ("whitened", 0.125, 0.0, 0.01, 70, (14, 26, 39), (0.537, 0.411, 0.315)),
]


def race(alpha, method, lr, floor=0.0, ridge=0.0, steps=0, seeds=range(7)):
    """Steps until the last of ten modes is half learned, and the subspace error."""
    rows = []
    for seed in seeds:
        W0 = alpha * np.random.default_rng(seed).standard_normal((10, 40))
        run = flow.descend_accelerated(
            W0, np.diag(TEN), lr=lr, steps=steps, method=method, floor=floor,
            ridge=ridge,
        )  # fmt: skip
        assert abs(run.eigenvalues[-1] - 1.0).max() < 0.1  # nothing more will move
        last = int(np.argmax(run.eigenvalues[:, -1] > 0.5))
        overlap = spectra.subspace_overlap(run.weights.T, np.eye(40, 10))
        rows.append((last, 1.0 - overlap))
    return np.array(rows).T


@pytest.mark.parametrize(
    ("method", "lr", "floor", "ridge", "length", "steps", "errors"), TABLE
)
def test_speed_is_paid_in_selectivity(method, lr, floor, ridge, length, steps, errors):
    """Medians of seven seeds; a seed's own error lies within a factor of five."""
    for alpha, step, error in zip(STARTS, steps, errors, strict=True):
        found = race(alpha, method, lr, floor, ridge, length)
        assert np.median(found[0]) == pytest.approx(step, abs=1)
        assert np.median(found[1]) == pytest.approx(error, rel=0.05)
        assert np.all(found[1] < 5 * error) and np.all(found[1] > error / 5)


@pytest.mark.parametrize(
    ("lr", "floor", "length", "speed", "worse"),
    [(0.24, 0.01, 40, 11.0, 12.0), (0.31, 0.3, 80, 3.0, 1.5)],
)
def test_the_last_mode_comes_sooner_at_a_known_price(lr, floor, length, speed, worse):
    """Against plain at its own best rate, seed by seed, medians of seven.

    With a floor of 0.01 the inverse is eleven times as fast or more from every start,
    and misses up to twelve times as much; with one of 0.3, three times and 1.5.
    """
    ratios = []
    for alpha in STARTS:
        plain = race(alpha, "plain", 0.24, steps=270)
        fast = race(alpha, "inverse", lr, floor, steps=length)
        assert np.median(plain[0] / fast[0]) >= speed
        ratios.append(np.median(fast[1] / plain[1]))
    assert max(ratios) <= worse
    assert ratios[0] < ratios[1] < ratios[2]  # a smaller start has more to lose


def test_no_rate_helps_plain_descent_further():
    """0.24 is its best: from 0.25 on it no longer settles."""
    best = race(1e-2, "plain", 0.24, steps=270)[0]
    assert np.all(best < race(1e-2, "plain", 0.2, steps=330)[0])
    with pytest.raises(AssertionError):
        race(1e-2, "plain", 0.26, steps=270)


ONE, NOW = np.ones(1), np.array([0.0, 1.0])
W, EYE = np.array([[0.1, 0.0]]), np.eye(2)


def closed(method="plain", gammas=ONE, s0=0.1, **settings):
    return dynamics.accelerated(NOW, gammas, s0, method=method, **settings)


def integrated(method="plain", W0=W, Gamma=EYE, **settings):
    return flow.integrate_accelerated(W0, Gamma, NOW, method=method, **settings)


REFUSALS = {
    "an unknown method": (
        lambda: closed("invers"),
        "`method` is 'invers', which is not known; did you mean 'inverse'?",
    ),
    "an unknown method of the flow": (
        lambda: integrated("burse"),
        "`method` is 'burse', which is not known; did you mean 'bures'?",
    ),
    "a mode that never grows": (
        lambda: closed(gammas=np.array([1.0, -0.1])),
        "`gammas` must be finite and positive; entry 1 is -0.1",
    ),
    "starts for other modes": (
        lambda: closed(s0=np.ones(3)),
        "`s0` must be one number or one per mode; got shape (3,) for 1 gammas",
    ),
    "a start that leaves float64": (
        lambda: closed(s0=1e-170),
        "`s0` runs from 1e-170 to 1e-170, and gamma s0^2 leaves float64",
    ),
    "a ridge where nothing is whitened": (
        lambda: closed(ridge=0.1),
        "`ridge` is 0.1, but only method 'whitened' has a ridge",
    ),
    "the same of the flow": (
        lambda: integrated("inverse", ridge=0.1),
        "`ridge` is 0.1, but only method 'whitened' has a ridge",
    ),
    "a floor where nothing of C is inverted": (
        lambda: integrated(floor=0.1),
        "`floor` is 0.1, but method 'plain' inverts no C; leave it out",
    ),
    "no step": (
        lambda: dynamics.accelerated_step_times(ONE, 0.8, method="bures"),
        "`s0` is too large for a step: mode 1 starts at 0.64, already half learned. "
        "Use `s0` below 0.707",
    ),
    "whitening what cannot be inverted": (
        lambda: integrated("whitened", Gamma=np.diag([1.0, 0.0])),
        "`ridge` is 0, but Gamma has an eigenvalue of 0 and no inverse; pass a small",
    ),
    "a push without bound": (
        lambda: integrated("logdet", W0=np.array([[0.1, 0.0], [0.1, 0.0]])),
        "`floor` is 0, but C at the start has an eigenvalue of",
    ),
    "weights of another width": (
        lambda: integrated(W0=np.ones((1, 3))),
        "`W0` must be (d, m) with m = 2 features; got shape (1, 3)",
    ),
    "no time": (
        lambda: flow.integrate_accelerated(W, EYE, np.zeros(1), method="plain"),
        "`t` holds no time after 0; nothing has happened yet",
    ),
    "whitening with a negative mode": (
        lambda: dynamics.whitened(NOW, W, np.diag([1.0, -0.5])),
        "`Gamma` must be positive definite; its least eigenvalue is -0.5",
    ),
    "rows that depend on each other": (
        lambda: dynamics.whitened(NOW, np.ones((2, 2)), EYE),
        "`W0` has linearly dependent rows, and so it stays",
    ),
    "no steps": (
        lambda: flow.descend_accelerated(W, EYE, lr=0.1, steps=0, method="plain"),
        "`steps` must be at least 1; got 0",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_rate_beyond_every_bound_is_stopped_and_said():
    with pytest.raises(RuntimeError, match=r"'plain' diverged at step \d+ with `lr` 5"):
        flow.descend_accelerated(0.5 * EYE, EYE, lr=5.0, steps=50, method="plain")
