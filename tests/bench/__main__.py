"""Run every benchmark, print one table, and write it to book/benchmarks.md.

python -m tests.bench            all of them: `make bench`
python -m tests.bench book       the named ones, printed only
"""

import datetime
import importlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from tests.bench import Row

PAGE = Path(__file__).resolve().parents[2] / "book" / "benchmarks.md"
MODULES = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
HEADER = ("what", "ours", "compared with", "ratio", "goal", "reached")


def main(wanted: list[str]) -> None:
    """Run the modules named in `wanted`, or all of them."""
    names = [name for name in MODULES if not wanted or name[6:] in wanted]
    rows = []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"tests.bench.{name}").rows()
    text = table(rows)
    print(text)
    if not wanted:
        PAGE.write_text(page(text), encoding="utf-8")


def table(rows: list[Row]) -> str:
    """Return the rows as one Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER)]
    for row in rows:
        reached = {True: "yes", False: "**no**", None: ""}[row.reached]
        lines.append((row.what, row.ours, row.peer, row.ratio, row.goal, reached))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(text: str) -> str:
    """Return the page of the book that shows the table and where it was measured."""
    return f"""# Benchmarks

Against what a reader would use instead, timed in the same run on the same machine, so
that the ratio means something elsewhere too. Figures are medians. Remade by
`make bench`; a **no** is a goal that this run did not reach.

{text}

{machine()}
"""


def machine() -> str:
    """Return one sentence: when, on what, and with which versions."""
    packages = ("numpy", "scipy", "torch", "matplotlib", "anywidget", "sphinx")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return (
        f"Measured on {datetime.date.today():%d %B %Y} with {_cores()} cores "
        f"({_processor()}), {platform.system()}, Python {platform.python_version()}, "
        f"{versions}."
    )


def _cores() -> int:
    # Those this process may use, which a container may have cut down.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model n")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
