"""What made each record: named configurations, and the command that runs them.

::

    python -m pkg.recipes list
    python -m pkg.recipes run NAME [--root FOLDER] [--out FOLDER] [--dry-run]
    python -m pkg.recipes run NAME --download
    python -m pkg.recipes run NAME --checkpoint FOLDER
    torchrun --nproc-per-node=N -m pkg.recipes run NAME
    python -m pkg.recipes check

A record is one call of one function with one configuration, both named here. A recipe
that reads several data sets takes ``--root NAME=FOLDER`` once for each; with
``--download`` a published set is fetched there, or into the user's cache where no
folder is named. A recipe that trains for long takes a folder for its checkpoints: the
same command goes on where it was stopped.
"""

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pkg import _check, data, record
from pkg._after_runs import PREDICTORS, UNSEEN, after_training
from pkg._choice_runs import KERNELS, chosen_modes
from pkg._network_runs import network_staircases
from pkg._principle_runs import PARTS, one_principle
from pkg._principle_runs import PREDICTORS as PRINCIPLES
from pkg._provenance import code_of
from pkg._race_runs import race
from pkg._rate_runs import overtaken_rate
from pkg._recipe import Recipe
from pkg._recipe_list import RECIPES
from pkg._spectra_runs import augmentation_spectra, dataset_spectra
from pkg._staircase_runs import linear_staircase
from pkg._wide_runs import wide_networks
from pkg.record import Record

__all__ = [
    "KERNELS",
    "PARTS",
    "PREDICTORS",
    "PRINCIPLES",
    "RECIPES",
    "UNSEEN",
    "Recipe",
    "after_training",
    "augmentation_spectra",
    "check",
    "chosen_modes",
    "dataset_spectra",
    "estimate",
    "get",
    "linear_staircase",
    "main",
    "names",
    "network_staircases",
    "one_principle",
    "overtaken_rate",
    "race",
    "run",
    "wide_networks",
]


def names() -> list[str]:
    """List the recipes."""
    return list(RECIPES)


def get(name: str) -> Recipe:
    """Find a recipe by name; the error suggests the nearest one."""
    return RECIPES[_check.choice("name", name, tuple(RECIPES))]


def run(
    name: str,
    *,
    root: str | Path | Mapping[str, str | Path] | None = None,
    download: bool = False,
    keep: str | Path | None = None,
    progress: bool = True,
) -> Record:
    """Run a recipe and return its record, unsaved.

    Introduced in chapter 5.

    Parameters
    ----------
    name : str
        One of `names`.
    root : path or mapping of str to path, optional
        Folder of the data set, for a recipe that needs one; a folder for each name in
        `Recipe.roots`, for a recipe that needs several.
    download : bool
        Permission to fetch what is missing there; without `root`, as ``data.load``
        does: in the folder that STEPWISE_DATA names, or the user's cache.
    keep : path, optional
        Folder for checkpoints, for a recipe that trains for long.
    progress : bool
        Show a bar on the terminal.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        If the name is unknown, `root` is missing, superfluous or not the data set, or
        the recipe keeps no checkpoints.
    """
    recipe = get(name)
    roots = _folders_of(recipe, root, download)
    more: dict[str, Any] = {}
    if keep is not None:
        if not recipe.resumes:
            raise ValueError(
                f"`keep` is {str(keep)!r}, but recipe {recipe.name!r} keeps no "
                "checkpoints: it is made in one go; leave it out"
            )
        more["keep"] = Path(keep)
    # Before the run: a room that is edited meanwhile is not the one that made it.
    code, started = code_of(recipe), time.perf_counter()
    runs, arrays, said = recipe.make(recipe.config, roots, progress=progress, **more)
    meta = {
        "config": dict(recipe.config),
        "data": said,
        "versions": {
            "python": platform.python_version(),
            **{p: metadata.version(p) for p in ("stepwise-ssl", "numpy", "torch")},
        },
        "device": _device(recipe),
        "seconds": round(time.perf_counter() - started, 1),
        "made": datetime.date.today().isoformat(),
        "code": code,
    }
    return Record(name=name, runs=runs, arrays=arrays, meta=meta)


def _device(recipe: Recipe) -> str:
    """Say on what a recipe runs here: those that resume take a GPU if there is one."""
    if recipe.resumes:
        import torch

        if torch.cuda.is_available():
            world = int(os.environ.get("WORLD_SIZE", "1"))
            return f"{world} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {platform.machine()} CPU"


def check(folder: str | Path = record.FOLDER) -> dict[str, str]:
    """Say of every recipe whether its record in `folder` is fresh, and if not, why.

    Parameters
    ----------
    folder : path
        By default the records that ship with the package.

    Returns
    -------
    dict of str to str
        "fresh"; "missing"; "awaits" what it needs; "stale" with what changed in the
        configuration; "damaged"; or "older code" with the rooms whose source has
        changed since.
    """
    return {name: _state(recipe, Path(folder)) for name, recipe in RECIPES.items()}


def estimate(recipe: Recipe) -> tuple[float, float]:
    """Estimate seconds and peak bytes of a run, by timing a small part of it.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    seconds, bytes : float
        On this machine, as busy as it is now.
    """
    return recipe.cost(recipe.config)


def _folders_of(
    recipe: Recipe,
    root: str | Path | Mapping[str, str | Path] | None,
    download: bool = False,
) -> Mapping[str, str | Path]:
    """Return the folder of each data set that needs one, and of no other."""
    needed = ", ".join(recipe.roots)
    if not recipe.roots:
        if root is not None:
            raise ValueError(
                f"`root` is {str(root)!r}, but recipe {recipe.name!r} reads data that "
                "come with the package; leave it out"
            )
        return {}
    if root is None:
        root = {}
    elif not isinstance(root, Mapping):
        if len(recipe.roots) > 1:
            raise ValueError(
                f"`root` is one folder, but recipe {recipe.name!r} reads {needed}; "
                "pass --root NAME=FOLDER for each"
            )
        root = {recipe.roots[0]: root}
    for name in root:
        _check.choice("root", name, recipe.roots)
    if download:
        split = recipe.config.get("split", "train")
        for name in recipe.roots:  # one image: all that is missing is fetched for it
            data.load(name, split=split, n=1, root=root.get(name), download=True)
    missing = [name for name in recipe.roots if name not in root and not download]
    if missing:
        raise ValueError(
            f"`root` is missing: recipe {recipe.name!r} reads {', '.join(missing)} "
            f"from a folder of yours; pass{_options(recipe)}, "
            "or --download for a set that is published"
        )
    return root


def _given(
    recipe: Recipe, options: Sequence[str]
) -> str | Mapping[str, str | Path] | None:
    """Read what stood behind --root: a folder, or NAME=FOLDER several times."""
    if len(options) == 1 and options[0].partition("=")[0] not in recipe.roots:
        return options[0]
    pairs = [option.partition("=") for option in options]
    return {name: folder for name, _, folder in pairs} or None


def _state(recipe: Recipe, folder: Path) -> str:
    if recipe.name not in record.names(folder):
        return f"awaits {recipe.awaits}" if recipe.awaits else "missing"
    try:
        meta = record.load(recipe.name, folder).meta
    except ValueError as error:
        return f"damaged: {error}"
    config = dict(recipe.config)
    changed = [k for k in config if meta["config"].get(k) != config[k]]
    if changed:
        return f"stale: {', '.join(changed)} changed"
    now = code_of(recipe)
    rooms = [room for room in now if meta["code"].get(room) != now[room]]
    return f"older code: {', '.join(rooms)} changed since" if rooms else "fresh"


def _command(recipe: Recipe) -> str:
    return f"python -m pkg.recipes run {recipe.name}{_options(recipe)}"


def _options(recipe: Recipe) -> str:
    if len(recipe.roots) == 1:
        return " --root FOLDER"
    return "".join(f" --root {name}=FOLDER" for name in recipe.roots)


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
    runner.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="[NAME=]FOLDER",
        help="folder of the data set, where one is needed; once for each of several",
    )
    runner.add_argument(
        "--download", action="store_true", help="fetch what is missing of the data set"
    )
    runner.add_argument("--out", default=record.FOLDER, help="where the record goes")
    runner.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="where a long training keeps its state, to go on after a stop",
    )
    runner.add_argument("--dry-run", action="store_true", help="time and memory only")
    chosen = parser.parse_args(arguments)
    try:
        return {"list": _list, "check": _check_all, "run": _run}[chosen.command](chosen)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(_: argparse.Namespace) -> int:
    for recipe in RECIPES.values():
        print(f"{recipe.name:21} {recipe.summary}")
    return 0


def _check_all(_: argparse.Namespace) -> int:
    for name, state in check().items():
        remedy = "" if state == "fresh" else f"\n  remake: {_command(RECIPES[name])}"
        print(f"{name:21} {state}{remedy}")
    return 0


def _run(chosen: argparse.Namespace) -> int:
    recipe = get(chosen.name)
    if chosen.dry_run:
        seconds, size = estimate(recipe)
        print(f"{recipe.name}: {recipe.summary}")
        steps = recipe.config.get("steps")
        long = "" if steps is None else f" of {steps} steps"
        print(f"  {len(recipe.config['seeds'])} seeds{long}")
        print(
            f"  about {seconds:.0f} s on this machine, {size / 1e9:.1f} GB at the peak"
        )
        for line in recipe.elsewhere(recipe.config) if recipe.elsewhere else ():
            print(f"  {line}")
        return 0
    made = run(
        recipe.name,
        root=_given(recipe, chosen.root),
        download=chosen.download,
        keep=chosen.checkpoint,
    )
    if os.environ.get("RANK", "0") == "0":  # of those that torchrun started
        path = record.save(made, chosen.out)
        print(f"written: {path} and its .npz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
