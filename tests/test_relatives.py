"""Regression, deep linear networks and words: formulas against integrated flows."""

import bz2

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from pkg import _words, kernels, relatives, spectra

STRENGTHS = np.array([1.0, 0.6, 0.36, 0.2])
PRECISE = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-15}


def _orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def _integrated(velocity, start, t):
    """The state at every time, in the shape of the start."""
    solution = solve_ivp(
        lambda _, flat: velocity(flat.reshape(start.shape)).ravel(),
        (0.0, t[-1]),
        start.ravel(),
        t_eval=t,
        **PRECISE,
    )
    return solution.y.T.reshape(len(t), *start.shape)


# --- kernel regression ---------------------------------------------------------------


def test_regression_agrees_with_integrating_its_flow(rng):
    """Two roads: the modes, and all outputs together without any eigenvector."""
    n, t = 12, np.linspace(0.0, 5.0, 30)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((n, 2))
    K = kernels.rbf(x, length_scale=1.0)
    solved = relatives.regression_modes(K, y)

    f = _integrated(lambda f: -K @ (f - y) / n, np.zeros((n, 2)), t)

    loss = np.sum((f - y) ** 2, axis=(1, 2)) / (2 * n)
    np.testing.assert_allclose(solved.loss(t), loss, atol=1e-10)
    for time, outputs in zip(t, f, strict=True):
        np.testing.assert_allclose(solved.predict(K, time), outputs, atol=1e-10)
    shares = solved.modes.T @ f[-1] / solved.targets  # (n, c)
    np.testing.assert_allclose(
        shares, np.tile(solved.learned(t[-1:]).T, (1, 2)), atol=1e-8
    )


def test_regression_predicts_new_points_as_the_weights_do(rng):
    """A linear kernel is a linear model; with more samples than features K is
    singular, and the modes that never move must not be divided by."""
    n, m = 9, 4
    x, y, new = (rng.standard_normal(shape) for shape in ((n, m), (n, 1), (5, m)))
    solved = relatives.regression_modes(kernels.linear(x), y)
    t = np.array([0.5, 2.0, 7.0])

    w = _integrated(lambda w: -x.T @ (x @ w - y) / n, np.zeros((m, 1)), t)

    for time, weights in zip(t, w, strict=True):
        predicted = solved.predict(kernels.linear(new, x), time)
        np.testing.assert_allclose(predicted, new @ weights, atol=1e-9)
    assert np.sum(solved.rates > 1e-12) == m


def test_regression_starts_at_full_speed_and_halves_in_ln_2_over_the_rate(rng):
    """No start is too small to leave: the first move is rate times t."""
    K = kernels.rbf(rng.standard_normal((6, 2)), length_scale=1.0)
    solved = relatives.regression_modes(K, np.ones((6, 1)))
    early = solved.learned(np.array([1e-9]))[0]
    np.testing.assert_allclose(early / 1e-9, solved.rates, rtol=1e-6)
    halves = solved.half_times()
    assert np.all(np.diff(halves) > 0)  # the largest eigenvalue first
    np.testing.assert_allclose(np.diag(solved.learned(halves)), 0.5, rtol=1e-12)


# --- deep linear networks ------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_deep_network_agrees_with_integrating_its_matrices(rng, depth):
    """Rotated layers, a rectangular map, another start for every mode."""
    u0 = np.array([1.0, 2.0, 0.5, 0.1]) * 10.0 ** (-2 * max(1, 3 - depth))
    bases = [_orthogonal(rng, 6 if layer else 5) for layer in range(depth + 1)]
    Sigma = bases[-1][:, :4] @ np.diag(STRENGTHS) @ bases[0][:, :4].T
    factors = [
        bases[i + 1][:, :4] @ np.diag(u0 ** (1 / depth)) @ bases[i][:, :4].T
        for i in range(depth)
    ]
    t = (
        np.linspace(0.0, 1.2, 25)
        * relatives.deep_step_times(STRENGTHS, u0, depth=depth).max()
    )

    exact = relatives.deep_linear(t, STRENGTHS, u0, depth=depth)
    numeric = relatives.deep_flow(t, Sigma, factors)

    ranked = np.sort(exact.eigenvalues)[:, ::-1]
    np.testing.assert_allclose(numeric.eigenvalues[:, :4], ranked, atol=1e-8)
    np.testing.assert_allclose(numeric.loss, exact.loss, atol=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_flow_is_exact_where_a_fast_mode_rests_and_a_slow_one_moves(depth):
    """Steps that grew to the edge of stability once cost four digits between them."""
    strengths, u0, t = np.array([2.0, 0.0625]), np.array([0.1, 0.01]), np.arange(61.0)
    exact = relatives.deep_linear(t, strengths, u0, depth=depth).eigenvalues
    factors = [np.diag(u0 ** (1 / depth))] * depth
    found = relatives.deep_flow(t, np.diag(strengths), factors).eigenvalues
    np.testing.assert_allclose(found, np.sort(exact)[:, ::-1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 9])
def test_step_times_agree_with_integrating_time_over_size(depth):
    """dt = du / (N u^(2 - 2/N) (s - u)), by quadrature in x = ln u."""
    u0 = 1e-4
    slowness = [
        quad(
            lambda x, s=s: np.exp(-(1 - 2 / depth) * x) / (depth * (s - np.exp(x))),
            np.log(u0),
            np.log(s / 2),
            epsabs=1e-13,
            epsrel=1e-12,
        )[0]
        for s in STRENGTHS
    ]
    times = relatives.deep_step_times(STRENGTHS, u0, depth=depth)
    np.testing.assert_allclose(times, slowness, rtol=1e-9)
    # And the curve passes one half there.
    order = np.argsort(times)
    u = relatives.deep_linear(times[order], STRENGTHS[order], u0, depth=depth)
    np.testing.assert_allclose(np.diag(u.eigenvalues), STRENGTHS[order] / 2, rtol=1e-9)


def test_waits_grow_not_at_all_then_as_a_logarithm_then_as_a_power():
    """What depth changes: how long a start a hundred times smaller takes."""
    wait = {
        depth: [
            relatives.deep_step_times(STRENGTHS, u0, depth=depth)[1] for u0 in starts
        ]
        for depth, starts in {
            1: (1e-6, 1e-8),
            2: (1e-6, 1e-8),
            4: (1e-6, 1e-8),
        }.items()
    }
    assert wait[1][1] == pytest.approx(wait[1][0], abs=2e-6)
    more = np.log(100) / (2 * STRENGTHS[1])
    assert wait[2][1] - wait[2][0] == pytest.approx(more, rel=1e-5)
    assert wait[4][1] / wait[4][0] == pytest.approx(10.0, rel=0.01)  # 100^(1 - 2/4)


def test_an_integrated_network_loses_what_its_gradient_says(rng):
    """dL/dt = -||dL/dW||^2, the gradient by finite differences of the loss."""
    shapes = [(3, 4), (5, 3), (2, 5)]
    factors = [0.5 * rng.standard_normal(shape) for shape in shapes]
    Sigma = rng.standard_normal((2, 4))

    def loss(parts):
        return np.sum((Sigma - parts[2] @ parts[1] @ parts[0]) ** 2) / 2

    slope = 0.0
    for i, W in enumerate(factors):
        for place in np.ndindex(*W.shape):
            there, back = ([part.copy() for part in factors] for _ in range(2))
            there[i][place] += 1e-6
            back[i][place] -= 1e-6
            slope += ((loss(there) - loss(back)) / 2e-6) ** 2
    h = 1e-7
    run = relatives.deep_flow(np.array([0.0, h, 2 * h]), Sigma, factors)
    assert run.loss[0] == pytest.approx(loss(factors), rel=1e-12)
    assert (run.loss[0] - run.loss[2]) / (2 * h) == pytest.approx(slope, rel=1e-3)


# --- factorizations ------------------------------------------------------------------


def _symmetric(rng, eigenvalues):
    V = _orthogonal(rng, len(eigenvalues))
    return V @ np.diag(eigenvalues) @ V.T


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_a_factorization_agrees_with_integrating_it_from_any_start(rng, scale):
    """Small or large, with negative and zero eigenvalues, and weights that stray."""
    M = _symmetric(rng, [3.0, 1.7, 0.9, 0.4, 0.0, -0.5, -6.0])
    W0, t = scale * rng.standard_normal((3, 7)), np.linspace(0.0, 12.0, 40)

    exact = relatives.factorization(t, M, W0)
    Ws = _integrated(lambda W: W @ (M - W.T @ W), W0, t)

    levels = np.linalg.svd(Ws, compute_uv=False) ** 2
    losses = [np.sum((W.T @ W - M) ** 2) / 4 for W in Ws]
    # The integrator reaches 1e-9 with these tolerances.
    np.testing.assert_allclose(exact.eigenvalues, levels, atol=1e-8)
    np.testing.assert_allclose(exact.loss, losses, atol=1e-8)
    W = exact.weights
    np.testing.assert_allclose(W.T @ W, Ws[-1].T @ Ws[-1], atol=1e-8)


def test_a_small_start_ends_on_the_largest_eigenvalues_and_never_on_negative_ones(rng):
    """What W^T W cannot hold it leaves, however large."""
    M = _symmetric(rng, [2.0, 1.0, 0.5, -0.1, -9.0])
    end = relatives.factorization(
        np.array([0.0, 200.0]), M, 1e-4 * rng.standard_normal((4, 5))
    )
    np.testing.assert_allclose(end.eigenvalues[-1], [2.0, 1.0, 0.5, 0.0], atol=1e-8)
    assert end.loss[-1] == pytest.approx((0.1**2 + 9.0**2) / 4, abs=1e-8)


def test_modes_of_a_small_start_step_when_the_factorization_does(rng):
    """The Gram-Schmidt reading gets exact as the start shrinks."""
    M = _symmetric(rng, [3.0, 1.7, 0.9, 0.4, 0.1, -2.0])
    direction = rng.standard_normal((3, 6))
    errors = []
    for scale in (1e-2, 1e-4):
        solved = relatives.factor_modes(M, scale * direction)
        taus = relatives.deep_step_times(solved.strengths, solved.u0)
        t = np.linspace(0.0, 1.3 * taus[-1], 1500)
        run = relatives.factorization(t, M, scale * direction)
        measured = [
            spectra.crossing_times(t, column[:, None], level)[0]
            for column, level in zip(
                run.eigenvalues.T, solved.strengths / 2, strict=True
            )
        ]
        errors.append(np.abs(measured / taus - 1).max())
    assert errors[1] < 5e-3 and errors[1] < errors[0] / 3


def test_two_layers_are_a_factorization_of_a_matrix_with_two_signs(rng):
    """A balanced pair W2 W1 is W = (W1, W2^T) / sqrt 2, and M has Sigma off its
    diagonal: one flow for networks and for words, at every time."""
    p, q, h = 3, 5, 4
    Sigma = rng.standard_normal((p, q))
    left, right = _orthogonal(rng, p), _orthogonal(rng, q)[:, :p]
    # Balanced, W1 W1^T = W2^T W2, but not aligned: Sigma's singular vectors are others.
    hidden, size = _orthogonal(rng, h)[:, :p], np.diag([0.03, 0.02, 0.01])
    W1, W2 = hidden @ size @ right.T, left @ size @ hidden.T
    M = np.block([[np.zeros((q, q)), Sigma.T], [Sigma, np.zeros((p, p))]])
    t = np.linspace(0.0, 6.0, 30)

    network = relatives.deep_flow(t, Sigma, [W1, W2])
    factored = relatives.factorization(t, M, np.hstack([W1, W2.T]) / np.sqrt(2))

    np.testing.assert_allclose(
        network.eigenvalues, factored.eigenvalues[:, :p], atol=1e-8
    )
    assert factored.eigenvalues[:, p:].max() < 1e-12  # h exceeds the rank


# --- words ---------------------------------------------------------------------------

RHYME = ["One fish, two fish.", "Red fish! Blue fish: don't fish"]


def test_pairs_are_counted_as_a_reader_would_count_them():
    """Word by word, every distance up to the window, and none across chapters."""
    words, window = ("fish", "one", "two", "red", "blue"), 3
    counts = np.zeros((5, 5))
    for chapter in RHYME:
        clean = [w.strip(",.!:").lower() for w in chapter.split()]
        for i, first in enumerate(clean):
            for j, second in enumerate(clean):
                if 0 < abs(i - j) <= window and {first, second} <= set(words):
                    weight = window + 1 - abs(i - j)
                    counts[words.index(first), words.index(second)] += weight
    P = relatives.cooccurrence(RHYME, words, window=window)
    np.testing.assert_allclose(P, counts / counts.sum(), rtol=1e-12)
    assert P[1, 3] == 0  # "one" and "red" stand in different chapters


def test_a_vocabulary_is_the_most_frequent_words():
    assert relatives.vocabulary(RHYME, 2) == ("fish", "one")
    assert "don't" in relatives.vocabulary(RHYME, 6)


def test_the_target_of_words_minimises_the_expanded_word2vec_loss(rng):
    """P softplus(-z) + P_i P_j softplus(z) to second order around z = 0, with the
    derivatives by finite differences: its minimum is at M*, pair by pair."""
    counts = rng.integers(0, 5, (6, 6)).astype(float)
    P = (counts + counts.T) / counts.sum() / 2
    chance = np.outer(P.sum(axis=1), P.sum(axis=1))

    def loss(z):
        return P * np.logaddexp(0, -z) + chance * np.logaddexp(0, z)

    h = 1e-3
    slope = (loss(h) - loss(-h)) / (2 * h)
    bend = (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2
    np.testing.assert_allclose(relatives.word_target(P), -slope / bend, atol=1e-5)


def test_the_target_is_zero_at_chance_and_minus_two_for_words_that_never_meet():
    single = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(
        relatives.word_target(np.outer(single, single)), 0.0, atol=1e-15
    )
    apart = relatives.word_target(np.diag([0.5, 0.5]))
    np.testing.assert_allclose(apart, [[2 / 3, -2.0], [-2.0, 2 / 3]], rtol=1e-12)


def test_the_bundled_text_is_whole_attributed_and_small():
    text = relatives.load_text()
    assert text.chapters[0].startswith("In the beginning God created the heaven")
    assert len(text.chapters) == 1189
    verses = sum(len(chapter.split("\n")) for chapter in text.chapters)
    assert verses == 31102
    for part in ("King James", "public domain outside the United Kingdom", "1189"):
        assert part in text.provenance
    listed = (_words.TEXT.parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert _words.SHA256 in listed and f"| {_words.TEXT.name} |" in listed
    assert _words.TEXT.stat().st_size < 1_500_000


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: bz2.compress(b"another text")]
)
def test_a_damaged_text_is_refused(tmp_path, monkeypatch, damage):
    file = tmp_path / "king_james.txt.bz2"
    file.write_bytes(damage(_words.TEXT.read_bytes()))
    monkeypatch.setattr(_words, "TEXT", file)
    with pytest.raises(RuntimeError, match="install the package again"):
        relatives.load_text()


def test_first_modes_of_the_text_are_topics():
    """Numbers first; the life of Jesus second. Chapter 16 shows more of them."""
    chapters = relatives.load_text().chapters
    words = relatives.vocabulary(chapters, 400)
    M = relatives.word_target(relatives.cooccurrence(chapters, words, window=16))
    modes = spectra.top_eigenpairs(M, 2)[1]
    # Either end: which of the two is positive is a convention.
    ends = [np.argsort(v)[np.r_[:12, -12:0]] for v in modes.T]
    first, second = ({words[i] for i in end} for end in ends)
    assert {"hundred", "twenty", "thousand", "five"} <= first
    assert {"jesus", "disciples"} <= second


# --- refusals ------------------------------------------------------------------------

EYE, ONE = np.eye(3), np.array([1.0, 0.5])
T = np.array([0.0, 1.0])
W = np.ones((2, 3))
REFUSALS = {
    "unlike labels": (
        lambda: relatives.regression_modes(EYE, np.ones((2, 1))),
        r"`y` must have 3 rows like `K`; got 2",
    ),
    "no kernel": (
        lambda: relatives.regression_modes(-EYE, np.ones((3, 1))),
        r"`K` has the negative eigenvalue -1 and is no kernel",
    ),
    "lopsided": (
        lambda: relatives.regression_modes(np.triu(np.ones((3, 3))), np.ones((3, 1))),
        r"`K` must be symmetric",
    ),
    "other samples": (
        lambda: relatives.regression_modes(EYE, np.ones((3, 1))).predict(
            np.ones((4, 2)), 1.0
        ),
        r"`k_new` must be \(q, 3\)",
    ),
    "before the start": (
        lambda: relatives.regression_modes(EYE, np.ones((3, 1))).learned(-T[::-1]),
        r"`t` must start at 0 or later",
    ),
    "nothing moves": (
        lambda: relatives.deep_linear(T, ONE, 0.0),
        r"`u0` must be finite and positive",
    ),
    "starts at the end": (
        lambda: relatives.deep_linear(T, ONE, 0.7),
        r"`u0` must lie below `strengths`; mode 2 starts at 0.7 and ends at 0.5",
    ),
    "one start too few": (
        lambda: relatives.deep_linear(T, np.ones(3), np.full(2, 0.1)),
        r"`u0` must be one number or one a mode, \(3,\); got shape \(2,\)",
    ),
    "no strength": (
        lambda: relatives.deep_linear(T, np.array([1.0, -1.0]), 0.1),
        r"`strengths` must be finite and positive; entry 1 is -1",
    ),
    "no layer": (
        lambda: relatives.deep_linear(T, ONE, 0.1, depth=0),
        r"`depth` must be at least 1; got 0",
    ),
    "already half learned": (
        lambda: relatives.deep_step_times(ONE, 0.3),
        r"`u0` is too large for a step: mode 2 starts at 0.6 of its strength",
    ),
    "no factor": (
        lambda: relatives.deep_flow(T, EYE, []),
        r"`factors` is empty",
    ),
    "factors that do not fit": (
        lambda: relatives.deep_flow(T, EYE, [np.ones((2, 3)), np.ones((2, 3))]),
        r"`factors` of shapes \[\(2, 3\), \(2, 3\)\]",
    ),
    "no time": (
        lambda: relatives.deep_flow(np.array([0.0]), EYE, [EYE]),
        r"`t` holds no time after 0",
    ),
    "too few positive modes": (
        lambda: relatives.factor_modes(np.diag([1.0, -1.0, -2.0]), W),
        r"`W0` has 2 rows, but `M` has only 1 positive eigenvalues",
    ),
    "weights of another width": (
        lambda: relatives.factorization(T, np.eye(4), W),
        r"`W0` must be \(d, 4\) with d at most 4; got shape \(2, 3\)",
    ),
    "one string": (
        lambda: relatives.vocabulary("in the beginning", 2),
        r"`chapters` is one string",
    ),
    "a small vocabulary": (
        lambda: relatives.vocabulary(RHYME, 9),
        r"`size` is 9, but the text has 6 different words",
    ),
    "a word twice": (
        lambda: relatives.cooccurrence(RHYME, ("fish", "fish"), window=2),
        r"`words` holds 'fish' more than once",
    ),
    "a word of no text": (
        lambda: relatives.cooccurrence(RHYME, ("fish", "whale"), window=2),
        r"`words` holds 'whale', which has no neighbour",
    ),
    "no window": (
        lambda: relatives.cooccurrence(RHYME, ("fish",), window=0),
        r"`window` must be at least 1",
    ),
    "negative probability": (
        lambda: relatives.word_target(-EYE),
        r"`P` must be zero or positive",
    ),
    "a word alone": (
        lambda: relatives.word_target(np.diag([1.0, 0.0])),
        r"`P` has only zeros in row 1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(as_a_user, case):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        call()
