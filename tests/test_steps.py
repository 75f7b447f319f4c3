"""Step detection, held to curves whose steps are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkg import dynamics, record, spectra

T = np.linspace(0.0, 200.0, 4000)
GAMMAS = 0.6 ** np.arange(8)


def _staircase(t=T, gammas=GAMMAS, s0=1e-3):
    return dynamics.closed_form(t, gammas, s0).eigenvalues


def _logistics(centres, widths, t=T):
    """Rises of known middle and of known width from 10 % to 90 %."""
    centres, widths = np.broadcast_arrays(centres, widths)
    return 1 / (1 + np.exp(-(t[:, None] - centres) * 2 * np.log(9) / widths))


def test_an_exact_staircase_is_read_to_the_digit():
    """Times, widths and rates are those that the closed form predicts."""
    steps = spectra.find_steps(T, _staircase())
    # Smoothing over 2 % of the time rounds the corners by so much.
    np.testing.assert_allclose(
        steps.times, dynamics.step_times(GAMMAS, 1e-3), rtol=2e-3
    )
    np.testing.assert_allclose(steps.rates, 8 * GAMMAS, rtol=0.15)
    np.testing.assert_allclose(steps.widths * steps.rates, np.log(81), rtol=1e-12)
    assert steps.n_learned == 8 and steps.score == steps.score_any_start == 1.0
    assert steps.is_staircase and steps.relapse == 0.0 and steps.start_ratio < 1e-5


@pytest.mark.parametrize("ratio", [0.5, 0.65, 0.8, 0.9])
def test_steps_are_apart_exactly_when_chapter_3_says_so(ratio):
    """ln(1/c0) > ln 9 (1 + r)/(1 - r) is the same condition, in eigenvalues."""
    gammas = ratio ** np.arange(5)
    t = np.geomspace(1e-3, 1e3, 20_000)
    steps = spectra.find_steps(t, _staircase(t, gammas))
    ours = np.log(1 / (gammas[1:] * 1e-6))
    needed = np.log(9) * (1 + ratio) / (1 - ratio)
    np.testing.assert_allclose(steps.separation, ours / needed, rtol=0.08)


@given(unit=st.floats(1e-6, 1e6), log_time=st.booleans())
def test_the_unit_of_time_and_the_spacing_of_records_change_no_verdict(unit, log_time):
    """Flow time and step numbers see the same staircase."""
    t = np.geomspace(0.05, 200.0, 3000) if log_time else T
    here = spectra.find_steps(t, _staircase(t))
    there = spectra.find_steps(t * unit, _staircase(t))
    np.testing.assert_allclose(there.times, here.times * unit, rtol=1e-6)
    np.testing.assert_allclose(there.separation, here.separation, rtol=0.02)
    assert (there.score, there.is_staircase) == (here.score, here.is_staircase)


def test_recorded_descent_gives_one_verdict_on_both_axes():
    """Five runs on photographs: the rates are 8 gamma, and most steps are apart."""
    kept = record.load("staircase-photos")
    for run, gammas in zip(kept.runs, kept.arrays["gammas"], strict=True):
        flow_time = spectra.find_steps(run.t, run.eigenvalues)
        updates = spectra.find_steps(run.step.astype(float), run.eigenvalues)
        assert flow_time.n_learned == 10 and flow_time.is_staircase
        assert flow_time.score == updates.score
        ratio = flow_time.rates[0] / (8 * gammas[0])
        assert 0.8 < ratio < 1.1  # descent rises a little later and steeper


@pytest.mark.parametrize(
    ("width", "apart"), [(2, True), (5, True), (9, True), (11, False), (30, False)]
)
def test_overlapping_rises_are_no_staircase(width, apart):
    """Rises ten apart are steps as long as each takes less than ten."""
    steps = spectra.find_steps(T, _logistics(20.0 * np.arange(1, 9), 2 * width))
    assert steps.is_staircase is apart


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_noise_hides_no_step(rng, noise):
    """Thirty percent noise on each record, seeds 0 to 4 of it."""
    for _ in range(5):
        curves = _staircase() * np.exp(noise * rng.standard_normal((len(T), 8)))
        steps = spectra.find_steps(T, curves)
        assert steps.n_learned == 8 and steps.score >= 0.8


def test_noise_alone_makes_no_step(rng):
    """Constant levels, walks and common ramps: something rises, nothing steps."""
    level = 1 + 0.1 * rng.standard_normal((len(T), 6))
    walks = np.abs(np.cumsum(rng.standard_normal((len(T), 6)), axis=0))
    ramps = T[:, None] * np.linspace(1.0, 0.5, 6)
    together = 1 - np.exp(-T[:, None] * GAMMAS)
    for curves in (level, walks, ramps, together):
        assert not spectra.find_steps(T, curves).is_staircase


def test_a_relapse_is_seen_and_a_dip_forgiven():
    """Half a unit down is a dip; twenty units is a mode that was not learned."""
    long, short = _staircase().copy(), _staircase().copy()
    long[(T > 20) & (T < 40)] *= 0.05
    short[(T > 20) & (T < 20.5)] *= 0.05
    relapsed, dipped = spectra.find_steps(T, long), spectra.find_steps(T, short)
    assert relapsed.relapse > 0.5 and not relapsed.is_staircase
    assert dipped.relapse == 0.0 and dipped.score == 1.0


def test_one_or_two_steps_are_no_staircase():
    """Three at least; none is no error either."""
    for k in (1, 2):
        steps = spectra.find_steps(T, _staircase()[:, :k])
        assert (steps.n_learned, len(steps.separation)) == (k, k - 1)
        assert steps.score == 0.0 and not steps.is_staircase
    nothing = spectra.find_steps(T, 0 * _staircase())
    assert nothing.n_learned == 0 and not nothing.is_staircase


def test_the_size_of_the_start_is_reported_and_does_not_decide():
    """A large offset under clean steps: gated score 0, verdict unchanged."""
    curves = 0.05 + _logistics(20.0 * np.arange(1, 9), 5)
    steps = spectra.find_steps(T, curves)
    assert steps.start_ratio > 0.01 and steps.score == 0.0
    assert steps.score_any_start == 1.0 and steps.is_staircase


@pytest.mark.parametrize("s0", [0.3, 0.5, 1.2])
def test_from_a_standard_start_the_rises_are_in_order_but_not_apart(s0):
    """The control: order survives, separation does not, and no gate is needed."""
    steps = spectra.find_steps(T, _staircase(s0=s0))
    assert (np.diff(steps.times) >= 0).all()
    assert steps.score_any_start == 0.0 and not steps.is_staircase


def test_a_mode_learned_before_the_first_record_has_no_width():
    """It counts as learned, and no pair with it is apart."""
    curves = np.concatenate([np.ones((len(T), 1)), _staircase()], axis=1)
    steps = spectra.find_steps(T, curves)
    assert steps.times[0] == 0.0 and np.isinf(steps.widths[0])
    assert steps.separation[0] == 0.0 and (steps.separation[1:] > 1).all()


@pytest.mark.parametrize(("growth", "late"), [(1.5, 0.1), (3.0, 25.0)])
def test_a_plateau_that_creeps_is_forgiven_up_to_twice_its_height(growth, late):
    """By half its height: times within a tenth. By twice: half is in the creep."""
    curves = _staircase() * np.linspace(1.0, growth, len(T))[:, None]
    steps = spectra.find_steps(T, curves)
    off = steps.times / dynamics.step_times(GAMMAS, 1e-3) - 1
    assert steps.is_staircase is (growth < 2)
    assert off.max() < late if growth < 2 else off.max() > late


@pytest.mark.parametrize("height", [0.5, 0.8, 1.2])
def test_a_fall_before_the_rise_does_not_make_it_narrow(height):
    """High for a moment, then at 30 %: the width is that of the rise, and a number."""
    t = np.geomspace(0.1, 200.0, 2000)
    low = np.maximum(_staircase(t, GAMMAS[:4]), 0.3)
    fallen = low.copy()
    fallen[t < 0.105] = height
    plain, steps = spectra.find_steps(t, low), spectra.find_steps(t, fallen)
    np.testing.assert_allclose(steps.times, plain.times, rtol=1e-6)
    # The lowest point is as low, and later by 5 % of 0.1.
    np.testing.assert_allclose(steps.widths, plain.widths, rtol=0.02)


def test_a_few_high_records_at_the_start_are_no_step():
    """At t = 0 a tenth of the time is no time: ten records are waited for."""
    curves = _staircase().copy()
    curves[:2] = 1.2
    steps = spectra.find_steps(T, curves)
    np.testing.assert_allclose(
        steps.times, dynamics.step_times(GAMMAS, 1e-3), rtol=2e-3
    )
    assert steps.score_any_start == 1.0 and steps.is_staircase


def test_the_order_of_arrival_is_told_even_where_it_is_not_that_of_size():
    """The faithful latecomer settles lowest here; order and separation say who came."""
    early_low = _logistics([60.0, 20.0, 120.0], 5) * [1.0, 0.6, 0.3]
    steps = spectra.find_steps(T, early_low)
    assert list(spectra.find_steps(T, _staircase()).order) == list(range(8))
    assert steps.levels[0] > steps.levels[1] > steps.levels[2]
    assert list(steps.order) == sorted(range(3), key=lambda j: steps.times[j])


def test_equal_rates_are_told_from_a_falling_spectrum():
    """Unequal starts give steps as well; the rates tell which it was."""
    rate, starts = 0.5, 10.0 ** -np.arange(3, 33, 4)
    c = 1 / (1 + (1 / starts - 1) * np.exp(-rate * T[:, None]))
    steps = spectra.find_steps(T, c)
    assert steps.is_staircase
    np.testing.assert_allclose(steps.rates, rate, rtol=0.25)


def test_records_too_far_apart_cannot_show_a_narrow_rise():
    """A rise between two records is as wide as their distance."""
    t = np.linspace(0.0, 200.0, 12)
    steps = spectra.find_steps(t, _logistics(20.0 * np.arange(1, 9), 1.0, t))
    assert (steps.widths >= t[1] * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"t": T[::-1]}, r"`t` must"),
        ({"t": T[:-1]}, "need one length; got 3999 and 4000"),
        ({"t": T + 1000}, "pass times since the start of training"),
        ({"t": T[:5], "eigenvalues": _staircase()[:5]}, "record ten at least"),
        ({"eigenvalues": np.full((4000, 2), np.nan)}, "`eigenvalues` must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(as_a_user, change, says):
    """Each message names the argument and the remedy."""
    given = {"t": T, "eigenvalues": _staircase(), **change}
    with pytest.raises(ValueError, match=says):
        spectra.find_steps(**given)
