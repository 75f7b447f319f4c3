"""Recorded networks in miniature: what a record holds, what it survives, its cost."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pkg import (
    _network_cost,
    _network_runs,
    checkpoint,
    data,
    nets,
    recipes,
    trainer,
)
from pkg._guards import LostRun, explain_memory
from pkg._run import Training

CASE = {"method": "barlow_twins", "lr": 0.01, "steps": 12}
TINY = {
    "data": "photos",
    "n": 32,
    "size": 12,
    "train": {
        **{"encoder": "demo", "precision": "float32", "d": 4},
        **{"batch": 8, "pairs": 4, "probe": 3, "snapshots": 3},
    },
    "cases": [
        ["small start", CASE],
        ["lost", {**CASE, "lr": 1e30, "guard": False, "seeds": [1]}],
    ],
    "seeds": [1, 2],
}


def staircases(keep=None, **changes):
    config = TINY | changes
    return recipes.network_staircases(config, {}, progress=False, keep=keep)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return folder, staircases(folder)


def test_a_record_holds_every_run_in_one_layout(kept):
    """Case by case and seed by seed; a run that is lost at once has no steps."""
    _, (runs, arrays, said) = kept
    assert [run.matrix for run in runs] == ["cross-correlation"] * 3
    assert arrays["case"].tolist() == [0, 0, 1]
    assert arrays["seed"].tolist() == [1, 2, 1]
    assert arrays["lost"].tolist() == [False, False, True]
    assert arrays["covariance"].shape == (3, 13, 4)
    for run, spectra, lost in zip(
        runs, arrays["covariance"], arrays["lost"], strict=True
    ):
        assert len(run.t) == (1 if lost else 13)
        assert np.isfinite(spectra[: len(run.t)]).all()
        assert np.isnan(spectra[len(run.t) :]).all()
    for name in ("score", "learned", "relapse", "start_ratio"):
        assert arrays[name].shape == (3, 2)
    assert arrays["times"].shape == arrays["levels"].shape == (3, 2, 4)
    assert arrays["score"][2].tolist() == [0, 0] == arrays["learned"][2].tolist()
    assert np.isnan(arrays["times"][2]).all()
    assert arrays["z"].shape == (3, 3, 4)
    assert arrays["z_step"].tolist() == [0, 6, 12]
    images = data.load("photos", n=32, size=12, seed=1)
    assert arrays["y"].tolist() == images.y[:3].tolist()
    assert "photos" in said and "seed" not in said


def test_a_second_call_takes_no_step_that_was_kept(kept, monkeypatch):
    """The same bits; only the lost run, which kept nothing, takes its step again."""
    folder, (_, arrays, _) = kept
    taken = []
    descend = Training._descend

    def told(training, loss):
        taken.append((training.config.lr, training.step))
        descend(training, loss)

    monkeypatch.setattr(Training, "_descend", told)
    _, again, _ = staircases(folder)
    assert {lr for lr, _ in taken} == {1e30}
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values)


def test_a_long_run_is_judged_whole_and_kept_thin(monkeypatch):
    whole = staircases(cases=TINY["cases"][:1], seeds=[1])
    monkeypatch.setattr(_network_runs, "KEPT", 5)
    runs, arrays, _ = staircases(cases=TINY["cases"][:1], seeds=[1])
    assert runs[0].step.tolist() == [0, 3, 6, 9, 12]
    np.testing.assert_array_equal(arrays["covariance"], whole[1]["covariance"][:, ::3])
    np.testing.assert_array_equal(arrays["times"], whole[1]["times"])


@pytest.mark.parametrize("trouble", ["cannot be written", "out of memory"])
def test_trouble_with_the_machine_is_no_result(trouble, monkeypatch):
    """A full disk once passed for a run that had diverged."""

    def fails(*_, **__):
        raise RuntimeError(trouble)

    monkeypatch.setattr(trainer, "fit", fails)
    with pytest.raises(RuntimeError, match=trouble):
        staircases()


def test_several_ranks_stop_a_lost_run_together(tmp_path, monkeypatch):
    """Rank 0 alone knows when a checkpoint is due: it may not stop there by itself."""
    images = data.load("photos", n=32, size=12).x
    config = trainer.TrainConfig(**{**TINY["train"], **CASE, "lr": 1e30})
    advance, world = Training.advance, []

    def two(training):
        advance(training)
        training.world = 2
        world.append(training.step)

    monkeypatch.setattr(Training, "advance", two)
    with pytest.raises(LostRun, match="diverged"):
        trainer.fit(
            config,
            images,
            checkpoint=tmp_path,
            save_every=1,
            progress=False,
            device="cpu",
        )
    assert len(world) == 13  # a common look is due every 20 steps, and at the end
    state = checkpoint.load(tmp_path)  # of before the loss was lost
    assert state["step"] == 1
    assert all(w.isfinite().all() for w in state["model"].values())


class Hungry(nn.Module):
    """Has room for the views of two pairs, and must not be asked through DDP."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(432, 4)

    def forward(self, x):
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(x.flatten(1))


def test_out_of_memory_on_several_ranks_names_a_global_batch():
    from pkg import distributed

    images = data.load("photos", n=32, size=12).x
    config = trainer.TrainConfig(**{**TINY["train"], **CASE, "batch": 16})
    place = distributed.Session(0, 1, torch.device("cpu"))
    training = Training(config, images, Hungry(), place)
    training.world = 2
    training.network = nn.Identity()  # in place of DDP, which would wait for the others
    assert "a batch of 4 fits" in str(explain_memory(training))


# --- the cost -------------------------------------------------------------------------


def test_flops_and_bytes_are_those_counted_by_hand(monkeypatch):
    """Two convolutions and a readout: three times the forward pass; kept inputs."""

    def plain(d, **_):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.Flatten(),
            nn.Linear(8 * 144, d, bias=False),
        )

    monkeypatch.setattr(nets, "demo", plain)
    flops, peak = _network_cost.count(TINY, half=False)
    n, pixels = 16, 144  # two views of eight images
    forward = 2 * n * (pixels * 9 * (3 * 8 + 8 * 8) + 8 * pixels * 4)
    assert flops == 3 * forward
    weights = 9 * (3 * 8 + 8 * 8) + 8 * pixels * 4
    # For the way back: the images, what the ReLU returned, what the readout reads.
    kept = 4 * n * pixels * (3 + 8 + 8)
    images = 32 * pixels * 3
    assert peak == kept + 2 * 4 * weights + images + _network_cost.OVERHEAD
    half = _network_cost.count(TINY, half=True)[1]
    assert half == pytest.approx(peak + 0.25 * kept)  # GroupNorm stays in float32


def test_steps_are_counted_over_cases_and_seeds():
    assert _network_cost.steps_of(TINY) == 2 * 12 + 12


def test_a_dry_run_times_few_pairs_of_a_large_batch(monkeypatch):
    """The full size takes ten gigabytes and minutes a step on a laptop."""
    seen = []
    advance = Training.advance

    def told(training):
        seen.append(training.config.batch)
        advance(training)

    monkeypatch.setattr(Training, "advance", told)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    large = TINY | {"train": TINY["train"] | {"batch": 4096, "pairs": 16}}
    seconds, peak = _network_cost.step_cost(large)
    assert set(seen) == {16} and seconds > 0
    assert peak == _network_cost.count(large, half=False)[1]


@pytest.fixture
def tiny(monkeypatch):
    recipe = dataclasses.replace(
        recipes.get("resnet50-stl10-barlow-twins"), name="tiny", config=TINY, roots=()
    )
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": recipe})
    return recipe


def test_the_command_line_of_a_network(tiny, tmp_path, capsys):
    """Dry, on two cards, awaited; run with checkpoints; then fresh."""
    assert recipes.check(tmp_path) == {"tiny": "awaits a GPU"}
    assert recipes.main(["run", "tiny", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for card in ("T4", "A100"):
        assert (
            f"{card}: 36 steps, about 0.0 h at 10% of its half-precision peak" in said
        )
    call = ["run", "tiny", "--out", str(tmp_path), "--checkpoint", str(tmp_path / "k")]
    assert recipes.main(call) == 0
    assert recipes.check(tmp_path) == {"tiny": "fresh"}
    assert {p.name for p in (tmp_path / "k").iterdir()} == {"0-1", "0-2", "1-1"}
    assert (tmp_path / "k" / "0-1" / "metrics.jsonl").exists()


def test_a_published_set_may_be_fetched(monkeypatch):
    """STL-10 on Colab: nobody needs to know where it lies."""
    recipe, asked = recipes.get("resnet50-stl10-simclr"), []
    monkeypatch.setattr(data, "load", lambda *a, **k: asked.append((a, k)))
    assert recipes._folders_of(recipe, None, download=True) == {}
    assert recipes._folders_of(recipe, "here", download=True) == {"stl10": "here"}
    common = {"split": "unlabeled", "n": 1, "download": True}
    assert asked == [
        (("stl10",), common | {"root": None}),
        (("stl10",), common | {"root": "here"}),
    ]
    with pytest.raises(ValueError, match="or --download for a set that is published"):
        recipes._folders_of(recipe, None)


TORCHRUN = """
import dataclasses, json, sys, torch
from pkg import recipes
torch.set_num_threads(1)
config = json.loads(sys.argv[1])
recipes.RECIPES["tiny"] = dataclasses.replace(
    recipes.get("demo-photos"), name="tiny", config=config
)
raise SystemExit(recipes.main(["run", "tiny", "--out", sys.argv[2]]))
"""


@pytest.mark.slow
def test_two_ranks_make_the_record_of_one(kept, tmp_path):
    """Also of the run that is lost: both go on to the next together."""
    from pkg import record

    (tmp_path / "tiny.py").write_text(TORCHRUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(tmp_path / "tiny.py")]
    config = TINY | {"cases": TINY["cases"][::-1]}  # lost first
    told = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, json.dumps(config), str(tmp_path)],
        cwd=Path(__file__).resolve().parents[1],
        env=told,
        capture_output=True,
        text=True,
        timeout=900,  # a rank that dies alone keeps the other waiting
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = record.load("tiny", tmp_path).arrays
    _, (_, one, _) = kept
    assert found["lost"].tolist() == [True, False, False]
    np.testing.assert_allclose(
        # A batch in two halves rounds unlike a whole one, and each step adds to it.
        found["covariance"][1:],
        one["covariance"][:2],
        rtol=1e-3,
        atol=1e-12,
    )
