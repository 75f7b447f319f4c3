"""Plots: what is drawn, in which style and under which name; never pixels."""

import re
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pkg import dynamics, plots
from pkg.record import Record, Trajectory
from tests.test_widgets import node, source

GAMMAS, S0 = np.array([1.0, 0.5, 0.2]), 1e-2
STEPS = dynamics.step_times(GAMMAS, S0)
RUN = dynamics.closed_form(np.linspace(0.0, 20, 50), GAMMAS, S0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def measured(matrix="cross-correlation"):
    return Trajectory(
        t=RUN.t,
        loss=RUN.loss,
        eigenvalues=RUN.eigenvalues,
        order="rank",
        matrix=matrix,
        source="measured",
    )


def luminance(color):
    return np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722))


def test_a_staircase_draws_each_eigenvalue_once_in_the_style_of_its_origin():
    figure = plots.figure_staircase(RUN, measured(), step_times=STEPS)
    loss, spectrum = figure.axes
    styles = [line.get_linestyle() for line in spectrum.lines]
    assert styles == ["-"] * 3 + ["--"] * 3 + [":"] * 3
    np.testing.assert_array_equal(spectrum.lines[4].get_ydata(), RUN.eigenvalues[:, 1])
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), RUN.loss)
    assert [line.get_xdata()[0] for line in spectrum.lines[6:]] == STEPS.tolist()
    assert spectrum.get_xlabel() == "flow time"
    assert loss.get_ylabel() == "loss"
    assert spectrum.get_ylabel() == "eigenvalues of the\ncross-correlation"
    assert spectrum.get_xscale() == "log"


def test_colour_means_mode_index_and_the_earliest_is_darkest():
    spectrum = plots.figure_staircase(RUN, measured(), step_times=STEPS).axes[1]
    colors = [line.get_color() for line in spectrum.lines]
    for j in range(3):
        assert len({tuple(to_rgb(colors[i + j])) for i in (0, 3, 6)}) == 1
    assert luminance(colors[0]) < luminance(colors[1]) < luminance(colors[2])


def test_theory_beside_ranks_is_drawn_by_rank():
    """A tied or unsorted spectrum must not put two colours on one curve."""
    gammas = np.array([0.2, 1.0, 0.5])
    theory = dynamics.closed_form(RUN.t, gammas, S0)
    spectrum = plots.figure_staircase(theory, measured()).axes[1]
    dashed = [line.get_ydata() for line in spectrum.lines[3:]]
    np.testing.assert_allclose(np.transpose(dashed), RUN.eigenvalues, atol=1e-12)


def test_a_linear_axis_begins_at_zero():
    assert plots.figure_staircase(RUN, log_time=False).axes[1].get_xlim()[0] == 0


def test_a_run_is_drawn_by_time_or_by_step(as_a_user):
    """Flow time does not run evenly where the learning rate changes."""
    run = replace(measured(), step=np.arange(50))
    ax = plots.draw_spectrum(plt.figure().subplots(), run, by="step")
    np.testing.assert_array_equal(ax.lines[2].get_xdata(), np.arange(50))
    assert ax.get_xlabel() == "step"
    plots.draw_loss(ax, run, by="step")
    np.testing.assert_array_equal(ax.lines[3].get_xdata(), np.arange(50))
    with pytest.raises(ValueError, match=r"`run` \(measured\) is a .* without steps"):
        plots.draw_loss(ax, measured(), by="step")
    with pytest.raises(ValueError, match=r"`by` is 'steps'.*did you mean 'step'"):
        plots.draw_spectrum(ax, run, by="steps")


def test_an_average_keeps_straight_lines_and_loses_noise():
    run = replace(measured(), step=np.arange(50))
    mean = plots.averaged(run, 4)
    assert mean.step.tolist() == list(range(2, 50, 4))[:12]
    np.testing.assert_allclose(mean.t, run.t[:48].reshape(12, 4).mean(axis=1))
    row = run.eigenvalues[8:12].mean(axis=0)
    np.testing.assert_allclose(mean.eigenvalues[2], row)
    assert plots.averaged(measured(), 50).step is None
    with pytest.raises(ValueError, match="`k` must be"):
        plots.averaged(run, 51)


def test_a_recorded_case_is_its_first_run_without_what_lies_beyond_its_end():
    run = replace(measured(), step=np.arange(50))
    full = np.full((3, 60, 3), np.nan)
    full[2, :50] = 7 * run.eigenvalues
    kept = Record(
        name="r",
        runs=(run, run, run),
        arrays={"case": np.array([0, 0, 1]), "covariance": full},
    )
    ax = plots.draw_recorded(plt.figure().subplots(), kept, 1)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 7 * run.eigenvalues[:, 1])
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "step"
    assert ax.get_ylabel() == "eigenvalues of the\ncovariance"


def test_predictions_are_drawn_as_ratios_one_dot_a_seed():
    times = np.array([[1.0, 2.0], [2.0, 4.0]])
    ax = plots.draw_predictions(plt.figure().subplots(), np.array([1.0, 4.0]), times)
    dots = np.concatenate([c.get_offsets()[:, 1] for c in ax.collections])
    np.testing.assert_array_equal(dots, [1.0, 0.5, 2.0, 1.0])


def test_captured_shares_are_one_dot_a_seed_and_a_bar_at_the_median():
    captured = np.array([[0.9, 0.5], [0.7, 0.6], [0.8, 0.1]])
    ax = plots.draw_captured(
        plt.figure().subplots(), captured, ["after", "start"], chance=0.04
    )
    *seeds, medians, chance = ax.lines
    np.testing.assert_array_equal([line.get_xdata() for line in seeds], captured)
    np.testing.assert_array_equal(medians.get_xdata(), [0.8, 0.5])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["after", "start"]
    assert chance.get_xdata()[0] == 0.04 and ax.yaxis_inverted()


def test_a_cloud_is_turned_as_the_moving_figure_turns_it(rng):
    points, values = rng.standard_normal((9, 3)), rng.standard_normal(9)
    ax = plots.draw_cloud(plt.figure().subplots(), points, values, half=4.0, modes=8)
    [seen] = node(source("unfolding_math"), ["project", points.T.tolist(), 35, 20])
    order = np.argsort(seen["near"])
    expected = np.transpose([seen["across"], seen["up"]])[order]
    dots = ax.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), expected, atol=1e-12)
    ranks = np.argsort(np.argsort(values))[order] / 8
    np.testing.assert_allclose(dots.get_array(), ranks)
    css = (source("unfolding_math").parent / "unfolding.css").read_text()
    shown = [re.search(rf"--uf-q{k}: (#\w+)", css)[1] for k in range(7)]
    np.testing.assert_allclose(
        plots.RANKS(np.arange(7) / 6)[:, :3], [to_rgb(c) for c in shown], atol=0.02
    )


def test_directions_become_images_centred_on_grey(rng):
    directions = rng.standard_normal((2, 4, 4, 3))
    figure = plots.figure_directions([directions, directions], ["learned", "theory"])
    image = figure.axes[0].images[0].get_array()
    expected = 0.5 + 0.5 * directions[0] / np.abs(directions[0]).max()
    np.testing.assert_allclose(image, expected)
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["learned", "theory"]


def test_nothing_to_draw_and_unlike_matrices_are_refused():
    with pytest.raises(ValueError, match="pass `theory`, `measured` or both"):
        plots.figure_staircase()
    still = dynamics.closed_form(np.array([0.0]), GAMMAS, S0)
    with pytest.raises(ValueError, match="the runs hold no time after 0"):
        plots.figure_staircase(still)
    with pytest.raises(ValueError, match="eigenvalues of different matrices"):
        plots.figure_staircase(RUN, measured("covariance"))
