"""Checkpoints: what comes back, what damage costs, and what is refused."""

import errno
import io
import json
import os
import pickle
import re
import resource
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pkg import checkpoint

STATE = {"step": 3, "weights": torch.arange(300.0)}


def described(width=2, **config):
    return checkpoint.describe({"d": 8, "steps": 600} | config, nn.Linear(3, width))


ABOUT = described()


def put(folder, *steps, **header):
    """Save one checkpoint after another; then rewrite what the last header says."""
    for step in steps:
        path = checkpoint.save(folder, STATE | {"step": step}, step=step, about=ABOUT)
    if header:
        line, payload = path.read_bytes().split(b"\n", 1)
        forge(path, json.loads(line) | header, payload)
    return path


def forge(path, header, payload):
    """Write a slot whose checksum holds, whatever it says."""
    header |= {"bytes": len(payload)}
    header["sha256"] = checkpoint._checksum(payload, header)
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)


def cut(path, keep=-5):
    path.write_bytes(path.read_bytes()[:keep])


def flip(path, position=-100):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_state_comes_back_to_the_bit(tmp_path):
    """Every kind that a run holds: dtypes, memory order, generators, scaler."""
    generator = torch.Generator().manual_seed(5)
    torch.rand(3, generator=generator)
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    state = {
        "step": 2**70,
        "numbers": [True, None, -0.0, float("inf"), ("text", 1e-300)],
        "half": torch.tensor([1.0, float("nan")], dtype=torch.bfloat16),
        "image": image,
        "model": nn.BatchNorm2d(3).state_dict(),
        "ordered": OrderedDict(b=1, a=2),
        "generator": generator.get_state(),
        "scaler": scaler.state_dict(),
    }
    checkpoint.save(tmp_path, state, step=7, about=ABOUT)
    found = checkpoint.load(tmp_path, about=ABOUT)
    assert pickle.dumps(found["numbers"]) == pickle.dumps(state["numbers"])
    assert found["step"] == 2**70 and found["scaler"] == state["scaler"]
    assert list(found["ordered"]) == ["b", "a"]
    assert found["image"].stride() == image.stride()
    assert torch.equal(found["image"], image)
    assert found["half"].view(torch.int16).tolist() == (
        state["half"].view(torch.int16).tolist()
    )
    for name, value in state["model"].items():
        assert torch.equal(found["model"][name], value)
    other = torch.Generator()
    other.set_state(found["generator"])
    assert torch.equal(
        torch.rand(9, generator=other), torch.rand(9, generator=generator)
    )


def test_the_newer_of_two_slots_is_never_touched(tmp_path):
    """Each save replaces the older file, and the newer keeps every byte."""
    assert checkpoint.load(tmp_path / "none yet") is None
    before = {}
    for step in range(6):
        path = put(tmp_path, step)
        after = contents(tmp_path)
        kept = {name: data for name, data in before.items() if name != path.name}
        assert kept.items() <= after.items() and len(after) == min(step + 1, 2)
        assert checkpoint.load(tmp_path)["step"] == step
        assert json.loads(after[path.name].split(b"\n")[0])["step"] == step
        before = after


def test_a_new_run_in_an_old_folder_wins_over_later_steps(tmp_path):
    """Newest is what was written last, not what had gone furthest."""
    put(tmp_path, 500, 600, 2)
    assert checkpoint.load(tmp_path)["step"] == 2


def test_a_file_cut_off_anywhere_costs_one_generation(tmp_path):
    """A kill leaves the first part of a file, of any length from nothing on."""
    path = put(tmp_path, 1, 2)
    whole, header = path.read_bytes(), path.read_bytes().index(b"\n") + 1
    for keep in (0, 1, header - 1, header, header + 1, 999, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.warns(UserWarning, match="going on from the checkpoint before it"):
            assert checkpoint.load(tmp_path)["step"] == 1
    # The next one is written over the broken slot, not over the whole one.
    assert put(tmp_path, 3) == path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoint.load(tmp_path)["step"] == 3


def test_any_flipped_bit_is_seen(tmp_path, rng):
    """In the header as in the payload, even where it stays valid JSON."""
    path = put(tmp_path, 1, 2)
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    places = [*rng.integers(header, size=60), *rng.integers(len(whole), size=30)]
    for place in [*places, whole.index(b'"generation": 2') + 14]:
        path.write_bytes(whole)
        flip(path, place)
        with pytest.warns(UserWarning, match=re.escape(str(path))):
            assert checkpoint.load(tmp_path)["step"] == 1


def test_a_kill_during_the_very_first_checkpoint_begins_the_run_again(tmp_path):
    path = put(tmp_path, 1)
    for keep in (0, 40, 1500):
        cut(path, keep)
        with pytest.warns(UserWarning, match="the run begins again"):
            assert checkpoint.load(tmp_path) is None
    assert put(tmp_path, 2) == path  # and the broken file is the one replaced


def test_what_may_differ_is_named_and_versions_only_warn(tmp_path):
    put(tmp_path, 1)
    longer = described(steps=900)
    assert checkpoint.load(tmp_path, about=longer, may_differ=("steps",))["step"] == 1
    longer["versions"]["torch"] = "1.0"
    with pytest.warns(UserWarning, match=r"with torch .* and is read with \"1.0\""):
        checkpoint.load(tmp_path, about=longer, may_differ=("steps",))


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_zip(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [as_zip, pickle.dumps], ids=["zip", "bare pickle"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path, pack):
    """Its checksum holds, so only weights_only stands between it and the reader."""
    folder, victim = tmp_path / "run", tmp_path / "ran"
    payload = pack({"step": 3, "weights": Evil(victim)})
    path = put(folder, 1)
    forge(path, json.loads(path.read_bytes().split(b"\n")[0]), payload)
    with pytest.raises(ValueError, match="may be code; none of it was run"):
        checkpoint.load(folder, about=ABOUT)
    assert not victim.exists()
    # The trap itself works.
    if pack is pickle.dumps:
        pickle.loads(payload)
    else:
        torch.load(io.BytesIO(payload), weights_only=False)
    assert victim.exists()


@pytest.fixture
def small_files():
    """A file stops at 1,000 bytes, as on a disk that fills up half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("steps", [(), (1,), (1, 2), (1, 2, 3)])
def test_a_disk_that_fills_up_half_way_leaves_the_one_before(
    tmp_path, steps, small_files, request
):
    folder = tmp_path / "run"
    if steps:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
        put(folder, *steps)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    said = f"of step {steps[-1]}, is whole" if steps else "there is none before it"
    with pytest.raises(RuntimeError, match=said):
        put(folder, 9)
    assert len(contents(folder)) == min(len(steps), 1)  # nothing half-written
    found = checkpoint.load(folder)
    assert found is None if not steps else found["step"] == steps[-1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
def test_a_full_disk_leaves_the_one_before(tmp_path):
    """The kernel's own ENOSPC: the slot to be written is a link to /dev/full."""
    path = put(tmp_path, 1)
    (tmp_path / "checkpoint.1").symlink_to("/dev/full")
    with (
        pytest.raises(RuntimeError, match=r"No space left on device\); the one before"),
    ):
        put(tmp_path, 2)
    assert set(contents(tmp_path)) == {path.name}
    assert checkpoint.load(tmp_path)["step"] == 1


def test_a_flush_that_fails_counts_as_not_written(tmp_path, monkeypatch):
    """Some disks tell only at fsync that they are full."""
    put(tmp_path, 1)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="step 1"):
        patch.setattr(os, "fsync", full)
        put(tmp_path, 2)
    assert checkpoint.load(tmp_path)["step"] == 1


def test_a_folder_that_is_read_only_is_refused_by_name(tmp_path):
    folder = tmp_path / "run"
    put(folder, 1)
    if os.geteuid() == 0:  # root writes everywhere but there
        folder = Path("/sys/kernel")
    else:
        folder.chmod(0o500)
    with pytest.raises(RuntimeError, match=r"written \(Permission denied\)"):
        put(folder, 2)


def test_an_interrupt_while_writing_leaves_nothing_half_written(tmp_path, monkeypatch):
    """Ctrl-C passes through as itself."""
    put(tmp_path, 1)

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", interrupted)
        put(tmp_path, 2)
    assert len(contents(tmp_path)) == 1
    assert checkpoint.load(tmp_path)["step"] == 1


def spoil(folder, *spoilers, steps=(1, 2)):
    """Save, then damage one slot after the other."""
    put(folder, *steps)
    for slot, damage in zip(sorted(folder.iterdir()), spoilers, strict=True):
        damage(slot)


def load_spoiled(folder, *spoilers, steps=(1, 2)):
    spoil(folder, *spoilers, steps=steps)
    checkpoint.load(folder)


def as_file(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("notes")
    return folder


REFUSALS = {
    "another configuration": (
        lambda f: put(f, 1) and checkpoint.load(f, about=described(d=4, start=1e-3)),
        ValueError,
        "is of another configuration: d was 8, now 4; start was absent, now 0.001. "
        "Pass the configuration",
    ),
    "a configuration with less in it": (
        lambda f: put(f, 1) and checkpoint.load(
            f, about=checkpoint.describe({"d": 8}, nn.Linear(3, 2))),
        ValueError,
        "steps was 600, now absent",
    ),
    "another network": (
        lambda f: put(f, 1) and checkpoint.load(f, about=described(width=5)),
        ValueError,
        "is of another network: 'weight' was \"float32 (2, 3)\", now \"float32 "
        '(5, 3)", and 2 differ in all',
    ),
    "a network in another precision": (
        lambda f: put(f, 1) and checkpoint.load(
            f, about=checkpoint.describe({"d": 8, "steps": 600},
                                         nn.Linear(3, 2).double())),
        ValueError,
        "'weight' was \"float32 (2, 3)\", now \"float64 (2, 3)\"",
    ),
    "another format": (
        lambda f: put(f, 1, 2, format=99) and checkpoint.load(f, about=ABOUT),
        ValueError,
        "has format 99 and this package reads 1",
    ),
    "two files cut off": (
        lambda f: load_spoiled(f, cut, cut),
        RuntimeError,
        "checkpoint.1 holds",
    ),
    "one cut off, one flipped": (
        lambda f: load_spoiled(f, flip, cut),
        RuntimeError,
        "checkpoint.0 does not match its checksum",
    ),
    "a single file, flipped": (
        lambda f: load_spoiled(f, flip, steps=(1,)),
        RuntimeError,
        "is whole: ",
    ),
    "a single file, longer than it was": (
        lambda f: load_spoiled(f, lambda p: p.write_bytes(p.read_bytes() + b"0"),
                               steps=(1,)),
        RuntimeError,
        "bytes of state. Delete them and start again",
    ),
    "two files of something else": (
        lambda f: load_spoiled(f, *2 * [lambda p: p.write_bytes(b"{}\n" * 5000)]),
        RuntimeError,
        "has no readable header",
    ),
    "a header that is no header": (
        lambda f: load_spoiled(f, lambda p: p.write_bytes(b"[" * 9000 + b"\n"),
                               steps=(1,)),
        RuntimeError,
        "has no readable header",
    ),
    "a folder in place of a slot": (
        lambda f: (f / "checkpoint.0").mkdir(parents=True) or checkpoint.load(f),
        RuntimeError,
        "cannot be read (Is a directory)",
    ),
    "a file in place of the folder, to write": (
        lambda f: put(as_file(f), 1),
        ValueError,
        "which is a file; a checkpoint needs a folder of its own",
    ),
    "a file in place of the folder, to read": (
        lambda f: checkpoint.load(as_file(f)),
        ValueError,
        "which is a file; a checkpoint needs a folder of its own",
    ),
    "a file on the way to the folder": (
        lambda f: put(as_file(f) / "below", 1),
        RuntimeError,
        "cannot be written (Not a directory); there is none before it",
    ),
    "an array, which would not come back": (
        lambda f: checkpoint.save(f, {"a": [1, np.ones(2)]}, step=1, about=ABOUT),
        ValueError,
        "`state['a'][1]` is a ndarray; a checkpoint holds tensors, numbers",
    ),
    "a number of NumPy's": (
        lambda f: checkpoint.save(f, {"a": {"b": np.float64(1)}}, step=1, about=ABOUT),
        ValueError,
        "`state['a']['b']` is a float64",
    ),
    "a function": (
        lambda f: checkpoint.save(f, {"a": print}, step=1, about=ABOUT),
        ValueError,
        "`state['a']` is a builtin_function_or_method",
    ),
    "a configuration that is no text": (
        lambda f: checkpoint.save(f, STATE, step=1, about={"device": torch.ones(1)}),
        ValueError,
        "`about` must hold what JSON can write",
    ),
    "a step before the first": (
        lambda f: checkpoint.save(f, STATE, step=-1, about=ABOUT),
        ValueError,
        "`step` must be at least 0; got -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user, tmp_path):
    call, kind, message = REFUSALS[case]
    with pytest.raises(kind, match=re.escape(message)):
        call(tmp_path / "run")
