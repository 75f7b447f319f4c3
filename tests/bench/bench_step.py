"""A training step against its limit, and our loop against lightly's in Lightning.

The limit is a bare forward and backward pass of the same network on views that are
ready. Each measurement has a process of its own, on one thread, and takes turns with
what it is compared with. Seconds are those of the processor, so that a busy machine
disturbs them little; memory is what the process grew by.

The peers bring another torch, so they live in an environment apart, where ours is timed
too: ``python -m tests.bench step`` makes it if it is missing.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pkg import data, distributed
from pkg._run import Training
from pkg.trainer import TrainConfig
from tests.bench import Row, environment

ROOT = Path(__file__).resolve().parents[2]
# Encoder, side of the images, pairs in a batch, d; repeats; the step's goal. What a
# step adds is paid for each image, so that a small batch tells as much as a large one.
CASES: dict[str, tuple[str, dict[str, Any], int, int, int, int, float]] = {
    "the demo network, 16 px, 128 pairs": ("demo", {}, 16, 128, 8, 25, 0.12),
    "ResNet-18, 32 px, 16 pairs": ("resnet18", {"pool": 2}, 32, 16, 16, 7, 0.10),
    "ResNet-50, 96 px, 8 pairs": ("resnet50", {}, 96, 8, 8, 7, 0.10),
}
# As in the recipe `race`.
RACE = "the demo network, 16 px, 64 pairs"
WAYS_TO_DESCEND: dict[str, dict[str, float]] = {
    "plain": {},
    "inverse root": {"precondition": 0.5, "floor": 0.01},
    "inverse": {"precondition": 1.0, "floor": 0.03},
}
# gamma_1 is measured on a part of the usual batch. On fewer than some eight pairs it
# would take more passes than it does: then it is timed for a batch that is larger.
PART, FEW = TrainConfig.pairs / TrainConfig.batch, 8
WAYS = {
    "contiguous, float32": (False, False),
    "channels-last, float32": (True, False),
    "contiguous, bf16": (False, True),
    "channels-last, bf16": (True, True),
}
TRACKING = 0.01
REFRESH = TrainConfig.refresh
PEERS = (
    *("torch==2.15.0", "torchvision==0.29.2", "lightly==1.6.0"),
    *("jaxtyping==0.3.11", "tqdm==4.70.1", "scipy==1.17.1"),
)


def rows(cases: tuple[str, ...] = tuple(CASES), repeats: int | None = None) -> list:
    """Return each network's step, its spectra and its levers; then the peers."""
    table = []
    for case in cases:
        many = repeats or CASES[case][5]
        table += _step(case, many)
        table += _levers(case, min(many, 3))
    return [*table, _preconditioned(repeats or 40), *_peers(repeats or 30)]


def _step(case: str, repeats: int) -> list[Row]:
    told = _measure(case, "in turns", repeats)
    bare, goal = told["bare"], CASES[case][6]
    memory = {what: _measure(case, what, 2)["grown"] for what in ("step", WAY)}
    # Every step bears its part of a look at gamma_1.
    batch = CASES[case][3]
    look = told["look"] / REFRESH * PART * batch / _pairs(batch)
    parts = {
        "views": told["views"] / bare,
        "spectra": told["tracking"] / bare,
        f"γ₁ every {REFRESH} steps": look / bare,
    }
    whole = told["step"] + look
    above = whole / bare - 1
    said = ", ".join(f"{name} {share:.1%}" for name, share in parts.items())
    return [
        Row(
            what=f"a training step of {case}, one thread",
            ours=f"{_ms(whole)}, {memory['step']:.2f} GB",
            peer=f"bare forward and backward, {_ms(bare)}, {memory[WAY]:.2f} GB",
            ratio=f"{above:+.1%}: {said}, and the rest",
            goal=f"+{goal:.0%}",
            reached=above <= goal,
        ),
        Row(
            what=f"spectra of two matrices at every step of {case}",
            ours=_ms(told["tracking"]),
            peer=f"the step, {_ms(told['step'])}",
            ratio=f"{told['tracking'] / told['step']:.2%}",
            goal=f"{TRACKING:.0%}",
            reached=told["tracking"] <= TRACKING * told["step"],
        ),
    ]


def _levers(case: str, repeats: int) -> list[Row]:
    runs = {way: _measure(case, way, repeats) for way in WAYS}
    plain = runs.pop(next(iter(WAYS)))
    return [
        Row(
            what=f"forward and backward of {case}: {way}",
            ours=f"{_ms(run['seconds'])}, {run['grown']:.2f} GB",
            peer=f"{next(iter(WAYS))}, {_ms(plain['seconds'])}, "
            f"{plain['grown']:.2f} GB",
            ratio=f"{plain['seconds'] / run['seconds']:.2f}x",
            goal="",
            reached=None,
        )
        for way, run in runs.items()
    ]


def _preconditioned(repeats: int) -> Row:
    told = _measure(RACE, "preconditioned", repeats)
    plain = told.pop("plain")
    changed = ", ".join(f"{way} {_ms(seconds)}" for way, seconds in told.items())
    more = ", ".join(f"{seconds / plain - 1:+.1%}" for seconds in told.values())
    return Row(
        what=f"a preconditioned step of {RACE}, one thread",
        ours=changed,
        peer=f"a plain step, {_ms(plain)}",
        ratio=more,
        goal="",
        reached=None,
    )


def _peers(repeats: int) -> list[Row]:
    make = "step" in sys.argv[1:]
    python = environment("stepwise-ssl-lightly", PEERS, make=make)
    if python is None:
        print("   left out: `python -m tests.bench step` makes it", file=sys.stderr)
        return []
    run = _python(str(python), "tests.bench.peers_step", str(repeats))
    return [
        Row(
            what="a step of the demo network, 32 px, 128 pairs, Barlow Twins as "
            f"published, views as SimCLR's for CIFAR-10: {name}",
            ours=f"{_ms(ours)}, with spectra",
            peer=f"lightly with Lightning's Trainer, {_ms(theirs)}",
            ratio=f"{theirs / ours:.2f}x",
            goal="1x",
            reached=theirs >= ours,
        )
        for name, (ours, theirs) in run.items()
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _measure(case: str, what: str, repeats: int) -> dict[str, float]:
    return _python(sys.executable, "tests.bench.bench_step", case, what, str(repeats))


def _python(python: str, *told: str) -> dict[str, Any]:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [python, "-m", *told]
    run = subprocess.run(
        command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)


# In the process of one measurement -------------------------------------------------

WAY = "channels-last, float32"  # that of the trainer


def main(case: str, what: str, repeats: int) -> None:
    """Measure one thing; print its figures as JSON."""
    torch.set_num_threads(1)
    if what == "preconditioned":
        print(json.dumps(_descend(repeats)))
        return
    run = _training(case)
    if what == "in turns":
        print(json.dumps(_in_turns(run, repeats)))
        return
    if what == "step":
        task = run.advance
    else:
        task = _bare(run, *WAYS[what])
    run.model(_views(run)[:2]).sum().backward()  # libraries load late
    run.optimizer.zero_grad(set_to_none=True)
    before = _peak()
    seconds = [_seconds(task) for _ in range(repeats + 1)][1:]
    figures = {"seconds": statistics.median(seconds), "grown": _peak() - before}
    print(json.dumps(figures))


def _in_turns(run: Training, repeats: int) -> dict[str, float]:
    """Time the step and the bare passes alternately, then what else the step does."""
    tasks = {"bare": _bare(run, *WAYS[WAY]), "step": run.advance}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            times[name].append(_seconds(task))
    figures = {name: statistics.median(values[1:]) for name, values in times.items()}
    draws = [run.batches.draw() for _ in range(5)]
    views = [_seconds(lambda d=d: run.batches.make(d)) for d in draws]
    # The first look begins anywhere, the later ones where the last one ended.
    looks = [_seconds(lambda d=d: run._measure(d)) for d in draws]
    figures |= {"views": statistics.median(views), "look": statistics.median(looks[1:])}
    return {**figures, "tracking": _tracking(run)}


def _descend(repeats: int) -> dict[str, float]:
    """Time a step of each way to descend, in turns."""
    shared = TrainConfig(method="barlow_twins", d=8, batch=64, lr=1e-6)
    images = data.load("photos", n=512, size=16)
    place = distributed.Session(0, 1, torch.device("cpu"))
    runs = {
        way: Training(replace(shared, **changes), images.x, None, place)
        for way, changes in WAYS_TO_DESCEND.items()
    }
    times: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(repeats + 1):
        for way, run in runs.items():
            times[way].append(_seconds(run.advance))
    return {way: statistics.median(values[1:]) for way, values in times.items()}


def _tracking(run: Training, many: int = 100) -> float:
    """Time the spectra of one step, fetched together as the loop does."""
    z, z_prime = run.embed(_views(run)).detach().chunk(2)
    run.tracker.fetch()

    def track() -> None:
        for step in range(many):
            run.tracker.push(step, 0.0, z.sum(), z, z_prime)
        run.tracker.fetch()

    track()
    return statistics.median(_seconds(track) for _ in range(5)) / many


def _bare(run: Training, channels_last: bool, half: bool) -> Callable[[], None]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = run.model.to(memory_format=layout)
    x = _views(run).contiguous(memory_format=layout)

    def task() -> None:
        run.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            z = model(x)
        z.sum().backward()

    return task


def _views(run: Training) -> torch.Tensor:
    return torch.cat(run.batches.make(run.batches.draw()))


def _training(case: str) -> Training:
    encoder, options, side, batch, d, _, _ = CASES[case]
    config = TrainConfig(
        method="barlow_twins",
        encoder=encoder,
        options=options,
        d=d,
        batch=batch,
        pairs=_pairs(batch),
        lr=1e-6,
    )
    images = data.load("photos", n=8 * batch, size=side)
    place = distributed.Session(0, 1, torch.device("cpu"))
    return Training(config, images.x, None, place)


def _pairs(batch: int) -> int:
    return max(round(PART * batch), FEW)


def _seconds(task: Callable[[], Any]) -> float:
    begun = time.process_time()
    task()
    return time.process_time() - begun


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
