"""The minibatch figure: its steps against NumPy's, its plateau against dynamics."""

import json

import numpy as np
import pytest

from pkg import dynamics, widgets
from tests.figure_page import refuses, show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

STATE = {"batch": 16, "d": 4, "rho": 0.9, "estimator": "paired", "seed": 1}


def run(**state) -> tuple[np.ndarray, float]:
    """A whole descent of the figure: eigenvalues (T, d) and the plateau it measures."""
    [points] = node(
        source("minibatch_math"), ["wholeDescent", STATE | state, 1e-2, 12.0, 120]
    )
    [level] = node(source("minibatch_math"), ["measuredLevel", points])
    return np.array([point["eigenvalues"] for point in points]), level


def estimate(W, x, x_prime):
    """C and W Gamma as one batch sees them."""
    product = x.T @ x_prime
    Gamma = (product + product.T) / (2 * len(x))
    return W @ Gamma @ W.T, W @ Gamma


@pytest.mark.parametrize("batch", [2, 5, 64])
@pytest.mark.parametrize("estimator", ["paired", "split"])
def test_a_step_is_the_one_that_numpy_takes(rng, batch, estimator):
    d, m, lr = 3, 5, 0.02
    W = 0.4 * rng.standard_normal((d, m))
    x, x_prime = rng.standard_normal((2, batch, m))
    if estimator == "paired":
        C, W_Gamma = estimate(W, x, x_prime)
        gradient = 4 * (C - np.eye(d)) @ W_Gamma
    else:
        half = batch // 2
        C_1, W_Gamma_1 = estimate(W, x[:half], x_prime[:half])
        C_2, W_Gamma_2 = estimate(W, x[half:], x_prime[half:])
        gradient = 2 * ((C_1 - np.eye(d)) @ W_Gamma_2 + (C_2 - np.eye(d)) @ W_Gamma_1)
    flat = [array.ravel().tolist() for array in (W, x, x_prime)]
    [found] = node(source("minibatch_math"), ["stepped", *flat, m, lr, estimator])
    np.testing.assert_allclose(
        np.reshape(found, (d, m)), W - lr * gradient, rtol=1e-12, atol=1e-12
    )


def test_the_plateau_is_that_of_dynamics():
    cases = [
        (d, rho, B) for d in (1, 4, 10) for rho in (0.3, 0.9, 1.0) for B in (2, 99)
    ]
    found = node(source("minibatch_math"), *[["plateau", *case] for case in cases])
    expected = [dynamics.batch_plateau(np.full(d, rho), B) for d, rho, B in cases]
    for level, levels in zip(found, expected, strict=True):
        np.testing.assert_allclose(levels, level, rtol=1e-12)


@pytest.mark.parametrize("estimator", ["paired", "split"])
def test_the_flow_of_the_average_loss_is_its_gradient(estimator):
    """dc/dt = -4 gamma c dL/dc, L by finite differences; and its end is the plateau."""
    state = STATE | {"estimator": estimator, "batch": 8}
    rho, B, gammas = 0.9, 8, np.geomspace(1.0, 0.3, 4)

    def loss(c):
        bias = (c.sum() / rho) ** 2 + c.sum() ** 2 + np.sum((c / rho) ** 2) + c @ c
        return np.sum((1 - c) ** 2) + (estimator == "paired") * bias / (2 * B)

    t = np.concatenate([np.linspace(0.0, 6.0, 61), [400.0]])
    [found] = node(source("minibatch_math"), ["averageFlow", state, 1e-2, t.tolist()])
    c = np.array(found)
    assert c[0] == pytest.approx(gammas * 1e-4, rel=1e-12)
    for k in (10, 20, 40):
        # The curve's own slope, from a flow a little later and earlier.
        near = [t[k] - 1e-4, t[k] + 1e-4]
        [[early, late]] = node(
            source("minibatch_math"), ["averageFlow", state, 1e-2, near]
        )
        slope = (np.array(late) - np.array(early)) / 2e-4
        shift = 1e-6 * np.eye(4)
        gradient = [(loss(c[k] + e) - loss(c[k] - e)) / 2e-6 for e in shift]
        np.testing.assert_allclose(slope, -4 * gammas * c[k] * gradient, atol=2e-5)
    end = dynamics.batch_plateau(np.full(4, rho), B) if estimator == "paired" else 1.0
    np.testing.assert_allclose(c[-1], np.broadcast_to(end, 4), atol=1e-6)


def test_pairs_have_the_moments_they_should():
    d, rho, count = 3, 0.6, 20_000
    [pairs] = node(source("minibatch_math"), ["somePairs", d, rho, count, 7])
    x, x_prime = np.reshape(pairs, (2, count, d))
    gammas = np.geomspace(1.0, 0.3, d)
    # Five standard errors of a mean of products, on the scale of their variance.
    near = {"atol": 5 * np.sqrt(2 / count) / rho}
    np.testing.assert_allclose(x.T @ x / count, np.diag(gammas / rho), **near)
    np.testing.assert_allclose(
        x_prime.T @ x_prime / count, np.diag(gammas / rho), **near
    )
    np.testing.assert_allclose(x.T @ x_prime / count, np.diag(gammas), **near)
    fourth = np.mean((x / np.sqrt(gammas / rho)) ** 4, axis=0)
    np.testing.assert_allclose(fourth, 3.0, atol=5 * np.sqrt(96 / count))


@pytest.mark.parametrize("batch", [4, 16, 64])
@pytest.mark.parametrize("d, rho", [(4, 0.9), (6, 0.6)])
def test_descent_rests_on_the_predicted_plateau(batch, d, rho):
    levels = [run(batch=batch, d=d, rho=rho, seed=seed)[1] for seed in (1, 2, 3)]
    expected = dynamics.batch_plateau(np.full(d, rho), batch)[0]
    # Measured: the mean of three runs is within 0.006 of it, one run within 0.010.
    assert np.mean(levels) == pytest.approx(expected, abs=0.012)
    assert levels == pytest.approx([expected] * 3, abs=0.03)


@pytest.mark.parametrize("batch", [16, 64])
def test_two_halves_rest_near_one(batch):
    levels = [run(batch=batch, estimator="split", seed=seed)[1] for seed in (1, 2, 3)]
    # Measured: 0.983 at worst; what is left is the size of the steps.
    assert levels == pytest.approx([1.0] * 3, abs=0.03)


def test_modes_still_rise_one_by_one():
    eigenvalues, _ = run(batch=64, d=3)
    level = dynamics.batch_plateau(np.full(3, 0.9), 64)[0]
    times = [np.argmax(column > level / 2) * 0.1 for column in eigenvalues.T]
    expected = dynamics.step_times(np.geomspace(1.0, 0.3, 3), 1e-2)
    np.testing.assert_allclose(times, expected, rtol=0.1)


def test_a_run_that_escapes_ends_without_a_level():
    """Halves of one pair in ten dimensions: unbiased, and far too noisy."""
    eigenvalues, level = run(batch=2, d=10, rho=0.3, estimator="split")
    assert np.isinf(eigenvalues[-1]).all()
    assert len(eigenvalues) < 121
    assert np.isnan(level)


def test_state_makes_the_round_trip():
    figure = widgets.Minibatch(64, d=3, rho=0.5, estimator="split", seed=4)
    figure.set_state({"batch": 8, "rho": 0.7})
    state = figure.get_state()
    assert {name: state[name] for name in STATE} == {
        "batch": 8, "d": 3, "rho": 0.7, "estimator": "split", "seed": 4
    }  # fmt: skip
    json.dumps({name: state[name] for name in STATE})


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("batch", 1, r"`batch` must be between 2 and 512; got 1"),
        ("batch", 513, r"`batch` must be between 2 and 512; got 513"),
        ("d", 11, r"`d` must be between 1 and 10; got 11"),
        ("rho", 0.0, r"`rho` must be finite and positive"),
        ("rho", 1.1, r"`rho` must lie between 0.3 and 1; got 1.1"),
        ("estimator", "halves", r"`estimator`.*split"),
        ("seed", -1, r"`seed`"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.Minibatch(), name, value, says)


@pytest.mark.browser
def test_the_prediction_moves_at_once_and_the_descent_follows(show):
    page = show(widgets.Minibatch(16, d=3))
    page.wait_until_told("Measured: 0.7")
    before = page.curve(panel=0)
    page.press("batch", "ArrowLeft", 4)
    assert page.curve(panel=0) != before
    assert "B = 4, d = 3" in page.told()
    assert "c* = 0.472" in page.told()
    page.wait_until_told("Measured: 0.4")
    # Both plateaus stay, to be compared with the curve.
    points = page.tab.locator('[data-kind="points"] .sf-curve').first
    assert points.get_attribute("d").count("M") == 2
    page.press("d", "ArrowRight")
    assert (points.get_attribute("d") or "").count("M") == 0


@pytest.mark.browser
def test_the_cure_is_a_choice(show):
    page = show(widgets.Minibatch(32, d=2))
    page.wait_until_told("Measured: 0.9")
    page.control("estimator-split").check()
    assert "without bias" in page.told()
    page.wait_until_told("Measured: ")


@pytest.mark.browser
def test_a_run_that_escapes_is_told(show):
    page = show(widgets.Minibatch(2, d=10, rho=0.3, estimator="split"))
    page.wait_until_told("ran away")


@pytest.mark.browser
@pytest.mark.parametrize("control", ["batch", "d", "rho"])
def test_every_slider_answers_the_keyboard(show, control):
    assert show(widgets.Minibatch()).deaf_to(control) == []


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, theme):
    page = show(widgets.Minibatch(d=2), theme=theme)
    page.wait_until_told("Measured")
    assert page.axe() == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(show, width):
    assert show(widgets.Minibatch(), width=width).cramped() == []


@pytest.mark.browser
def test_paper_gets_the_picture_without_controls(show):
    page = show(widgets.Minibatch(), theme="dark")
    assert page.on_paper("batch", ".sf-chart") == (False, True)


@pytest.mark.browser
def test_the_page_answers_while_the_descent_goes_on(show):
    """The longest run there is, and a frame never far away."""
    page = show(widgets.Minibatch(512, d=10))
    slowest = page.tab.evaluate(
        """async () => {
          const gaps = [];
          let last = performance.now();
          for (let i = 0; i < 40; i += 1) {
            await new Promise((done) => requestAnimationFrame(done));
            gaps.push(performance.now() - last);
            last = performance.now();
          }
          return gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)];
        }"""
    )
    assert "Measured" not in page.told()
    assert slowest < 100  # 17 on a quiet machine; a blocked page would take seconds


@pytest.mark.browser
@pytest.mark.parametrize("wait", [0, 400])
def test_a_removed_figure_leaves_nothing_running(show, wait):
    page = show(widgets.Minibatch(d=1))
    page.wait_until_told("Measured")
    state = STATE | {"batch": 512, "d": 10}  # long enough to be cut short
    assert page.left_by(widgets.Minibatch, state, "draw", wait) == [0, 0, 0]
