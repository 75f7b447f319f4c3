"""The loop: what it records, what it refuses, and that a stop costs nothing."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pkg import checkpoint, losses, nets, optim, spectra, trainer, views
from pkg._batches import Batches
from pkg._guards import fits_in_memory, refuse_a_lost_run
from pkg.track import Tracker, moments

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3), dtype=np.uint8)
SMALL = trainer.TrainConfig(
    method="barlow_twins", d=4, batch=16, pairs=8, steps=6, refresh=3, lr=0.01
)


def small(**changes) -> trainer.TrainConfig:
    return replace(SMALL, **changes)


def fit(config=SMALL, images=IMAGES, **settings) -> trainer.Run:
    settings = {"device": "cpu", "progress": False, **settings}
    return trainer.fit(config, images, **settings)


class Tiny(nn.Module):
    """Linear, so that its covariance can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 12 * 12, 4, bias=False)
        nn.init.normal_(
            self.layer.weight, std=0.01, generator=torch.Generator().manual_seed(1)
        )

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_each_step_is_plain_descent_on_the_batch_it_saw():
    """Written out: the same draws, the loss of both views, one subtraction a step."""
    run = fit(small(record="every"), model=Tiny())

    model, generator = Tiny(), torch.Generator().manual_seed(0)
    batches = Batches(
        IMAGES, views.RECIPES["strong"], 16, generator, torch.device("cpu")
    )
    values, spectra_seen = [], []
    for _ in range(7):
        z, z_prime = (model(x) for x in batches.make(batches.draw()))
        loss = losses.barlow_twins(z, z_prime, **{**losses.THEORY, "center": True})
        values.append(float(loss.detach()))
        pooled = torch.cat([z - z.mean(0), z_prime - z_prime.mean(0)]).double()
        covariance = (pooled.T @ pooled / 32).detach()
        spectra_seen.append(torch.linalg.eigvalsh(covariance).flip(0).numpy())
        gradient = torch.autograd.grad(loss, model.layer.weight)[0]
        with torch.no_grad():
            model.layer.weight -= 0.01 * gradient
    np.testing.assert_allclose(run.covariance.loss, values, rtol=1e-5)
    # One forward pass of 32 views rounds unlike two of 16.
    np.testing.assert_allclose(run.covariance.eigenvalues, spectra_seen, rtol=2e-4)
    np.testing.assert_allclose(run.covariance.t, 0.01 * np.arange(7), atol=1e-12)


def test_a_preconditioned_step_is_descent_along_the_changed_gradient(monkeypatch):
    """Written out for the linear net: (|C| + floor)^-power from the left of dL/dW."""
    changed = small(lr=0.003, precondition=0.5, floor=0.03)
    run = fit(changed, model=Tiny())

    model, generator = Tiny(), torch.Generator().manual_seed(0)
    batches = Batches(
        IMAGES, views.RECIPES["strong"], 16, generator, torch.device("cpu")
    )
    values = []
    for _ in range(7):
        z, z_prime = (model(x) for x in batches.make(batches.draw()))
        loss = losses.barlow_twins(z, z_prime, **{**losses.THEORY, "center": True})
        values.append(float(loss.detach()))
        c, U = np.linalg.eigh(moments(z, z_prime)[1].numpy())
        P = torch.tensor(U * (np.abs(c) + 0.03) ** -0.5 @ U.T, dtype=torch.float32)
        gradient = torch.autograd.grad(loss, model.layer.weight)[0]
        with torch.no_grad():
            model.layer.weight -= 0.003 * P @ gradient
    np.testing.assert_allclose(run.covariance.loss, values, rtol=1e-4)
    # By default nothing is multiplied: the plain run never comes by.
    monkeypatch.delattr(optim, "precondition")
    plain = fit(small(lr=0.003), model=Tiny()).covariance.loss
    assert plain[0] == run.covariance.loss[0] and plain[-1] > 1.001 * values[-1]


def test_the_rate_follows_gamma_of_the_kernel_as_it_is():
    """lr = rate / gamma_1 from the pairs of that very step, and again on schedule."""
    config = small(lr=None, rate=0.01, steps=8, refresh=3)
    model = nets.demo(4, generator=torch.Generator().manual_seed(0))
    nets.scale_init_(model, 1e-3)
    run = fit(config)
    assert run.rates[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]  # often in two periods
    gammas = run.rates[:, 1]
    assert [s for s in range(30) if small(refresh=10).looks(s)][-3:] == [18, 19, 20]
    largest = [gammas[max(0, k - 2) : k + 1].max() for k in range(len(gammas))]
    np.testing.assert_allclose(run.rates[:, 2], 0.01 / np.array(largest))
    assert (np.diff(gammas) < 0).any()  # or the last one would have done
    generator = torch.Generator().manual_seed(0)
    nets.demo(4, generator=generator)  # the run's one generator draws the weights first
    batches = Batches(IMAGES, config.recipe, 16, generator, torch.device("cpu"))
    x, x_prime = batches.make(batches.draw()[:8])
    exact = optim.top_gamma(model, x, x_prime, center=True, tol=1e-4)
    # The run stops at 5 %, from below.
    assert 0.9 * exact < run.rates[0, 1] <= exact * (1 + 1e-5)
    last = run.rates[-1, 2]
    assert run.covariance.t[-1] == pytest.approx(run.rates[:, 2].sum() + last)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++")
def test_a_compiled_network_takes_the_same_steps(as_a_user):
    """Minutes for the compiler, for the same losses and spectra to float32."""
    config = small(lr=None, rate=0.01, steps=3)
    plain = fit(config)
    torch._dynamo.utils.counters.clear()
    compiled = fit(replace(config, compile=True))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0  # it was compiled at all
    np.testing.assert_allclose(
        compiled.covariance.loss, plain.covariance.loss, rtol=1e-4
    )
    np.testing.assert_allclose(
        compiled.covariance.eigenvalues, plain.covariance.eigenvalues, rtol=1e-3
    )


@pytest.mark.parametrize("method", losses.METHODS)
def test_every_method_trains_from_its_stepwise_form(method):
    run = fit(small(method=method, steps=2))
    assert run.finished
    assert run.covariance.eigenvalues.shape == (3, 4)
    assert run.covariance.eigenvalues[0].max() < 1e-4  # a small start


def test_a_stop_and_a_second_call_lose_no_bit(tmp_path, monkeypatch):
    """`watch` stops it after the first look; the same call goes on to the same end."""
    monkeypatch.setattr(trainer, "LOOK_SECONDS", 0.0)  # else it ends before a look
    config = small(lr=None, rate=0.01, probe=5, snapshots=4)
    whole = fit(config)
    stopped = fit(config, checkpoint=tmp_path, watch=lambda seen: True)
    assert not stopped.finished
    assert len(stopped.covariance.step) < len(whole.covariance.step)
    again = fit(config, checkpoint=tmp_path)
    assert again.finished
    np.testing.assert_array_equal(again.covariance.loss, whole.covariance.loss)
    np.testing.assert_array_equal(again.cross.eigenvalues, whole.cross.eigenvalues)
    np.testing.assert_array_equal(again.snapshots.z, whole.snapshots.z)
    np.testing.assert_array_equal(again.rates, whole.rates)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_metrics_hold_every_step_once(tmp_path):
    run = fit(checkpoint=tmp_path, save_every=2)
    fit(checkpoint=tmp_path)  # finished already: looks, and takes no step
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(7))
    np.testing.assert_allclose([r["loss"] for r in rows], run.covariance.loss)
    assert {len(row["covariance"]) for row in rows} == {4}


def test_the_probe_is_embedded_at_the_ends_and_evenly_between():
    run = fit(small(probe=5, snapshots=4))
    assert run.snapshots.step.tolist() == [0, 2, 4, 6]
    assert run.snapshots.z.shape == (4, 5, 4)
    x = torch.tensor(IMAGES[:5]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        z = run.model(trainer.standardize(x))
    np.testing.assert_allclose(run.snapshots.z[-1], z, rtol=1e-5, atol=1e-8)


def test_a_log_schedule_thins_out_and_keeps_the_last_step():
    steps = [s for s in range(2000) if small(record="log").records(s)]
    assert steps[:100] == list(range(100))
    gaps = np.diff(steps) / np.array(steps[1:])
    assert gaps[100:].max() <= 0.02 and len(steps) < 400
    assert fit(small(record="log", steps=3)).covariance.step[-1] == 3


def test_a_late_mode_keeps_its_digits():
    """Beside a mode of size one, float32 would lose one of size 1e-9."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((256, 2)) * [1.0, 3e-5]
    z = torch.tensor(z - z.mean(0), dtype=torch.float32)
    exact = np.linalg.eigvalsh(z.double().T @ z.double() / 256)
    found = np.linalg.eigvalsh(moments(z, z)[0].numpy())
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_a_nan_names_its_step_and_keeps_what_came_before():
    tracker, z = Tracker(2, torch.device("cpu")), torch.randn(8, 2)
    tracker.push(0, 0.0, torch.tensor(1.0), z, z)
    tracker.push(1, 0.1, torch.tensor(float("nan")), z, z)
    with pytest.raises(FloatingPointError, match="step 1"):
        tracker.fetch()
    assert tracker.steps == [0]


def test_standardized_views_have_no_mean_and_flat_ones_stay_flat():
    x = torch.rand(3, 3, 8, 8)
    x[2] = 0.5
    found = trainer.standardize(x)
    assert found.mean((1, 2, 3)).abs().max() < 1e-6
    np.testing.assert_allclose(found[:2].std((1, 2, 3)), 0.74, atol=0.1)
    assert found[2].abs().max() < 1e-5


def test_a_run_may_be_made_longer(tmp_path):
    """To the bits of one that was planned as long."""
    fit(checkpoint=tmp_path)
    run = fit(small(steps=9), checkpoint=tmp_path)
    assert run.covariance.step.tolist() == list(range(10))
    planned = fit(small(steps=9)).covariance
    np.testing.assert_array_equal(run.covariance.eigenvalues, planned.eigenvalues)


def test_a_checkpoint_names_the_preconditioner_only_where_there_is_one(tmp_path):
    """Or no run of before there was one could be taken up again."""
    fit(small(floor=0.5), checkpoint=tmp_path / "plain")
    fit(small(precondition=0.5), checkpoint=tmp_path / "changed")
    named = {}
    for folder in ("plain", "changed"):
        slot = (tmp_path / folder / checkpoint.SLOTS[0]).read_bytes()
        header = json.loads(slot.partition(b"\n")[0])
        named[folder] = header["about"]["configuration"]
    assert named["changed"] == named["plain"] | {"precondition": 0.5, "floor": 0.01}
    assert not {"precondition", "floor"} & named["plain"].keys()
    assert fit(checkpoint=tmp_path / "plain", resume="must").finished
    with pytest.raises(ValueError, match=r"precondition was absent, now 0\.5"):
        fit(small(precondition=0.5), checkpoint=tmp_path / "plain")


class Hungry(Tiny):
    """Runs out of memory above eight views, as a card would."""

    def forward(self, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def test_out_of_memory_says_the_batch_that_fits():
    with pytest.raises(RuntimeError, match=r"with a batch of 16 pairs; a batch of 4 f"):
        fit(model=Hungry())


@pytest.mark.parametrize(
    ("lr", "said"),
    [(1e6, "the run diverged"), (1e30, "are not finite"), (None, "rate")],
)
def test_a_lost_run_stops_and_says_what_to_change(lr, said):
    config = small(steps=60, lr=lr, rate=1e9)
    with pytest.raises(RuntimeError, match=rf"{said}.*pass a smaller `(lr|rate)`"):
        fit(config)


def test_a_collapse_is_told_from_a_start(as_a_user):
    """The largest eigenvalue rose, and then fell a hundredfold."""

    class Lost:
        config, scaler, lr, step = SMALL, None, 0.01, 60
        model = nn.Linear(1, 1)
        tracker = Tracker(1, torch.device("cpu"))

    heights = np.r_[np.geomspace(1e-6, 1, 30), np.full(30, 1e-3)]
    Lost.tracker.loss, Lost.tracker.steps = [1.0] * 60, list(range(60))
    Lost.tracker.eigenvalues = [np.full((2, 1), h) for h in heights]
    with pytest.raises(RuntimeError, match=r"collapsed.* is 0.001 at step 60"):
        refuse_a_lost_run(Lost)
    Lost.tracker.eigenvalues = [np.full((2, 1), 1e-6)] * 60  # never rose: no collapse
    refuse_a_lost_run(Lost)
    # In the midst of its rise, threefold a step: all but the last few are far below.
    rising = np.geomspace(3.0**-59, 1, 60)
    Lost.tracker.eigenvalues = [np.full((2, 1), h) for h in rising]
    refuse_a_lost_run(Lost)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "barlow"}, r"`method` is 'barlow'.*did you mean 'barlow_twins'"),
        ({"encoder": "resnet81"}, "`encoder` is 'resnet81'.*did you mean"),
        ({"d": 1}, "`d` is 1: one dimension makes one step"),
        ({"batch": 1, "pairs": 2}, "`batch` must be at least 2"),
        ({"batch": 3, "pairs": 2}, "`batch` is 3, fewer pairs than `d` = 4"),
        ({"pairs": 17}, "`pairs` is 17, more than `batch` = 16"),
        ({"lr": -1.0}, "`lr` must be finite and positive"),
        ({"precondition": -0.5}, "`precondition` must be zero or positive"),
        ({"floor": 0.0}, "`floor` must be finite and positive"),
        ({"start": 0.0}, "`start` must be finite and positive"),
        ({"views": "strnog"}, "did you mean 'strong'"),
        ({"precision": "half"}, "`precision` is 'half'"),
    ],
)
def test_a_bad_setting_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        small(**changes)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (dict(images=IMAGES[:10]), "`images` holds 10, and `batch` asks for 16"),
        (dict(images=IMAGES / 255), "must be .* of uint8.*got float64"),
        (dict(images=IMAGES[..., :1]), r"must be \(n, height, width, 3\)"),
        (dict(resume="must"), "no `checkpoint` folder is named"),
        (dict(resume="always"), "`resume` is 'always'"),
        (dict(save_every=0), "`save_every` must be at least 1"),
        (dict(model=nn.Flatten()), "no parameter that requires a gradient"),
        (dict(model=nn.Conv2d(3, 4, 3)), r"must map \(n, 3, h, w\) to \(n, d\)"),
        (
            dict(config=small(lr=None, options={"norm": "batch"})),
            "batch normalisation in training mode",
        ),
        (dict(config=small(probe=65)), "`probe` asks for 65"),
    ],
)
def test_a_bad_call_is_refused_by_name(call, said, as_a_user):
    with pytest.raises(ValueError, match=said):
        fit(**call)


def test_images_larger_than_the_device_are_refused_with_a_number_that_fits(
    monkeypatch,
):
    """What is free is asked of the driver, which is not needed to be told a number."""
    card, free = torch.device("cuda"), IMAGES.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10 * free))
    fits_in_memory(IMAGES, card)
    free -= 1
    with pytest.raises(ValueError, match=r"`images` takes .* load some 31 images"):
        fits_in_memory(IMAGES, card)
    fits_in_memory(IMAGES[:31], card)
    fits_in_memory(IMAGES, torch.device("cpu"))  # lies there already


def test_another_run_in_the_folder_is_never_overwritten(tmp_path):
    fit(checkpoint=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for change, said in (
        (dict(config=small(seed=1)), "seed was 0, now 1"),
        (dict(images=255 - IMAGES), "images was"),
        (dict(model=Tiny()), "another network"),
        (dict(resume="never"), "holds a run at step 6"),
        (dict(config=small(steps=3)), "at step 6 already"),
    ):
        with pytest.raises(ValueError, match=said):
            fit(**{"checkpoint": tmp_path, **change})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="holds no checkpoint"):
        fit(checkpoint=tmp_path / "empty", resume="must")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_the_demo_climbs(seed):
    """Fifty seconds of one core or so: eight modes of the photographs, in steps."""
    from pkg import data

    images = data.load("photos", n=2048, size=16, seed=seed)
    config = trainer.TrainConfig(method="barlow_twins", seed=seed)
    run = fit(config, images)
    steps = spectra.find_steps(
        run.covariance.step.astype(float), run.covariance.eigenvalues
    )
    assert steps.n_learned >= 7 and steps.is_staircase
