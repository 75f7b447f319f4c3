"""The augmentations figure: its grid, its matching of modes, its words, its page."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pkg import (
    _grid_runs,
    data,
    dynamics,
    recipes,
    record,
    spectra,
    views,
    widgets,
)
from pkg.record import Record
from tests.figure_page import refuses, show
from tests.test_widgets import node, source
from tests.test_widgets_browser import browser

__all__ = ["browser", "show"]  # fixtures, used by name

MATH = source("augmentations_math")
PARTS = ("crop", "jitter", "grey", "blur")
LEVELS = [
    [part, [[f"{part} {k}", {}] for k in range(count)]]
    for part, count in zip(PARTS, (4, 4, 3, 3), strict=True)
]
SETTINGS = np.array(list(itertools.product(range(4), range(4), range(3), range(3))))
SIDE, TOP = 8, 8


def candidates() -> np.ndarray:
    """Twelve orthonormal pictures, (12, 192): four waves, each in three colours."""
    wave = np.cos(np.pi * np.outer(np.arange(3), np.arange(SIDE) + 0.5) / SIDE)
    waves = [np.outer(wave[a], wave[b]) for a, b in ((0, 0), (0, 1), (1, 0), (2, 1))]
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])
    found = [(w[..., None] * c).ravel() for c in colours for w in waves]
    return np.array([picture / np.linalg.norm(picture) for picture in found])


def left(setting: np.ndarray) -> np.ndarray:
    """Eigenvalues of the twelve: a crop eats waves, grey one colour, jitter all."""
    crop, jitter, grey, blur = setting
    waves = np.tile([1.0, 0.9**crop, 0.8**crop, 0.4**crop * 0.5**blur], 3)
    colour = np.repeat([1.0, 0.5**grey, 1.0], 4)
    return 40 * 0.7 ** np.arange(12) * waves * colour * 0.9**jitter


def grid(**changes) -> Record:
    """A record whose modes we know: pictures out of `candidates`, sorted by `left`."""
    rng = np.random.default_rng(0)
    gammas, modes = [], []
    for setting in SETTINGS:
        values = left(setting)
        order = np.argsort(-values)[:TOP]
        signs = rng.choice([-1, 1], (TOP, 1))  # of no meaning
        pictures = signs * candidates()[order]
        scaled = 127 * pictures / np.abs(pictures).max(axis=1, keepdims=True)
        gammas.append(values[order])
        modes.append(np.rint(scaled).reshape(TOP, SIDE, SIDE, 3))
    arrays = {
        "settings": SETTINGS.astype(np.int8),
        "gammas": np.array([gammas, 1.1 * np.array(gammas)]),
        "modes": np.array(modes, dtype=np.int8),
    }
    meta = {
        "config": {"levels": LEVELS, "seeds": [0, 1]},
        "data": "waves",
        "made": "2026-11-23",
        "device": "paper",
        "seconds": 1.0,
        "versions": {"stepwise-ssl": "0"},
    }
    whole = {"name": "augmentation-grid", "runs": (), "arrays": arrays, "meta": meta}
    return Record(**whole | changes)


@pytest.fixture(scope="module")
def shown():
    return widgets.Augmentations(grid())


# Typed arrays do not travel as JSON: a module beside the sources unpacks on its own.
def scene_of(tmp_path, shown, past=None, **state) -> dict:
    module = tmp_path / "staged.mjs"
    module.write_text(
        f'import * as math from "{MATH.as_uri()}";\n'
        "export const scene = (state, past) => {\n"
        "  const found = math.stage(state, math.unpack(state.grid), past);\n"
        "  const plain = (modes) => modes.map((mode) => Array.from(mode));\n"
        "  return { ...found, before: plain(found.before), now: plain(found.now),\n"
        "    words: math.words(found), picture: math.pictureWords(found) };\n"
        "};\n"
    )
    full = {"grid": shown.grid, "s0": 1e-3, **dict.fromkeys(PARTS, 0)} | state
    return node(module, ["scene", full, past])[0]


def index_of(setting) -> int:
    return int(np.flatnonzero((SETTINGS == list(setting)).all(axis=1))[0])


@pytest.mark.parametrize("setting", [(0, 0, 0, 0), (3, 1, 2, 0), (3, 3, 2, 2)])
def test_the_page_finds_the_setting_that_python_packed(shown, tmp_path, setting):
    made = grid()
    scene = scene_of(tmp_path, shown, **dict(zip(PARTS, setting, strict=True)))
    index = index_of(setting)
    steps = np.linspace(-127, 127, 63)  # of which the nearest is packed
    exact = made.arrays["modes"][index].reshape(8, -1)
    nearest = steps[np.abs(exact[..., None] - steps).argmin(axis=-1)]
    np.testing.assert_array_equal(scene["now"], np.round(nearest))
    gammas = made.arrays["gammas"][0, index]
    np.testing.assert_allclose(scene["gammas"], gammas, rtol=1e-3)  # four digits
    np.testing.assert_allclose(
        scene["taus"], dynamics.step_times(np.array(scene["gammas"]), 1e-3), rtol=1e-9
    )
    curves = dynamics.closed_form(
        np.array(scene["xs"]), np.array(scene["gammas"]), 1e-3
    )
    np.testing.assert_allclose(
        scene["curves"]["eigenvalues"], curves.eigenvalues, rtol=1e-9
    )


@pytest.mark.parametrize("before", [(0, 0, 0, 0), (2, 0, 0, 1)])
@pytest.mark.parametrize("now", [(3, 0, 0, 0), (1, 3, 2, 2), (0, 0, 2, 0)])
def test_modes_are_matched_as_they_were_made(shown, tmp_path, before, now):
    """The fixture knows which of its pictures stands where."""
    ranks = [np.argsort(-left(np.array(setting)))[:TOP] for setting in (before, now)]
    expected = [
        int(np.flatnonzero(ranks[0] == one)[0]) if one in ranks[0] else -1
        for one in ranks[1]
    ]
    past = dict(zip(PARTS, before, strict=True))
    scene = scene_of(tmp_path, shown, past, **dict(zip(PARTS, now, strict=True)))
    assert scene["was"] == expected
    common = len({*ranks[0]} & {*ranks[1]}) / TOP
    assert scene["common"] == pytest.approx(common, abs=1e-3)
    # A matched mode is drawn with the sign that it had.
    for j, i in enumerate(expected):
        if i >= 0:
            drawn = scene["signs"][j] * np.array(scene["now"][j])
            assert drawn @ np.array(scene["before"][int(i)]) > 0


def test_a_match_shares_half_and_is_the_best_assignment(rng):
    """Above one half a greedy choice cannot be wrong: no row or column has two."""
    for _ in range(20):
        turn = np.linalg.qr(np.eye(6) + 0.35 * rng.standard_normal((6, 6)))[0]
        alike = turn**2
        [was] = node(MATH, ["matched", alike.tolist()])
        rows, columns = linear_sum_assignment(-np.where(alike >= 0.5, alike, 0))
        expected = np.full(6, -1)
        for i, j in zip(rows, columns, strict=True):
            if alike[i, j] >= 0.5:
                expected[j] = i
        assert was == expected.tolist()


def test_likeness_is_the_squared_cosine(rng):
    one, other = rng.integers(-127, 128, (2, 3, 12)).tolist()
    [found] = node(MATH, ["likeness", one, other])
    a, b = (
        m / np.linalg.norm(m, axis=1, keepdims=True)
        for m in map(np.array, (one, other))
    )
    np.testing.assert_allclose(found, (a @ b.T) ** 2, rtol=1e-12)
    [common] = node(MATH, ["shared", found])
    assert common == pytest.approx(np.sum((a @ b.T) ** 2) / 3)


def test_the_sentence_tells_fates(shown, tmp_path):
    past = dict.fromkeys(PARTS, 0)
    same = scene_of(tmp_path, shown, past, jitter=2)["words"]
    assert same.startswith(
        "Jitter: jitter 2. Against the setting before, all 8 modes keep"
    )
    assert "the leading spaces share 100 %" in same
    # Two levels of grey: one colour sinks below the other, and some of it leaves.
    scene = scene_of(tmp_path, shown, past, grey=2)
    gone = [str(i + 1) for i in range(TOP) if i not in scene["was"]]
    assert re.search(f"old modes? {gone[0]}.* gone or mixed", scene["words"])
    ratio = scene["taus"][-1] / scene["taus"][0]
    told = re.search(r"Mode 8 now comes ([\d.]+) times as late", scene["words"])
    assert float(told[1]) == pytest.approx(ratio, rel=0.01)
    opening = scene_of(tmp_path, shown, None, crop=1)["words"]
    assert "Against no augmentation, " in opening


def test_two_modes_that_change_places_are_named_together():
    scene = {
        "was": [1, 0, 2],
        "setting": dict.fromkeys(PARTS, 1),
        "past": dict.fromkeys(PARTS, 1) | {"blur": 0},
        "named": [[part, "more"] for part in PARTS],
        "common": 0.98,
        "taus": [1.0, 2.0, 5.0],
    }
    [said] = node(MATH, ["words", scene])
    assert said.startswith(
        "Blur: more. Against the setting before, modes 1 and 2 change"
    )
    moved = scene | {"was": [2, 0, -1]}
    [said] = node(MATH, ["words", moved])
    assert "mode 3 becomes 1; mode 1 becomes 2; old mode 2 is gone" in said
    assert "mixed; mode 3 is new;" in said


TINY = {
    "data": "photos",
    "n": 60,
    "size": 8,
    "pool": 2,
    "bare": {"flip": 0.0},
    "levels": [
        ["crop", [["none", {"scale": (1.0, 1.0)}], ["some", {"scale": (0.2, 1.0)}]]],
        ["jitter", [["none", {"jitter": 0.0}]]],
        ["grey", [["never", {"grey": 0.0}], ["always", {"grey": 1.0}]]],
        ["blur", [["never", {"blur": 0.0}]]],
    ],
    "top": 4,
    "seeds": [3, 4],
}


@pytest.fixture(scope="module")
def tiny():
    _, arrays, said = _grid_runs.augmentation_grid(TINY, {}, progress=False)
    assert "photographs" in said
    return arrays


def test_the_recipe_finds_the_eigenpairs_of_the_averaged_views(tiny):
    """One setting by another road: float64 images, no pooling layer, no package."""
    np.testing.assert_array_equal(
        tiny["settings"], [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]]
    )
    images = data.load("photos", n=60, size=8, seed=3).x
    ratio = (3 / 4, 4 / 3)
    recipe = views.Recipe(scale=(0.2, 1.0), ratio=ratio, flip=0.0, jitter=0.0, grey=1.0)
    pair = views.pair(images, recipe, generator=torch.Generator().manual_seed(3))
    z = images / 255
    flat = []
    for view in pair:
        blocks = view.double().numpy().reshape(60, 3, 4, 2, 4, 2).mean(axis=(3, 5))
        centred = blocks.transpose(0, 2, 3, 1) - z.mean(axis=(0, 1, 2))
        flat.append((centred / z.std(axis=(0, 1, 2))).reshape(60, -1))
    product = flat[0].T @ flat[1] / 60
    values, vectors = np.linalg.eigh((product + product.T) / 2)
    np.testing.assert_allclose(tiny["gammas"][0, 3], values[:-5:-1], rtol=1e-5)
    packed = tiny["modes"][3].reshape(4, -1).astype(float)
    overlap = spectra.subspace_overlap(packed.T, vectors[:, :-5:-1])
    assert overlap == pytest.approx(1.0, abs=1e-3)  # eight bits
    assert np.abs(packed).max(axis=1).tolist() == [127] * 4


def test_of_grey_views_only_grey_modes_are_left(tiny):
    """Equal channels, each with a ruler of its own: undo it, and they are equal."""
    spread = data.load("photos", n=60, size=8, seed=3).x.std(axis=(0, 1, 2))  # (3,)
    for k, grey in ((0, False), (1, True)):
        modes = spread * tiny["modes"][k]  # (4, 4, 4, 3)
        # The mean is not grey: it adds a constant to each channel.
        varied = modes - modes.mean(axis=(1, 2), keepdims=True)
        coloured = varied - varied.mean(axis=-1, keepdims=True)
        share = np.sum(coloured**2) / np.sum(varied**2)
        assert (share < 1e-3) == grey


def test_in_the_record_a_crop_takes_detail_and_a_blur_nearly_nothing():
    """What chapter 5 found at 32 pixels, in each of the record's draws."""
    gammas = record.load("augmentation-grid").arrays["gammas"]  # (seeds, 144, 8)
    crop, blur = (
        gammas[:, index_of(setting)] / gammas[:, 0]
        for setting in ((3, 0, 0, 0), (0, 0, 0, 2))
    )
    assert np.all(crop[:, 7] < 0.65 * crop[:, 0])
    assert np.abs(blur - 1).max() < 0.1


def test_the_recipe_is_that_of_the_record_and_small_enough_for_a_page():
    config = recipes.get("augmentation-grid").config
    counts = [len(levels) for _, levels in config["levels"]]
    assert np.prod(counts) == len(SETTINGS)
    assert tuple(part for part, _ in config["levels"]) == PARTS
    strongest = [levels[-1][1] for _, levels in config["levels"]]
    assert strongest[0] == {"scale": [0.08, 1.0]}
    assert strongest[1]["hue"] == 0.2 and strongest[1]["saturation"] == 0.8
    bare = config["bare"].copy()
    for _, levels in config["levels"]:
        bare |= {
            k: tuple(v) if k in ("scale", "ratio") else v
            for k, v in levels[0][1].items()
        }
    assert views.Recipe(**bare) == views.Recipe(
        scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0
    )
    shipped = widgets.Augmentations(record.load("augmentation-grid"))
    assert len(json.dumps(shipped.get_state())) < 400_000


def test_state_makes_the_round_trip(shown):
    figure = widgets.Augmentations(grid(), crop=3, s0=1e-4)
    figure.set_state({"crop": 1, "grey": 2, "reference": "none"})
    state = figure.get_state()
    assert (state["crop"], state["grey"], state["reference"]) == (1, 2, "none")
    assert json.loads(json.dumps(state["grid"])) == shown.grid
    # Two draws, a tenth apart: each half of that from their mean.
    assert shown.grid["spread"] == pytest.approx([0.05 / 1.05] * 2, rel=1e-2)


def without(name: str) -> Record:
    whole = grid()
    arrays = {key: value for key, value in whole.arrays.items() if key != name}
    return dataclasses.replace(whole, arrays=arrays)


def varied(names: tuple[str, ...]) -> Record:
    levels = [[name, levels] for name, (_, levels) in zip(names, LEVELS, strict=True)]
    meta = grid().meta
    return grid(meta=meta | {"config": meta["config"] | {"levels": levels}})


def cut(**arrays) -> Record:
    whole = grid()
    return dataclasses.replace(whole, arrays={**whole.arrays, **arrays})


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: without("modes"), "has no modes; pass record.load"),
        (lambda: varied(("crop", "flip", "grey", "blur")), "varies crop, flip, grey"),
        (lambda: cut(settings=SETTINGS[:-1]), "holds 143 settings .* not all 144"),
        (lambda: cut(settings=SETTINGS[::-1]), "not all 144 in order; make it again"),
        (lambda: cut(modes=grid().arrays["modes"][..., 0]), "not all 144 in order"),
    ],
)
def test_another_record_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        widgets.Augmentations(make())


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("crop", 4, r"`crop` must be between 0 and 3; got 4"),
        ("grey", 3, r"`grey` must be between 0 and 2; got 3"),
        ("blur", True, r"`blur` must be a whole number"),
        ("s0", 0.1, r"`s0` must lie between 1e-6 and 0.01"),
        ("reference", "after", r"`reference` is 'after'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.Augmentations(grid()), name, value, says)
    with pytest.raises(ValueError, match=says):
        widgets.Augmentations(grid(), **{name: value})


def drawn(page):
    """What the reader sees of the modes: their pixels, and the lines between them."""
    return page.tab.evaluate(
        """() => {
          const all = (name) => [...document.querySelectorAll(name)];
          return [...all(".au-now canvas").map((c) => c.toDataURL()),
            ...all(".au-line").map((l) => l.getAttribute("d"))];
        }"""
    )


@pytest.mark.browser
def test_a_slider_moves_bars_pictures_curves_and_sentence(show):
    page = show(widgets.Augmentations(grid(), crop=0, jitter=0, grey=0))

    def seen():
        bars = page.tab.locator(".au-bars").get_attribute("aria-label")
        return drawn(page), bars, page.curve("theory", 0), page.told()

    before = seen()
    page.press("grey", "ArrowRight", 2)
    assert all(old != new for old, new in zip(before, seen(), strict=True))
    assert page.control("grey").get_attribute("aria-valuetext") == "grey 2"
    assert page.told().startswith("Grey: grey 2. Against the setting before, ")
    assert "gone or mixed" in page.told()
    page.control("reference-none").check()
    assert "Against no augmentation, " in page.told()


@pytest.mark.browser
@pytest.mark.parametrize("control", [*PARTS, "s0"])
def test_every_slider_answers_the_keyboard(show, control):
    page = show(widgets.Augmentations(grid(), crop=1, jitter=1, grey=1, blur=1))
    assert page.deaf_to(control) == []


@pytest.mark.browser
def test_the_mouse_moves_a_slider_too(show):
    page = show(widgets.Augmentations(grid(), crop=0))
    box = page.control("crop").bounding_box()
    page.tab.mouse.click(box["x"] + box["width"] - 6, box["y"] + box["height"] / 2)
    assert page.told().startswith("Crop: crop 3. ")


@pytest.mark.browser
@pytest.mark.parametrize("theme, width", [("light", 760), ("dark", 390)])
def test_axe_finds_nothing_serious_and_every_width_is_usable(show, theme, width):
    page = show(widgets.Augmentations(grid()), theme=theme, width=width)
    assert page.axe() == []
    assert page.cramped() == []
    assert page.on_paper("crop", ".au-rows") == (False, True)


@pytest.mark.browser
def test_the_sentence_is_spoken_once_the_hand_rests(show):
    page = show(widgets.Augmentations(grid()))
    before, at_once, rested = page.speech(lambda: page.press("crop", "ArrowRight"))
    assert at_once == before != rested == page.told()


@pytest.mark.browser
def test_a_removed_figure_leaves_nothing_running(show):
    figure = widgets.Augmentations(grid())
    page = show(figure)
    state = {
        name: getattr(figure, name) for name in (*PARTS, "grid", "s0", "reference")
    }
    assert page.left_by(widgets.Augmentations, state, "reference-none") == [0, 0, 0]
