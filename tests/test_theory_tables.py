"""The claims of the linear theory, measured: each number comes from a run.

Sections follow the story: aligned starts, generic starts, modes that cannot be learned,
descent, the weight lambda, losses that see Sigma, minibatches. Where a start is random,
several seeds are run and the median and the spread are held.
"""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkg import dynamics, flow, spectra

SPECTRUM = np.array([1.0, 0.6, 0.36, 0.2, 0.1, -0.1, -0.3])


def rotated(values, rng, *more):
    """Symmetric matrices with these eigenvalues in one random basis, and the basis."""
    basis, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    matrices = [basis @ np.diag(v) @ basis.T for v in (values, *more)]
    return *[(M + M.T) / 2 for M in matrices], basis


def weights_along(W0, Gamma, t):
    """W(t) of Barlow Twins, (T, d, m): `flow.integrate` keeps only the last."""
    d, m = W0.shape

    def velocity(_, flat):
        W = flat.reshape(d, m)
        return (-4 * (W @ Gamma @ W.T - np.eye(d)) @ W @ Gamma).ravel()

    span = (0.0, t[-1])
    run = solve_ivp(
        velocity, span, W0.ravel(), "DOP853", t_eval=t, rtol=1e-11, atol=1e-14
    )
    return run.y.T.reshape(len(t), d, m)


def aligned(t, start):
    s = dynamics.singular_values(t, start.gammas, start.s0)
    return np.einsum("ij,tj,mj->tim", start.U, s, start.V)


def outside(W, V):
    """Norm of the part of W's row space in the columns of V."""
    return np.linalg.norm(np.linalg.qr(W.T)[0].T @ V)


# Aligned starts.


def test_each_step_lowers_the_loss_by_one():
    """Between well separated steps the loss stands at d, d - 1, ..., 0."""
    gammas, s0 = np.array([1.0, 0.2, 0.04]), 1e-6
    tau = dynamics.step_times(gammas, s0)
    between = np.append(np.append(0.0, np.sqrt(tau[:-1] * tau[1:])), 3 * tau[-1])
    loss = dynamics.closed_form(between, gammas, s0).loss
    np.testing.assert_allclose(loss, [3, 2, 1, 0], atol=1e-4)


def test_widths_are_those_of_the_curve():
    """From a tenth to nine tenths in 0.549 / gamma, whatever the start."""
    gammas = np.array([2.0, 1.0, 0.3])
    widths = dynamics.step_widths(gammas)
    np.testing.assert_allclose(widths, 0.549 / gammas, rtol=1e-3)
    for s0 in (1e-2, 1e-8):
        tau = dynamics.step_times(gammas, s0)
        t = np.linspace(0.0, tau[-1] + 3.0, 40_000)
        run = dynamics.closed_form(t, gammas, s0).eigenvalues
        ends = [spectra.crossing_times(t, run, level) for level in (0.1, 0.9)]
        np.testing.assert_allclose(ends[1] - ends[0], widths, rtol=1e-4)


def test_the_small_start_form_is_later_by_the_logarithm_of_what_is_left():
    gammas, s0 = np.array([3.0, 1.0, 0.2]), np.array([0.3, 1e-2, 1e-6])
    c0 = gammas * s0**2
    exact = dynamics.step_times(gammas, s0)
    small = dynamics.step_times(gammas, s0, small_start=True)
    np.testing.assert_allclose(small, -np.log(c0) / (8 * gammas), rtol=1e-13)
    gap = -np.log1p(-c0) / (8 * gammas)
    np.testing.assert_allclose(small - exact, gap, atol=1e-12)


def test_no_feasible_weights_have_less_norm_than_the_bound(rng):
    """Random W with C = I for an indefinite Gamma: never below 4.92857."""
    Gamma, _ = rotated(np.array([1.0, 0.7, 0.4, 0.2, -0.3]), rng)
    bound = np.sum(dynamics.final_weights(Gamma, 3) ** 2)
    assert bound == pytest.approx(4.92857, abs=1e-5)
    Ws = rng.standard_normal((20_000, 3, 5))
    Cs = Ws @ Gamma @ Ws.transpose(0, 2, 1)
    feasible = np.linalg.eigvalsh(Cs)[:, 0] > 1e-9
    Ws = np.linalg.solve(np.linalg.cholesky(Cs[feasible]), Ws[feasible])
    norms = np.sum(Ws**2, axis=(1, 2))
    assert feasible.sum() > 1000
    assert bound - 1e-9 < norms.min() < 1.1 * bound


# Generic starts.


@pytest.mark.slow
def test_errors_of_a_generic_start_vanish_with_the_predicted_powers():
    """Weights as alpha^0.400, subspace as alpha^0.444, times much faster."""
    order = dynamics.error_order(SPECTRUM, 3)
    assert (order.weights, order.subspace) == pytest.approx((0.4, 4 / 9))
    scales = (1e-1, 1e-2, 1e-4, 1e-6, 1e-8)
    errors = np.array([[_errors(scale, seed) for seed in range(5)] for scale in scales])
    weights, subspace, times = np.median(errors, axis=1).T
    # Medians of five seeds; single seeds lie within a factor of three of them.
    measured = [0.96, 0.37, 0.060, 0.0094, 0.0015]
    np.testing.assert_allclose(weights, measured, rtol=0.1)
    measured = [0.33, 0.10, 0.011, 0.0014, 1.8e-4]
    np.testing.assert_allclose(subspace, measured, rtol=0.15)
    spread = errors[..., :2] / np.median(errors, axis=1)[:, None, :2]
    assert spread.min() > 1 / 3.5 and spread.max() < 3.5
    slopes = np.log(errors[3, :, :2] / errors[4, :, :2]) / np.log(100)
    np.testing.assert_allclose(slopes[:, 0], order.weights, atol=0.015)
    np.testing.assert_allclose(slopes[:, 1], order.subspace, atol=0.002)
    assert np.all(times[1:] < [0.02, 2e-4, 1e-4, 1e-4])  # the last two: the time grid


def _errors(scale, seed):
    """Sup over t of the distance to W*, final subspace error, error of the times."""
    rng = np.random.default_rng(seed)
    Gamma, _ = rotated(SPECTRUM, rng)
    W0 = scale * rng.standard_normal((3, 7))
    start = dynamics.effective_start(W0, Gamma)
    c0 = np.minimum(start.gammas * start.s0**2, 0.1)
    t = np.linspace(0.0, 3.0 - 1.5 * np.log(c0.min()) / (8 * 0.36), 3000)
    Ws = weights_along(W0, Gamma, t)
    distance = np.sqrt(np.sum((Ws - aligned(t, start)) ** 2, axis=(1, 2))).max()
    V = spectra.top_eigenpairs(Gamma)[1]
    Cs = Ws @ Gamma @ Ws.transpose(0, 2, 1)
    half = spectra.crossing_times(t, np.linalg.eigvalsh(Cs)[:, ::-1])
    late = 0.0
    if scale < 0.1:  # at 0.1 a mode may start half learned
        late = np.abs(half / dynamics.step_times(start.gammas, start.s0) - 1).max()
    return distance, outside(Ws[-1], V[:, 3:]), late


def test_a_negative_mode_left_out_raises_the_order_of_the_subspace_above_one():
    """gamma = (1, .3 | -.2): the subspace error falls as alpha^1.2, and no less."""
    gammas = np.array([1.0, 0.3, -0.2])
    order = dynamics.error_order(gammas, 2)
    assert (order.weights, order.subspace) == pytest.approx((0.7, 1.2))
    slopes = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        Gamma, basis = rotated(gammas, rng)
        W = rng.standard_normal((2, 3))
        t = np.array([0.0, 25.0])
        errors = [
            outside(weights_along(scale * W, Gamma, t)[-1], basis[:, 2:])
            for scale in (1e-3, 1e-4)
        ]
        slopes.append(np.log10(errors[0] / errors[1]))
    np.testing.assert_allclose(slopes, 1.2, atol=0.01)


def test_orders_of_error_at_the_edges():
    """A tie, a mode that stands still, no mode left, and a single one."""
    assert dynamics.error_order(np.array([1.0, 0.5, 0.5]), 2).subspace == 0.0
    assert dynamics.error_order(np.array([1.0, 0.5, 0.5]), 2).weights == 0.0
    assert dynamics.error_order(np.array([1.0, 0.0]), 1).subspace == 1.0
    whole = dynamics.error_order(np.array([1.0, 0.4]), 2)
    assert whole.subspace == np.inf and whole.weights == pytest.approx(0.6)
    # W(0) itself is off by alpha: no order of the weights is above one.
    assert dynamics.error_order(np.array([1.0, -0.4]), 1).weights == 1.0


def test_in_a_tie_singular_values_are_right_and_the_qr_diagonal_is_not():
    """gamma = (1, .5, .5, .5, .1), five seeds: 1e-3 against percents."""
    gammas = np.array([1.0, 0.5, 0.5, 0.5, 0.1])
    blocked, apart = [], []
    for seed in range(5):
        start, measured = _race(gammas, seed, d=4)
        assert start.blocks == ((0, 1), (1, 4)) and start.near_ties == ()
        for s0, errors in ((start.s0, blocked), (start.s0_apart, apart)):
            predicted = np.sort(dynamics.step_times(start.gammas, s0))
            errors.append(np.abs(measured / predicted - 1).max())
    assert max(blocked) < 2e-3
    assert np.median(apart) > 0.01


def _race(gammas, seed, d, scale=1e-3):
    """An effective start and the measured step times."""
    rng = np.random.default_rng(seed)
    Gamma, _ = rotated(gammas, rng)
    W0 = scale * rng.standard_normal((d, len(gammas)))
    start = dynamics.effective_start(W0, Gamma)
    end = 1.4 * dynamics.step_times(start.gammas, start.s0).max()
    t = np.linspace(0.0, end, 4000)
    run = flow.integrate(W0, Gamma, t, rtol=1e-9, atol=1e-13)
    return start, spectra.crossing_times(t, run.eigenvalues)


def test_near_ties_are_reported_with_both_predictions():
    """Wide gaps are taken apart, narrow ones together, and both are told."""
    rng = np.random.default_rng(0)
    W0 = 1e-3 * rng.standard_normal((3, 4))
    wide, _ = rotated(np.array([1.0, 0.5, 0.25, 0.1]), rng)
    start = dynamics.effective_start(W0, wide)
    assert start.near_ties == ()
    np.testing.assert_allclose(start.s0_together, start.s0_apart, rtol=1e-10)
    near, _ = rotated(np.array([1.0, 0.50, 0.49, 0.1]), rng)
    start = dynamics.effective_start(W0, near)
    assert start.near_ties == ((1, 3),)
    assert np.abs(start.s0_together / start.s0_apart - 1)[1:].max() > 0.01
    np.testing.assert_allclose(start.s0, start.s0_apart)
    # The product over a block is its determinant, whatever the reading.
    blocks = np.prod(start.s0_together[1:]), np.prod(start.s0_apart[1:])
    assert blocks[0] == pytest.approx(blocks[1])


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9])
def test_the_two_readings_change_places_at_the_threshold(scale):
    """Ten times inside, at, and three times beyond 0.3 / ln(1/s0), eight seeds."""
    threshold = 0.3 / np.log(1 / scale)
    apart, together = {}, {}
    for factor in (0.1, 0.9, 3.0):
        gammas = np.array([1.0, 0.5, 0.5 * (1 - factor * threshold), 0.02])
        errors = []
        for seed in range(8):
            start, measured = _race(gammas, seed, d=3, scale=scale)
            readings = start.s0_apart, _together(seed, gammas, scale)
            errors.append([
                np.abs(np.sort(dynamics.step_times(start.gammas, s0)) - measured)[1:]
                for s0 in readings
            ])  # fmt: skip
        # In units of 1 / (8 gamma), mean of the two modes, median of the seeds.
        errors = 8 * 0.5 * np.median(np.mean(errors, axis=2), axis=0)
        apart[factor], together[factor] = errors
    assert together[0.1] < 0.05 < 0.3 < apart[0.1]
    assert 0.1 < apart[0.9] < 0.3 and 0.1 < together[0.9] < 0.3
    assert apart[3.0] < 0.06 < together[3.0]


def _together(seed, gammas, scale):
    """Singular values of the block of modes 2 and 3, whatever the threshold says."""
    rng = np.random.default_rng(seed)
    Gamma, _ = rotated(gammas, rng)
    W0 = scale * rng.standard_normal((3, len(gammas)))
    gap = 1.01 * (1 - gammas[2] / gammas[1])
    return dynamics.effective_start(W0, Gamma, tie_tol=gap).s0


# Modes that cannot be learned.


@pytest.mark.parametrize(("d", "left"), [(3, 0.0), (5, 2.0), (6, 3.0)])
def test_what_has_no_positive_mode_costs_one_each(d, left):
    """n_+ = 3: the loss ends at d - 3."""
    gammas = np.array([1.0, 0.6, 0.4, -0.1, -0.2, -0.5])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        Gamma, _ = rotated(gammas, rng)
        W0 = 1e-7 * rng.standard_normal((d, 6))
        run = flow.integrate(W0, Gamma, np.array([0.0, 60.0]))
        assert run.loss[-1] == pytest.approx(left, abs=1e-5)


def test_the_part_of_the_start_on_a_zero_mode_never_moves(rng):
    gammas = np.array([1.0, 0.5, 0.0, -0.2])
    Gamma = np.diag(gammas)
    W0 = 1e-3 * rng.standard_normal((2, 4))
    run = flow.integrate(W0, Gamma, np.array([0.0, 30.0]))
    np.testing.assert_allclose(run.weights[:, 2], W0[:, 2], rtol=0, atol=1e-14)


# Descent.


@pytest.mark.parametrize(
    ("kappa", "slower", "within", "sup"),
    [
        (0.004, 1.002, 3e-4, 0.005),
        (0.02, 1.009, 1.5e-3, 0.023),
        (0.1, 1.042, 7e-3, 0.11),
        (0.4, 1.16, 2.5e-2, 0.40),
        (0.8, 1.31, 4e-2, 0.60),
    ],
)
def test_descent_is_later_than_the_flow_as_predicted(kappa, slower, within, sup):
    """Measured over predicted time, the corrected formula, and the pointwise gap."""
    gamma, s0, lr = 1.0, 1e-3, kappa / 4
    steps = int(6.0 / lr)
    s = np.empty(steps + 1)
    s[0] = s0
    for k in range(steps):
        s[k + 1] = s[k] * (1 + kappa * (1 - s[k] ** 2))
    t, gammas = lr * np.arange(steps + 1), np.array([gamma])
    measured = spectra.crossing_times(t, s[:, None] ** 2)
    plain = dynamics.step_times(gammas, s0)
    corrected = dynamics.step_times(gammas, s0, lr=lr)
    assert measured / plain == pytest.approx(slower, abs=6e-3)
    np.testing.assert_allclose(corrected, measured, rtol=within)
    gap = np.abs(s - dynamics.singular_values(t, gammas, s0)[:, 0]).max()
    assert gap == pytest.approx(sup, rel=0.1)


def test_descent_has_the_fates_that_the_curvature_predicts():
    """kappa = 4 lr gamma: monotone, damped, a two-cycle, chaos, divergence."""

    def orbit(kappa, steps=4000, s=0.1):
        values = []
        for _ in range(steps):
            s = s * (1 + kappa * (1 - s**2))
            if abs(s) > 1e6:
                return None
            values.append(s)
        return np.array(values)

    assert np.all(np.diff(orbit(0.5)) > -1e-12)  # lr = stable_lr(monotone=True)
    damped = orbit(0.9)
    assert damped.max() > 1.01 and abs(damped[-1] - 1) < 1e-12
    cycle = np.sort(orbit(1.05)[-2:])  # two values whose product is 1 / kappa
    assert np.prod(cycle) == pytest.approx(1 / 1.05)
    np.testing.assert_allclose(cycle**2, [0.762, 1.190], atol=1e-3)
    for kappa in (1.5, 1.95):
        assert len(np.unique(orbit(kappa)[-200:].round(3))) > 50
    assert orbit(2.05) is None
    gammas = np.array([0.8, 0.2])
    assert dynamics.stable_lr(gammas) == 2 * dynamics.stable_lr(gammas, monotone=True)


def test_the_curvature_at_the_end_is_eight_gamma_and_four_times_sums():
    """Hessian of the loss at C = I, by differences of the flow's own velocity."""
    gammas, h = np.array([1.0, 0.6, 0.25]), 1e-5
    Gamma = np.diag(gammas)
    W = dynamics.final_weights(Gamma, 3)

    def gradient(W):
        return 4 * (W @ Gamma @ W.T - np.eye(3)) @ W @ Gamma

    columns = []
    for direction in np.eye(9).reshape(9, 3, 3):
        ahead, behind = gradient(W + h * direction), gradient(W - h * direction)
        columns.append(((ahead - behind) / (2 * h)).ravel())
    curvature = np.linalg.eigvalsh(np.array(columns))
    sums = [4 * (gammas[j] + gammas[k]) for j, k in ((0, 1), (0, 2), (1, 2))]
    expected = np.sort([0, 0, 0, *(8 * gammas), *sums])  # zeros: turns of the outputs
    np.testing.assert_allclose(curvature, expected, atol=1e-7)


# The weight lambda.

TWOFOLD = np.array([1.0, 0.55, 0.3, 0.16, 0.08, -0.1])


def test_levels_are_those_of_the_formula_and_of_one():
    found = dynamics.levels(4, 0.1)
    np.testing.assert_allclose(found.eigenvalue[:2], [0, 4 / 1.3])
    assert found.loss[0] == 4 and found.loss[1] == pytest.approx(4 - 1 / 0.325)
    assert found.slowdown[0] == 1 and found.slowdown[1] == pytest.approx(0.4 / 1.3)
    for lambd in (1.0, 7.0):
        plain = dynamics.levels(5, lambd)
        np.testing.assert_allclose(plain.loss, np.arange(5, -1, -1.0))
        np.testing.assert_allclose(plain.slowdown, 1.0)
    wide = dynamics.levels(8192, 0.0051)
    assert wide.slowdown[1] == pytest.approx(0.977, abs=1e-3)
    assert wide.slowdown[4096] == pytest.approx(0.0101, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lambd", "peak", "loss", "end"),
    [
        (1.0, 1.0, 3.0, 25.0),
        (0.5, 1.6, 2.4, 38.0),
        (0.1, 3.077, 0.923, 60.0),
        (0.02, 3.774, 0.226, 160.0),
        (0.005, 3.941, 0.059, 160.0),
    ],
)
def test_a_small_lambda_overshoots_and_slows_what_comes_later(lambd, peak, loss, end):
    """d = 4, alpha = 1e-5, five seeds."""
    found = dynamics.levels(4, lambd)
    assert found.eigenvalue[1] == pytest.approx(peak, abs=5e-4)
    assert found.loss[1] == pytest.approx(loss, abs=5e-4)
    peaks, losses, ratios = [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        Gamma, _ = rotated(TWOFOLD, rng)
        W0 = 1e-5 * rng.standard_normal((4, 6))
        t = np.linspace(0.0, end, 4000)
        run = flow.integrate(W0, Gamma, t, lambd=lambd, rtol=1e-9, atol=1e-13)
        second = int(np.argmax(run.eigenvalues[:, 1] > 1e-2))
        peaks.append(run.eigenvalues[:second, 0].max() / found.eigenvalue[1])
        losses.append(run.loss[second] - found.loss[1])
        start = dynamics.effective_start(W0, Gamma)
        predicted = dynamics.step_times(start.gammas, start.s0, lambd=lambd)
        ratios.append(spectra.crossing_times(t, run.eigenvalues) / predicted)
    # At one half the outputs are not yet spread evenly, hence the wide tolerance.
    assert np.median(peaks) == pytest.approx(1.0, abs=0.025) and min(peaks) > 0.9
    assert abs(np.median(losses)) < 0.025 and np.abs(losses).max() < 0.1
    ratios = np.array(ratios)
    if lambd == 1.0:
        np.testing.assert_allclose(ratios, 1.0, atol=1e-4)
        return
    assert 0.97 < ratios[:, 0].min() and ratios[:, 0].max() < 1.0
    # The outputs need a time of order 1 / gamma_1 to spread, in which mode 2 grows at
    # its old rate: early by up to a third, the more the smaller lambda.
    assert 0.65 < ratios[:, 1].min() and ratios[:, 1].max() < 1.02
    if lambd >= 0.02:
        np.testing.assert_allclose(ratios[:, 2], 1.0, atol=0.1)
    if lambd == 0.5:
        np.testing.assert_allclose(ratios[:, 3], 1.0, atol=0.05)


def test_lambda_changes_nothing_for_one_mode_an_output(rng):
    """U = I with lambda above one, where that is stable: the same closed form."""
    gammas, s0 = np.array([1.0, 0.5]), np.array([1e-2, 2e-2])
    t = np.linspace(0.0, 8.0, 50)
    run = flow.integrate(np.diag(s0), np.diag(gammas), t, lambd=3.0)
    exact = dynamics.closed_form(t, gammas, s0)
    np.testing.assert_allclose(run.loss, exact.loss, atol=1e-8)


# Losses that see Sigma.

SIGMAS = np.array([1.5, 1.0, 0.8, 0.6, 0.4])
GAMMAS = np.array([1.2, 0.7, 0.3, 0.05, -0.1])


@pytest.mark.parametrize(
    ("loss", "beta"),
    # At beta = 1.6 the third mode has g = 0: only the brake is left.
    [("spectral", 1.0), *[("vicreg", beta) for beta in (0.5, 1.0, 1.6, 2.0)]],
)
def test_commuting_modes_of_vicreg_have_a_closed_form(loss, beta, rng):
    Gamma, Sigma, basis = rotated(GAMMAS, rng, SIGMAS)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    s0, t = np.array([1e-3, 2e-3, 1e-1]), np.linspace(0.0, 20.0, 60)
    W0 = turn @ np.diag(s0) @ basis[:, :3].T
    exact = dynamics.closed_form(
        t, GAMMAS[:3], s0, loss=loss, sigmas=SIGMAS[:3], beta=beta
    )
    run = flow.integrate(W0, Gamma, t, Sigma=Sigma, loss=loss, beta=beta)
    ranked = np.sort(exact.eigenvalues)[:, ::-1]
    # The integrator's own error; decaying modes are its worst case.
    np.testing.assert_allclose(run.eigenvalues, ranked, atol=1e-8)
    np.testing.assert_allclose(run.loss, exact.loss, atol=1e-8)
    assert run.matrix == exact.matrix == "covariance"


def test_the_spectral_loss_is_vicreg_less_d(rng):
    Gamma, Sigma, _ = rotated(GAMMAS, rng, SIGMAS)
    W0, t = 0.1 * rng.standard_normal((3, 5)), np.linspace(0.0, 5.0, 20)
    spectral = flow.integrate(W0, Gamma, t, Sigma=Sigma, loss="spectral")
    vicreg = flow.integrate(W0, Gamma, t, Sigma=Sigma, loss="vicreg")
    np.testing.assert_allclose(spectral.loss, vicreg.loss - 3, atol=1e-12)
    W = W0
    direct = -2 * np.trace(W @ Gamma @ W.T) + np.sum((W @ Sigma @ W.T) ** 2)
    assert spectral.loss[0] == pytest.approx(direct)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.3])
def test_vicreg_step_times_and_final_variances(beta):
    s0 = 1e-4
    modes = {"loss": "vicreg", "sigmas": SIGMAS[:3], "beta": beta}
    final = 1 - beta * (1 - GAMMAS[:3] / SIGMAS[:3])
    for j, tau in enumerate(dynamics.step_times(GAMMAS[:3], s0, **modes)):
        run = dynamics.closed_form(np.array([tau, 1e4]), GAMMAS[:3], s0, **modes)
        assert run.eigenvalues[0, j] == pytest.approx(final[j] / 2, rel=1e-12)
        np.testing.assert_allclose(run.eigenvalues[1], final, rtol=1e-12)
    plain = dynamics.step_times(GAMMAS[:3], s0, small_start=True)
    vicreg = dynamics.step_times(GAMMAS[:3], s0, small_start=True, **modes)
    if beta == 1.0:  # the same leading time as Barlow Twins, up to ln(rho) / (8 gamma)
        rhos = GAMMAS[:3] / SIGMAS[:3]
        gap = np.log(rhos**2) / (8 * GAMMAS[:3])
        np.testing.assert_allclose(vicreg - plain, gap, rtol=1e-12)


def test_the_threshold_of_beta_is_a_sign_of_g():
    """At g = 0 a mode decays as 1/t; beyond, exponentially; before, it is learned."""
    t, s0 = np.array([0.0, 1e3, 1e6]), 0.1
    gammas, sigmas = np.array([0.25]), np.array([0.5])
    for beta, fate in ((1.9, "learned"), (2.0, "brake"), (2.1, "gone")):
        run = dynamics.closed_form(
            t, gammas, s0, loss="vicreg", sigmas=sigmas, beta=beta
        )
        if fate == "learned":
            assert run.eigenvalues[-1, 0] == pytest.approx(0.05)
        elif fate == "brake":
            y0 = s0**2
            brake = sigmas[0] * y0 / (1 + 8 * sigmas[0] ** 2 * y0 * t)
            np.testing.assert_allclose(run.eigenvalues[:, 0], brake, rtol=1e-13)
        else:
            assert run.eigenvalues[-1, 0] == 0.0


@pytest.mark.parametrize("g", [1e-18, -1e-18, 1e-9, -1e-9, 1e-5])
def test_near_the_threshold_no_digits_are_lost(g):
    """As g goes to zero the formula goes to its limit y0 / (1 + 8 sigma^2 y0 t)."""
    t = np.array([0.5, 3.0, 40.0])
    run = dynamics.closed_form(
        t, np.array([g]), 0.7, loss="spectral", sigmas=np.array([0.9])
    )
    limit = 0.9 * 0.49 / (1 + 8 * 0.81 * 0.49 * t)
    np.testing.assert_allclose(run.eigenvalues[:, 0], limit, rtol=1e-13 + 400 * abs(g))


def test_a_late_mode_takes_the_place_of_an_earlier_one():
    """From the commuting solution, mode 3 enters at 8 beta sigma_k (rho_k - rho_j)."""
    sigmas, rhos = np.array([1.5, 1.0, 0.45]), np.array([0.6, 0.4, 0.9])
    gammas = sigmas * rhos
    Gamma, Sigma = np.diag(gammas), np.diag(sigmas)
    for loss, beta in (("spectral", 1.0), ("vicreg", 0.7)):
        rate = dynamics.swap_rate(gammas, sigmas, beta)
        assert rate[0, 2] > 0 and rate[1, 2] > 0 and np.all(rate[2] <= 0)
        # Settled on modes 1 and 2, in the order of g, with a trace of mode 3.
        W0 = np.diag(np.sqrt((1 - beta * (1 - rhos)) / sigmas))[:2]
        W0[1, 2] = 1e-6
        ends = [
            flow.integrate(W0, Gamma, np.array([0.0, t]), Sigma=Sigma, loss=loss,
                           beta=beta).weights[1, 2]
            for t in (2.0, 4.0)
        ]  # fmt: skip
        grown = np.log(ends[1] ** 2 / ends[0] ** 2) / 2.0
        assert grown == pytest.approx(rate[1, 2], rel=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1e-6])
def test_the_final_set_is_that_of_rho_and_barlow_twins_keeps_its_own(scale):
    """A generic start: g decides who comes first, rho who stays."""
    sigmas, rhos = np.array([1.5, 1.0, 0.45]), np.array([0.6, 0.55, 0.9])
    Gamma, Sigma = np.diag(sigmas * rhos), np.diag(sigmas)
    t = np.array([0.0, 8.0 if scale == 1e-6 else 5.0, 80.0])
    for seed in range(3):
        W0 = scale * np.random.default_rng(seed).standard_normal((2, 3))
        late = flow.integrate(W0, Gamma, t, Sigma=Sigma, loss="spectral")
        assert np.sum(late.weights[:, 1] ** 2) < 1e-6  # rho = 0.55 is gone
        np.testing.assert_allclose(late.eigenvalues[-1], [0.9, 0.6], atol=1e-6)
        stays = flow.integrate(W0, Gamma, t).weights
        assert np.sum(stays[:, 2] ** 2) < np.sum(stays[:, 1] ** 2)


def _apart(seed):
    """Sigma and Gamma that do not commute, with canonical correlations of choice."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((6, 6))
    Sigma = A @ A.T / 6 + 0.1 * np.eye(6)
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    root = np.linalg.cholesky(Sigma)
    rhos = np.array([0.95, 0.8, 0.6, 0.3, 0.1, -0.2])
    Gamma = root @ turn @ np.diag(rhos) @ turn.T @ root.T
    return (Gamma + Gamma.T) / 2, Sigma, rhos


@pytest.mark.parametrize("seed", range(3))
def test_without_a_common_basis_each_loss_has_its_own_end(seed):
    """Barlow Twins: top eigenvectors of Gamma. Spectral: generalised ones."""
    Gamma, Sigma, rhos = _apart(seed)
    W0 = 1e-5 * np.random.default_rng(seed).standard_normal((3, 6))
    late = np.array([0.0, 400.0])
    end = flow.integrate(W0, Gamma, late, Sigma=Sigma, loss="spectral", rtol=1e-8)
    theirs = dynamics.final_weights(Gamma, 3, Sigma=Sigma)
    assert spectra.subspace_overlap(end.weights.T, theirs.T) > 1 - 1e-6
    np.testing.assert_allclose(end.eigenvalues[-1], rhos[:3], atol=1e-6)
    np.testing.assert_allclose(theirs @ Sigma @ theirs.T, np.diag(rhos[:3]), atol=1e-12)
    np.testing.assert_allclose(
        end.weights.T @ end.weights, theirs.T @ theirs, atol=1e-4
    )
    plain = dynamics.final_weights(Gamma, 3)
    ours = flow.integrate(W0, Gamma, late, rtol=1e-8).weights
    assert spectra.subspace_overlap(ours.T, plain.T) > 0.99
    assert spectra.subspace_overlap(plain.T, theirs.T) < 0.9


def test_beta_scales_the_final_variances(rng):
    Gamma, Sigma, rhos = _apart(0)
    W = dynamics.final_weights(Gamma, 2, Sigma=Sigma, beta=1.4)
    variances = 1 - 1.4 * (1 - rhos[:2])
    np.testing.assert_allclose(W @ Sigma @ W.T, np.diag(variances), atol=1e-12)
    H = (1 - 1.4) * Sigma + 1.4 * Gamma
    rest = W @ H - (W @ Sigma @ W.T) @ W @ Sigma  # the flow stands still there
    np.testing.assert_allclose(rest, 0.0, atol=1e-12)


def test_the_first_step_has_the_rate_of_the_top_eigenvalue():
    """8 gamma_1 for the spectral loss, 8 lambda_1(H) for another beta."""
    Gamma, Sigma, _ = _apart(1)
    for beta in (1.0, 0.6):
        W0 = 1e-9 * np.random.default_rng(0).standard_normal((2, 6))
        H = (1 - beta) * Sigma + beta * Gamma
        top = spectra.top_eigenvalues(H, 1)[0]
        t = np.array([0.0, 10.0, 12.0]) / (8 * top)
        run = flow.integrate(
            W0, Gamma, 2.0 * t, Sigma=Sigma, loss="vicreg", beta=beta, atol=1e-18
        )
        rate = np.log(run.eigenvalues[2, 0] / run.eigenvalues[1, 0]) / (
            2 * (t[2] - t[1])
        )
        assert rate == pytest.approx(8 * top, rel=2e-2)


# Minibatches.


def gaussian_views(rhos, n, rng):
    """Pairs with unit variances and correlation rho_j in feature j."""
    x = rng.standard_normal((n, len(rhos)))
    return x, rhos * x + np.sqrt(1 - rhos**2) * rng.standard_normal(x.shape)


def settle(x, x_prime, batch, estimator, lr, seed, steps=2500):
    """Mean eigenvalue of the true C in the second half of a run."""
    d = x.shape[1]
    run = flow.descend(
        0.5 * np.eye(d), x, x_prime, lr=lr, steps=steps, batch=batch,
        estimator=estimator, rng=np.random.default_rng(seed), record_every=10,
    )  # fmt: skip
    return run.eigenvalues[len(run.t) // 2 :].mean()


@pytest.mark.parametrize(
    ("batch", "plateau"),
    [
        (16, 0.614),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((8, 0.443), (64, 0.864), (256, 0.962))
        ),
    ],
)
def test_minibatches_settle_below_one(batch, plateau, rng):
    """d = 8, rho = 0.9, three seeds; what is left is of the order of the rate."""
    rhos = np.full(8, 0.9)
    predicted = dynamics.batch_plateau(rhos, batch)
    np.testing.assert_allclose(predicted, 1 / (1 + 9 * (1 + 0.9**-2) / (2 * batch)))
    assert predicted[0] == pytest.approx(plateau, abs=5e-4)
    x, x_prime = gaussian_views(rhos, 40_000, rng)
    found = [
        settle(x, x_prime, batch, "paired", 0.003, seed, 1500) for seed in range(3)
    ]
    # Small batches are noisy: their mean over a run this short is.
    assert np.median(found) == pytest.approx(plateau, abs=0.05 / batch**0.5)
    assert np.ptp(found) < 0.05 / batch**0.5


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "within"), [(8, 0.03), (16, 0.015), (64, 0.005)])
def test_two_halves_have_no_bias(batch, within, rng):
    """The split estimator at the same batch: what is left is noise of order lr."""
    x, x_prime = gaussian_views(np.full(8, 0.9), 40_000, rng)
    found = [settle(x, x_prime, batch, "split", 0.002, seed) for seed in range(3)]
    assert np.median(found) == pytest.approx(1.0, abs=within)
    assert np.ptp(found) < 2 * within


@pytest.mark.slow
def test_unequal_correlations_share_the_bias_unequally(rng):
    """The linear system, mode by mode: a sorted spectrum would spread by its noise."""
    rhos, lr = np.array([0.95, 0.8, 0.6]), 0.004
    predicted = dynamics.batch_plateau(rhos, 16)
    x, x_prime = gaussian_views(rhos, 20_000, rng)
    gammas = np.diag(dynamics.cross_correlation(x, x_prime))
    W, kept = np.diag(np.sqrt(predicted / gammas)), []
    for _ in range(150):
        W = flow.descend(
            W, x, x_prime, lr=lr, steps=60, batch=16, rng=rng, record_every=60
        ).weights
        kept.append(gammas * np.sum(W**2, axis=0))
    np.testing.assert_allclose(np.mean(kept[10:], axis=0), predicted, atol=0.015)
    assert predicted[0] - predicted[2] > 0.08


def test_a_mode_that_small_batches_never_learn_has_plateau_zero():
    plateau = dynamics.batch_plateau(np.array([0.99, 0.99, 0.99, 0.2]), 2)
    assert plateau[3] == 0.0 and np.all(plateau[:3] > 0)


def test_each_estimator_has_the_mean_that_is_claimed(rng):
    """Of 30 times 150 batches of four: split is the true gradient, paired is not."""
    x, x_prime = gaussian_views(np.full(3, 0.8), 200, rng)
    W, lr, steps = 0.5 * rng.standard_normal((2, 3)), 1e-9, 150
    Gamma = dynamics.cross_correlation(x, x_prime)
    truth = -4 * (W @ Gamma @ W.T - np.eye(2)) @ W @ Gamma
    for estimator in ("paired", "split"):
        means = []
        for _ in range(30):
            # So slow that W stays where it is: the way gone is the mean gradient.
            run = flow.descend(
                W,
                x,
                x_prime,
                lr=lr,
                steps=steps,
                batch=4,
                estimator=estimator,
                rng=rng,
                record_every=steps,
            )
            means.append((run.weights - W) / (lr * steps))  # fmt: skip
        spread = np.std(means, axis=0) / np.sqrt(len(means))
        off = np.abs(np.mean(means, axis=0) - truth) / spread
        assert (off.max() < 4.5) == (estimator == "split")


def test_noise_does_not_raise_the_rank(rng):
    """Noise multiplies: outputs that start on a line stay on it."""
    x, x_prime = gaussian_views(np.full(5, 0.9), 2000, rng)
    W0 = 1e-2 * np.outer(rng.standard_normal(3), rng.standard_normal(5))
    run = flow.descend(W0, x, x_prime, lr=0.01, steps=500, batch=16, rng=rng)
    s = np.linalg.svd(run.weights, compute_uv=False)
    # Round-off of 1e-18 grows like everything else.
    assert s[0] > 0.5 and s[1] < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "within"), [(128, 0.03), (16, 0.08)])
def test_small_batches_keep_the_time_of_the_first_step(batch, within):
    """Fresh batches, alpha = 1e-3: within 3 % at B = 128, 8 % at B = 16."""
    sigmas, ratios = np.array([2.0, 1.2, 0.7]), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, x_prime = gaussian_views(np.full(3, 0.9), 50_000, rng)
        x, x_prime = x * np.sqrt(sigmas), x_prime * np.sqrt(sigmas)
        Gamma, lr = dynamics.cross_correlation(x, x_prime), 0.01
        W0 = 1e-3 * rng.standard_normal((2, 3))
        start = dynamics.effective_start(W0, Gamma)
        predicted = dynamics.step_times(start.gammas, start.s0, lr=lr)
        steps = int(1.5 * predicted[-1] / lr)
        run = flow.descend(W0, x, x_prime, lr=lr, steps=steps, batch=batch, rng=rng)
        ratios.append(spectra.crossing_times(run.t, run.eigenvalues) / predicted)
    median = np.median(ratios, axis=0)
    np.testing.assert_allclose(median, 1.0, atol=within)
