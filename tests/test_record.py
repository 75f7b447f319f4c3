"""Trajectories are frozen; records survive a round trip and betray any damage."""

import json
import re

import numpy as np
import pytest

from pkg import record
from pkg.record import Record, Trajectory


def a_run(**changes):
    t = np.linspace(0.1, 1.0, 4)
    fields = dict(
        t=t,
        loss=2 - t,
        eigenvalues=np.stack([t, t**2], axis=1),
        order="mode",
        matrix="cross-correlation",
        source="a test",
    )
    return Trajectory(**fields | changes)


def a_record(name="toy"):
    meta = {
        "config": {"seeds": [0, 1]},
        "data": "toy data",
        "versions": {"stepwise-ssl": "0.1.0"},
        "device": "2 cores",
        "seconds": 12.3,
        "made": "2026-11-22",
    }
    step = np.arange(4)
    runs = (a_run(), a_run(step=step, weights=np.eye(2, 3), order="rank"))
    return Record(name=name, runs=runs, arrays={"gammas": np.arange(3.0)}, meta=meta)


def test_a_trajectory_is_read_only_and_leaves_the_callers_arrays_alone():
    t = np.linspace(0.1, 1.0, 4)
    run = a_run(t=t)
    t[0] = 0.0
    assert run.t[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        run.eigenvalues[0, 0] = 1.0
    with pytest.raises(AttributeError):
        run.t = t


@pytest.mark.parametrize("entries", [np.array([0, 3]), slice(None, None, 3)])
def test_some_entries_of_a_run_are_a_run_without_weights(entries):
    run = a_run(step=np.arange(4), weights=np.eye(2, 3))
    few = run.at(entries)
    np.testing.assert_array_equal(few.step, [0, 3])
    for name in ("t", "loss", "eigenvalues"):
        np.testing.assert_array_equal(getattr(few, name), getattr(run, name)[::3])
    assert (few.order, few.source, few.weights) == ("mode", "a test", None)
    assert a_run().at(entries).step is None


def test_a_record_comes_back_as_it_was(tmp_path):
    before = a_record()
    record.save(before, tmp_path)
    after = record.load("toy", tmp_path)
    assert after.meta == before.meta
    np.testing.assert_array_equal(after.arrays["gammas"], before.arrays["gammas"])
    for a, b in zip(after.runs, before.runs, strict=True):
        np.testing.assert_array_equal(a.eigenvalues, b.eigenvalues)
        assert (a.order, a.matrix, a.source) == (b.order, b.matrix, b.source)
    assert after.runs[0].step is None
    np.testing.assert_array_equal(after.runs[1].weights, np.eye(2, 3))
    assert record.names(tmp_path) == ["toy"]
    assert "toy data; 2 seeds; made 2026-11-22 on 2 cores in 12 s" in after.provenance


def test_saving_leaves_nothing_but_the_two_files(tmp_path):
    record.save(a_record(), tmp_path)
    record.save(a_record(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.json", "toy.npz"]


def test_a_failed_write_leaves_the_old_record_whole(tmp_path, monkeypatch):
    record.save(a_record(), tmp_path)

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(record.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        record.save(a_record(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.json", "toy.npz"]
    record.load("toy", tmp_path)


def flip_a_byte(folder):
    path = folder / "toy.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def forget_the_runs(folder):
    path = folder / "toy.json"
    description = json.loads(path.read_text())
    del description["runs"]
    path.write_text(json.dumps(description))


def forge_the_seeds(folder):
    path = folder / "toy.json"
    description = json.loads(path.read_text())
    description["meta"]["config"]["seeds"] = [0]
    path.write_text(json.dumps(description))


def raise_the_format(folder):
    path = folder / "toy.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"format": 99}))


DAMAGE = {
    "a flipped bit": (flip_a_byte, "'toy' is damaged (it does not match"),
    "a forged setting": (forge_the_seeds, "'toy' is damaged (it does not match"),
    "noise": (
        lambda f: (f / "toy.json").write_bytes(bytes(range(128, 256))),
        "'toy' is damaged (UnicodeDecodeError",
    ),
    "numbers gone": (lambda f: (f / "toy.npz").unlink(), "'toy' is damaged (FileNotF"),
    "half a description": (
        lambda f: (f / "toy.json").write_text('{"format": 1, '),
        "'toy' is damaged (JSONDecodeError",
    ),
    "a description without runs": (forget_the_runs, "'toy' is damaged (it does not"),
    "a later format": (raise_the_format, "has format 99 and this package reads 1"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_record_is_refused_with_its_remedy(case, tmp_path):
    spoil, message = DAMAGE[case]
    record.save(a_record(), tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        record.load("toy", tmp_path)
    assert "pkg.recipes run toy" in str(caught.value) or "package version" in str(
        caught.value
    )


REFUSALS = {
    "an unknown record": (
        lambda: record.load("staircase-cifar"),
        "`name` is 'staircase-cifar', which is not known",
    ),
    "a loss too short": (
        lambda: a_run(loss=np.ones(3)),
        "`t`, `loss` and `eigenvalues` need one common length; got (4, 3, 4)",
    ),
    "a hole in the loss": (
        lambda: a_run(loss=np.array([1.0, np.nan, 0.0, 0.0])),
        "`loss` must be finite; entry 1 is nan",
    ),
    "an unknown order": (
        lambda: a_run(order="modes"),
        "`order` is 'modes', which is not known; did you mean 'mode'?",
    ),
    "steps of another run": (
        lambda: a_run(step=np.arange(3)),
        "`step` must have one entry a time; got 3 for 4 times",
    ),
    "times that stand still": (
        lambda: a_run(t=np.array([0.1, 0.2, 0.2, 0.3])),
        "`t` must increase",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user):
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_misspelt_record_is_met_with_the_nearest_name(tmp_path):
    record.save(a_record("staircase"), tmp_path)
    with pytest.raises(ValueError, match="did you mean 'staircase'"):
        record.load("stairscase", tmp_path)
