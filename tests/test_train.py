"""The network that trains in a page: its gradients, its views, and what is predicted.

torch differentiates, NumPy solves, `pkg.dynamics` predicts; the page's own JavaScript,
run in Node, must agree with each of them.
"""

import base64
import json
import subprocess

import numpy as np
import pytest
import torch

from pkg import data, dynamics, widgets
from tests.figure_page import refuses
from tests.test_widgets import NODE, node, source

LAMBDAS = {"barlow_twins": 1.0, "barlow_twins_weighted": 0.3, "spectral": None}
PIXELS, PLACES = 64, 18


@pytest.fixture(scope="module")
def images():
    return data.load("photos", n=400, size=10, seed=0).x


@pytest.fixture(scope="module")
def figure(images):
    return widgets.LivingNetwork(images)


@pytest.fixture(scope="module")
def all_views(figure):
    """Every view of every patch (n, 18, 64), made with NumPy."""
    raw = np.frombuffer(base64.b64decode(figure.patches), dtype=np.uint8)
    patches = raw.reshape(-1, 10, 10).astype(np.float64)
    patches -= patches.mean(axis=(1, 2), keepdims=True)
    patches /= patches.std(axis=(1, 2), keepdims=True) + 12.75
    views = []
    for top in range(3):
        for left in range(3):
            window = patches[:, top : top + 8, left : left + 8]
            views += [window, window[:, :, ::-1]]
    views = np.stack(views, axis=1).reshape(len(patches), PLACES, PIXELS)
    views = views - views.mean(axis=(0, 1))
    return views / np.sqrt(_gamma(views)[1][0])


def _gamma(views):
    mean = views.mean(axis=1)
    Gamma = mean.T @ mean / len(mean)
    return Gamma, np.linalg.eigvalsh(Gamma)[::-1]


def run_js(code: str, *arguments):
    """What a few lines of JavaScript return; `load` imports a module of the package."""
    script = (
        f"const load = (name) => import('{widgets.FOLDER.as_uri()}/' + name + '.js');\n"
        "const plain = (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v;\n"
        "const given = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));\n"
        f"(async () => {{ {code} }})().then((found) =>\n"
        "  process.stdout.write(JSON.stringify(found, plain)));"
    )
    done = subprocess.run(
        [str(NODE), "-e", script],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TRAIN = """
const { decode, population } = await load("train_views");
const { createRun, advance, record } = await load("train_run");
const [patches, cases] = given;
const views = population(decode(patches));
return cases.map(({ steps, settle, ...settings }) => {
  const run = createRun(views, settings);
  const W0 = Array.from(run.net.W), V0 = run.net.V && Array.from(run.net.V);
  const end = steps || (settle || 1.5) * Math.max(...run.prediction.times);
  const over = () => !steps && !settle && !run.measured.includes(null);
  while (run.step < end && !run.lost && !over()) {
    const loss = advance(run);
    if (!run.probe || run.step % 4 === 0 || run.lost) record(run, loss);
  }
  const { prediction, measured, history, step, lost } = run;
  const last = history.eigenvalues[history.eigenvalues.length - 1];
  return { prediction, measured, step, lost, W0, V0, last,
    start: history.eigenvalues[0],
    lastLoss: history.losses[history.losses.length - 1] };
});"""


def train(figure, *cases):
    """Runs in Node, each of its own settings."""
    usual = {
        "net": "linear",
        "loss": "barlow_twins",
        "scale": 1e-3,
        "rate": 0.1,
        "seed": 0,
    }
    return run_js(TRAIN, figure.patches, [usual | case for case in cases])


# --- gradients ---------------------------------------------------------------------


def theirs(W, V, x, x_prime, lambd):
    """Loss and gradients by torch, from the loss as the chapters write it."""
    W = torch.tensor(W, requires_grad=True)
    leaves = [W]
    if V is not None:
        V = torch.tensor(V, requires_grad=True)
        leaves.append(V)
    embed = [
        (torch.tanh(v @ V.T) if V is not None else v) @ W.T
        for v in (torch.tensor(x), torch.tensor(x_prime))
    ]
    z, z_prime = embed
    C = (z.T @ z_prime + z_prime.T @ z) / (2 * len(x))
    S = (z.T @ z + z_prime.T @ z_prime) / (2 * len(x))
    eye = torch.eye(len(C), dtype=torch.float64)
    if lambd is None:
        loss = len(C) - 2 * torch.trace(C) + (S**2).sum()
    else:
        loss = ((C - eye) ** 2 * (eye + lambd * (1 - eye))).sum()
    return loss.item(), [g.numpy() for g in torch.autograd.grad(loss, leaves)]


GRADIENT = """
const { netOf, workspace, lossGradient } = await load("train");
return given.map(({ W, V, d, size, x, lambd }) => {
  const net = netOf(W, V, d, size);
  const work = workspace(net, x.length / 128);
  work.x.set(x);
  const loss = lossGradient(net, work, lambd);
  return { loss, gW: work.gW, gV: work.gV };
});"""


def test_gradients_are_those_of_torch(rng):
    """Both nets, all losses, odd and even batches, outputs of ordinary size."""
    cases, expected = [], []
    for count, d, size in [(7, 5, 32), (6, 3, 8), (1, 1, 4)]:
        for deep in (False, True):
            for lambd in (1.0, 0.3, 0.0, None):
                x = rng.standard_normal((2 * count, PIXELS))
                m = size if deep else PIXELS
                W = rng.standard_normal((d, m)) / np.sqrt(m)
                V = rng.standard_normal((size, PIXELS)) / 8 if deep else None
                cases.append(
                    {
                        "W": W.ravel().tolist(),
                        "V": V.ravel().tolist() if deep else None,
                        "d": d,
                        "size": m,
                        "x": x.ravel().tolist(),
                        "lambd": lambd,
                    }
                )
                expected.append(theirs(W, V, x[:count], x[count:], lambd))
    worst = 0.0
    for ours, (loss, gradients) in zip(run_js(GRADIENT, *cases), expected, strict=True):
        np.testing.assert_allclose(ours["loss"], loss, rtol=1e-12)
        found = [ours["gW"], ours["gV"]][: len(gradients)]
        for mine, gradient in zip(found, gradients, strict=True):
            gap = np.abs(np.reshape(mine, gradient.shape) - gradient).max()
            worst = max(worst, gap / np.abs(gradient).max())
    # The house asks for 1e-6; float64 on both sides leaves round-off only.
    assert worst < 1e-12


# --- linear algebra ----------------------------------------------------------------


def test_eigenvalues_are_those_of_numpy(rng):
    matrices = [(lambda a: (a + a.T) / 2)(rng.standard_normal((n, n))) for n in (1, 5)]
    matrices.append(np.diag([1.0, 1.0, 1e-9, -2.0]))
    big = rng.standard_normal((64, 64)) * 0.8 ** np.arange(64)
    matrices.append(big @ big.T)
    found = run_js(
        "const { eigen } = await load('algebra');"
        "return given.map(([a, n]) => eigen(a, n));",
        *[[a.ravel().tolist(), len(a)] for a in matrices],
    )
    for a, ours in zip(matrices, found, strict=True):
        exact = np.linalg.eigvalsh(a)[::-1]
        scale = np.abs(exact).max()
        np.testing.assert_allclose(ours["values"], exact, atol=1e-12 * scale, rtol=0)
        V = np.reshape(ours["vectors"], a.shape)
        np.testing.assert_allclose(V @ V.T, np.eye(len(a)), atol=1e-12)
        np.testing.assert_allclose(V @ a, exact[:, None] * V, atol=1e-11 * scale)
        assert (V[np.arange(len(a)), np.abs(V).argmax(axis=1)] > 0).all()


# --- views -------------------------------------------------------------------------

POPULATION = """
const { decode, population, writeView } = await load("train_views");
const views = population(decode(given[0]));
const seen = given[1].map(([patch, place]) => {
  const out = new Float64Array(64);
  writeView(views, patch, place, out, 0);
  return out;
});
const { Gamma, Sigma, gammas, power } = views;
return { Gamma, Sigma, gammas, power, seen };"""


def test_gamma_and_sigma_are_exact_over_every_view(figure, all_views):
    places = [[0, 0], [3, 5], [399, 17], [120, 8]]
    ours = run_js(POPULATION, figure.patches, places)
    for (patch, place), view in zip(places, ours["seen"], strict=True):
        np.testing.assert_allclose(view, all_views[patch, place], atol=1e-12)
    Gamma, gammas = _gamma(all_views)
    flat = all_views.reshape(-1, PIXELS)
    near = {"atol": 1e-12, "rtol": 0}
    np.testing.assert_allclose(np.reshape(ours["Gamma"], (64, 64)), Gamma, **near)
    Sigma = flat.T @ flat / len(flat)
    np.testing.assert_allclose(np.reshape(ours["Sigma"], (64, 64)), Sigma, **near)
    np.testing.assert_allclose(ours["gammas"], gammas, **near)
    np.testing.assert_allclose(ours["power"], np.trace(Sigma), rtol=1e-12)
    # What the figure is for: modes far enough apart to be told from one another.
    assert gammas[0] == pytest.approx(1.0)
    assert (gammas[1:5] / gammas[:4] < 0.8).all()


# --- predictions -------------------------------------------------------------------


def test_the_prediction_is_the_packages_own(figure, all_views):
    """Effective start by QR, and its step times corrected for descent."""
    Gamma, _ = _gamma(all_views)
    for ours in train(figure, *[{"seed": seed, "steps": 1} for seed in (0, 1, 2)]):
        start = dynamics.effective_start(np.reshape(ours["W0"], (5, 64)), Gamma)
        p = ours["prediction"]
        assert p["limit"] == pytest.approx(0.25, rel=1e-12)
        np.testing.assert_allclose(p["gammas"], start.gammas, rtol=1e-10)
        np.testing.assert_allclose(p["s0"], start.s0, rtol=1e-9)
        times = dynamics.step_times(start.gammas, start.s0, lr=p["lr"]) / p["lr"]
        np.testing.assert_allclose(p["times"], times, rtol=1e-9)
        # The record starts where W(0) does.
        W0 = np.reshape(ours["W0"], (5, 64))
        exact = np.linalg.eigvalsh(W0 @ Gamma @ W0.T)[::-1]
        np.testing.assert_allclose(ours["start"], exact, rtol=1e-8)


def test_the_predicted_curves_are_the_packages_own(figure):
    [ours] = train(figure, {"steps": 1})
    p = ours["prediction"]
    steps = np.linspace(0.0, 1500.0, 40)
    found = node(source("train_theory"), *[["expected", p, s] for s in steps.tolist()])
    exact = dynamics.closed_form(
        steps * p["lr"], np.array(p["gammas"]), np.array(p["s0"]), lr=p["lr"]
    )
    near = {"rtol": 1e-9, "atol": 1e-12}
    curves = [moment["eigenvalues"] for moment in found]
    np.testing.assert_allclose(curves, exact.eigenvalues, **near)
    np.testing.assert_allclose([m["loss"] for m in found], exact.loss, **near)


def test_less_weight_off_the_diagonal_overshoots_and_waits():
    """d = 4, lambda = 0.5 and 0.1: the levels c_1, the loss after step 1, the wait."""
    times, rates = [1.0, 2.0, 4.0, 8.0], [1.0] * 4
    for lambd, top, loss in [(0.5, 1.6, 2.4), (0.1, 3.077, 0.923)]:
        [found] = node(source("train_theory"), ["weighted", times, rates, lambd, 4])
        assert found["levels"][0] == pytest.approx(top, abs=1e-3)
        assert found["levels"][3] == pytest.approx(1.0)
        rho = lambd * 4 / (1 + lambd * 3)
        assert found["times"][1] == pytest.approx(1 + 1 / rho)
        p = {**found, "rates": [50.0] * 4, "halves": [0.5] * 4, "lambd": lambd}
        between = (found["times"][0] + found["times"][1]) / 2
        [moment] = node(source("train_theory"), ["expected", p, between])
        assert moment["loss"] == pytest.approx(loss, abs=1e-3)


# --- training ----------------------------------------------------------------------


def ratios(runs):
    """Measured over predicted step, k-th against k-th; (runs, modes)."""
    return np.array(
        [np.sort(run["measured"]) / np.sort(run["prediction"]["times"]) for run in runs]
    )


def test_a_linear_net_climbs_at_the_predicted_steps(figure):
    """Three starts, fresh views every step: median within 2 %, the worst within 6 %."""
    runs = train(figure, *[{"seed": seed, "settle": 1.15} for seed in range(3)])
    off = np.abs(ratios(runs) - 1)
    assert np.median(off) < 0.02, off
    assert off.max() < 0.06, off
    for run in runs:
        # A batch of 256 pairs leaves them a little short of one, never past it by much.
        assert run["last"][4] > 0.75
        assert run["last"][0] < 1.15


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, median, worst",
    [
        # The worst are starts that bring modes 4 and 5 to nearly one time: which of
        # them goes first is then a matter of chance.
        ({}, 0.02, 0.1),
        ({"loss": "spectral"}, 0.03, 0.2),
        ({"scale": 1e-5, "rate": 0.2}, 0.03, 0.1),
        # The hidden layer moves, and these drift with it, though not far.
        ({"net": "two-layer"}, 0.03, 0.2),
    ],
)
def test_every_setting_keeps_near_its_prediction(figure, case, median, worst):
    """Six starts each: the k-th measured step against the k-th predicted one."""
    runs = train(figure, *[{"seed": seed} | case for seed in range(6)])
    assert all(None not in run["measured"] for run in runs)
    off = np.abs(ratios(runs) - 1)
    assert np.median(off) < median, off
    assert off.max() < worst, off


@pytest.mark.slow
def test_with_less_weight_off_the_diagonal_the_first_three_keep_near(figure):
    """Where gammas are close the rule is a rule of thumb; later steps may come late."""
    case = {"loss": "barlow_twins_weighted", "settle": 0.7}
    runs = train(figure, *[{"seed": seed} | case for seed in range(4)])
    off = np.abs(
        [
            np.array(run["measured"][:3]) / np.array(run["prediction"]["times"][:3]) - 1
            for run in runs
        ]
    )
    assert np.median(off) < 0.1, off
    assert off.max() < 0.25, off


def test_a_hidden_layer_is_predicted_from_its_features(figure, all_views):
    """Gamma of tanh(V x) over every view, by NumPy; then a first step near its time."""
    [run] = train(figure, {"net": "two-layer", "steps": 120})
    V, W = np.reshape(run["V0"], (-1, PIXELS)), np.reshape(run["W0"], (5, -1))
    Gamma, gammas = _gamma(np.tanh(all_views @ V.T))
    np.testing.assert_allclose(run["prediction"]["gammas"], gammas[:5], rtol=1e-9)
    start = dynamics.effective_start(W, Gamma)
    np.testing.assert_allclose(run["prediction"]["s0"], start.s0, rtol=1e-7)
    assert run["measured"][0] == pytest.approx(run["prediction"]["times"][0], rel=0.08)


def test_the_same_seed_trains_the_same_network(figure):
    one, two, other = train(
        figure, *[{"steps": 40, "seed": seed} for seed in (5, 5, 6)]
    )
    assert one["last"] == two["last"]
    assert one["last"] != other["last"]


@pytest.mark.parametrize("net", ["linear", "two-layer"])
def test_a_rate_beyond_the_limit_is_noticed(figure, net):
    [run] = train(figure, {"net": net, "rate": 3.0, "steps": 400})
    assert run["lost"]
    assert run["step"] < 400


# --- traits ------------------------------------------------------------------------


def test_bytes_travel_as_text(images):
    figure = widgets.LivingNetwork(images)
    state = figure.get_state()
    assert len(state["patches"]) < 80_000
    grey = np.frombuffer(base64.b64decode(state["patches"]), dtype=np.uint8)
    luma = np.rint(images @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_array_equal(grey, luma.ravel())
    json.dumps({key: state[key] for key in ("patches", "net", "rate", "seed", "pace")})
    same = widgets.LivingNetwork(grey.reshape(-1, 10, 10))
    assert same.patches == figure.patches


def test_state_makes_the_round_trip(figure):
    figure.set_state({"net": "two-layer", "rate": 0.4, "seed": 7, "pace": 0})
    state = figure.get_state()
    assert (state["net"], state["rate"], state["seed"]) == ("two-layer", 0.4, 7)
    figure.set_state({"net": "linear", "rate": 0.1, "seed": 0, "pace": 120})


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("patches", "?", r"`patches` must be base64 text of grey levels"),
        ("patches", 3, r"`patches` must be base64 text of grey levels"),
        ("patches", "AAAA", r"`patches` must hold 64 to 600 patches of 100 bytes"),
        ("net", "lineer", r"`net` is 'lineer'.*did you mean 'linear'"),
        ("loss", "vicreg", r"`loss` is 'vicreg', which is not known"),
        ("start", 0.0, r"`start` must be finite and positive"),
        ("start", 2.0, r"`start` must lie between 1e-6 and 1; got 2"),
        ("rate", 5.0, r"`rate` must lie between 0.01 and 4; got 5"),
        ("seed", 1000, r"`seed` must be between 0 and 999; got 1000"),
        ("pace", 60, r"`pace` must be one of \(30, 120, 0\); got 60"),
        ("log_steps", 1, r"`log_steps` must be True or False; got 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(figure, name, value, says):
    refuses(figure, name, value, says)


def flat(n, *shape, dtype=np.uint8):
    return np.full((n, *shape), 7, dtype=dtype)


@pytest.mark.parametrize(
    "images, says",
    [
        (flat(100, 12, 12, 3), r"`images` must be uint8 of shape .*data.load"),
        (flat(100, 10, 10, dtype=np.float64), r"`images` must be uint8 .*got float64"),
        (flat(3, 10, 10), r"`images` must be 64 to 600 patches; got 3"),
        (flat(700, 10, 10), r"`images` must be 64 to 600 patches; got 700"),
        (flat(100, 10, 10), r"`images` are all flat"),
    ],
)
def test_images_that_cannot_serve_are_refused(as_a_user, images, says):
    with pytest.raises(ValueError, match=says):
        widgets.LivingNetwork(images)
