"""The small-start figure: its mathematics against Python, then driven in a page."""

import json
import re
import subprocess

import numpy as np
import pytest

from pkg import dynamics, flow, spectra, widgets
from tests.figure_page import refuses, show  # noqa: F401
from tests.test_widgets import NODE, node, source
from tests.test_widgets_browser import browser  # noqa: F401

TABLE = [1.0, 0.6, 0.36, 0.2, 0.1, -0.1, -0.3]
LONG = [1.2, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.4]
CASES = [  # gammas, d, alpha, seed: gaps and ties, more outputs than positive modes
    (TABLE, 3, 1e-2, 1),
    (TABLE, 6, 1e-4, 2),
    (LONG, 6, 1e-6, 3),
    ([1.0, 0.5, 0.5, 0.5, 0.1], 3, 1e-3, 4),
    ([1.0, 0.5, 0.48, 0.47, -0.2], 3, 1e-3, 5),
    ([0.7, -0.7], 2, 0.1, 6),
    ([1.0, 0.4, 0.1], 1, 1.0, 7),
    ([-0.1, -0.2, -0.5], 2, 1e-2, 8),
    (TABLE, 4, 1.0, 9),
]


def start_of(gammas, d, alpha, seed):
    """W(0) as the figure draws it."""
    [draw] = node(source("small_start_story"), ["drawStart", seed, d, len(gammas)])
    return alpha * np.reshape(list(draw.values()), (d, len(gammas)))


def scene(**state):
    """All that the figure knows of one state."""
    full = {"gammas": TABLE, "d": 3, "alpha": 1e-2, "seed": 1, "log_time": True}
    [staged] = node(source("small_start_story"), ["stage", full | state])
    return staged


@pytest.mark.parametrize("gammas, d, alpha, seed", CASES)
def test_the_page_integrates_the_flow_that_python_does(gammas, d, alpha, seed):
    W0 = start_of(gammas, d, alpha, seed)
    t = np.concatenate([[0.0], np.geomspace(0.02, 60.0, 150)])
    call = ["integrate", W0.ravel().tolist(), gammas, t.tolist()]
    [page] = node(source("flow"), call)
    exact = flow.integrate(W0, np.diag(gammas), t, atol=1e-13 * alpha)
    np.testing.assert_allclose(page["eigenvalues"], exact.eigenvalues, atol=1e-6)
    # The loss weighs every eigenvalue's error by its distance from one.
    np.testing.assert_allclose(
        page["loss"], exact.loss, atol=1e-6 * (1 + exact.loss[0])
    )
    last = np.reshape(list(page["weights"][-1].values()), (d, len(gammas)))
    np.testing.assert_allclose(last, exact.weights, atol=1e-5)


@pytest.mark.parametrize("gammas, d, alpha, seed", CASES)
def test_the_page_reads_the_start_as_python_does(gammas, d, alpha, seed):
    W0 = start_of(gammas, d, alpha, seed)
    [page] = node(source("start"), ["alignedStart", W0.ravel().tolist(), gammas])
    exact = dynamics.effective_start(W0, np.diag(gammas))
    known = {"s0": exact.s0, "together": exact.s0_together}
    distinct = len(set(gammas)) == len(gammas)
    if distinct:  # inside a tie, eigenvectors and their QR are a choice
        known["apart"] = exact.s0_apart
    for name, value in known.items():
        np.testing.assert_allclose(page[name], value, rtol=1e-9, err_msg=name)
    assert [tuple(run) for run in page["nearTies"]] == list(exact.near_ties)
    U, V = np.array(page["U"]).T, np.array(page["V"]).T
    if distinct:
        aligned = exact.U * exact.s0 @ exact.V.T
        np.testing.assert_allclose(U * exact.s0 @ V.T, aligned, atol=1e-12 * alpha)
    np.testing.assert_allclose(U.T @ U, np.eye(d), atol=1e-12)
    np.testing.assert_allclose(V.T @ V, np.eye(d), atol=1e-12)


@pytest.mark.parametrize("gammas, d", [(g, d) for g, d, _, _ in CASES if g[d - 1] > 0])
def test_the_page_predicts_the_orders_that_python_does(gammas, d):
    [page] = node(source("start"), ["errorOrder", gammas, d])
    exact = dynamics.error_order(np.array(gammas), d)
    assert page["weights"] == pytest.approx(exact.weights)
    assert page["subspace"] == pytest.approx(exact.subspace)


def test_the_error_of_the_space_is_its_missing_overlap(rng):
    W = rng.standard_normal((3, 7)) * [[1.0], [0.3], [0.1]]
    [outside] = node(source("start"), ["outside", W.ravel().tolist(), 7, 3])
    overlap = spectra.subspace_overlap(W.T, np.eye(7)[:, :3])
    assert outside**2 == pytest.approx(3 * (1 - overlap))


@pytest.mark.parametrize("gammas, d, alpha, seed", CASES[:5])
def test_step_times_are_those_of_the_closed_form_and_of_the_flow(
    gammas, d, alpha, seed
):
    staged = scene(gammas=gammas, d=d, alpha=alpha, seed=seed)
    W0 = start_of(gammas, d, alpha, seed)
    start = dynamics.effective_start(W0, np.diag(gammas))
    learned = start.gammas > 0
    taus = np.sort(dynamics.step_times(start.gammas[learned], start.s0[learned]))
    predicted = [step["predicted"] for step in staged["steps"]]
    np.testing.assert_allclose(predicted, taus, rtol=1e-9)
    t = np.linspace(0.0, 1.5 * taus[-1], 6001)
    run = flow.integrate(W0, np.diag(gammas), t, atol=1e-13 * alpha)
    for k, step in enumerate(staged["steps"]):
        true = np.interp(0.5, run.eigenvalues[:, k], t)
        assert step["measured"] == pytest.approx(true, rel=3e-3), k


def test_inside_a_tie_the_block_is_right():
    tied = scene(gammas=[1.0, 0.5, 0.5, 0.5, 0.1], d=4, alpha=1e-4)
    times = [(step["predicted"], step["measured"]) for step in tied["steps"]]
    np.testing.assert_allclose(*np.transpose(times), rtol=2e-3)


def test_a_tie_inside_leaves_the_order_to_distinct_neighbours():
    """The block rule takes the tie out; a tie at the edge stays a tie."""
    gammas = [1.0, 0.6, 0.6, 0.2, 0.1]
    assert scene(gammas=gammas, d=3)["order"]["weights"] == pytest.approx(0.4)
    assert scene(gammas=gammas, d=2)["order"]["weights"] == 0


def test_near_a_tie_both_readings_are_told():
    near = scene(gammas=[1.0, 0.5, 0.48, 0.1, -0.2], alpha=1e-3)
    assert near["start"]["nearTies"] == [[1, 3]]
    [words] = node(source("small_start_story"), ["tieWords", near])
    assert words.startswith(" γ₂ and γ₃ are close: one by one (QR) they should fall at")
    apart, block = (
        [step[key] for step in near["steps"]] for key in ("predicted", "block")
    )
    assert apart[0] == block[0]
    assert not np.allclose(apart[1:], block[1:], rtol=0.01)
    [words] = node(source("small_start_story"), ["tieWords", scene()])
    assert words == ""


def test_a_curve_has_the_colour_of_the_mode_whose_step_it_is():
    near = scene(gammas=[1.0, 0.6, 0.57, 0.1, -0.2], alpha=1e-3)
    assert near["modes"] == [0, 2, 1]  # this draw has more of mode 3 than of mode 2
    taus = [near["taus"][mode] for mode in near["modes"]]
    assert taus == [step["predicted"] for step in near["steps"]]
    assert scene(gammas=[0.5, -0.1, -0.2])["modes"] == [0, 1, 2]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_error_shrinks_with_the_start_as_the_note_says(seed):
    # Both orders are asymptotic; a decade this far down has nearly reached them.
    far, near = (scene(alpha=alpha, seed=seed) for alpha in (1e-5, 1e-6))
    for error, order in (("weightGap", "weights"), ("outside", "subspace")):
        slope = np.log10(far[error] / near[error])
        assert slope == pytest.approx(near["order"][order], abs=0.07), error


def test_a_larger_d_keeps_the_outputs_that_were_drawn():
    few, more = (start_of(TABLE, d, 1.0, 1) for d in (2, 5))
    np.testing.assert_array_equal(more[:2], few)
    assert not np.array_equal(start_of(TABLE, 2, 1.0, 2), few)


@pytest.mark.parametrize(
    "state, says",
    [
        ({"alpha": 1e-3}, "All 3 steps fall within 0."),
        ({"gammas": [0.5, -0.2], "d": 2}, "1 output can never be learned"),
        ({"gammas": [-0.1, -0.2], "d": 1}, "nothing is learned"),
        ({"gammas": [1.0, 0.1], "d": 1, "alpha": 1e-6}, "The one step falls within"),
        ({"alpha": 1.0}, "miss"),
    ],
)
def test_the_sentence_says_what_the_picture_shows(state, says):
    [words] = node(source("small_start_story"), ["summary", scene(**state)])
    assert says in words
    assert "NaN" not in words
    assert "Infinity" not in words


def test_a_slider_of_neighbours_stops_at_the_next_ones():
    [[inner], [last], [known]] = (
        node(source("small_start_story"), call)
        for call in (
            ["ratioRange", TABLE, 2],
            ["ratioRange", TABLE, 6],
            ["pairs", TABLE],
        )
    )
    assert (inner["low"], inner["high"], inner["now"]) == pytest.approx(
        (0.2 / 0.6, 1, 0.6)
    )
    assert last["high"] == 1
    assert known == [1, 2, 3, 4, 5]


def test_the_composed_figure_imports_nothing_and_runs(tmp_path):
    composed = widgets.SmallStart._esm
    assert not re.search(r"^\s*(import\b|//|/\*)", composed, flags=re.MULTILINE)
    path = tmp_path / "figure.mjs"
    path.write_text(composed)
    probe = "import(process.argv[1]).then((m) => console.log(Object.keys(m.default)))"
    command = [str(NODE), "-e", probe, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "render" in done.stdout


def test_state_makes_the_round_trip():
    figure = widgets.SmallStart(np.array([0.2, 0.9, -0.1]), d=2, alpha=1e-4, seed=7)
    figure.set_state({"gammas": [0.9, 0.4, -0.1], "alpha": 1e-5, "seed": 8, "d": 3})
    state = figure.get_state()
    assert state["gammas"] == [0.9, 0.4, -0.1]
    assert (state["alpha"], state["seed"], state["d"]) == (1e-5, 8, 3)
    json.dumps({key: state[key] for key in ("gammas", "d", "alpha", "seed", "pair")})


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("gammas", [1.0], r"`gammas` must hold 2 to 10 finite numbers; got 1"),
        ("gammas", [1.0, float("inf")], r"`gammas` must be finite; entry 1 is inf"),
        ("gammas", [1.0, 0.5], r"`d` is 3, but there are only 2 `gammas`"),
        ("d", 0, r"`d` must be between 1 and 6; got 0"),
        ("d", 7, r"`d` must be between 1 and 6; got 7"),
        ("alpha", 2.0, r"`alpha` must lie between 1e-6 and 1; got 2"),
        ("alpha", 0.0, r"`alpha` must be finite and positive"),
        ("seed", -1, r"`seed` must be between 0 and"),
        ("pair", 0, r"`pair` must be between 1 and 9; got 0"),
        ("log_time", 1, r"`log_time` must be True or False; got 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.SmallStart(), name, value, says)


def test_more_outputs_than_modes_are_refused_at_the_door():
    with pytest.raises(ValueError, match=r"`d` is 4, but there are only 3 `gammas`"):
        widgets.SmallStart([1.0, 0.5, 0.2], d=4)


# In a page without a kernel


@pytest.fixture
def read(show):  # noqa: F811
    def open_page(figure=None, **context):
        return show(figure or widgets.SmallStart(), **{"width": 800} | context)

    return open_page


@pytest.mark.browser
def test_a_new_draw_is_another_flow_that_can_be_repeated(read):
    reader = read()
    first = reader.picture()
    reader.control("draw").click()
    assert reader.told().startswith("Draw 2, another W(0) of the same size: ")
    second = reader.picture()
    assert second != first
    assert read(widgets.SmallStart(seed=2)).picture() == second


@pytest.mark.browser
@pytest.mark.parametrize("control", ["alpha", "d", "ratio"])
def test_every_slider_answers_the_keyboard(read, control):
    reader = read()
    slider = reader.control(control)
    slider.focus()
    for key in ("ArrowLeft", "ArrowRight", "PageUp"):
        before = reader.picture(), reader.told(), slider.get_attribute("aria-valuetext")
        reader.tab.keyboard.press(key)
        now = reader.picture(), reader.told(), slider.get_attribute("aria-valuetext")
        assert [a != b for a, b in zip(now, before, strict=True)] == [True] * 3, key


@pytest.mark.browser
def test_a_ratio_of_one_is_a_tie_and_both_readings_show_on_the_way(read):
    reader = read(widgets.SmallStart(alpha=1e-3))
    assert "as one block" not in reader.table()
    reader.control("ratio").fill("0.96")
    assert "as one block" in reader.table()
    assert "γ₂ and γ₃ are close: one by one (QR)" in reader.told()
    reader.control("ratio").fill("1")
    assert reader.control("ratio").get_attribute("aria-valuetext").startswith("1.000")
    assert "as one block" not in reader.table()  # now it is the prediction


@pytest.mark.browser
def test_dragging_a_bar_moves_curves_slider_and_sentence(read):
    reader = read()
    before = reader.picture(), reader.control("ratio").input_value()
    box = reader.tab.locator('[data-drag="gamma-2"]').bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 12
    reader.tab.mouse.move(x, y)
    reader.tab.mouse.down()
    reader.tab.mouse.move(x, y - 20, steps=3)
    reader.tab.mouse.move(x, y - 300, steps=3)  # it stops at its neighbour
    reader.tab.mouse.up()
    assert reader.picture() != before[0]
    assert reader.control("ratio").input_value() == "1"
    assert reader.told().startswith("γ₃ went from 0.360 to 0.600: ")


@pytest.mark.browser
def test_the_time_axis_and_the_neighbours_can_be_chosen(read):
    reader = read()
    before = reader.picture()
    reader.control("log-time").uncheck()
    assert reader.picture() != before
    reader.control("pair").select_option("3")
    assert reader.told() == "The slider now moves γ₄ / γ₃."
    assert "the edge" in reader.control("pair").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(read, width):
    figure = widgets.SmallStart(LONG, d=6, alpha=1e-5)
    assert read(figure, width=width).cramped() == []


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(read, theme):
    assert read(widgets.SmallStart(LONG, d=6), theme=theme).axe() == []


@pytest.mark.browser
def test_paper_gets_the_picture_on_white_without_controls(read):
    reader = read(theme="dark")
    dark = "e => getComputedStyle(e).backgroundColor"
    assert reader.tab.eval_on_selector(".stepwise-figure", dark) == "rgb(20, 24, 30)"
    reader.tab.emulate_media(media="print")
    assert reader.tab.eval_on_selector(".stepwise-figure", dark) == "rgb(255, 255, 255)"
    assert not reader.control("draw").is_visible()
    assert reader.tab.locator(".sf-chart").is_visible()


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(read):
    """Render by hand with a model that counts its listeners, then clean up."""
    left = read().tab.evaluate(
        """async (source) => {
          const code = new Blob([source], { type: "text/javascript" });
          const { default: figure } = await import(URL.createObjectURL(code));
          const state = { gammas: [1, 0.5, -0.1], d: 2, alpha: 0.001, seed: 1,
            log_time: true, pair: 1 };
          let [listeners, saved] = [0, 0];
          const model = { get: (k) => state[k], set: (k, v) => { state[k] = v; },
            save_changes() { saved += 1; }, on() { listeners += 1; },
            off() { listeners -= 1; } };
          const el = document.createElement("div");
          document.body.append(el);
          const timers = new Set(), set = setTimeout, clear = clearTimeout;
          window.setTimeout = (f, ms) => {
            const id = set(() => { timers.delete(id); f(); }, ms);
            timers.add(id);
            return id;
          };
          window.clearTimeout = (id) => { timers.delete(id); clear(id); };
          const destroy = figure.render({ model, el });
          el.querySelector('[data-control="draw"]').click();
          const slider = el.querySelector('[data-control="alpha"]');
          slider.value = -4;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          destroy();
          const rest = [listeners, timers.size, el.childElementCount, saved];
          Object.assign(window, { setTimeout: set, clearTimeout: clear });
          return rest;
        }""",
        widgets.SmallStart._esm,
    )
    assert left == [0, 0, 0, 1]
