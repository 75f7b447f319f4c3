"""The race figure: its mathematics against the package's, its words, its page."""

import functools
import json
import re

import numpy as np
import pytest

from pkg import dynamics, flow, spectra, widgets
from tests.figure_page import refuses, show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

MATH, STORY = source("race_math"), source("race_story")
METHODS = ("plain", "inverse_root", "inverse", "bures", "logdet", "whitened")
STATE = {
    "d": 6,
    "decay": 1.0,
    "s0": 1e-3,
    "share": 0.8,
    "floor": 1e-2,
    "ridge": 0.1,
    "seed": 1,
    "chosen": "bures",
    "step": None,
}


@functools.cache
def race(**state) -> dict:
    """A whole race, as the page runs it in slices."""
    [scene] = node(STORY, ["whole", STATE | state])
    return scene | {"lanes": {lane["method"]: lane for lane in scene["lanes"]}}


def gammas_of(d: int, decay: float) -> np.ndarray:
    return np.arange(1.0, 2 * d + 1) ** -decay


def start(scene: dict) -> np.ndarray:
    d = int(scene["state"]["d"])
    flat = [scene["W"][str(i)] for i in range(2 * d * d)]
    return np.reshape(flat, (d, 2 * d))


def belongs(method: str, *, floor: float, ridge: float) -> dict:
    """What of the two bounds `pkg.flow` takes for a method."""
    if method == "whitened":
        return {"ridge": ridge}
    return {} if method == "plain" else {"floor": floor}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("s0", [1e-6, 1e-2, 0.6])
def test_the_closed_forms_are_those_of_dynamics(method, s0):
    gammas = np.array([3.0, 1.0, 0.3, 1e-3])
    ridge = 0.2 if method == "whitened" else 0.0
    t = np.concatenate([[0.0], np.geomspace(1e-6, 1e5, 40)])
    calls = [
        ["eigenvalueOf", time, gamma, s0, method, ridge]
        for time in t.tolist()
        for gamma in gammas.tolist()
    ]
    found = np.reshape(node(MATH, *calls), (len(t), len(gammas)))
    expected = dynamics.accelerated(t, gammas, s0, method=method, ridge=ridge)
    # Where c is tiny, 1 - (1 - c) loses what the two languages' exp may differ in.
    np.testing.assert_allclose(found, expected.eigenvalues, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_the_step_times_are_those_of_dynamics(method):
    gammas, s0 = np.geomspace(2.0, 1e-3, 7), 1e-3
    ridge = 0.2 if method == "whitened" else 0.0
    calls = [["stepTimeOf", gamma, s0, method, ridge] for gamma in gammas.tolist()]
    expected = dynamics.accelerated_step_times(gammas, s0, method=method, ridge=ridge)
    np.testing.assert_allclose(node(MATH, *calls), expected, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d, decay, floor", [(2, 1.5, 1e-4), (6, 1.0, 1e-2)])
def test_descent_in_the_page_is_that_of_the_package(rng, method, d, decay, floor):
    """Every step of it, from a start in no special place, and where it ends."""
    gammas, ridge = gammas_of(d, decay), 0.05
    W0 = 1e-3 * rng.standard_normal((d, 2 * d))
    bounds = {"floor": floor, "ridge": ridge}
    [limit] = node(MATH, ["rateLimit", method, gammas.tolist(), bounds])
    run = bounds | {"method": method, "lr": 0.8 * limit, "steps": 60}
    [looks] = node(MATH, ["wholeDescent", W0.ravel().tolist(), gammas.tolist(), run])
    expected = flow.descend_accelerated(
        W0,
        np.diag(gammas),
        lr=0.8 * limit,
        steps=60,
        method=method,
        **belongs(method, **bounds),
    )
    found = np.array([look["eigenvalues"] for look in looks])
    # Sixty steps, some of which multiply by a hundred, carry round-off along.
    np.testing.assert_allclose(found, expected.eigenvalues, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        looks[-1]["W"], expected.weights.ravel(), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("method", METHODS)
def test_below_its_limit_a_rate_settles_and_above_it_does_not(method):
    """The limit is that of the leading mode once learned, found here by descent."""
    gammas, bounds = gammas_of(3, 0.5), {"floor": 0.05, "ridge": 0.3}
    [limit] = node(MATH, ["rateLimit", method, gammas.tolist(), bounds])
    learned = np.zeros((3, 6))
    level = 0.95 if method in ("bures", "logdet") else 1.0  # 1 - floor
    learned[range(3), range(3)] = np.sqrt(level / gammas[:3])
    learned[0, 0] *= 1 + 1e-4
    for share, settles in ((0.97, True), (1.03, False)):
        run = flow.descend_accelerated(
            learned,
            np.diag(gammas),
            lr=share * limit,
            steps=60,
            method=method,
            **belongs(method, **bounds),
        )
        far = np.abs(run.eigenvalues[-5:, :] - level).max()
        assert (far < np.abs(run.eigenvalues[0] - level).max()) == settles


def test_the_wrong_share_is_what_the_overlap_leaves(rng):
    W = rng.standard_normal((4, 8))
    [found] = node(MATH, ["outsideShare", W.ravel().tolist(), 4])
    overlap = spectra.subspace_overlap(W.T, np.eye(8)[:, :4])
    assert found == pytest.approx(1 - overlap, rel=1e-9)
    [right] = node(MATH, ["outsideShare", np.eye(4, 8).ravel().tolist(), 4])
    assert right == 0


def test_the_start_is_read_as_dynamics_reads_it():
    scene = race(d=5, seed=4)
    expected = dynamics.effective_start(start(scene), np.diag(gammas_of(5, 1.0)))
    np.testing.assert_allclose(scene["sizes"], expected.s0_apart, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_lane_tells_predicted_and_measured_steps(method):
    """Both by the package, from the start that the figure drew."""
    scene = race()
    lane, gammas, W0 = scene["lanes"][method], gammas_of(6, 1.0), start(scene)
    bounds = belongs(method, floor=1e-2, ridge=0.1)
    ridge = bounds.get("ridge", 0.0)
    times = dynamics.accelerated_step_times(
        gammas[:6], np.array(scene["sizes"]), method=method, ridge=ridge
    )
    np.testing.assert_allclose(lane["predicted"], times / lane["lr"], rtol=1e-9)
    run = flow.descend_accelerated(
        W0, np.diag(gammas), lr=lane["lr"], steps=150, method=method, **bounds
    )
    learned = run.eigenvalues > 0.5  # (151, 6), sorted
    first = np.argmax(learned, axis=0)
    assert lane["run"]["step"] == first[-1]
    np.testing.assert_array_equal(np.ceil(lane["run"]["births"]), first)
    short = flow.descend_accelerated(
        W0,
        np.diag(gammas),
        lr=lane["lr"],
        steps=int(first[-1]),
        method=method,
        **bounds,
    )
    overlap = spectra.subspace_overlap(short.weights.T, np.eye(12)[:, :6])
    assert lane["run"]["outside"] == pytest.approx(1 - overlap, abs=1e-7)
    assert lane["run"]["peak"] == pytest.approx(run.eigenvalues.max(), rel=1e-7)


def test_plain_waits_the_others_do_not_and_some_pay():
    """The claims that the figure makes without words, at its first setting."""
    for seed in range(3):
        lanes = race(d=10, s0=1e-4, seed=seed)["lanes"]
        steps = {name: lane["run"]["step"] for name, lane in lanes.items()}
        wrong = {name: lane["run"]["outside"] for name, lane in lanes.items()}
        assert all(steps["plain"] > 3 * steps[name] for name in METHODS[1:])
        assert steps["plain"] > 11 * steps["inverse"]
        assert wrong["plain"] < wrong["inverse_root"] < wrong["bures"]
        assert wrong["bures"] < min(wrong["inverse"], wrong["whitened"])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.95])
@pytest.mark.parametrize("s0", [1e-6, 0.1])
@pytest.mark.parametrize("floor", [1e-4, 0.1])
def test_every_race_comes_to_an_end(share, s0, floor):
    for d, decay, ridge in ((2, 1.5, 1e-3), (10, 0.3, 10.0), (10, 1.5, 0.1)):
        state = {"d": d, "decay": decay, "ridge": ridge}
        scene = race(share=share, s0=s0, floor=floor, **state)
        for lane in scene["lanes"].values():
            assert len(lane["run"]["births"]) == d
            assert lane["run"]["step"] <= scene["axis"]["high"]
            assert lane["run"]["peak"] < 1e4


def words(scene: dict, changed: str = "") -> str:
    scene = scene | {"lanes": list(scene["lanes"].values())}
    [said] = node(STORY, ["words", scene, changed])
    assert not re.search("NaN|Infinity|undefined|null", said)
    return said


def test_the_sentence_compares_the_chosen_run_with_plain():
    scene = race()
    plain, bures = (scene["lanes"][name]["run"] for name in ("plain", "bures"))
    said = words(scene)
    assert f"plain takes {plain['step']:.0f} steps" in said
    assert f"Bures loss {bures['step']:.0f} (" in said
    assert f"{plain['step'] / bures['step']:.1f} times fewer" in said
    shares = [f"{100 * run['outside']:.1f} %" for run in (plain, bures)]
    assert said.endswith(
        f"lies {shares[0]} of plain's space, {shares[1]} of this one's."
    )
    alone = words(race(chosen="plain"))
    assert alone.count("plain") == 1 and shares[0] in alone


@pytest.mark.parametrize(
    "changed, says",
    [
        ("s0", "Start s₀ = 10⁻³. "),
        ("decay", "Eigenvalues fall as j to the power −1.00. "),  # noqa: RUF001
        ("share", "Rate at 0.80 of the limit. "),
        ("floor", "Floor 0.010. "),
        ("ridge", "Ridge 0.100. "),
        ("seed", "Draw 1. "),
        ("d", ""),
    ],
)
def test_the_sentence_begins_with_what_was_changed(changed, says):
    assert words(race(), changed).startswith(says + "To learn 6 modes, ")
    assert words(race(step=9.7), changed).startswith(says + "After 9 steps, of 6 modes")


def test_the_sentence_counts_at_the_cursor():
    scene = race(step=9.7)
    said = words(scene)
    assert said.startswith("After 9 steps, of 6 modes have been learned: plain ")
    counts = {
        lane["name"]: sum(birth <= 9.7 for birth in lane["run"]["births"])
        for lane in scene["lanes"].values()
    }
    assert all(f"{name} {count}" in said for name, count in counts.items())


def test_before_descent_has_come_to_the_cursor_the_sentence_says_so():
    [scene] = node(STORY, ["stage", STATE | {"step": 9.7}])
    [said] = node(STORY, ["words", scene, "ridge"])
    assert said == "Ridge 0.100. The descents have not yet come to 9 steps."


def test_before_descent_has_begun_the_sentence_tells_the_flow():
    [scene] = node(STORY, ["stage", STATE])
    [said] = node(STORY, ["words", scene])
    assert re.fullmatch(
        r"To learn 6 modes, plain takes [\d.]+ steps by the flow and Bures loss .*",
        said,
    )


def test_state_makes_the_round_trip():
    figure = widgets.Race(d=4, chosen="inverse")
    figure.set_state({"d": 3, "ridge": 1.0, "chosen": "whitened", "step": 12.0})
    state = figure.get_state()
    assert (state["d"], state["ridge"], state["step"]) == (3, 1.0, 12.0)
    json.dumps({key: state[key] for key in STATE})


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("d", 11, r"`d` must be between 2 and 10; got 11"),
        ("decay", 2.0, r"`decay` must lie between 0.3 and 1.5; got 2"),
        ("s0", 0.0, r"`s0` must be finite and positive"),
        ("share", 1.0, r"`share` must lie between 0.2 and 0.95; got 1"),
        ("floor", 1e-5, r"`floor` must lie between 0.0001 and 0.1"),
        ("ridge", 11.0, r"`ridge` must lie between 0.001 and 10"),
        ("seed", -1, r"`seed`"),
        ("chosen", "bure", r"`chosen` is 'bure'.*bures"),
        ("step", -1.0, r"`step` must be 0 or later"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.Race(), name, value, says)
    with pytest.raises(ValueError, match=says):
        widgets.Race(**{name: value})


def test_the_figure_is_light():
    assert len(json.dumps(widgets.Race().get_state())) < 70_000


def open_race(show, *, width=760, theme="light", **state):
    page = show(widgets.Race(**STATE | state), width=width, theme=theme)
    wait(page)
    return page


def wait(page):
    """Until the last lane's row of the table is full."""
    page.tab.wait_for_function(
        "() => !document.querySelector('.ra-table').textContent.includes('…')"
    )


@pytest.mark.browser
def test_a_slider_moves_lanes_curves_table_and_sentence(show):
    page = open_race(show)

    def drawn():
        lanes = page.tab.locator(".ra-predicted").all()
        return (
            page.told(),
            page.curve("theory", 0),
            page.curve("measured", 0),
            page.tab.locator(".ra-table").inner_text(),
            *[lane.get_attribute("d") for lane in lanes],
        )

    before = drawn()
    page.press("decay", "ArrowLeft", 4)
    wait(page)
    assert all(old != new for old, new in zip(before, drawn(), strict=True))
    assert page.told().startswith("Eigenvalues fall as j to the power −0.80. ")  # noqa: RUF001


@pytest.mark.browser
@pytest.mark.parametrize(
    "control, chosen",
    [
        *[(name, "bures") for name in ("s0", "decay", "share", "floor", "step")],
        ("ridge", "whitened"),
    ],
)
def test_every_slider_answers_the_keyboard(show, control, chosen):
    state = {"ridge": 1.0, "step": 3.0, "chosen": chosen}
    page = open_race(show, **state if control in ("ridge", "step") else {})
    assert page.deaf_to(control) == []


@pytest.mark.browser
def test_a_lane_that_is_clicked_is_the_one_whose_eigenvalues_are_drawn(show):
    page = open_race(show)
    assert not page.control("ridge").is_visible()
    page.tab.locator(".ra-hit").nth(5).click()
    assert page.control("chosen-whitened").is_checked()
    assert page.control("ridge").is_visible() and not page.control("floor").is_visible()
    assert "and whitened" in page.told()
    page.control("chosen-plain").check()
    assert page.told().count("plain") == 1


@pytest.mark.browser
def test_one_cursor_stands_in_both_pictures(show):
    """Lanes and curves share an axis: what lies above each other belongs together."""
    page = open_race(show)

    def places():
        both = [
            page.tab.locator(cursor).first.get_attribute("d")
            for cursor in (".ra-cursor", ".sf-marker .sf-line")
        ]
        return [float(re.match(r"M([\d.]+) ", d)[1]) for d in both]

    page.drag("marker", -300)
    lanes, chart = places()
    assert lanes == pytest.approx(chart, abs=0.11) and lanes < 500
    assert page.told().startswith("After ")
    assert page.tab.locator(".ra-ahead").count() > 0
    page.press("step", "End")
    assert page.tab.locator(".ra-ahead").count() == 0


@pytest.mark.browser
def test_the_race_is_run_and_can_be_stopped(show):
    page = open_race(show)
    page.control("play").click()
    assert page.tab.locator(".stepwise-figure").get_attribute("data-playing") == "true"
    page.wait_until_told("plain 0, inverse root 1")
    page.control("play").click()
    stopped = page.told()
    page.tab.wait_for_timeout(300)
    assert page.told() == stopped


@pytest.mark.browser
def test_another_start_is_another_race(show):
    page = open_race(show)
    before = page.curve("measured", 0)
    page.control("draw").click()
    assert page.told().startswith("Draw 2. ")
    wait(page)
    assert page.curve("measured", 0) != before


@pytest.mark.browser
def test_controls_stay_where_they_are_as_the_sentence_changes(show):
    page = open_race(show)
    tops = set()
    for name in ("inverse", "bures", "logdet", "inverse_root"):
        page.control(f"chosen-{name}").check()
        tops.add(page.top("play"))
    page.press("step", "ArrowLeft", 60)
    assert {*tops, page.top("play")} == {page.top("play")}


@pytest.mark.browser
@pytest.mark.parametrize("theme, width", [("light", 760), ("dark", 390)])
def test_axe_finds_nothing_serious_and_every_width_is_usable(show, theme, width):
    page = open_race(show, theme=theme, width=width)
    assert page.axe() == []
    assert page.cramped() == []
    assert page.on_paper("s0", ".ra-lanes") == (False, True)


@pytest.mark.browser
def test_the_sentence_is_spoken_once_the_hand_rests(show):
    page = open_race(show)
    before, at_once, _ = page.speech(lambda: page.press("s0", "ArrowRight"))
    assert at_once == before != page.told()
    # It rests once all six have arrived.
    page.tab.wait_for_function(
        "words => document.querySelector('.sf-spoken').textContent === words",
        arg=page.told(),
    )


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    page = open_race(show)
    state = STATE | {"share": 0.2, "d": 10, "decay": 1.5}  # long enough to be cut short
    assert page.left_by(widgets.Race, state, "play") == [0, 0, 0]
