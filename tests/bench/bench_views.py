"""Views a second against torchvision and kornia at equal work, and a bare look-up.

The peers need 5.5 GB, and torchvision fails beside the torch that this book pins: so
they live, with a torch of their own, in an environment apart, and ours is timed there
too. ``python -m tests.bench views`` makes it if it is missing; `make bench` uses it
where it stands, and otherwise leaves these rows out.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import Row, environment

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("torch==2.14.1", "torchvision==0.29.1", "kornia==0.9.0", "jaxtyping==0.3.11")
# Size and batch: as many bytes in either, about what a training step asks for.
TASKS, REPEATS = ("32:512", "96:64"), 9


def rows(tasks: tuple[str, ...] = TASKS, repeats: int = REPEATS) -> list[Row]:
    """Compare with each peer at each size; one row says that all do the same."""
    make = "views" in sys.argv[1:]
    python = environment("stepwise-ssl-peers", PEERS, make=make)
    if python is None:
        print("   left out: `python -m tests.bench views` makes it", file=sys.stderr)
        return []
    measured = _measure(python, tasks, repeats)
    table = [row for task in tasks for row in _compare(task, measured["seconds"][task])]
    worst = max(measured["parity"], key=measured["parity"].get)
    difference = measured["parity"][worst]
    same = Row(
        what="the same colours as torchvision, factors given",
        ours=f"largest difference {difference:.0e}, in {worst}",
        peer="torchvision on float tensors",
        ratio="",
        goal="1e-4, below half a level of 256",
        reached=difference < 1e-4,
    )
    return [*table, same]


def _compare(task: str, seconds: dict[str, float]) -> list[Row]:
    size, n = task.split(":")
    rates = {name: 1 / value for name, value in seconds.items()}
    ours = rates.pop("ours")
    limit = rates.pop("one bare grid_sample")
    what = f"SimCLR views of {size} px, {n} at a time, one thread"
    table = [
        Row(
            what=what,
            ours=f"{ours:,.0f} views/s",
            peer=f"{name}: {rate:,.0f} views/s",
            ratio=f"{ours / rate:.1f}x",
            goal="1x",
            reached=ours >= rate,
        )
        for name, rate in rates.items()
    ]
    bare = Row(
        what="the same against its limit",
        ours=f"{1e6 / ours:,.0f} µs a view",
        peer=f"one bare grid_sample, {1e6 / limit:,.0f} µs",
        ratio=f"{limit / ours:.1f}x the limit",
        goal="",
        reached=None,
    )
    return [*table, bare]


def _measure(python: Path, tasks: tuple[str, ...], repeats: int) -> dict[str, Any]:
    command = [str(python), "-m", "tests.bench.peers_views", *tasks, str(repeats)]
    alone = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout)
