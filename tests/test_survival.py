"""Kills: a run that is killed at any moment goes on to the very same bits.

Run as a program, this file is the harness: it loads torch once, forks runs and agents
of torchrun, kills them, starts them again, and writes down what came of it. With
``--fresh`` every run has an interpreter of its own and torchrun is the command:

    python tests/test_survival.py kill --fresh --single 10 --pairs 10 FOLDER
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pkg import checkpoint, trainer
from pkg._run import Training

EVERY = 2  # steps between two checkpoints
IMAGES = np.random.default_rng(0).integers(0, 256, (96, 12, 12, 3), dtype=np.uint8)
CONFIG = trainer.TrainConfig(
    method="barlow_twins",
    d=4,
    batch=16,
    pairs=4,
    refresh=40,
    steps=16,
    rate=0.2,
    probe=3,
    snapshots=4,
)


def network():
    """Half a thousand weights, normalised by group, from a start that soon moves."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(200, 4, bias=False))


# --- what a run does ------------------------------------------------------------------


def train(folder, death=()):
    """Train, leaving the step in a file; on some rank, die when it is time to."""
    torch.set_num_threads(1)
    rank, folder = int(os.environ.get("RANK", "0")), Path(folder)
    advance = Training.advance
    with open(folder / f"step.{rank}", "w", buffering=1) as progress:

        def told(training):
            progress.write(f"{training.step}\n")
            if death and death[:2] == ["at step", rank] and training.step == death[2]:
                die()
            advance(training)

        Training.advance = told
        if death and death[0] == "in write" and rank == 0:
            tear(*death[1:])
        try:
            run = trainer.fit(
                CONFIG,
                IMAGES,
                model=network(),
                checkpoint=folder / "kept",
                save_every=EVERY,
                progress=False,
                device="cpu",
            )
        except BaseException:
            traceback.print_exc()  # a forked rank's own words reach no one else
            raise
    if rank == 0:
        torch.save(summary(run, folder), folder / "end")


def summary(run, folder):
    """All that a run leaves: state on disk, result in memory, lines of metrics."""
    history = {"rates": run.rates, "z": run.snapshots.z, "z_t": run.snapshots.t}
    for name in ("t", "step", "loss", "eigenvalues"):
        history[f"covariance.{name}"] = getattr(run.covariance, name)
        history[f"cross.{name}"] = getattr(run.cross, name)
    return {
        "checkpoint": checkpoint.load(folder / "kept"),
        "model": dict(run.model.state_dict()),
        "history": {k: torch.tensor(v) for k, v in history.items()},
        "metrics": (folder / "kept" / "metrics.jsonl").read_text(),
    }


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def tear(nth, share):
    """Be killed by the kernel inside the nth checkpoint, a share of it written."""
    real, seen = Path.open, []

    def opened(self, mode="r", *rest, **keywords):
        file = real(self, mode, *rest, **keywords)
        if mode == "wb" and self.name in checkpoint.SLOTS:
            seen.append(self)
            if len(seen) == nth:
                return Torn(file, share)
        return file

    Path.open = opened


class Torn:
    """A file of which header and a share of the rest reach the disk, and no more."""

    def __init__(self, file, share):
        self.file, self.share = file, share

    def __enter__(self):
        return self

    def __exit__(self, *_):
        raise AssertionError("it should be dead by now")

    def write(self, data):
        if isinstance(data, bytes) and self.share > 0:  # the header
            self.file.write(data)
            return
        self.file.write(data[: int(self.share * len(data))])
        self.file.flush()
        die()


# --- who starts, kills and compares ---------------------------------------------------


def agent(world, folder, death):
    """Be one process, or what the command `torchrun` is, for functions."""
    log = os.open(Path(folder) / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 2)
    if world == 1:
        train(folder, death)
        return
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=world,
        run_id=Path(folder).name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    os.environ["OMP_NUM_THREADS"] = "1"
    elastic_launch(launch, train)(folder, death)


class Harness:
    """Starts runs in folders of their own below one folder."""

    def __init__(self, folder, fresh):
        self.folder, self.fresh = Path(folder), fresh
        self.whole, self.seconds = {}, {}  # by world; a step's
        self.fork = multiprocessing.get_context("fork")

    def start(self, world, folder, death=()):
        """Start a run; return its process id, and how to wait for its end."""
        folder.mkdir(exist_ok=True)
        if not self.fresh:
            process = self.fork.Process(target=agent, args=(world, folder, death))
            process.start()
            return process.pid, process.join
        command = [sys.executable]
        if world > 1:
            command += ["-m", "torch.distributed.run", "--standalone"]
            command += [f"--nproc-per-node={world}"]
        command += [__file__, "train", str(folder), json.dumps(list(death))]
        with open(folder / "log", "a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        return process.pid, process.wait

    def finish(self, world, folder):
        """Run to the end; return what it left, or raise what it said."""
        _, wait = self.start(world, folder)
        wait()
        return self.end(folder)

    def end(self, folder):
        if not (folder / "end").exists():
            raise RuntimeError((folder / "log").read_text()[-3000:])
        return torch.load(folder / "end", weights_only=False)

    def wait_for(self, step, pid, folder):
        """Wait until a run begins a step, and say when."""
        steps, deadline = folder / "step.0", time.perf_counter() + 300
        while not (steps.exists() and f"\n{step:.0f}\n" in "\n" + steps.read_text()):
            if time.perf_counter() > deadline:
                kill_all(pid)
                raise RuntimeError((folder / "log").read_text()[-3000:])
            time.sleep(0.001)
        return time.perf_counter()

    def reference(self, world):
        """Return what the run leaves that no one kills."""
        if world not in self.whole:
            folder = self.folder / f"whole {world}"
            pid, wait = self.start(world, folder)
            begun = self.wait_for(
                1, pid, folder
            )  # the first one loads a library or two
            ended = self.wait_for(CONFIG.steps, pid, folder)
            self.seconds[world] = (ended - begun) / (CONFIG.steps - 1)
            wait()
            self.whole[world] = self.end(folder)
        return self.whole[world]

    def kill(self, world, moment):
        """Kill every process of a run when a share of it is done; look, and resume."""
        self.reference(world)
        share = moment
        while True:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            pid, wait = self.start(world, folder)
            step, part = divmod(share * CONFIG.steps, 1)
            self.wait_for(step, pid, folder)
            time.sleep(part * self.seconds[world])
            kill_all(pid)
            wait()
            if not (folder / "end").exists():
                break
            share *= 0.9  # it was faster than the first one: it had ended
        return self.resume(world, folder, f"{moment:.0%} of the way")

    def tear(self, world, nth, share):
        """Kill rank 0 while it writes a checkpoint; look, and resume."""
        told = f"in checkpoint {nth}, {share:.0%} written"
        return self._die(world, ["in write", nth, share], told)

    def lose(self, world, rank, step):
        """Kill one rank before a step; look, and resume."""
        return self._die(world, ["at step", rank, step], f"rank {rank} at step {step}")

    def _die(self, world, death, told):
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        _, wait = self.start(world, folder, death)
        wait()
        assert not (folder / "end").exists()
        return self.resume(world, folder, told)

    def change_ranks(self, world, after, step):
        """Kill a run before a step, and go on with another number of ranks."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.start(world, folder, ["at step", 0, step])[1]()
        told = f"at step {step}, then {after} ranks"
        return self.resume(world, folder, told, after)

    def truncate(self, step):
        """Kill a run before a step, and cut off the newest of its checkpoints."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.start(1, folder, ["at step", 0, step])[1]()
        slots = [folder / "kept" / name for name in checkpoint.SLOTS]
        newest = max(slots, key=lambda slot: slot.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:2000])
        return self.resume(1, folder, f"at step {step}, newest checkpoint cut off")

    def resume(self, world, folder, told, after=None):
        """Say where a dead run stood; go on with `after` ranks; compare the ends."""
        row = {"ranks": world, "killed": told, "folder": str(folder)}
        row["step"], row["kept"], row["warned"] = self.stands(folder)
        log = folder / "log"
        row["said"] = log.read_text()
        log.unlink()
        end = self.finish(after or world, folder)
        row["said after"] = log.read_text()
        whole = self.reference(world)
        row["differ"] = differing(end, whole)
        row["apart"] = apart(end["model"], whole["model"])
        losses = (x["history"]["covariance.loss"] for x in (end, whole))
        row["losses apart"] = float(torch.sub(*losses).abs().max())
        row["metrics"] = [json.loads(s)["step"] for s in end["metrics"].splitlines()]
        return row

    def stands(self, folder):
        """Return the last step begun, the step of the checkpoint, and its warning."""
        steps = folder / "step.0"
        begun = steps.read_text().split() if steps.exists() else []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state = checkpoint.load(folder / "kept")
        step = int(begun[-1]) if begun else -1
        return step, state["step"] if state else -1, [str(w.message) for w in caught]


def kill_all(pid):
    """Kill a process, then all that it has started; torchrun's ranks outlive it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in children:
        kill_all(int(child))


def leaves(value, name=""):
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from leaves(entry, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from leaves(entry, f"{name}/{i}")
    else:
        yield name, value


def differing(a, b):
    """Names of all that is not the same to the bit."""

    def bits(value):
        if isinstance(value, torch.Tensor):
            return value.dtype, value.shape, value.numpy().tobytes()
        return repr(value)

    a, b = ({k: bits(v) for k, v in leaves(x)} for x in (a, b))
    return sorted(k for k in {**a, **b} if a.get(k) != b.get(k))


def apart(a, b):
    """Distance of all weights of two networks, relative to their length."""
    a, b = (torch.cat([w.flatten() for w in x.values()]).double() for x in (a, b))
    return float((a - b).norm() / b.norm())


def moments(n, rng):
    """Draw n moments of a run, one in each nth of it."""
    return (np.arange(n) + rng.random(n)) / n


def plan(harness, single, pairs, seed):
    """Kill `single` runs of one process and `pairs` of two: a third while writing."""
    rng = np.random.default_rng(seed)
    for world, n in ((1, single), (2, pairs)):
        writes = n // 3
        for moment in moments(n - writes, rng):
            yield harness.kill(world, moment)
        for part in moments(writes, rng):
            nth = 2 + int(part * (CONFIG.steps / EVERY - 1))
            yield harness.tear(world, nth, float(rng.random()))


def mishaps(harness, world):
    """All else that can befall a run of `world` ranks."""
    return {
        "a rank dies": harness.lose(world, 1, 7),
        "fewer ranks": harness.change_ranks(world, 1, 7),
        "more ranks": harness.change_ranks(1, world, 7),
        "cut off": harness.truncate(11),
    }


def preload():
    """Load what runs load when they need it: once here, and not once a run."""
    for name in (
        "torch._dynamo",
        "torch._functorch",
        "torch.distributed.elastic.agent.server.local_elastic_agent",
        "tqdm.auto",
    ):
        importlib.import_module(name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("train", "kill"))
    parser.add_argument("folder")
    parser.add_argument("death", nargs="?", default="[]")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--single", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--mishaps", type=int, default=0, help="with so many ranks")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    if told.what == "train":
        train(told.folder, json.loads(told.death))
        return
    preload()
    harness, kills = Harness(told.folder, told.fresh), []
    for row in plan(harness, told.single, told.pairs, told.seed):
        kills.append(row)
        bits = "the same" if not row["differ"] else "NOT the same"
        cells = (len(kills), row["ranks"], row["killed"], row["step"], row["kept"])
        print("|", *(f"{cell} |" for cell in (*cells, bits)), flush=True)
    found = {
        "kills": kills,
        "mishaps": mishaps(harness, told.mishaps) if told.mishaps else {},
        "moved": apart(harness.reference(1)["model"], network().state_dict()),
    }
    Path(told.folder, "rows.json").write_text(json.dumps(found))


# --- what is tested -------------------------------------------------------------------


def harness(folder, *options, patience):
    command = [sys.executable, __file__, "kill", str(folder), *options]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=patience
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return json.loads((folder / "rows.json").read_text())


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Six kills, three of them of two ranks, and what else can befall a run."""
    folder = tmp_path_factory.mktemp("six")
    return harness(folder, "--mishaps=2", patience=900)


def faults(row):
    """What a resumed run got wrong; nothing, it is to be hoped."""
    found = [f"{name} is not the same" for name in row["differ"]]
    # A kill costs the steps since the last checkpoint, and the one in flight.
    if not row["step"] - EVERY < max(row["kept"], 0) <= row["step"] + 1:
        found.append(f"killed in step {row['step']}, resumed from {row['kept']}")
    if row["metrics"] != list(range(CONFIG.steps + 1)):
        found.append(f"steps in metrics.jsonl: {row['metrics']}")
    return found


@pytest.mark.parametrize("i", range(6))
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(six, i):
    """Weights, spectra, rates, snapshots, generators and metrics, all compared."""
    assert len(six["kills"]) == 6
    assert faults(six["kills"][i]) == []


def test_the_run_that_is_killed_learns_something(six):
    """Else two runs would agree too easily."""
    assert six["moved"] > 0.01


def test_a_checkpoint_cut_off_by_the_kill_is_told(six):
    """In each world one kill strikes inside a write; the one before it is taken."""
    torn = [row for row in six["kills"] if "in checkpoint" in row["killed"]]
    assert [row["ranks"] for row in torn] == [1, 2]
    for row in torn:
        assert "going on from the checkpoint before it" in row["warned"][0]
        assert row["warned"][0] in row["said after"]


def test_a_rank_that_dies_is_named_and_costs_nothing(six):
    """By torchrun, and by the rank that is left, which says what to do."""
    row = six["mishaps"]["a rank dies"]
    assert faults(row) == [] and row["warned"] == []
    assert re.search(r"rank +: 1 \(local_rank: 1\)", row["said"])
    assert "rank 1 does not answer rank 0 any more" in row["said"]
    assert "start the same command again" in row["said"]


@pytest.mark.parametrize("case", ["fewer ranks", "more ranks"])
def test_a_run_goes_on_with_another_number_of_ranks(six, case):
    """In float32, where a batch in two halves rounds otherwise than a whole one."""
    row = six["mishaps"][case]
    assert row["metrics"] == list(range(CONFIG.steps + 1))
    assert 0 < row["apart"] < 1e-6 and row["losses apart"] < 1e-5


def test_a_truncated_newest_checkpoint_costs_one_generation(six):
    row = six["mishaps"]["cut off"]
    assert row["differ"] == [] and row["kept"] == 8 and row["step"] == 11
    assert "going on from the checkpoint before it" in row["said after"]


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    """As they are recorded: interpreters and torchrun as a reader starts them."""
    options = ("--fresh", "--single=10", "--pairs=10", "--seed=1")
    rows = harness(tmp_path, *options, patience=3000)["kills"]
    assert len(rows) == 20 and [faults(row) for row in rows] == 20 * [[]]


@pytest.mark.slow
def test_four_ranks_survive_too(tmp_path):
    """Sums over more than two ranks depend on their order, which must come back."""
    options = ("--single=0", "--pairs=0", "--mishaps=4")
    found = harness(tmp_path, *options, patience=1000)["mishaps"]
    assert faults(found["a rank dies"]) == []
    apart = [found[case]["apart"] for case in ("fewer ranks", "more ranks")]
    assert 0 < min(apart) and max(apart) < 1e-6


def fit(folder, **changes):
    return trainer.fit(
        dataclasses.replace(CONFIG, **changes),
        IMAGES,
        model=network(),
        checkpoint=folder,
        save_every=EVERY,
        progress=False,
        device="cpu",
    )


def test_a_run_that_diverges_keeps_nothing_of_it(tmp_path):
    """The checkpoint from before stays, and the error is that of a lost run."""
    with pytest.raises(RuntimeError, match="the run diverged: "):
        fit(tmp_path, lr=1e9)
    state = checkpoint.load(tmp_path)
    assert state is None or all(torch.isfinite(state["tracker"]["loss"]))


def test_a_folder_where_nothing_can_be_written_is_refused_before_the_first_step(
    tmp_path,
):
    (tmp_path / "notes").write_text("")
    for folder in (tmp_path / "notes" / "run", Path("/proc/none")):
        with pytest.raises(RuntimeError, match=r"metrics.jsonl cannot be written \("):
            fit(folder)


if __name__ == "__main__":
    main()
