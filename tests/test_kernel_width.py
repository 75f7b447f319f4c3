"""The kernel figure: its frames against NumPy's, its words, its page."""

import itertools
import json

import numpy as np
import pytest

from pkg import dynamics, widgets
from tests.figure_page import show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

MATH, PICTURES = source("kernel_width_math"), source("kernel_width_pictures")
WIDTHS = np.geomspace(0.02, 10.0, 9)


def toy() -> tuple[np.ndarray, np.ndarray]:
    """Three clusters of 12, 8 and 5 points, two noisy views of each point."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [12, 8, 5])
    centres = np.array([[0.0, 0.8], [-0.75, -0.45], [0.75, -0.45]])
    points = centres[labels] + 0.16 * rng.standard_normal((25, 2))
    x, x_prime = points + 0.1 * rng.standard_normal((2, 25, 2))
    return np.concatenate([x, x_prime]), labels


def solved(views: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues of P K / 2n, and four embeddings, by the textbook."""
    n = len(views) // 2
    K = np.exp(-np.sum((views[:, None] - views) ** 2, axis=2) / (2 * width**2))
    size, basis = np.linalg.eigh(K)
    L = basis * np.sqrt(np.maximum(size, 0.0))
    gammas, c = np.linalg.eigh(L.T @ np.roll(L, n, axis=0) / (2 * n))
    embeddings = L @ c[:, ::-1][:, :4] / np.sqrt(gammas[::-1][:4])
    return gammas[::-1], embeddings


def arrays() -> dict[str, np.ndarray]:
    views, labels = toy()
    spectra, embeddings = zip(*[solved(views, w) for w in WIDTHS], strict=True)
    return {
        "views": views,
        "labels": labels,
        "widths": WIDTHS,
        "gammas": np.array(spectra)[:, :8],
        "negatives": np.array(spectra)[:, ::-1][:, :8],
        "embeddings": np.array(embeddings),
    }


def figure(**state) -> widgets.KernelWidth:
    return widgets.KernelWidth(**arrays(), **state)


def scene(shown: widgets.KernelWidth, **state) -> dict:
    names = ("frames", "s0", "index", "d", "first", "time")
    full = {name: getattr(shown, name) for name in names} | state
    [staged] = node(MATH, ["stage", full])
    return staged


@pytest.fixture(scope="module")
def kernel():
    return figure()


def test_the_page_unpacks_the_embeddings_that_python_packed(kernel):
    expected = arrays()["embeddings"]
    for index in (0, 3, 8):
        found = np.array(scene(kernel, index=index)["final"]).T  # (2n, 4)
        signs = np.sign(np.sum(found * expected[index], axis=0))
        peaks = np.abs(expected[index]).max(axis=0)
        # Half a level of 15 bits, and peaks of six digits.
        near = np.abs(found * signs - expected[index]).max(axis=0) / peaks
        assert near.max() < 2**-16 + 2e-6


def test_signs_are_those_of_the_wider_neighbour(kernel):
    frames = [np.array(scene(kernel, index=k)["final"]) for k in range(9)]
    for now, wider in itertools.pairwise(frames):
        assert np.sum(now * wider, axis=1).min() > -1e-9
    assert frames[-1].sum(axis=1).min() > -1e-9


def test_time_scales_each_mode_as_dynamics_does(kernel):
    index, t, s0 = 5, 20.0, 1e-3
    gammas = arrays()["gammas"][index, :3]
    grown = dynamics.singular_values(np.array([t]), gammas, s0)[0] * np.sqrt(gammas)
    staged = scene(kernel, index=index, d=3, first=2, time=t)
    final = np.array(staged["final"])[1:3]
    np.testing.assert_allclose(
        staged["embedding"], final * grown[1:3, None], rtol=1e-5, atol=1e-9
    )


def test_curves_and_steps_are_those_of_dynamics(kernel):
    staged = scene(kernel, index=4, d=8)
    gammas = np.array(kernel.frames["gammas"][4])
    theory = dynamics.closed_form(np.array(staged["xs"]), gammas, 1e-3)
    np.testing.assert_allclose(staged["curves"]["loss"], theory.loss, atol=1e-11)
    np.testing.assert_allclose(staged["taus"], dynamics.step_times(gammas, 1e-3))


def test_a_mode_beyond_d_stays_collapsed(kernel):
    staged = scene(kernel, index=4, d=1, first=1)
    assert np.abs(staged["embedding"][0]).max() > 0.1
    assert np.abs(staged["embedding"][1]).max() == 0


@pytest.mark.parametrize("s0", [1e-6, 1e-3, 0.1])
def test_one_time_axis_serves_every_frame(s0):
    shown = figure(s0=s0)
    axes = [scene(shown, index=k)["axis"] for k in range(9)]
    assert all(axis == axes[0] for axis in axes)
    first = dynamics.step_times(arrays()["gammas"].max(axis=0)[:1], s0)[0]
    assert 0.3 * first < axes[0]["low"] < first < axes[0]["high"]
    assert axes[0]["high"] / axes[0]["low"] < 1.2e4


def test_shares_say_where_a_mode_lives(kernel):
    views, labels = toy()
    both = np.concatenate([labels, labels])
    values = np.where(both == 1, 2.0, 1.0)
    [found] = node(MATH, ["shares", values.tolist(), labels.tolist()])
    total = np.sum(values**2)
    expected = [np.sum(values[both == k] ** 2) / total for k in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    [apart] = node(MATH, ["pairDistance", views.tolist()])
    expected = np.median(np.linalg.norm(views[:25] - views[25:], axis=1))
    assert apart == pytest.approx(expected, rel=1e-12)


def test_the_sentence_tells_a_narrow_kernel_from_a_wide_one(kernel):
    narrow, bump, wide = (scene(kernel, index=k) for k in (0, 4, 8))
    said = [node(MATH, ["widthWords", one])[0] for one in (narrow, bump, wide)]
    assert "less than the distance between the two views" in said[0]
    assert "at least 7 more modes are within a factor five" in said[0]
    against = -np.min(arrays()["negatives"][0]) / arrays()["gammas"][0, 0]
    assert f"{100 * against:.0f} % of it" in said[0]
    square = np.sort(arrays()["embeddings"][0][:, 0] ** 2)[::-1]
    views = 1 + np.argmax(np.cumsum(square) >= square.sum() / 2)
    assert f"Mode 1 sits on {views} views" in said[0] and "bump" not in said[0]
    assert "Mode 1 is a bump" in said[1]
    assert "Mode 1 is spread out" in said[2]
    assert "no other mode is within a factor five" in said[2]
    assert "next to zero" in said[2]


def test_the_sentence_counts_what_is_never_seen_to_learn(kernel):
    staged = scene(kernel, index=8, d=8)
    late = np.sum(np.array(staged["taus"]) > staged["axis"]["high"])
    assert 0 < late < 8
    [said] = node(MATH, ["widthWords", staged])
    assert f"Of 8 outputs {8 - late} learn in the time shown" in said
    assert f"the loss stays near {late}" in said


def test_time_is_told_by_the_steps_around_it(kernel):
    taus = scene(kernel, index=4, d=3)["taus"]
    between = float(np.sqrt(taus[0] * taus[1]))
    for time, says in [
        (between, "1 of 3 outputs have opened; mode 2 follows at τ₂"),
        (None, "3 of 3 outputs have opened; nothing is left to learn"),
    ]:
        [said] = node(MATH, ["timeWords", scene(kernel, index=4, d=3, time=time)])
        assert says in said


def test_a_picture_holds_all_its_points():
    for columns in ([[0.3, -0.9]], [[1e-9, 0.0]], [[2.0], [-7.7]]):
        [half] = node(PICTURES, ["halfWidth", columns])
        assert half >= max(abs(v) for column in columns for v in column)


def test_state_makes_the_round_trip(kernel):
    shown = figure(index=3, d=2, first=2, time=5.0)
    shown.set_state({"index": 7, "time": None})
    state = shown.get_state()
    assert (state["index"], state["d"], state["first"], state["time"]) == (
        7,
        2,
        2,
        None,
    )
    assert state["frames"] == json.loads(json.dumps(kernel.frames))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"widths": WIDTHS[::-1]}, r"`widths` must increase"),
        ({"widths": WIDTHS - 1}, r"`widths` must be finite and positive"),
        ({"views": np.zeros((49, 2))}, r"`views` must be of shape \(50, 2\).*49"),
        ({"gammas": np.ones((9, 4))}, r"`gammas` must be of shape \(9, 8\)"),
        ({"negatives": np.ones((8, 8))}, r"`negatives` must be of shape \(9, 8\)"),
        ({"embeddings": np.full((9, 50, 4), np.nan)}, r"`embeddings` must be finite"),
        ({"labels": np.arange(25)}, r"`labels` must be the whole numbers 0, 1 and 2"),
        ({"index": 9}, r"`index` must be between 0 and 8; got 9"),
        ({"d": 9}, r"`d` must be between 1 and 8; got 9"),
        ({"first": 4}, r"`first` must be between 1 and 3; got 4"),
        ({"s0": 0.5}, r"`s0` must lie between 1e-6 and 0.1"),
        ({"time": -1.0}, r"`time` must be 0 or later"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_what_does_not_fit_is_refused_by_name(change, says):
    with pytest.raises(ValueError, match=says):
        widgets.KernelWidth(**arrays() | change)


@pytest.mark.usefixtures("as_a_user")
def test_more_than_a_page_can_carry_is_refused():
    few = arrays()
    many = {
        name: np.concatenate([few[name]] * 20)
        for name in ("gammas", "negatives", "embeddings")
    }
    many["widths"] = np.geomspace(0.01, 10, 180)
    with pytest.raises(ValueError, match=r"`embeddings` must hold .*36000.*fewer"):
        widgets.KernelWidth(**few | many)


@pytest.mark.parametrize("name, value", [("index", 9), ("d", 0), ("first", 0)])
def test_a_wrong_value_is_refused_later_too(name, value):
    shown = figure()
    before = getattr(shown, name)
    with pytest.raises(ValueError, match=f"`{name}` must be between"):
        setattr(shown, name, value)
    assert getattr(shown, name) == before


@pytest.mark.browser
def test_one_slider_moves_everything(show):
    page = show(figure(index=2))
    pictures = "[data-picture='{}']"

    def drawn():
        one = [
            page.tab.locator(pictures.format(name)).first.inner_html()
            for name in ("points", "embedding", "spectrum")
        ]
        return [*one, page.curve(panel=0), page.told()]

    before = drawn()
    page.press("width", "ArrowRight")
    assert all(old != new for old, new in zip(before, drawn(), strict=True))
    assert f"Width {WIDTHS[3]:.3f}" in page.told()


@pytest.mark.browser
def test_the_embedding_opens_with_time(show):
    page = show(figure(index=4))
    page.tab.locator('[data-drag="marker"]').wait_for()
    marks = page.tab.locator("[data-picture='embedding'] .kw-0").first
    after = marks.get_attribute("d")
    page.press("time", "Home")
    assert "0 of 4 outputs have opened" in page.told()
    assert marks.get_attribute("d") != after
    page.press("time", "End")
    assert marks.get_attribute("d") == after
    assert page.control("time").get_attribute("aria-valuetext") == "after training"


@pytest.mark.browser
def test_the_marker_is_dragged(show):
    page = show(figure(index=4))
    page.drag("marker", -300)
    assert page.told().startswith("t = ")
    assert "of 4 outputs have opened" in page.told()


@pytest.mark.browser
def test_other_modes_can_be_looked_at(show):
    page = show(figure(index=6, d=2))
    page.control("modes-2").check()
    assert "modes 2 and 3" in page.told()
    assert "those beyond d are never learned" in page.told()
    hollow = page.tab.locator("[data-picture='points'] .kw-hollow")
    drawn = [hollow.nth(k).get_attribute("d") for k in range(3)]
    assert any(drawn)  # a second mode changes sign somewhere


@pytest.mark.browser
def test_a_mode_that_d_leaves_out_is_told_when_d_moves(show):
    page = show(figure(index=6, d=2))
    assert "beyond d" not in page.told()
    page.press("d", "ArrowLeft")
    assert "those beyond d are never learned" in page.told()


@pytest.mark.browser
def test_the_end_of_the_axis_is_not_the_end_of_training(show):
    page = show(figure(index=8))  # the fourth mode needs longer
    assert (
        page.control("time").get_attribute("aria-valuetext") == "end of the time shown"
    )


@pytest.mark.browser
def test_controls_stay_where_they_are_as_the_sentence_changes(show):
    page = show(figure(index=6, d=1), width=800)
    tops = set()
    for key in ("Home", *["ArrowRight"] * 8):
        page.press("width", key)
        tops.add(page.top("width"))
    assert len(tops) == 1


@pytest.mark.browser
@pytest.mark.parametrize("control", ["width", "d", "time"])
def test_every_slider_answers_the_keyboard(show, control):
    assert show(figure(index=4)).deaf_to(control) == []


@pytest.mark.browser
def test_the_sentence_is_spoken_once_the_hand_rests(show):
    page = show(figure(index=4))
    before, at_once, rested = page.speech(lambda: page.press("width", "ArrowRight"))
    assert at_once == before != rested == page.told()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, theme):
    assert show(figure(index=4), theme=theme).axe() == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(show, width):
    assert show(figure(index=4), width=width).cramped() == []


@pytest.mark.browser
def test_paper_gets_the_picture_without_controls(show):
    page = show(figure(index=4), theme="dark")
    assert page.on_paper("width", "[data-picture='points']") == (False, True)


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    page = show(figure(index=4))
    state = {"s0": 1e-3, "index": 2, "d": 3, "first": 1, "time": None}
    state["frames"] = figure().frames
    assert page.left_by(widgets.KernelWidth, state, "modes-2") == [0, 0, 0]
