"""What an embedding is good for, how alike two are, and what a mode follows."""

import colorsys
import itertools

import numpy as np
import pytest

from pkg import modes


def labelled(rng, *, n=240, p=5, classes=4):
    """Features in which classes overlap, so that probes are right now and then."""
    labels = rng.integers(0, classes, n)
    centres = 0.7 * rng.standard_normal((classes, p))
    points = rng.standard_normal((n, p)) + centres[labels]
    return points[: n // 2], labels[: n // 2], points[n // 2 :], labels[n // 2 :]


def test_the_linear_probe_is_logistic_regression_on_white_features(rng):
    """The other road: scikit-learn's own whitening, another solver."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, train_labels, test, test_labels = labelled(rng)
    white = PCA(whiten=True).fit(train)
    # Its variance is over n - 1.
    size = np.sqrt(len(train) / (len(train) - 1))
    newton = LogisticRegression(solver="newton-cg", tol=1e-8)
    fitted = make_pipeline(newton).fit(size * white.transform(train), train_labels)
    expected = fitted.score(size * white.transform(test), test_labels)
    found = modes.linear_probe(train, train_labels, test, test_labels)
    assert found == pytest.approx(expected)
    assert 0.4 < found < 0.9


def test_a_linear_probe_does_not_care_how_loud_a_feature_is(rng):
    """Any invertible map of the features, and a copy of one of them, change nothing."""
    train, train_labels, test, test_labels = labelled(rng)
    mix = rng.standard_normal((5, 5)) * [1e-3, 1, 10, 1e4, 1]

    def move(x):
        mixed = x @ mix + 7
        return np.hstack([mixed, mixed[:, :1], np.ones((len(x), 1))])

    expected = modes.linear_probe(train, train_labels, test, test_labels)
    found = modes.linear_probe(move(train), train_labels, move(test), test_labels)
    assert found == expected


def test_the_neighbours_probe_counts_votes(rng):
    """By hand: sort the distances, count, and let the smallest label win a tie."""
    train, train_labels, test, test_labels = labelled(rng)
    apart = np.linalg.norm(test[:, None] - train, axis=2)
    nearest = train_labels[np.argsort(apart, axis=1)[:, :7]]
    votes = np.array([np.bincount(row, minlength=4) for row in nearest])
    expected = np.mean(votes.argmax(axis=1) == test_labels)
    found = modes.knn_probe(train, train_labels, test, test_labels, neighbours=7)
    assert found == expected
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    again = modes.knn_probe(
        3 * train @ turn, train_labels, 3 * test @ turn, test_labels, neighbours=7
    )
    assert again == expected and 0.4 < found < 0.9


def test_probes_of_noise_are_right_by_chance(rng):
    labels = rng.integers(0, 4, 4000)
    x = rng.standard_normal((4000, 3))
    split = x[:2000], labels[:2000], x[2000:], labels[2000:]
    # Four standard deviations of 2000 tosses with one in four.
    within = 4 * np.sqrt(0.25 * 0.75 / 2000)
    assert modes.linear_probe(*split) == pytest.approx(0.25, abs=within)
    assert modes.knn_probe(*split) == pytest.approx(0.25, abs=within)


def test_cka_is_the_cosine_between_centred_kernels(rng):
    a, b = rng.standard_normal((9, 4)) + 5, rng.standard_normal((9, 20))
    centre = np.eye(9) - 1 / 9
    one, other = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    expected = np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other))
    assert modes.cka(a, b) == pytest.approx(expected, rel=1e-12)
    assert modes.cka(b, a) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1e-100, 1.0, 1e100])
def test_cka_ignores_rotation_shift_and_size(rng, size):
    a, b = rng.standard_normal((30, 4)), rng.standard_normal((30, 6))
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    expected = modes.cka(a, b)
    assert modes.cka(a, size * (b @ turn + 3)) == pytest.approx(expected, rel=1e-9)
    assert modes.cka(a, size * a) == pytest.approx(1.0)
    found = modes.chance_cka(a, size * (b @ turn + 3))
    assert found == pytest.approx(modes.chance_cka(a, b), rel=1e-9)


def test_chance_of_cka_is_the_mean_over_every_permutation(rng):
    """All 720 of six rows, one by one."""
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((6, 2)) * [1, 5]
    every = [modes.cka(a, b[list(rows)]) for rows in itertools.permutations(range(6))]
    assert modes.chance_cka(a, b) == pytest.approx(np.mean(every), rel=1e-12)
    spectra = [np.linalg.eigvalsh(np.cov(x.T)) for x in (a, b)]
    ratios = [modes.dimension(spectrum[None])[0] for spectrum in spectra]
    expected = np.sqrt(np.prod(ratios)) / 5
    assert modes.chance_cka(a, b) == pytest.approx(expected, rel=1e-12)


def flat(*colour):
    """One 6 x 6 picture of one colour, 0 to 1."""
    return np.rint(255 * np.broadcast_to(colour, (6, 6, 3))).astype(np.uint8)


@pytest.mark.parametrize("turn", [0.0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6])
def test_hue_is_the_angle_of_the_colour_circle(turn):
    """The standard library's HSV agrees at the six pure colours."""
    image = flat(*colorsys.hsv_to_rgb(turn, 1.0, 1.0))
    angle = 2 * np.pi * turn
    [hue] = modes.pictured(image[None])["hue"]
    np.testing.assert_allclose(hue, [np.cos(angle), np.sin(angle)], atol=1e-12)
    pale = (0.5 * image + 100).astype(np.uint8)  # less colour, the same hue
    np.testing.assert_allclose(modes.pictured(pale[None])["hue"][0], hue, atol=0.02)


def test_hue_goes_by_colour_and_grey_has_none():
    mixed = flat(1, 0, 0)
    mixed[:, 3:] = 90  # grey has no say
    opposite = flat(1, 0, 0)
    opposite[:, 3:] = (0, 255, 255)
    hue = modes.pictured(np.stack([mixed, flat(0.4, 0.4, 0.4), opposite]))["hue"]
    np.testing.assert_allclose(hue, [[1, 0], [0, 0], [0, 0]], atol=1e-12)


def test_edges_and_mass_say_what_was_painted():
    stripes, top, black = flat(0, 0, 0), flat(0, 0, 0), flat(0, 0, 0)
    stripes[:, ::2] = 255
    top[0] = 200
    corner = flat(0, 0, 0)
    corner[0, -1] = 10
    found = modes.pictured(np.stack([stripes, top, black, corner]))
    # Stripes: every step across is the whole range, none down.
    np.testing.assert_allclose(found["edges"][0], 0.5, atol=1e-12)
    np.testing.assert_allclose(found["edges"][1], (200 / 255) ** 2 / 10, atol=1e-12)
    np.testing.assert_allclose(found["mass up"][:, 0], [0, 1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(found["mass right"][1:, 0], [0, 0, 1], atol=1e-12)
    assert found["mass right"][0, 0] == pytest.approx(-0.2)  # columns 0, 2 and 4


def properties(rng, *, n=150):
    points = rng.standard_normal((n, 3))
    angle = rng.uniform(0, 2 * np.pi, n)
    labels = rng.integers(0, 4, n)
    points[:, 0] += np.cos(angle - 1.0)
    points[:, 1] += 0.6 * labels
    given = {
        "single": points[:, 2] + rng.standard_normal(n),
        "angle": np.stack([np.cos(angle), np.sin(angle)], axis=1),
        "class": labels,
        "flat": np.ones(n),
    }
    return points, given


def test_correlations_are_those_of_numpy_and_of_least_squares(rng):
    points, given = properties(rng)
    found = modes.correlate(points, given, draws=1, rng=rng)
    expected = np.corrcoef(given["single"], points.T)[0, 1:]
    np.testing.assert_allclose(found.r[0], expected, rtol=1e-12)
    # Mardia's formula for an angle, from three correlations.
    cosine, sine = given["angle"].T
    c, s = (np.corrcoef(x, points.T)[0, 1:] for x in (cosine, sine))
    cs = np.corrcoef(cosine, sine)[0, 1]
    squared = (c**2 + s**2 - 2 * c * s * cs) / (1 - cs**2)
    np.testing.assert_allclose(found.r[1] ** 2, squared, rtol=1e-10)
    eta = modes.separation(points, given["class"])
    np.testing.assert_allclose(found.r[2] ** 2, eta, rtol=1e-10)
    assert found.names == tuple(given) and not found.r[3].any()
    assert found.p[3].tolist() == [1, 1, 1]


def test_what_is_there_is_found_and_what_is_not_is_not(rng):
    points, given = properties(rng)
    found = modes.correlate(points, given, draws=400, rng=rng)
    there = [(0, 2), (1, 0), (2, 1)]
    assert all(found.p_any[place] == 1 / 401 for place in there)
    assert all(found.low[p] < found.r[p] < found.high[p] for p in there[:1])
    assert np.all(found.p <= found.p_any)
    others = np.ones((4, 3), bool)
    others[tuple(np.transpose(there))] = False
    assert found.p_any[others].min() > 0.05


def test_a_property_of_many_columns_does_not_drown_the_others(rng):
    """Fifty classes of nothing reach 0.6 with any mode; one column rarely has 0.5."""
    points = rng.standard_normal((150, 2))
    given = {
        "one": points[:, 0] + 1.5 * rng.standard_normal(150),
        "many": np.arange(150) % 50,
    }
    found = modes.correlate(points, given, draws=200, rng=rng)
    assert found.r[1].min() > found.r[0, 0] > 0.4
    assert found.p_any[0, 0] == 1 / 201 and found.p_any[1].min() > 0.05


def test_the_interval_is_as_wide_as_it_says(rng):
    """For Gaussians the arctanh of r has a standard deviation of 1/sqrt(n - 3)."""
    x = rng.standard_normal((2000, 2))
    points = x[:, :1] + x[:, 1:]
    found = modes.correlate(points, {"x": x[:, 0]}, draws=600, rng=rng)
    middle = np.arctanh(found.r[0, 0])
    expected = np.tanh(middle + np.array([-1.96, 1.96]) / np.sqrt(1997))
    # 600 draws know the ends of the interval to a fifth of its half width.
    both = [found.low[0, 0], found.high[0, 0]]
    np.testing.assert_allclose(both, expected, atol=0.2 * np.ptp(expected) / 2)


@pytest.mark.slow
def test_p_is_uniform_and_p_any_is_rarely_small_where_nothing_is_there(rng):
    """100 tables of noise: a tenth of p below a tenth, a tenth of tables by p_any."""
    p, any_small = [], 0
    for _ in range(100):
        given = {"a": rng.standard_normal(40), "b": rng.integers(0, 3, 40)}
        points = rng.standard_normal((40, 3))
        found = modes.correlate(points, given, draws=99, rng=rng)
        p.append(found.p[:, 0])
        any_small += found.p_any.min() <= 0.1
    # Three standard deviations of 200 and of 100 tosses of one in ten.
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.064)
    assert any_small / 100 == pytest.approx(0.1, abs=0.09)


def test_draws_come_from_the_generator_alone():
    points, given = properties(np.random.default_rng(1))
    one, same, other = (
        modes.correlate(points, given, draws=20, rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.low, same.low)
    assert np.any(one.low != other.low)


def test_extremes_are_the_outermost_images():
    low, high = modes.extremes(np.array([0.5, -2.0, 3.0, -2.0, 1.0, 0.0]), 2)
    assert low.tolist() == [1, 3] and high.tolist() == [2, 4]


def test_agreement_of_a_mirrored_property_is_the_square_of_its_mean_sign(rng):
    """Each view flips the sign with probability q, by itself: (1 - 2 q)^2 is left."""
    value = rng.standard_normal(40_000)
    one, two = (value * np.where(rng.random(40_000) < 0.2, -1, 1) for _ in "ab")
    assert modes.agreement(one, two) == pytest.approx(0.36, abs=0.02)
    assert modes.agreement(one, one + 3) == pytest.approx(1)
    both = np.stack([one, 2 * value], axis=1), np.stack([two, 2 * value], axis=1)
    assert modes.agreement(*both) == pytest.approx((0.36 + 4) / 5, abs=0.02)
    assert modes.agreement(one, 0 * one) == 0


def test_order_of_one_seed_is_spearman_with_its_exact_null(rng):
    """SciPy's permutation test tries the same assignments by itself."""
    from scipy import stats

    a, b = rng.standard_normal((2, 6))
    b += 0.7 * a
    rho, p = modes.same_order(a[None], b[None])
    assert rho == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    exact = stats.permutation_test(
        (b,),
        lambda y: stats.spearmanr(a, y).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
        alternative="greater",
    )
    assert p == pytest.approx(exact.pvalue, abs=1e-12)


def test_order_counts_ranks_alone_and_never_is_last(rng):
    times = rng.random((5, 8))
    assert modes.same_order(times, np.exp(times)) == (pytest.approx(1), 1 / 40320)
    assert modes.same_order(times, -times)[0] == pytest.approx(-1)
    last = np.argmax(times, axis=1)[:, None] == np.arange(8)
    never = np.where(last, np.inf, times)
    assert modes.same_order(times, never)[0] == pytest.approx(1)
    assert modes.same_order(times, np.full((5, 8), np.inf)) == (0, 1)


X = np.random.default_rng(0).standard_normal((9, 4))
Y = np.arange(9) % 2
IMAGES = np.zeros((9, 4, 4, 3), np.uint8)


def correlate(properties, points=X):
    return modes.correlate(points, properties, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: modes.linear_probe(X, Y, X[:, :3], Y),
            r"`train` and `test` must have",
        ),
        (
            lambda: modes.linear_probe(X, Y[1:], X, Y),
            r"`train_labels` must be one a row",
        ),
        (
            lambda: modes.linear_probe(X, Y, X, Y[1:]),
            r"`test_labels` must be one a row",
        ),
        (lambda: modes.linear_probe(X, 0 * Y, X, Y), r"`train_labels` holds one class"),
        (lambda: modes.linear_probe(0 * X, Y, X, Y), r"`train` has no spread"),
        (lambda: modes.linear_probe(X * np.nan, Y, X, Y), r"`train` must be finite"),
        (lambda: modes.knn_probe(X, Y, X, Y), r"`neighbours` must be between 1 and 9"),
        (lambda: modes.knn_probe(X, Y, X * np.inf, Y), r"`test` must be finite"),
        (lambda: modes.cka(X, X[1:]), r"`a` and `b` must have one row an image"),
        (lambda: modes.cka(X, np.ones((9, 2))), r"`b` has no spread"),
        (lambda: modes.chance_cka(X[0], X), r"`a` must have 2 axes"),
        (lambda: modes.pictured(X), r"`images` must be uint8 .* got float64"),
        (lambda: correlate({}), r"`properties` is empty"),
        (lambda: correlate({"a": X[1:, 0]}), r"`properties\['a'\]` must have a row"),
        (lambda: correlate({"a": np.ones((9, 9))}), r"fewer columns than images"),
        (lambda: correlate({"a": 0 * Y}), r"`properties\['a'\]` holds one class only"),
        (lambda: correlate({"a": X[:, 0] / 0}), r"`properties\['a'\]` must be finite"),
        (lambda: correlate({"a": Y}, X * np.nan), r"`points` must be finite"),
        (lambda: modes.agreement(X, X[1:]), r"`a` and `b` must have one shape"),
        (lambda: modes.agreement(X, X * np.inf), r"`b` must be finite"),
        (lambda: modes.same_order(X, X[1:]), r"`predicted` and `measured` must be"),
        (lambda: modes.same_order(X.T, X.T), r"n from 2 to 8; got \(4, 9\)"),
        (lambda: modes.same_order(X, X * np.nan), r"`measured` holds NaN"),
        (lambda: modes.extremes(X[:, 0], 5), r"`k` must be between 1 and 4"),
        (lambda: modes.extremes(X, 1), r"`values` must have 1 axes"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_cannot_be_measured_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_probe_that_does_not_converge_says_so(rng, monkeypatch):
    """A classifier that stops early warns; a number from it would be no measurement."""
    from sklearn import linear_model

    class Hurried(linear_model.LogisticRegression):
        def __init__(self, **settings):
            super().__init__(tol=1e-9, max_iter=1)

    monkeypatch.setattr(linear_model, "LogisticRegression", Hurried)
    with pytest.raises(RuntimeError, match="did not converge"):
        modes.linear_probe(*labelled(rng))
