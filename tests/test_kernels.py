"""Kernels: against another library, numerical integrals and networks of finite width.

The golden file was made once by neural-tangents; the script beside it says how.
"""

import math
import re
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import pairwise

from pkg import kernels

GOLDEN = np.load(Path(__file__).parent / "golden" / "neural_tangents.npz")
# Rows of the golden inputs that are multiples of row 0, or 1e-9 away from it.
PARALLEL = {0, 15, 16, 17, 18}
NETWORKS = ("relu_nngp", "relu_ntk", "erf_nngp", "erf_ntk")
KERNELS = {
    "linear": kernels.linear,
    "rbf": partial(kernels.rbf, length_scale=2.0),
    "laplace": partial(kernels.laplace, length_scale=2.0),
    "steps": partial(kernels.arc_cosine, order=0),
    "ReLUs": partial(kernels.arc_cosine, order=1),
    **{
        f"{name}, depth {depth}, bias {bias}": partial(
            getattr(kernels, name), depth=depth, bias_variance=bias
        )
        for name in NETWORKS
        for depth, bias in ((1, 0.0), (3, 0.3))
    },
}


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


@pytest.mark.parametrize("table", [name for name in GOLDEN.files if name != "x"])
def test_the_networks_kernels_are_those_of_neural_tangents(table):
    name, kind, depth, bias = table.split("_")
    K = getattr(kernels, f"{name}_{kind}")(
        GOLDEN["x"], depth=int(depth), bias_variance=float(bias)
    )
    rows, columns = np.triu_indices(len(K))
    ours, theirs = K[rows, columns], GOLDEN[table]
    # Between parallel inputs that library loses half the digits of the ReLU NTK.
    bent = np.array(
        [
            (name, kind) == ("relu", "ntk") and (i == j or {i, j} <= PARALLEL)
            for i, j in zip(rows, columns, strict=True)
        ]
    )
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours[~bent], theirs[~bent], rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(ours[bent], theirs[bent], rtol=0, atol=1e-7 * scale)


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_the_relu_kernels_have_their_exact_diagonal(depth, rng):
    """Where neural-tangents is off by 1e-8: at angle 0 arccos sees round-off."""
    x = rng.standard_normal((30, 784))
    squares = 2 * np.sum(x**2, axis=1) / 784
    ntk = np.diag(kernels.relu_ntk(x, depth=depth))
    np.testing.assert_allclose(ntk, (depth + 1) * squares, rtol=1e-14)
    nngp = np.diag(kernels.relu_nngp(x, depth=depth))
    np.testing.assert_allclose(nngp, squares, rtol=1e-14)


@pytest.mark.parametrize("m", [5, 784, 3072])
def test_repeated_inputs_have_equal_rows(kernel, m, rng):
    """Also in a table of x with y, where no diagonal can be known beforehand."""
    x = np.abs(rng.standard_normal((6, m)))
    K = kernel(x)
    for twice in (kernel(np.tile(x, (2, 1))), kernel(np.tile(x, (2, 1)), x)):
        blocks = twice.reshape(2, 6, -1, 6)
        for block in (blocks[i, :, j] for i in (0, 1) for j in range(blocks.shape[2])):
            np.testing.assert_allclose(block, K, rtol=0, atol=3e-14 * K.max())


def test_opposite_inputs_share_no_active_unit(rng):
    """A unit that sees x does not see -x: their first ReLUs multiply to exactly 0."""
    x = rng.standard_normal((4, 100))
    assert np.all(np.diag(kernels.arc_cosine(x, -x, order=1)) == 0)
    assert np.all(np.diag(kernels.arc_cosine(x, -3 * x, order=0)) == 0)
    assert np.all(np.diag(kernels.relu_ntk(x, -x, depth=1)) == 0)


@pytest.mark.parametrize("angle", [1e-5, 1e-3, 0.3, 1.5, 3.0, math.pi - 1e-3])
def test_arc_cosines_are_integrals_over_directions(angle):
    """Twice the mean over normal w in the plane of the two inputs."""
    x = np.array([[2.0, 0.0]])
    y = 3.0 * np.array([[math.cos(angle), math.sin(angle)]])
    # w = r (cos phi, sin phi), where r^2 has mean 2; both inputs see the middle arc.
    nodes, weights = np.polynomial.legendre.leggauss(40)
    low, high = angle - math.pi / 2, math.pi / 2
    phi = low + (high - low) * (nodes + 1) / 2
    arc = weights * (high - low) / 2 / (2 * math.pi)
    relus = 2 * 2 * 2.0 * 3.0 * np.sum(arc * np.cos(phi) * np.cos(phi - angle))
    assert kernels.arc_cosine(x, y, order=1)[0, 0] == pytest.approx(relus, rel=1e-9)
    # An angle is the arccos of a rounded cosine: 1e-16 / 1e-5 is lost at the smallest.
    steps = 2 * np.sum(arc)
    assert kernels.arc_cosine(x, y, order=0)[0, 0] == pytest.approx(steps, abs=1e-10)


@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (1.3, 0.4)])
def test_one_layer_of_erf_is_the_mean_over_normal_weights(w, b, rng):
    x = rng.standard_normal((2, 3))
    Q = w * x @ x.T / 3 + b
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij")).reshape(2, -1)
    u, v = np.linalg.cholesky(Q) @ grid
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    slopes = 4 / np.pi * np.sum(mass * np.exp(-(u**2) - v**2))
    nngp = w * np.sum(mass * special.erf(u) * special.erf(v)) + b
    how = {"depth": 1, "weight_variance": w, "bias_variance": b}
    assert kernels.erf_nngp(x, **how)[0, 1] == pytest.approx(nngp, rel=1e-9)
    ntk = nngp + w * Q[0, 1] * slopes
    assert kernels.erf_ntk(x, **how)[0, 1] == pytest.approx(ntk, rel=1e-9)


def test_one_hidden_relu_layer_is_the_arc_cosine_kernel(rng):
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((3, 4))
    relus, steps = (kernels.arc_cosine(x, y, order=order) for order in (1, 0))
    nngp = kernels.relu_nngp(x, y)
    np.testing.assert_allclose(nngp, 2 / 4 * relus, rtol=1e-13)
    expected = nngp + 2 / 4 * kernels.linear(x, y) * steps
    np.testing.assert_allclose(kernels.relu_ntk(x, y), expected, rtol=1e-13)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_distances_and_products_are_those_of_scikit_learn(offset, rng):
    x, y = rng.standard_normal((7, 5)), rng.standard_normal((4, 5))
    cases = [
        (kernels.linear, pairwise.linear_kernel),
        (KERNELS["rbf"], partial(pairwise.rbf_kernel, gamma=1 / 8)),
        (KERNELS["laplace"], lambda *z: np.exp(-pairwise.euclidean_distances(*z) / 2)),
    ]
    for ours, theirs in cases:
        # Far from the origin scikit-learn's distances keep 16 - 4 digits.
        rtol = 1e-13 if offset == 0 else 1e-9
        for pair in ((x + offset, y + offset), (x + offset,)):
            np.testing.assert_allclose(ours(*pair), theirs(*pair), rtol=rtol)


def test_a_kernel_is_symmetric_and_has_no_negative_eigenvalue(kernel, rng):
    """With repeated, opposite, parallel and zero inputs, which leave it singular."""
    x = rng.standard_normal((20, 6))
    x = np.concatenate([x, x[:5], -x[5:8], 2 * x[8:10], np.zeros((1, 6))])
    K = kernel(x)
    np.testing.assert_array_equal(K, K.T)
    values = np.linalg.eigvalsh(K)
    assert values[0] > -1e-13 * values[-1]


def test_swapping_and_rotating_inputs_changes_nothing_else(kernel, rng):
    x, y = rng.standard_normal((6, 8)), rng.standard_normal((4, 8))
    rotation, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    K = kernel(x, y)
    np.testing.assert_allclose(kernel(y, x), K.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(kernel(x @ rotation, y @ rotation), K, atol=1e-13)


def test_a_table_larger_than_a_block_is_made_of_its_entries(kernel, rng):
    """Tables are filled block by block; 40 x 600 crosses both borders of a block."""
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((600, 3))
    K = kernel(x, y)
    for i, j in ((0, 0), (15, 511), (16, 512), (39, 599), (20, 300)):
        alone = kernel(x[i : i + 1], y[j : j + 1])[0, 0]
        assert K[i, j] == pytest.approx(alone, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("name", ["relu_nngp", "relu_ntk"])
@pytest.mark.parametrize("factor", [1e-70, 1e70])
def test_without_biases_relu_kernels_scale_as_squares_do(name, factor, rng):
    x, y = rng.standard_normal((6, 8)), rng.standard_normal((4, 8))
    network = getattr(kernels, name)
    scaled = network(factor * x, y / factor, depth=3)
    np.testing.assert_allclose(scaled, network(x, y, depth=3), rtol=1e-12)


def test_an_input_of_zeros_moves_no_network_without_biases(rng):
    x = np.concatenate([np.zeros((2, 4)), rng.standard_normal((3, 4))])
    for name in NETWORKS:
        K = getattr(kernels, name)(x, depth=3)
        assert np.all(K[:2] == 0) and np.all(np.diag(K)[2:] > 0)
        assert np.all(getattr(kernels, name)(x, bias_variance=0.1) > -1)
    steps = kernels.arc_cosine(x, order=0)
    assert np.all(steps[:2] == 0.5)


def test_very_large_inputs_keep_erf_kernels_finite():
    """Where erf is a step, round-off must not divide by zero."""
    x = 1e9 * np.array([[1.0, 2.0], [1.0, 2.0], [-2.0, 1.0]])
    nngp = kernels.erf_nngp(x)
    np.testing.assert_allclose(nngp, 2 * np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    assert np.isfinite(kernels.erf_ntk(x)).all()


def test_float32_inputs_are_computed_with_in_float64(kernel, rng):
    """A ReLU NTK built in float32 has a ridge of 1e-3 on its diagonal."""
    x = rng.standard_normal((10, 50)).astype(np.float32)
    K = kernel(x)
    assert K.dtype == np.float64
    np.testing.assert_array_equal(K, kernel(x.astype(np.float64)))


@pytest.mark.parametrize(("threads", "tile"), [(1, 50), (2, 8)])
def test_a_product_is_the_one_with_the_whole_matrix(kernel, threads, tile, rng):
    x = rng.standard_normal((50, 6))
    K = kernel(x)
    product = kernels.product(kernel, x, tile=tile, threads=threads)
    assert product.shape == K.shape
    for V in (rng.standard_normal((50, 3)), rng.standard_normal(50)):
        expected = K @ V
        scale = np.abs(expected).max()
        np.testing.assert_allclose(product(V), expected, atol=1e-13 * scale)
        np.testing.assert_array_equal(product(V), product(V))


def test_a_product_computes_each_tile_once_and_uses_it_twice(rng):
    entries = []

    def counted(*rows):
        K = kernels.linear(*rows)
        entries.append(K.size)
        return K

    product = kernels.product(counted, rng.standard_normal((60, 4)), tile=10)
    entries.clear()
    product(np.ones(60))
    assert sum(entries) == (60**2 + 60 * 10) / 2


def test_a_product_never_holds_the_matrix(rng):
    x, V = rng.standard_normal((1000, 10)), rng.standard_normal((1000, 4))
    product = kernels.product(kernels.relu_ntk, x, tile=128)
    tracemalloc.start()
    product(V)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The matrix would be 8 MB; tiles are 0.13 MB, and blocks of entries 0.07.
    assert peak < 2e6


SQUARE = np.eye(3)


@pytest.mark.parametrize("name", ["rbf", "laplace"])
def test_distances_keep_their_digits_far_from_zero_and_beside_an_outlier(name, rng):
    """Small distances between inputs that are large, or one of which is."""
    x = rng.standard_normal((12, 3)).round(3)  # exact after a shift by a power of two
    shifted = (x.astype(np.float32) * 2**-3).astype(np.float64)
    far = shifted + 2.0**20
    np.testing.assert_allclose(
        KERNELS[name](far), KERNELS[name](far - 2.0**20), rtol=1e-9, atol=1e-12
    )
    x[5] = 1e9
    kept = np.delete(np.arange(12), 5)
    beside = KERNELS[name](x)[np.ix_(kept, kept)]
    np.testing.assert_allclose(beside, KERNELS[name](x[kept]), rtol=1e-9)


REFUSALS = {
    "rows of two lengths": (
        lambda: kernels.linear(SQUARE, np.ones((2, 4))),
        "`x` and `y` must have rows of one length; got (3, 3) and (2, 4)",
    ),
    "one row without its axis": (
        lambda: kernels.relu_ntk(np.ones(3)),
        "`x` must have 2 axes, not 1",
    ),
    "no inputs": (lambda: kernels.linear(np.ones((0, 3))), "`x` is empty"),
    "a missing number": (
        lambda: kernels.rbf(SQUARE, np.array([[0, np.nan, 1]]), length_scale=1.0),
        "`y` must be finite; entry (0, 1) is nan",
    ),
    "numbers whose squares overflow": (
        lambda: kernels.relu_ntk(1e200 * SQUARE),
        "so large that its squares overflow; divide both by one constant",
    ),
    "a distance that overflows": (
        lambda: kernels.rbf(np.array([[1.3e154], [-1.3e154]]), length_scale=1e154),
        "so large that its squares overflow",
    ),
    "a width beyond numbers": (
        lambda: kernels.rbf(SQUARE, length_scale=1e-170),
        "`length_scale` is 1e-170, too far from one for double precision",
    ),
    "no width": (
        lambda: kernels.rbf(SQUARE, length_scale=0.0),
        "`length_scale` must be finite and positive; it is 0",
    ),
    "a negative width": (
        lambda: kernels.laplace(SQUARE, length_scale=-1.0),
        "`length_scale` must be finite and positive; it is -1",
    ),
    "an order without a formula": (
        lambda: kernels.arc_cosine(SQUARE, order=2),
        "`order` must be between 0 and 1; got 2",
    ),
    "no hidden layer": (
        lambda: kernels.relu_nngp(SQUARE, depth=0),
        "`depth` must be at least 1; got 0",
    ),
    "half a layer": (
        lambda: kernels.erf_ntk(SQUARE, depth=1.5),
        "`depth` must be a whole number; got 1.5",
    ),
    "weights without variance": (
        lambda: kernels.erf_nngp(SQUARE, weight_variance=0.0),
        "`weight_variance` must be finite and positive",
    ),
    "biases of negative variance": (
        lambda: kernels.relu_ntk(SQUARE, bias_variance=-0.1),
        "`bias_variance` must be zero or positive; it is -0.1",
    ),
    "a vector of another length": (
        lambda: kernels.product(kernels.linear, SQUARE)(np.ones(4)),
        "`V` must have one row for each of the 3 inputs; got shape (4,)",
    ),
    "vectors with three axes": (
        lambda: kernels.product(kernels.linear, SQUARE)(np.ones((3, 1, 1))),
        "`V` must have one row for each of the 3 inputs; got shape (3, 1, 1)",
    ),
    "a number for a vector": (
        lambda: kernels.product(kernels.linear, SQUARE)(1.0),
        "`V` must have one row for each of the 3 inputs; got shape ()",
    ),
    "a kernel that gives numbers": (
        lambda: kernels.product(lambda x, y=None: 1.0, SQUARE),
        "`kernel` must return a (1, 1) array for one row of `x`; got ()",
    ),
    "tiles of no size": (
        lambda: kernels.product(kernels.linear, SQUARE, tile=0),
        "`tile` must be at least 1; got 0",
    ),
    "no thread": (
        lambda: kernels.product(kernels.linear, SQUARE, threads=0),
        "`threads` must be at least 1; got 0",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_with_its_remedy(case, as_a_user):
    wrong, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        wrong()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu", "erf"])
def test_wide_random_networks_tend_to_the_kernels_at_the_known_rate(name):
    """Two hidden layers with biases, gradients written out: error ~ width^(-1/2)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 5))
    how = {"depth": 2, "weight_variance": 1.7, "bias_variance": 0.3}
    nngp = getattr(kernels, f"{name}_nngp")(x, **how)
    ntk = getattr(kernels, f"{name}_ntk")(x, **how)
    widths, errors = [32, 128, 512], []
    for width in widths:
        drawn = [_finite(x, name, width, 1.7, 0.3, rng) for _ in range(40)]
        covariance, tangents = (np.stack(some) for some in zip(*drawn, strict=True))
        distance = np.linalg.norm(tangents - ntk, axis=(1, 2)) / np.linalg.norm(ntk)
        errors.append(np.sqrt(np.mean(distance**2)))
        # 40 networks: the mean is within 4 standard errors, and width moves it by 1/N.
        allowed = 4 * errors[-1] / np.sqrt(40) + 2 / width
        assert np.linalg.norm(tangents.mean(0) - ntk) < allowed * np.linalg.norm(ntk)
        off = np.linalg.norm(covariance.mean(0) - nngp) / np.linalg.norm(nngp)
        assert off < allowed
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)


def _finite(x, name, width, w, b, rng):
    """Covariance of the last layer's outputs given the rest, and empirical NTK."""
    f, slope = {
        "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0) * 1.0),
        "erf": (special.erf, lambda a: 2 / np.sqrt(np.pi) * np.exp(-(a**2))),
    }[name]
    W1 = rng.standard_normal((width, x.shape[1])) * np.sqrt(w / x.shape[1])
    W2 = rng.standard_normal((width, width)) * np.sqrt(w / width)
    a1 = x @ W1.T + np.sqrt(b) * rng.standard_normal(width)
    a2 = f(a1) @ W2.T + np.sqrt(b) * rng.standard_normal(width)
    back2 = rng.standard_normal(width) * np.sqrt(w / width) * slope(a2)
    back1 = back2 @ W2 * slope(a1)
    grams = [w * z @ z.T / z.shape[1] + b for z in (x, f(a1), f(a2))]
    ntk = grams[0] * (back1 @ back1.T) + grams[1] * (back2 @ back2.T) + grams[2]
    return grams[2], ntk
