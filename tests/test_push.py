"""The push figure: its gradients against torch's, its laws, its words, its page."""

import json
import re

import numpy as np
import pytest
import torch

from pkg import losses, widgets
from tests.figure_page import show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

MATH = source("push_math")
CASES = [
    (loss, form)
    for loss in ("barlow_twins", "simclr", "vicreg")
    for form in ("published", "stepwise")
]
TERMS = {
    "published": {name: {} for name in losses.METHODS},
    "stepwise": losses.STEPWISE,
}


def cloud(n=7, d=2, seed=0):
    shared, *own = np.random.default_rng(seed).standard_normal((3, n, d))
    z, y = (shared + 0.4 * noise + 0.1 for noise in own)
    size = np.sqrt(np.mean(np.sum(np.concatenate([z, y]) ** 2, axis=1)))
    return z / size, y / size


def rms(rows):
    return np.sqrt(np.mean(np.sum(np.asarray(rows) ** 2, axis=-1)))


def expected_push(loss, form, z, y):
    """Minus the gradient of the package's loss, times the number of pairs."""
    views = [torch.tensor(view, requires_grad=True) for view in (z, y)]
    value = losses.METHODS[loss](*views, **TERMS[form][loss])
    return -len(z) * torch.stack(torch.autograd.grad(value, views)).numpy()


@pytest.mark.parametrize("loss, form", CASES)
def test_the_pushes_are_the_gradients_of_the_package(loss, form):
    given = [cloud(), cloud(5, 3, seed=1), cloud(12, 2, seed=2)]
    scaled = [(a * z, a * y) for z, y in given for a in (1e-4, 3e-3, 0.3, 1.0, 10.0)]
    calls = [["pushes", loss, form, z.tolist(), y.tolist()] for z, y in scaled]
    for found, (z, y) in zip(node(MATH, *calls), scaled, strict=True):
        expected = expected_push(loss, form, z, y)
        # Round-off is that of the terms, which cancel where a loss does not feel size.
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=2e-12 * np.abs(expected).max()
        )


@pytest.mark.parametrize("loss, form", CASES)
def test_the_law_is_where_the_push_goes(loss, form):
    """By the package's own gradients, at the end where the law is exact."""
    z, y = cloud()
    [law] = node(MATH, ["law", loss, form, z.tolist(), y.tolist()])
    assert law["power"] == (-1 if form == "published" and loss != "vicreg" else 1)
    large = loss == "barlow_twins" and form == "published"
    for a in (30.0, 100.0) if large else (1e-5, 1e-4):
        push = rms(expected_push(loss, form, a * z, a * y))
        # VICReg's is bent by var / 2 eps, 5e-5 at 1e-4.
        assert law["factor"] * a ** law["power"] == pytest.approx(push, rel=3e-4)


def test_laws_are_those_that_the_chapter_derives():
    z, y = cloud()
    n, a, b = len(z), z - z.mean(0), y - y.mean(0)

    def factor(loss, form):
        return node(MATH, ["law", loss, form, z.tolist(), y.tolist()])[0]["factor"]

    # Barlow Twins: twice the partner, about the mean.
    assert factor("barlow_twins", "stepwise") == pytest.approx(2 * rms([b, a]))
    # SimCLR: the partner, less the mean of all others.
    total = np.sum([z, y], axis=(0, 1))
    simclr = [v - (total - u) / (2 * n - 1) for u, v in ((z, y), (y, z))]
    assert factor("simclr", "stepwise") == pytest.approx(rms(simclr))
    # VICReg: the hinge against the disagreement of the views, over d = 2.
    for form, eps in (("published", 1e-4), ("stepwise", 0.1)):
        grow = 25 / 4 / np.sqrt(eps) * n / (n - 1)
        vicreg = [grow * c - 25 * (u - v) for u, v, c in ((z, y, a), (y, z, b))]
        assert factor("vicreg", form) == pytest.approx(rms(vicreg), rel=1e-6)


def test_the_scene_is_one_step_of_descent():
    z, y = cloud()
    state = {"z": (3 * z).tolist(), "z_prime": (3 * y).tolist(), "form": "stepwise"}
    [scene] = node(MATH, ["stage", state | {"scale": 0.05}])
    np.testing.assert_allclose(scene["views"], [z, y], rtol=1e-12)
    for one in scene["losses"]:
        push = expected_push(one["loss"], "stepwise", 0.05 * z, 0.05 * y)
        np.testing.assert_allclose(one["push"], rms(push), rtol=1e-10)
        moved = rms(0.05 * np.array([z, y]) + 0.01 * push) / 0.05
        np.testing.assert_allclose(one["growth"], moved, rtol=1e-10)
        curve = dict(zip(np.round(scene["xs"], 12), one["ys"], strict=True))
        np.testing.assert_allclose(
            curve[1.0], rms(expected_push(one["loss"], "stepwise", z, y)), rtol=1e-10
        )


def test_the_sentence_tells_push_power_and_step():
    z, y = cloud()
    state = {"z": z.tolist(), "z_prime": y.tolist(), "scale": 1e-3}
    for form in ("published", "stepwise"):
        [scene] = node(MATH, ["stage", state | {"form": form}])
        [said] = node(MATH, ["words", scene])
        expected = []
        for loss in ("barlow_twins", "simclr", "vicreg"):
            small, large = (
                rms(expected_push(loss, form, a * z, a * y)) for a in (0.99e-3, 1.01e-3)
            )
            power = np.log(large / small) / np.log(1.01 / 0.99)
            expected.append(pytest.approx(power, abs=0.051))
        found = re.findall(r"power ([−.\d]+) of the size", said)  # noqa: RUF001
        assert [float(power.replace("−", "-")) for power in found] == expected  # noqa: RUF001
        assert said.count("one step ×") == 3  # noqa: RUF001


def figure(**state):
    return widgets.Push(*cloud(), **state)


def test_state_makes_the_round_trip():
    shown = figure(scale=0.1)
    shown.set_state({"scale": 0.01, "form": "stepwise"})
    state = shown.get_state()
    assert (state["scale"], state["form"]) == (0.01, "stepwise")
    np.testing.assert_array_equal(json.loads(json.dumps(state["z"])), cloud()[0])


Z, Y = cloud()
WRONG = {
    "other shapes": ((Z, Y[:-1]), {}, "`z` and `z_prime` must have one shape"),
    "not in the plane": (cloud(5, 3), {}, r"`z` must be \(3 to 40, 2\).*\(5, 3\)"),
    "too many": (cloud(41), {}, r"`z` must be \(3 to 40, 2\)"),
    "on a line": ((Z * [1, 0], Y), {}, "must vary in both directions"),
    "no number": ((Z * np.nan, Y), {}, "`z` must be finite"),
    "too small": ((Z, Y), {"scale": 1e-5}, "`scale` must lie between 0.0001 and 10"),
    "unknown form": ((Z, Y), {"form": "theory"}, "`form` is 'theory'"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("as_a_user")
def test_what_does_not_fit_is_refused_by_name(case):
    views, state, says = WRONG[case]
    with pytest.raises(ValueError, match=says):
        widgets.Push(*views, **state)


def test_a_wrong_value_is_refused_later_too():
    shown = figure()
    with pytest.raises(ValueError, match="`scale` must lie between"):
        shown.scale = 11.0
    assert shown.scale == 1.0


@pytest.mark.browser
def test_one_slider_moves_every_loss(show):
    page = show(figure())

    def drawn():
        pictures = page.tab.locator("[data-picture]")
        markers = page.tab.locator(".sf-marker .sf-line")
        return (
            # A cosine does not feel the size: only its words change.
            [pictures.nth(k).get_attribute("aria-label") for k in range(3)],
            [markers.nth(k).get_attribute("d") for k in range(3)],
            page.told(),
        )

    before = drawn()
    page.press("scale", "ArrowLeft")
    after = drawn()
    for old, new in zip(before[:2], after[:2], strict=True):
        assert all(a != b for a, b in zip(old, new, strict=True))
    assert after[2] != before[2]
    assert page.control("scale").get_attribute("aria-valuetext") == "size 0.891"
    page.press("scale", "Home")
    assert "size 10⁻⁴, rate 0.01" in page.told()


@pytest.mark.browser
def test_the_other_form_is_a_choice(show):
    page = show(figure(scale=1e-3))
    before = page.curve("measured", panel=0)
    assert page.told().startswith("As published")
    page.control("form-stepwise").check()
    assert page.told().startswith("In the form for a small start, size 10⁻³")
    assert page.curve("measured", panel=0) != before


@pytest.mark.browser
def test_the_marker_is_dragged(show):
    page = show(figure(scale=0.1))
    page.drag("marker", -60, nth=1)
    assert float(page.control("scale").input_value()) < -1.5


@pytest.mark.browser
def test_the_sentence_is_spoken_once_the_hand_rests(show):
    page = show(figure())
    before, at_once, rested = page.speech(lambda: page.press("scale", "ArrowRight"))
    assert at_once == before != rested == page.told()


@pytest.mark.browser
def test_controls_stay_where_they_are_as_the_sentence_changes(show):
    page = show(figure(), width=760)
    tops = set()
    for key in ("Home", "End", *["ArrowLeft"] * 6):
        page.press("scale", key)
        tops.add(page.top("scale"))
    assert len(tops) == 1


@pytest.mark.browser
@pytest.mark.parametrize("theme, width", [("light", 760), ("dark", 390)])
def test_axe_finds_nothing_serious_and_every_width_is_usable(show, theme, width):
    page = show(figure(scale=0.01), theme=theme, width=width)
    assert page.axe() == []
    assert page.cramped() == []
    assert page.on_paper("scale", "[data-picture='simclr']") == (False, True)


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    page = show(figure())
    z, y = (view.tolist() for view in cloud())
    state = {"z": z, "z_prime": y, "scale": 0.1, "form": "published"}
    assert page.left_by(widgets.Push, state, "form-stepwise") == [0, 0, 0]
