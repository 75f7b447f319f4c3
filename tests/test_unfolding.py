"""The unfolding figure: its film against NumPy, its words, its page."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pkg import dynamics, modes, widgets
from pkg.record import Trajectory
from tests.figure_page import show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

MATH, PICTURES = source("unfolding_math"), source("unfolding_pictures")
GAMMAS = np.array([1.0, 0.5, 0.25, 0.125, 0.0625])
S, N, D = 41, 30, 5
T = np.linspace(0.0, 40.0, S)
TRAITS = ("film", "time", "first", "colour", "highlight", "turn", "tilt", "fit")


def arrays() -> dict:
    """A film of the closed form: five modes open one after another."""
    rng = np.random.default_rng(0)
    sizes = dynamics.singular_values(T, GAMMAS, 1e-3) * np.sqrt(GAMMAS)  # (S, D)
    points = np.linalg.qr(rng.standard_normal((N, D)))[0]
    points = np.linalg.qr(points - points.mean(axis=0))[0] * np.sqrt(N)
    seen = modes.unfold(points * sizes[:, None])
    theory = dynamics.closed_form(T, GAMMAS, 1e-3)
    return {
        "points": seen.points,
        "run": Trajectory(
            t=theory.t,
            loss=theory.loss,
            eigenvalues=theory.eigenvalues,
            order="mode",
            matrix="covariance",
            source="closed form",
        ),
        "t": T,
        "step": np.arange(S) * 20,
        "opened": seen.opened,
        "labels": np.arange(N) % 7,
        "classes": [f"photo {k}" for k in range(7)],
        "quantities": {"warmth": points[:, 0] ** 3, "detail": points[:, 2]},
        "images": rng.integers(0, 256, (N, 9, 9, 3), dtype=np.uint8),
    }


def figure(**state) -> widgets.Unfolding:
    return widgets.Unfolding(**arrays() | state)


@pytest.fixture(scope="module")
def shown():
    return figure()


def state_of(shown: widgets.Unfolding, **state) -> dict:
    return {name: getattr(shown, name) for name in TRAITS} | state


# Typed arrays do not travel as JSON: a module beside the sources unpacks on its own.
def staged(tmp_path, shown: widgets.Unfolding, **state) -> dict:
    module = tmp_path / "staged.mjs"
    module.write_text(
        f'import * as math from "{MATH.as_uri()}";\n'
        "const axes = ({ first }) => math.drawnAxes(first);\n"
        "export const points = (film, axes, time) =>\n"
        "  math.pointsAt(math.unpack(film), film, axes, time);\n"
        "export const scene = (state) => {\n"
        "  const levels = math.unpack(state.film);\n"
        "  const widest = math.filmReach(levels, state.film, axes(state));\n"
        "  const scene = math.stage(state, levels, widest);\n"
        "  return { ...scene, widest, words: math.words(scene) };\n"
        "};\n"
    )
    return node(module, ["scene", state_of(shown, **state)])[0] | {"module": module}


def test_the_page_unpacks_the_points_that_python_packed(shown, tmp_path):
    points = arrays()["points"]
    for k in (0, 7, S - 1):
        found = np.array(staged(tmp_path, shown, time=float(T[k]))["columns"]).T
        peaks = np.abs(points[k]).max(axis=0)[:3]
        # Half a level of seven bits and a sign, and peaks of five digits.
        assert np.max(np.abs(found - points[k, :, :3]) / peaks) < 0.5 / 127 + 1e-4


def test_between_snapshots_every_point_moves_straight(shown, tmp_path):
    module = staged(tmp_path, shown)["module"]
    times = [T[9], 0.7 * T[9] + 0.3 * T[10], T[10], -1.0, 99.0, T[-1]]
    film = shown.film
    one, inside, two, before, after, last = (
        np.array(found)
        for found in node(module, *[["points", film, [0, 4], t] for t in times])
    )
    np.testing.assert_allclose(inside, 0.7 * one + 0.3 * two, atol=1e-5)
    np.testing.assert_array_equal(after, last)
    assert np.abs(before).max() < 0.01 < np.abs(last).max()


@pytest.mark.parametrize("turn, tilt", [(0, 0), (35, 20), (-120, -90), (180, 90)])
def test_turning_is_a_rotation(rng, turn, tilt):
    """Two turns, as matrices: about the second axis, then about the reader's own."""
    points = rng.standard_normal((3, 8))
    a, b = np.radians([turn, tilt])
    yaw = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    pitch = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    expected = np.array(pitch) @ np.array(yaw) @ points
    [found] = node(MATH, ["project", points.tolist(), turn, tilt])
    np.testing.assert_allclose(
        [found["across"], found["up"], found["near"]], expected, atol=1e-12
    )


def test_one_scale_serves_all_times_and_holds_every_point(shown, tmp_path):
    points = arrays()["points"]
    widest = np.linalg.norm(points[..., :3], axis=2).max()
    early, late = (staged(tmp_path, shown, time=t) for t in (2.0, None))
    assert early["half"] == late["half"] == pytest.approx(1.06 * widest, rel=0.01)
    fitted = staged(tmp_path, shown, time=1.0, fit=True)
    assert fitted["half"] == pytest.approx(1.06 * fitted["size"])
    assert fitted["times"] == pytest.approx(widest / fitted["size"], rel=0.01)


def test_meanings_agree_with_scipy_and_with_modes(shown, tmp_path):
    given = arrays()
    k = 12
    by_warmth = staged(tmp_path, shown, time=float(T[k]), colour="warmth")
    columns = np.array(by_warmth["columns"])  # as packed: ranks know the last digit
    expected = stats.spearmanr(given["quantities"]["warmth"], columns.T)[0][0, 1:]
    np.testing.assert_allclose(by_warmth["told"], expected, atol=0.01)
    by_class = staged(tmp_path, shown, time=float(T[k]))
    expected = modes.separation(columns.T, given["labels"])
    np.testing.assert_allclose(by_class["told"], expected, atol=1e-9)
    assert by_class["chance"] == pytest.approx(6 / 29)


def test_ranks_share_ties_as_scipy_does():
    values = [3.0, -1.0, 3.0, 0.5, 3.0, -1.0]
    [found] = node(MATH, ["ranks", values])
    np.testing.assert_array_equal(found, stats.rankdata(values) - 1)
    ties, flat = [1, 1, 2, 3, 3, 3], [4.0] * 6
    [found, none] = node(
        MATH, ["rankCorrelation", ties, values], ["rankCorrelation", flat, values]
    )
    assert found == pytest.approx(stats.spearmanr(ties, values)[0])
    assert none == 0


def test_the_sentence_counts_what_has_opened(shown, tmp_path):
    given = arrays()
    opened = T[given["opened"]]
    for count, shape in [(0, "a point"), (1, "a line"), (2, "a sheet"), (3, "a body")]:
        k = int(given["opened"][count]) - 1  # just before the next one
        said = staged(tmp_path, shown, time=float(T[k]))["words"]
        assert f"Step {20 * k}" in said
        assert f"{count} of 5 axes have opened" in said
        assert f"In axes 1, 2 and 3 the cloud is {shape}" in said
        variance = given["points"][k].var(axis=0)
        share = 100 * variance[opened <= T[k]].sum() / variance.sum()
        told = re.search(r"([\d.]+) % of its spread lies in the open", said)
        assert (told is None) == (count == 0)
        assert told is None or float(told[1]) == pytest.approx(share, abs=1)


def test_the_sentence_says_what_the_picture_leaves_out(shown, tmp_path):
    end = staged(tmp_path, shown, first=1)["words"]
    assert "5 of 5 axes have opened" in end and "spread lies in" not in end
    assert "2 open axes are not in this picture" in end


def test_the_sentence_is_true_of_a_cloud_that_is_magnified(shown, tmp_path):
    """What is a point at its true size looks like a line, or more, when it fits."""
    plain = staged(tmp_path, shown, time=1.0)
    found = re.search(r"is a point, ([\d.]+) times smaller than", plain["words"])
    assert float(found[1]) == pytest.approx(plain["times"], rel=0.01)
    fitted = staged(tmp_path, shown, time=1.0, fit=True)["words"]
    assert f"cloud is magnified {found[1]} times; at its true size it" in fitted
    assert "would be a point." in fitted and "is a point" not in fitted
    end = staged(tmp_path, shown, fit=True)["words"]  # at its widest: nothing to say
    assert "the cloud is a body. " in end


def test_an_axis_that_never_opens_is_never_counted(tmp_path):
    opened = arrays()["opened"].copy()
    opened[-1] = -1
    assert "4 of 5 axes have opened" in staged(tmp_path, figure(opened=opened))["words"]


def test_classes_differ_in_colour_or_shape_and_one_can_stand_out(shown):
    film = shown.film
    everyone, one, warm = node(
        PICTURES,
        ["looks", film, "class", ""],
        ["looks", film, "class", "photo 3"],
        ["looks", film, "warmth", "photo 3"],
    )
    seen = {(look["name"], look["mark"]) for look in everyone}
    assert len(seen) == 7
    faded = [look["name"] == "uf-faded" for look in one]
    assert faded == [label != 3 for label in film["labels"]]
    order = np.argsort(arrays()["quantities"]["warmth"])
    shades = [int(warm[i]["name"][-1]) for i in order]
    assert shades == sorted(shades) and {*shades} == {*range(7)}


# Severity 1 of Machado, Oliveira and Fernandes (2009), on linear RGB.
SEEN_WITHOUT = {
    "nothing": np.eye(3),
    "red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def _linear(colours: list[str]) -> np.ndarray:
    values = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours])
    u = values / 255
    return np.where(u <= 0.04045, u / 12.92, ((u + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(np.maximum(linear, 1e-4) @ TO_XYZ.T / TO_XYZ.sum(axis=1)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("cone", SEEN_WITHOUT)
@pytest.mark.parametrize("page", ["#ffffff", "#14181e"])
def test_classes_can_be_told_apart_without_a_kind_of_cone(cone, page):
    """CIELAB distances, 2.3 of which are just seen, between colours of small marks."""
    css = (widgets.FOLDER / "unfolding.css").read_text()
    blocks = re.findall(r"--uf-c0: .*?}", css, flags=re.DOTALL)
    light, dark, dark_again, printed = (
        dict(re.findall(r"--uf-(c\d): (#\w{6})", block)) for block in blocks
    )
    assert dark == dark_again and light == printed
    colours = [*(light if page == "#ffffff" else dark).values()]
    assert len(colours) == 5
    seen = _lab(np.clip(_linear(colours) @ np.transpose(SEEN_WITHOUT[cone]), 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=2) + 1e3 * np.eye(5)
    assert apart.min() > 30
    luminance, ground = _linear(colours) @ TO_XYZ[1], _linear([page]) @ TO_XYZ[1]
    brighter = np.maximum(luminance, ground)
    assert np.min((brighter + 0.05) / (np.minimum(luminance, ground) + 0.05)) > 3


def test_the_strip_shows_images_at_both_ends_and_what_they_have_in_common():
    """Painted so that axis 2 can be read off its tiles: the upper half follows it."""
    along = arrays()["points"][-1, :, 1]
    order = np.argsort(along)
    grey = np.empty(N, dtype=np.uint8)
    grey[order] = np.linspace(0, 255, N).astype(np.uint8)
    images = np.full((N, 8, 8, 3), 100, np.uint8)
    images[:, :4] = grey[:, None, None, None]
    sprite = figure(images=images).film["sprite"]
    sheet = Image.open(io.BytesIO(base64.b64decode(sprite.split(",")[1])))
    assert sheet.size == (8 * 32, D * 32)
    pixels = np.asarray(sheet.convert("L")).astype(float)
    upper, lower = pixels[32 + 4, 16::32], pixels[32 + 28, 16::32]
    shade = grey[order].astype(float)
    np.testing.assert_allclose(upper[1:-1], [*shade[:3], *shade[-3:]], atol=4)  # JPEG
    np.testing.assert_allclose(lower[1:-1], 100, atol=4)
    # Half of each image is bright and half is not, so about its mean one is the other's
    # negative.
    np.testing.assert_allclose([upper[0], lower[0]], [0, 255], atol=4)
    np.testing.assert_allclose([upper[-1], lower[-1]], [255, 0], atol=4)


def test_the_film_is_light_and_its_curves_keep_both_ends():
    points = np.random.default_rng(0).standard_normal((60, 300, 8))
    n = 5000
    run = Trajectory(
        t=np.arange(n) * 0.01,
        loss=np.linspace(8, 0, n),
        eigenvalues=np.random.default_rng(1).random((n, 8)),
        order="rank",
        matrix="covariance",
        source="noise",
    )
    heavy = figure(
        points=points,
        run=run,
        t=np.arange(60.0),
        step=np.arange(60),
        opened=np.arange(8),
        labels=np.arange(300) % 7,
        quantities={str(k): np.arange(300.0) for k in range(6)},
        images=np.random.default_rng(2).integers(0, 256, (300, 32, 32, 3), np.uint8),
    )
    curves = heavy.film["curves"]
    assert len(curves["t"]) == 240
    assert (curves["t"][0], curves["t"][-1]) == (0.0, 49.99)
    assert (curves["loss"][0], curves["loss"][-1]) == (8.0, 0.0)
    assert len(json.dumps(heavy.get_state())) < 400_000


def test_state_makes_the_round_trip(shown):
    other = figure(time=3.0, first=2, colour="detail", turn=-90.0, fit=True)
    other.set_state({"time": None, "colour": "class", "highlight": "photo 6"})
    state = other.get_state()
    assert [state[name] for name in TRAITS[1:]] == [
        *(None, 2, "class", "photo 6", -90.0, 20.0, True)
    ]
    assert state["film"] == json.loads(json.dumps(shown.film))


def short(name: str, length: int):
    return {name: np.asarray(arrays()[name])[:length]}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"points": np.zeros((S, N))}, r"`points` must have 3 axes"),
        ({"points": np.full((S, N, D), np.inf)}, r"`points` must be finite"),
        ({"points": np.zeros((S, N, 2))}, r"`points` must have 3 to 8 axes; got 2"),
        ({"points": np.zeros((S, 7, D))}, r"`points` must hold .* shape \(41, 7, 5\)"),
        ({"points": np.zeros((300, 200, 3))}, r"at most 150000 numbers"),
        ({"t": T[::-1]}, r"`t` must increase"),
        (short("t", 40), r"`t` must have length 41.*got 40"),
        (short("step", 40), r"`step` must have length 41"),
        (short("opened", 4), r"`opened` must have length 5"),
        (short("labels", 29), r"`labels` must have length 30"),
        (short("images", 29), r"`images` must have length 30"),
        ({"quantities": {"a": T}}, r"`quantities\['a'\]` must have length 30.*41"),
        ({"classes": ["one"]}, r"`labels` must be places in `classes`, 0 to 0"),
        ({"classes": [str(k) for k in range(16)]}, r"`classes` must be 1 to 15.*16"),
        ({"images": np.zeros((N, 9, 9, 3))}, r"`images` must be uint8.*float64"),
        ({"time": -1.0}, r"`time` must be 0 or later"),
        ({"first": 4}, r"`first` must be between 1 and 3; got 4"),
        ({"colour": "warm"}, r"`colour` is 'warm'.*did you mean 'warmth'"),
        ({"highlight": "photo"}, r"`highlight` is 'photo', which is not known"),
        ({"turn": 181.0}, r"`turn` must lie between -180 and 180"),
        ({"tilt": 91.0}, r"`tilt` must lie between -90 and 90"),
        ({"fit": 1}, r"`fit` must be True or False"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_what_does_not_fit_is_refused_by_name(change, says):
    with pytest.raises(ValueError, match=says):
        widgets.Unfolding(**arrays() | change)


@pytest.mark.parametrize(
    "name, value", [("first", 4), ("colour", "x"), ("turn", 400.0)]
)
def test_a_wrong_value_is_refused_later_too(name, value):
    shown = figure()
    before = getattr(shown, name)
    with pytest.raises(ValueError, match=f"`{name}`"):
        setattr(shown, name, value)
    assert getattr(shown, name) == before


# --- in the page ----------------------------------------------------------------------

POINTS = ".uf-points path"


def cloud(page) -> list[str]:
    return page.tab.eval_on_selector_all(
        POINTS, "all => all.map(e => e.getAttribute('d')).sort()"
    )


def extent(page) -> tuple[float, float]:
    return page.tab.eval_on_selector(
        ".uf-points", "e => { const b = e.getBBox(); return [b.width, b.height]; }"
    )


@pytest.mark.browser
def test_the_cloud_opens_from_a_point_as_the_reader_moves_time(show):
    page = show(figure())
    wide = extent(page)
    assert min(wide) > 150
    page.press("time", "Home")
    assert max(extent(page)) < 10
    assert (
        "0 of 5 axes have opened. In axes 1, 2 and 3 the cloud is a point"
        in page.told()
    )
    page.press("time", "End")
    assert extent(page) == wide
    assert (
        page.control("time").get_attribute("aria-valuetext")
        == "step 800, flow time 40.0"
    )


@pytest.mark.browser
def test_a_line_looks_like_a_line_and_fitting_magnifies_it(show):
    opened = arrays()["opened"]
    page = show(figure(time=float(T[opened[0]]), turn=0.0, tilt=0.0))
    width, height = extent(page)
    assert width > 150 and height < 16  # marks are 6 to 8 pixels high
    page.press("time", "Home")
    page.control("fit").check()
    assert max(extent(page)) > 150
    assert "at its true size it would be a point" in page.told()
    assert "magnified" in page.tab.locator(".uf-cloud .sf-title").text_content()


@pytest.mark.browser
def test_the_cloud_is_turned_by_hand_and_by_keys(show):
    page = show(figure())
    before = cloud(page)
    side = page.tab.locator('[data-drag="cloud"]').bounding_box()["width"]
    page.drag("cloud", side / 4, -side / 12)
    dragged = cloud(page)
    assert dragged != before
    # A quarter of the square is 45 degrees, a twelfth 15.
    values = [page.control(k).get_attribute("aria-valuetext") for k in ("turn", "tilt")]
    assert values == ["80 degrees", "5 degrees"]
    for control in ("turn", "tilt"):
        page.press(control, "ArrowRight")
        assert cloud(page) != dragged
        dragged = cloud(page)


@pytest.mark.browser
def test_the_cursor_of_the_curves_moves_the_cloud(show):
    page = show(figure())
    before = cloud(page)
    page.drag("marker", -280)
    assert cloud(page) != before
    assert "of 5 axes have opened" in page.told()
    step = int(page.control("time").get_attribute("aria-valuetext").split()[1][:-1])
    assert 0 < step < 800


@pytest.mark.browser
def test_colours_follow_the_class_or_a_quantity_and_say_what_it_means(show):
    page = show(figure())
    names = "all => [...new Set(all.map(e => e.getAttribute('class')))].sort()"
    assert page.tab.eval_on_selector_all(POINTS, names) == [
        f"uf-c{k}" for k in range(5)
    ]
    assert "labels without meaning would give 21 %" in page.told()
    page.control("colour").select_option("warmth")
    assert page.tab.eval_on_selector_all(POINTS, names) == [
        f"uf-q{k}" for k in range(7)
    ]
    assert "Rank correlation of warmth with axes 1, 2 and 3: " in page.told()
    assert "warmth: lowest seventh" in page.tab.locator(".uf-key").inner_text()
    page.control("highlight").select_option("photo 2")
    assert page.control("colour").input_value() == "class"
    faded = page.tab.locator(f"{POINTS}.uf-faded").count()
    assert faded == N - arrays()["labels"].tolist().count(2)


@pytest.mark.browser
def test_other_axes_can_be_drawn_with_their_images(show):
    page = show(figure())
    before = cloud(page)
    tiles = page.tab.locator(".uf-tiles").first
    style = tiles.get_attribute("style")
    page.control("first").select_option("3")
    assert cloud(page) != before
    assert "In axes 3, 4 and 5 the cloud is a body" in page.told()
    assert tiles.get_attribute("style") != style
    assert "end of axis 3" in tiles.get_attribute("aria-label")


@pytest.mark.browser
def test_playing_moves_time_and_turns_until_it_is_paused(show):
    page = show(figure(time=6.0))
    turn = page.control("turn").input_value()
    page.control("play").click()
    assert page.control("play").inner_text() == "Pause"
    page.tab.wait_for_function(
        "() => Number(document.querySelector('[data-control=time]').value) > 33"
    )
    page.control("play").click()
    assert page.control("turn").input_value() != turn
    told = page.told()
    page.tab.wait_for_timeout(150)
    assert page.told() == told
    page.press("time", "End")
    page.control("play").click()  # from the end it begins again
    assert int(re.match(r"Step (\d+)", page.told())[1]) < 60
    page.set_range("time", 100)  # a hand on the slider stops it
    assert page.control("play").inner_text() == "Play"


@pytest.mark.browser
def test_where_motion_is_unwanted_the_film_goes_by_snapshots(show):
    page = show(figure(time=float(T[5])), reduced_motion="reduce")
    turn = page.control("turn").input_value()
    page.control("play").click()
    steps = []
    for _ in range(2):
        before = page.told()
        page.tab.wait_for_function(
            "old => document.querySelector('.sf-told').textContent !== old", arg=before
        )
        steps.append(page.told().split(",")[0])
    page.control("play").click()
    assert steps == ["Step 120", "Step 140"]
    assert page.control("turn").input_value() == turn


@pytest.mark.browser
def test_the_sentence_is_spoken_once_the_hand_rests(show):
    page = show(figure())
    before, at_once, rested = page.speech(
        lambda: page.control("first").select_option("2")
    )
    assert at_once == before != rested == page.told()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, theme):
    page = show(figure(colour="warmth" if theme == "dark" else "class"), theme=theme)
    assert page.axe() == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_every_width_is_usable(show, width):
    page = show(figure(), width=width)
    assert page.cramped() == []
    box = page.tab.locator(".uf-cloud").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


@pytest.mark.browser
def test_controls_stay_where_they_are_as_the_sentence_changes(show):
    page = show(figure(), width=760)
    tops = set()
    for first, colour in [("1", "class"), ("3", "warmth")]:
        page.control("first").select_option(first)
        page.control("colour").select_option(colour)
        for place in (0, 30, 100, 200):
            page.set_range("time", place)
            tops.add(page.top("time"))
    assert len(tops) == 1


@pytest.mark.browser
def test_paper_gets_the_picture_in_its_own_colours(show):
    page = show(figure(), theme="dark")
    assert page.on_paper("time", POINTS) == (False, True)
    fill = "e => getComputedStyle(e).fill"
    assert (
        page.tab.locator(f"{POINTS}.uf-c0").first.evaluate(fill) == "rgb(237, 29, 29)"
    )


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    page = show(figure())
    state = state_of(figure())
    assert page.left_by(widgets.Unfolding, state, "play") == [0, 0, 0]
