"""What made each record: named configurations, and the command that runs them.

::

    python -m pkg.recipes list
    python -m pkg.recipes run NAME [--root FOLDER] [--out FOLDER] [--dry-run]
    python -m pkg.recipes check

A record is one call of one function with one configuration, both kept here.
"""

import argparse
import ast
import datetime
import hashlib
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pkg import _check, data, dynamics, flow, record, spectra, views
from pkg.record import Record, Trajectory


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recorded experiment.

    Attributes
    ----------
    name : str
        Name of the record.
    summary : str
        What it shows, in one line.
    config : mapping
        Everything that decides the result: ``data``, ``views`` (a recipe of
        `pkg.views`), ``n`` pairs, ``size`` in pixels, ``d``, ``scale`` (standard
        deviation of the entries of W(0)), ``rate`` (learning rate times the largest
        gamma), ``steps`` and ``seeds``. Each seed draws its own images, views and W(0).
    needs_root : bool
        Whether the data lie in a folder that the user names.
    """

    name: str
    summary: str
    config: Mapping[str, Any]
    needs_root: bool


_STAIRCASE = {
    "views": "standard",
    "n": 500,
    "size": 32,
    "d": 10,
    "scale": 1e-6,
    "rate": 0.05,
    "steps": 6000,
    "seeds": [10, 11, 12, 13, 14],
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="staircase-photos",
            summary="500 pairs of the bundled photographs, gradient descent",
            config={"data": "photos", **_STAIRCASE},
            needs_root=False,
        ),
        Recipe(
            name="staircase-cifar10",
            summary="500 pairs of CIFAR-10 (JPEG copy), gradient descent",
            config={"data": "cifar10-jpeg", **_STAIRCASE},
            needs_root=True,
        ),
    )
}
# The rooms whose code decides a record's numbers.
ROOMS = ("data", "views", "spectra", "dynamics", "flow", "recipes")


def names() -> list[str]:
    """List the recipes."""
    return list(RECIPES)


def get(name: str) -> Recipe:
    """Find a recipe by name; the error suggests the nearest one."""
    return RECIPES[_check.choice("name", name, tuple(RECIPES))]


def run(name: str, *, root: str | Path | None = None, progress: bool = True) -> Record:
    """Run a recipe and return its record, unsaved.

    Introduced in chapter 5.

    Parameters
    ----------
    name : str
        One of `names`.
    root : path, optional
        Folder of the data set, for a recipe that needs one.
    progress : bool
        Show a bar on the terminal.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        If the name is unknown, or `root` is missing, superfluous or not the data set.
    """
    recipe = get(name)
    _check_root(recipe, root)
    started = time.perf_counter()
    runs, arrays, said = linear_staircase(recipe.config, root, progress=progress)
    meta = {
        "config": dict(recipe.config),
        "data": said,
        "versions": {
            "python": platform.python_version(),
            **{p: metadata.version(p) for p in ("stepwise-ssl", "numpy", "torch")},
        },
        "device": f"{os.cpu_count()} cores, {platform.machine()} CPU",
        "seconds": round(time.perf_counter() - started, 1),
        "made": datetime.date.today().isoformat(),
        "code": _code(),
    }
    return Record(name=name, runs=runs, arrays=arrays, meta=meta)


def linear_staircase(
    config: Mapping[str, Any], root: str | Path | None, *, progress: bool
) -> tuple[tuple[Trajectory, ...], dict[str, np.ndarray], str]:
    """Descend on image pairs from small random starts, and predict each run.

    Parameters
    ----------
    config : mapping
        See `Recipe`.
    root : path or None
        Folder of the data set, if it needs one.
    progress : bool
        Show a bar on the terminal, one unit a seed.

    Returns
    -------
    runs : tuple of Trajectory
        One per seed, at some 400 times evenly spaced on a log axis.
    arrays : dict
        ``gammas`` (seeds, 2d), ``s0``, ``predicted`` and ``measured`` (seeds, d),
        ``overlap`` (seeds,) of learned and predicted space; ``captured`` (seeds, 2d),
        the share of each eigenvector of Gamma inside the learned one; of the first seed
        ``learned`` and ``expected`` (d, size, size, 3) directions.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    runs, rows = [], []
    for seed in tqdm(config["seeds"], unit="seed", disable=not progress):
        images = data.load(
            config["data"], n=config["n"], size=config["size"], seed=seed, root=root
        )
        x, x_prime = views.flat_pairs(images.x, config["views"], seed=seed)
        run, row = _descend_and_predict(x, x_prime, config, seed)
        runs.append(_thin(run, 400))
        rows.append(row)
    arrays = {
        key: np.stack([row[key] for row in rows])
        for key in ("gammas", "s0", "predicted", "measured", "overlap", "captured")
    }
    # Rows of flat pairs are channel first; a picture wants its channels last.
    pixels = (config["d"], 3, config["size"], config["size"])
    for key in ("learned", "expected"):
        pictures = rows[0][key].T.reshape(pixels).transpose(0, 2, 3, 1)
        arrays[key] = pictures.astype(np.float32)
    return tuple(runs), arrays, _without_seed(images.provenance)


def check(folder: str | Path = record.FOLDER) -> dict[str, str]:
    """Say of every recipe whether its record in `folder` is fresh, and if not, why.

    Parameters
    ----------
    folder : path
        By default the records that ship with the package.

    Returns
    -------
    dict of str to str
        "fresh"; "missing"; "stale" with what changed in the configuration; "damaged";
        or "older code" with the rooms whose source has changed since.
    """
    return {name: _state(recipe, Path(folder)) for name, recipe in RECIPES.items()}


def estimate(recipe: Recipe) -> tuple[float, float]:
    """Estimate seconds and peak bytes of a run, by timing a few steps of its size.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    seconds, bytes : float
        On this machine, as busy as it is now.
    """
    config = recipe.config
    m, r = 3 * config["size"] ** 2, 2 * config["n"]
    rng = np.random.default_rng(0)
    small, square = rng.standard_normal((2, config["n"], r))
    started = time.perf_counter()
    W0 = 1e-6 * small[: config["d"]]
    flow.descend(W0, small, square, lr=1e-6, steps=50)
    seconds_step = (time.perf_counter() - started) / 50
    # Basis and spectrum: some 2 m r^2 + 10 r^3 operations against 2 d r^2 a step.
    setup = (m / config["d"] + 5 * r / config["d"]) * seconds_step
    seconds = len(config["seeds"]) * (config["steps"] * seconds_step + setup)
    # Views, their stack, its factors and the span's coordinates; Gamma and two copies.
    array_bytes = 8.0 * (6 * r * m + 4 * r**2)
    return seconds, array_bytes + 0.4e9  # torch and NumPy themselves


def _descend_and_predict(
    x: np.ndarray, x_prime: np.ndarray, config: Mapping[str, Any], seed: int
) -> tuple[Trajectory, dict[str, np.ndarray]]:
    Q = spectra.span(x, x_prime)
    x, x_prime = x @ Q, x_prime @ Q
    Gamma = dynamics.cross_correlation(x, x_prime)
    gammas, V = spectra.top_eigenpairs(Gamma, 2 * config["d"])
    rng = np.random.default_rng(seed)
    W0 = config["scale"] * rng.standard_normal((config["d"], Q.shape[1]))
    start = dynamics.effective_start(W0, Gamma)
    lr = config["rate"] / gammas[0]
    run = flow.descend(W0, x, x_prime, lr=lr, steps=config["steps"])
    learned = spectra.learned_directions(np.asarray(run.weights), Gamma)
    # Measured eigenvalues come sorted, so the predictions are sorted too: two near-tied
    # modes may be learned in either order.
    return run, {
        "gammas": gammas,
        "s0": start.s0,
        "predicted": np.sort(dynamics.step_times(start.gammas, start.s0, lr=lr)),
        "measured": spectra.crossing_times(run.t, run.eigenvalues),
        "overlap": np.array(spectra.subspace_overlap(learned, start.V)),
        "captured": np.sum((learned.T @ V) ** 2, axis=0),
        "learned": Q @ learned,
        "expected": Q @ V[:, : config["d"]],
    }


def _thin(run: Trajectory, points: int) -> Trajectory:
    last = len(run.t) - 1
    keep = np.unique(np.geomspace(1, last, points).round().astype(int))
    return replace(
        run,
        t=run.t[keep],
        step=None if run.step is None else run.step[keep],
        loss=run.loss[keep],
        eigenvalues=run.eigenvalues[keep],
        weights=None,
    )


def _without_seed(provenance: str) -> str:
    return provenance.rsplit("; seed", 1)[0]


def _check_root(recipe: Recipe, root: str | Path | None) -> None:
    if recipe.needs_root and root is None:
        raise ValueError(
            f"`root` is missing: recipe {recipe.name!r} reads {recipe.config['data']} "
            "from a folder of yours; pass --root FOLDER"
        )
    if not recipe.needs_root and root is not None:
        raise ValueError(
            f"`root` is {str(root)!r}, but recipe {recipe.name!r} reads data that come "
            "with the package; leave it out"
        )


def _code() -> dict[str, str]:
    """Hash every room that decides the numbers, its private halves with it."""
    return {
        room: hashlib.sha256(b"".join(_sources(room))).hexdigest()[:16]
        for room in ROOMS
    }


def _sources(room: str) -> list[bytes]:
    """Read a room and the private halves `_*.py` that it imports, in their order."""
    here, found = Path(__file__).parent, [room]
    for name in found:  # grows while it is read: a half may import a half
        text = (here / f"{name}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "pkg":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module.removeprefix("pkg.")]
            else:
                continue
            # The guards check numbers and decide none.
            halves = [n for n in names if n.startswith("_") and n != "_check"]
            found += [
                n for n in halves if n not in found and (here / f"{n}.py").exists()
            ]
    return [(here / f"{name}.py").read_bytes() for name in found]


def _state(recipe: Recipe, folder: Path) -> str:
    if recipe.name not in record.names(folder):
        return "missing"
    try:
        meta = record.load(recipe.name, folder).meta
    except ValueError as error:
        return f"damaged: {error}"
    config = dict(recipe.config)
    changed = [k for k in config if meta["config"].get(k) != config[k]]
    if changed:
        return f"stale: {', '.join(changed)} changed"
    now = _code()
    rooms = [room for room in now if meta["code"].get(room) != now[room]]
    return f"older code: {', '.join(rooms)} changed since" if rooms else "fresh"


def _command(recipe: Recipe) -> str:
    root = " --root FOLDER" if recipe.needs_root else ""
    return f"python -m pkg.recipes run {recipe.name}{root}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's first lines."""
    parser = argparse.ArgumentParser(
        prog="python -m pkg.recipes",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the recipes, a line each")
    commands.add_parser("check", help="which records are stale, and how to remake them")
    runner = commands.add_parser("run", help="run one and write its record")
    runner.add_argument("name")
    runner.add_argument("--root", help="folder of the data set, where one is needed")
    runner.add_argument("--out", default=record.FOLDER, help="where the record goes")
    runner.add_argument("--dry-run", action="store_true", help="time and memory only")
    chosen = parser.parse_args(arguments)
    try:
        return {"list": _list, "check": _check_all, "run": _run}[chosen.command](chosen)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(_: argparse.Namespace) -> int:
    for recipe in RECIPES.values():
        print(f"{recipe.name:20} {recipe.summary}")
    return 0


def _check_all(_: argparse.Namespace) -> int:
    for name, state in check().items():
        remedy = "" if state == "fresh" else f"\n  remake: {_command(RECIPES[name])}"
        print(f"{name:20} {state}{remedy}")
    return 0


def _run(chosen: argparse.Namespace) -> int:
    recipe = get(chosen.name)
    if chosen.dry_run:
        seconds, size = estimate(recipe)
        print(f"{recipe.name}: {recipe.summary}")
        print(
            f"  {len(recipe.config['seeds'])} seeds of {recipe.config['steps']} steps"
        )
        print(
            f"  about {seconds:.0f} s on this machine, {size / 1e9:.1f} GB at the peak"
        )
        return 0
    path = record.save(run(recipe.name, root=chosen.root), chosen.out)
    print(f"written: {path} and its .npz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
