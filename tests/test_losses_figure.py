"""The losses figure: its mathematics against the package's, its words, its page."""

import json
import re

import numpy as np
import pytest

from pkg import dynamics, flow, widgets
from tests.figure_page import refuses, show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

GAMMAS = [1.0, 0.55, 0.3, 0.16, 0.08]
SIGMAS = [1.25, 0.58, 0.75, 0.17, 0.3]
MODEL = {
    "loss": "barlow_twins",
    "lambd": 1.0,
    "beta": 1.0,
    "d": 4,
    "gammas": GAMMAS,
    "sigmas": SIGMAS,
    "s0": 1e-4,
    "seed": 1,
    "log_time": True,
}


def story(**state) -> dict:
    [scene] = node(source("losses_story"), ["stage", MODEL | state])
    return scene


def draw(d: int, seed: int = 1, s0: float = 1e-3) -> np.ndarray:
    """The figure's own random start, (d, 5)."""
    [flat] = node(source("random"), ["genericStart", d, 5, s0, seed])
    return np.array([flat[str(i)] for i in range(5 * d)]).reshape(d, 5)


def test_a_random_start_has_orthonormal_rows():
    W = draw(4, s0=1e-3)
    np.testing.assert_allclose(W @ W.T, 1e-6 * np.eye(4), atol=1e-20)
    assert not np.array_equal(W, draw(4, seed=2))


def test_levels_are_those_of_dynamics():
    cases = [(d, lambd) for d in (1, 2, 5) for lambd in (0.003, 0.1, 1.0, 2.0)]
    results = node(source("losses_math"), *[["levels", *case] for case in cases])
    for case, found in zip(cases, results, strict=True):
        expected = dynamics.levels(*case)
        for name in ("eigenvalue", "loss", "slowdown"):
            np.testing.assert_allclose(
                found[name], getattr(expected, name), rtol=1e-12, atol=1e-12
            )


@pytest.mark.parametrize("lambd", [0.003, 0.1, 1.0, 2.0])
def test_step_times_of_barlow_twins_are_those_of_dynamics(lambd):
    s0 = [1e-4, 3e-4, 2e-5, 1e-4]
    model = MODEL | {"lambd": lambd}
    [found] = node(source("losses_math"), ["stepTimes", model, s0])
    expected = dynamics.step_times(np.array(GAMMAS[:4]), np.array(s0), lambd=lambd)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.2])
def test_step_times_of_vicreg_are_those_of_dynamics(beta):
    model = MODEL | {"loss": "vicreg", "beta": beta}
    s0 = np.array([1e-4, 3e-4, 2e-5, 1e-4])
    [order] = node(source("losses_math"), ["order", model])
    [found] = node(source("losses_math"), ["stepTimes", model, s0.tolist()])
    learned = [int(j) for j in order[:4]]
    expected = dynamics.step_times(
        np.array(GAMMAS)[learned],
        s0,
        loss="vicreg",
        sigmas=np.array(SIGMAS)[learned],
        beta=beta,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 5 / 3, 2.0])
def test_the_closed_form_of_vicreg_is_that_of_dynamics(beta):
    """Modes that grow, one at the threshold (g = 0) and modes that die."""
    gammas, sigmas = np.array([1.0, 0.3, 0.08]), np.array([1.25, 0.75, 0.3])
    model = MODEL | {"beta": beta, "loss": "vicreg"}
    model |= {"gammas": gammas.tolist(), "sigmas": sigmas.tolist()}
    [g] = node(source("losses_math"), ["rates", model])
    t = [0.0, *np.geomspace(1e-6, 1e5, 40)]
    calls = [
        ["variance", time, sigma, rate, 1e-2]
        for sigma, rate in zip(sigmas, g, strict=True)
        for time in t
    ]
    found = np.reshape(node(source("losses_math"), *calls), (3, len(t))).T
    expected = dynamics.closed_form(
        np.array(t), gammas, 1e-2, loss="vicreg", sigmas=sigmas, beta=beta
    )
    # The floor forgives what has underflowed; rounding in g counts t times in a rate.
    np.testing.assert_allclose(
        found, expected.eigenvalues, rtol=1e-12, atol=1e-300 if beta < 5 / 3 else 1e-12
    )
    [finals] = node(source("losses_math"), ["finalVariances", model])
    np.testing.assert_allclose(
        finals, 1 - beta * (1 - gammas / sigmas), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "change",
    [
        {"lambd": 1.0},
        {"lambd": 0.5, "d": 5},
        {"lambd": 0.05},
        {"lambd": 2.0, "d": 3},
        {"loss": "vicreg", "d": 3},
        {"loss": "vicreg", "beta": 0.4},
        {"loss": "vicreg", "beta": 1.9, "d": 5},
    ],
)
def test_the_flow_in_the_page_is_that_of_the_package(change, seed=1):
    model = MODEL | change
    t = np.concatenate([[0.0], np.geomspace(0.1, 60.0, 30)])
    W0 = draw(model["d"], seed)
    [looks] = node(
        source("losses_math"), ["wholeFlow", model, W0.ravel().tolist(), t.tolist()]
    )
    vicreg = model["loss"] == "vicreg"
    expected = flow.integrate(
        W0,
        np.diag(GAMMAS),
        t,
        loss=model["loss"],
        **(
            {"Sigma": np.diag(SIGMAS), "beta": model["beta"]}
            if vicreg
            else {"lambd": model["lambd"]}
        ),
    )
    found = np.array([look["eigenvalues"] for look in looks])
    np.testing.assert_allclose(found, expected.eigenvalues, atol=1e-6)
    loss = [look["loss"] for look in looks]
    np.testing.assert_allclose(loss, expected.loss, atol=1e-6)
    # Shares are the same trace, cut by modes instead of by eigenvectors.
    shares = np.array([look["shares"] for look in looks])
    np.testing.assert_allclose(shares.sum(1), found.sum(1), atol=1e-12)


def test_the_effective_start_is_that_of_dynamics():
    W0 = draw(4, seed=3)
    [found] = node(
        source("losses_math"), ["effectiveStart", W0.ravel().tolist(), MODEL]
    )
    expected = dynamics.effective_start(W0, np.diag(GAMMAS))
    np.testing.assert_allclose(found["lengths"], expected.s0_apart, rtol=1e-12)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("change", [{"d": 3}, {"d": 2}, {"d": 4, "beta": 0.5}])
def test_a_late_swap_comes_at_its_rate_and_about_its_time(change, seed):
    """The rate, from how fast the new mode grows; the time, from the whole flow."""
    model = MODEL | change | {"loss": "vicreg"}
    W0 = draw(model["d"], seed, s0=1e-4)
    flat = W0.ravel().tolist()
    [[swap]] = node(source("losses_math"), ["swaps", model, flat])
    gone, comes = int(swap["gone"]), int(swap["comes"])
    rates = dynamics.swap_rate(np.array(GAMMAS), np.array(SIGMAS), model["beta"])
    assert swap["rate"] == pytest.approx(rates[gone, comes], rel=1e-12)

    t = np.linspace(0.01, 1.5 * swap["time"], 600)
    [looks] = node(source("losses_math"), ["wholeFlow", model, flat, t.tolist()])
    share = np.array([look["shares"][comes] for look in looks])
    half = t[np.argmax(share > share[-1] / 2)]
    # Measured over these draws: at worst 6 % late.
    assert swap["time"] == pytest.approx(half, rel=0.08)
    if change["d"] == 4:
        return  # mode 5 has hardly risen when its swap comes: no time with one rate
    rising = (share > 1e-3 * share[-1]) & (share < 2e-2 * share[-1]) & (t < half)
    slope = np.polyfit(t[rising], np.log(share[rising]), 1)[0]
    assert slope == pytest.approx(swap["rate"], rel=0.04)


def test_barlow_twins_never_swaps():
    [late] = node(source("losses_math"), ["swaps", MODEL | {"d": 3}, draw(3).tolist()])
    assert late == []


def test_the_overshoot_is_where_it_is_predicted():
    scene = story(lambd=0.1)
    model, start, times = scene["model"], scene["W"], scene["times"]
    flat = [start[str(i)] for i in range(20)]
    [looks] = node(source("losses_math"), ["wholeFlow", model, flat, times])
    peak = max(look["eigenvalues"][0] for look in looks)
    level = dynamics.levels(4, 0.1)
    assert peak == pytest.approx(level.eigenvalue[1], rel=0.01)
    assert scene["axis"]["high"] > max(scene["taus"])
    [words] = node(source("losses_story"), ["openingWords", scene])
    assert "overshoots to c₁ = 3.08" in words
    assert "grows 3.25 times slower" in words


@pytest.mark.parametrize(
    "before, after, says",
    [
        ({"beta": 1.2}, {"beta": 1.5}, "Mode 5 dies: g₅ = "),
        ({"beta": 1.5}, {"beta": 1.2}, "Mode 5 is born: g₅ = "),
        ({"beta": 1.0}, {"beta": 0.2}, "now grows faster than mode"),
        (
            {"beta": 1.0},
            {"beta": 0.5},
            "Mode 4 (ρ₄ = 0.94) replaces mode 5 (ρ₅ = 0.27)",
        ),
        ({"beta": 0.5}, {"beta": 1.0}, "No late swap any more."),
    ],
)
def test_the_sentence_says_what_just_changed(before, after, says):
    old, new = story(loss="vicreg", **before), story(loss="vicreg", **after)
    [words] = node(source("losses_story"), ["changeWords", old, new])
    assert says in words


@pytest.mark.parametrize("lambd, says", [(1.0, "ends at one"), (2.0, "overshoots")])
def test_from_lambda_one_on_nothing_overshoots(lambd, says):
    [words] = node(source("losses_story"), ["openingWords", story(lambd=lambd)])
    assert says in words
    assert "slower" not in words


@pytest.mark.parametrize(
    "state",
    [
        {"loss": "vicreg", "beta": 2.0, "gammas": [0.1, 0.1], "sigmas": [1.0, 1.0]},
        {"loss": "vicreg", "beta": 0.0},
        {"loss": "vicreg", "beta": 1.363},
        {"d": 1, "lambd": 0.01},
        {"d": 5, "gammas": [1.0, 0.5], "sigmas": [1.0, 0.5]},
        {"s0": 0.1, "gammas": [90.0, 5.0], "sigmas": [90.0, 9.0]},
        {"lambd": 0.003, "log_time": False},
    ],
)
def test_strange_states_have_a_picture_and_a_sentence(state):
    scene = story(**state)
    axis = scene["axis"]
    assert 0 <= axis["low"] < axis["high"] < np.inf
    assert np.all(np.isfinite(scene["theory"]["xs"]))
    opening, picture = node(
        source("losses_story"), ["openingWords", scene], ["pictureWords", scene]
    )
    assert not re.search("NaN|Infinity|undefined", opening + picture)


def test_state_makes_the_round_trip():
    figure = widgets.Losses("vicreg", beta=0.5, d=3)
    figure.set_state({"beta": 1.5, "d": 2, "seed": 7, "loss": "barlow_twins"})
    state = figure.get_state()
    assert (state["beta"], state["d"], state["seed"]) == (1.5, 2, 7)
    json.dumps({key: state[key] for key in MODEL})
    with figure.hold_trait_notifications():
        figure.gammas, figure.sigmas = np.array([1.0, 0.2]), [1.0, 0.5]
    assert figure.gammas == [1.0, 0.2]


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("loss", "vicrag", r"`loss`.*vicreg"),
        ("lambd", 0.0, r"`lambd` must be finite and positive"),
        ("lambd", 3.0, r"`lambd` must lie between 0.003 and 2; got 3"),
        ("beta", -0.1, r"`beta` must lie between 0 and 2"),
        ("d", 6, r"`d` must be between 1 and 5; got 6"),
        ("gammas", [1.0], r"`gammas` must hold 2 to 5 numbers; got 1"),
        ("gammas", [1.0, 0.5], r"`gammas` and `sigmas` must hold one number a mode"),
        ("gammas", [2.0, *GAMMAS[1:]], r"not be larger than `sigmas`; entry 0 is 2"),
        ("sigmas", [-1.0, *SIGMAS[1:]], r"`sigmas` must be finite and positive"),
        ("s0", 0.5, r"`s0` must lie between 1e-6 and 0.1"),
        ("seed", -1, r"`seed`"),
        ("log_time", 1, r"`log_time` must be True or False"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.Losses(), name, value, says)


@pytest.mark.browser
def test_lambda_moves_theory_at_once_and_the_flow_follows(show):
    page = show(widgets.Losses())
    page.wait_until_told("The flow itself reaches 3.0")
    before = page.curve()
    page.press("lambd", "ArrowLeft")
    assert page.curve() != before
    assert page.told().startswith("λ = 0.089")
    page.wait_until_told("The flow itself reaches 3.1")
    page.press("lambd", "ArrowRight", 40)
    assert page.told().startswith("λ = 2: above one nothing overshoots")


@pytest.mark.browser
def test_one_is_among_the_weights_that_the_slider_knows(show):
    page = show(widgets.Losses(lambd=0.1))
    page.press("lambd", "ArrowRight", 20)
    assert page.told().startswith("λ = 1: every step ends at one")


@pytest.mark.browser
def test_beta_moves_bars_and_thresholds(show):
    page = show(widgets.Losses("vicreg", beta=1.3))
    assert page.control("beta").is_visible()
    assert not page.control("lambd").is_visible()
    bars = page.tab.locator(".sl-bars").first
    before = bars.inner_html()
    page.press("beta", "ArrowRight", 5)
    assert bars.inner_html() != before
    assert "g₅ is not above zero: never learned" in page.told()
    page.control("loss-barlow_twins").check()
    assert page.control("lambd").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("control", ["lambd", "d"])
def test_every_slider_answers_the_keyboard(show, control):
    assert show(widgets.Losses(lambd=0.3)).deaf_to(control) == []


@pytest.mark.browser
def test_another_start_leaves_the_levels_and_moves_the_flow(show):
    page = show(widgets.Losses())
    page.wait_until_told("The flow itself")
    before = page.curve("measured")
    page.control("draw").click()
    page.wait_until_told("The flow itself")
    page.tab.wait_for_timeout(100)
    assert page.curve("measured") != before


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("loss", ["barlow_twins", "vicreg"])
def test_axe_finds_nothing_serious(show, theme, loss):
    assert show(widgets.Losses(loss), theme=theme).axe() == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(show, width):
    assert show(widgets.Losses("vicreg"), width=width).cramped() == []


@pytest.mark.browser
def test_paper_gets_the_picture_without_controls(show):
    page = show(widgets.Losses(), theme="dark")
    assert page.on_paper("lambd", ".sf-chart") == (False, True)


@pytest.mark.browser
def test_keys_do_not_reach_the_notebook(show):
    page = show(widgets.Losses())
    page.tab.evaluate("addEventListener('keydown', () => { document.title = 'out'; })")
    page.press("lambd", "ArrowLeft")
    assert page.tab.title() == "A chapter"


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    page = show(widgets.Losses(lambd=0.5))
    page.wait_until_told("The flow itself")
    state = MODEL | {"lambd": 0.003, "d": 5}  # long enough to be cut short
    assert page.left_by(widgets.Losses, state, "draw") == [0, 0, 0]
