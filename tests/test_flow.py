"""The numerical flow: limits, its agreement with plain loops, and what it refuses."""

import re

import numpy as np
import pytest

from pkg import dynamics, flow, spectra


def loss_of(W, x, x_prime):
    """The loss as its definition reads, pair by pair."""
    C = sum(
        np.outer(W @ a, W @ b) + np.outer(W @ b, W @ a)
        for a, b in zip(x, x_prime, strict=True)
    ) / (2 * len(x))
    return np.sum((C - np.eye(len(W))) ** 2)


def numerical_gradient(W, x, x_prime, h=1e-6):
    gradient = np.zeros_like(W)
    for index in np.ndindex(W.shape):
        bump = np.zeros_like(W)
        bump[index] = h
        gradient[index] = (
            loss_of(W + bump, x, x_prime) - loss_of(W - bump, x, x_prime)
        ) / (2 * h)
    return gradient


def test_one_descent_step_follows_the_gradient_of_the_definition(rng):
    x, x_prime = rng.standard_normal((2, 4, 9))
    W0 = 0.3 * rng.standard_normal((2, 9))
    run = flow.descend(W0, x, x_prime, lr=0.01, steps=1)
    expected = W0 - 0.01 * numerical_gradient(W0, x, x_prime)
    # Central differences of a quartic: 1e-9 here.
    np.testing.assert_allclose(run.weights, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(run.loss[0], loss_of(W0, x, x_prime), rtol=1e-12)
    np.testing.assert_allclose(run.loss[1], loss_of(expected, x, x_prime), rtol=1e-7)


@pytest.mark.parametrize(
    ("loss", "lambd", "beta"),
    [("barlow_twins", 0.2, 1.0), ("spectral", 1.0, 1.0), ("vicreg", 1.0, 1.7)],
)
def test_every_flow_runs_down_its_own_loss(loss, lambd, beta, rng):
    """The loss falls at -||dW/dt||^2, measured over a short time."""
    x, x_prime = rng.standard_normal((2, 20, 4))
    x_prime = x + 0.5 * x_prime
    Gamma = dynamics.cross_correlation(x, x_prime)
    Sigma = None if loss == "barlow_twins" else dynamics.second_moment(x, x_prime)
    W0, h = 0.3 * rng.standard_normal((3, 4)), 1e-5
    settings = {"loss": loss, "lambd": lambd, "beta": beta, "Sigma": Sigma}
    run = flow.integrate(W0, Gamma, np.array([0.0, h]), **settings)
    speed = (run.weights - W0) / h
    slope = (run.loss[1] - run.loss[0]) / h
    assert slope == pytest.approx(-np.sum(speed**2), rel=1e-2)
    # And it is the gradient of that loss, entry by entry.
    gradient = np.zeros_like(W0)
    for index in np.ndindex(W0.shape):
        bump = np.zeros_like(W0)
        bump[index] = 1e-5
        up, down = (
            flow.integrate(W0 + s * bump, Gamma, np.array([0.0, 1e-9]), **settings)
            for s in (1, -1)
        )
        gradient[index] = (up.loss[0] - down.loss[0]) / 2e-5
    np.testing.assert_allclose(speed, -gradient, rtol=2e-2, atol=1e-2)


def test_a_batch_is_measured_on_all_pairs_and_repeats_with_its_seed(rng):
    """What a batch decides is where to go next, not what is recorded."""
    x, x_prime = rng.standard_normal((2, 50, 4))
    W0 = 0.1 * rng.standard_normal((2, 4))
    Gamma = dynamics.cross_correlation(x, x_prime)
    for estimator in ("paired", "split"):
        runs = [
            flow.descend(W0, x, x_prime, lr=0.01, steps=20, batch=8, record_every=5,
                         estimator=estimator, rng=np.random.default_rng(7))
            for _ in range(2)
        ]  # fmt: skip
        np.testing.assert_array_equal(runs[0].weights, runs[1].weights)
        W = runs[0].weights
        ranked = spectra.top_eigenvalues(W @ Gamma @ W.T)
        np.testing.assert_allclose(runs[0].eigenvalues[-1], ranked, atol=1e-12)
        assert estimator in runs[0].source


def test_descent_in_the_span_is_descent_in_all_features(rng):
    """With m > 2n the basis changes nothing: the same trajectory by plain loops."""
    x, x_prime = rng.standard_normal((2, 5, 40))
    W = W0 = 0.01 * rng.standard_normal((3, 40))
    Q = spectra.span(x, x_prime)
    run = flow.descend(W0 @ Q, x @ Q, x_prime @ Q, lr=1e-3, steps=300)
    Gamma = dynamics.cross_correlation(x, x_prime)
    for _ in range(300):
        W = W - 4e-3 * (W @ Gamma @ W.T - np.eye(3)) @ W @ Gamma
    outside = W0 - W0 @ Q @ Q.T  # sees no gradient, so it never moves
    np.testing.assert_allclose(run.weights @ Q.T + outside, W, atol=1e-12)


def test_descent_approaches_the_flow_linearly_in_the_learning_rate(rng):
    x, x_prime = rng.standard_normal((2, 30, 4))
    x_prime = x + 0.3 * x_prime
    W0 = 0.1 * rng.standard_normal((2, 4))
    Gamma = dynamics.cross_correlation(x, x_prime)
    errors = []
    for steps in (400, 800, 1600):
        run = flow.descend(W0, x, x_prime, lr=1.0 / steps, steps=steps)
        exact = flow.integrate(W0, Gamma, run.t)
        errors.append(np.abs(run.eigenvalues - exact.eigenvalues).max())
    ratios = np.array(errors[:-1]) / errors[1:]
    np.testing.assert_allclose(ratios, 2.0, rtol=0.1)


def test_rotating_the_outputs_changes_no_eigenvalue(rng):
    Gamma = np.diag([1.0, 0.4, -0.2])
    W0 = 0.05 * rng.standard_normal((2, 3))
    turn, _ = np.linalg.qr(rng.standard_normal((2, 2)))
    t = np.linspace(0, 5, 20)
    a, b = flow.integrate(W0, Gamma, t), flow.integrate(turn @ W0, Gamma, t)
    np.testing.assert_allclose(a.eigenvalues, b.eigenvalues, rtol=0, atol=1e-9)


def test_the_flow_begins_where_it_is_told(rng):
    W0, Gamma = rng.standard_normal((2, 3)), np.diag([1.0, 0.4, -0.2])
    run = flow.integrate(W0, Gamma, np.array([0.0, 0.1]))
    ranked = spectra.top_eigenvalues(W0 @ Gamma @ W0.T)
    np.testing.assert_allclose(run.eigenvalues[0], ranked, atol=1e-12)


def test_recording_sparsely_keeps_the_start_and_the_end(rng):
    x, x_prime = rng.standard_normal((2, 6, 3))
    run = flow.descend(
        0.1 * np.eye(2, 3), x, x_prime, lr=0.01, steps=25, record_every=10
    )
    np.testing.assert_array_equal(run.step, [0, 10, 20, 25])
    np.testing.assert_allclose(run.t, 0.01 * run.step)


ONES, NOW = np.ones((1, 2)), np.array([0.0, 1.0])
VIEWS = np.arange(12.0).reshape(4, 3)
REFUSALS = {
    "an unknown loss": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, loss="spectrum"),
        ValueError,
        "`loss` is 'spectrum', which is not known; did you mean 'spectral'?",
    ),
    "a loss without its second moment": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, loss="vicreg"),
        ValueError,
        "`Sigma` is missing: pass the second moment of the views with loss 'vicreg'",
    ),
    "a second moment that no one reads": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, Sigma=np.eye(2)),
        ValueError,
        "`Sigma` is given: leave out",
    ),
    "a second moment of another size": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, Sigma=np.eye(3), loss="spectral"),
        ValueError,
        "`Sigma` must be (2, 2) like `Gamma`; got (3, 3)",
    ),
    "a lambda that no one reads": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, Sigma=np.eye(2), loss="spectral",
                               lambd=0.5),
        ValueError,
        "`lambd` is 0.5, but only loss 'barlow_twins' has a lambd",
    ),
    "a beta that no one reads": (
        lambda: flow.integrate(ONES, np.eye(2), NOW, beta=0.5),
        ValueError,
        "`beta` is 0.5, but only loss 'vicreg' has a beta",
    ),
    "an odd batch in two halves": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=1e-3, steps=3, batch=3,
                             estimator="split", rng=np.random.default_rng(0)),
        ValueError,
        "`batch` is 3; the split estimator needs two equal halves",
    ),
    "batches without a generator": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=1e-3, steps=3, batch=2),
        ValueError,
        "`rng` is missing: batches are drawn at random",
    ),
    "a generator without batches": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=1e-3, steps=3,
                             rng=np.random.default_rng(0)),
        ValueError,
        "`estimator` and `rng` need a `batch`",
    ),
    "an unknown estimator": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=1e-3, steps=3, batch=2,
                             estimator="splitt", rng=np.random.default_rng(0)),
        ValueError,
        "did you mean 'split'?",
    ),
    "no time after the start": (
        lambda: flow.integrate(np.ones((1, 2)), np.eye(2), np.array([0.0])),
        ValueError,
        "`t` holds no time after 0",
    ),
    "no tolerance": (
        lambda: flow.integrate(np.ones((1, 2)), np.eye(2), np.array([1.0]), rtol=0.0),
        ValueError,
        "`rtol` must be finite and positive",
    ),
    "a start beyond every bound": (
        lambda: flow.descend(np.full((2, 3), 1e6), VIEWS, VIEWS, lr=0.1, steps=3),
        RuntimeError,
        "`W0` is too large to descend from",
    ),
    "views with a hole": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS * np.nan, lr=0.1, steps=3),
        ValueError,
        "`x_prime` must be finite; entry (0, 0) is nan",
    ),
    "a width that does not fit": (
        lambda: flow.descend(np.ones((2, 5)), VIEWS, VIEWS, lr=0.1, steps=3),
        ValueError,
        "`W0` must be (d, m) with m = 3 features; got shape (2, 5)",
    ),
    "no rate": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=0.0, steps=3),
        ValueError,
        "`lr` must be finite and positive; it is 0",
    ),
    "no steps": (
        lambda: flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=0.1, steps=0),
        ValueError,
        "`steps` must be at least 1; got 0",
    ),
    "an asymmetric Gamma": (
        lambda: flow.integrate(np.ones((1, 2)), np.array([[1.0, 2.0], [0.0, 1.0]]),
                               np.array([0.0, 1.0])),
        ValueError,
        "`Gamma` must be symmetric",
    ),
    "unsorted times": (
        lambda: flow.integrate(np.ones((1, 2)), np.eye(2), np.array([1.0, 0.5])),
        ValueError,
        "`t` must increase; entry 1 is 0.5 after 1",
    ),
}  # fmt: skip


def test_a_rate_beyond_stability_is_named_and_a_divergence_is_an_error():
    """Warned before the first step, stopped at the step that leaves every bound."""
    with (
        pytest.warns(UserWarning, match=r"settles only below 1 / \(4 gamma_1\) = 0.00"),
        pytest.raises(RuntimeError, match="diverged by step 1 with `lr` 10"),
    ):
        flow.descend(np.ones((2, 3)), VIEWS, VIEWS, lr=10.0, steps=50)


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, kind, message = REFUSALS[case]
    with pytest.raises(kind, match=re.escape(message)):
        call()
