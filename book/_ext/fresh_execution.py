"""Executed chapters are kept only for the package that executed them.

jupyter-cache compares the cells of a chapter and nothing else: after a change under
pkg/ it would go on serving yesterday's figures. So the cache lives in a folder named
after a hash of the package and the pins. The folder's name is also a Sphinx setting
that belongs to the environment: when it changes, Sphinx reads every page again, the
API page included. A stale page is impossible, with `make` or without it.

A chapter is executed alone: in an empty folder (``run_in_temp`` in _config.yml), with
no GPU, and with every connection refused but those of Jupyter itself.
"""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PREFIX = ".jupyter_cache-"
ALONE = Path(__file__).parent / "alone"


def setup(app: Sphinx) -> None:
    """Name the cache before myst-nb reads the setting at ``builder-inited``."""
    # Inherited by the kernels. Their products are long and thin, and gain nothing from
    # threads; on a busy machine, threads that wait for each other cost a factor 4.
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    # Inherited as well: no GPU, and alone/sitecustomize.py before anything else.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ALONE), path]))
    app.connect("config-inited", name_the_cache)
    app.connect("build-finished", forget_a_faulty_build)


def name_the_cache(app: Sphinx, config: Config) -> None:
    """Point the execution cache at this package's folder; remove the others."""
    _require_this_package()
    cache = Path(app.outdir).parent / f"{PREFIX}{digest()}"
    config.nb_execution_cache_path = str(cache)
    for old in cache.parent.glob(f"{PREFIX}*"):
        if old != cache:
            shutil.rmtree(old)


def forget_a_faulty_build(app: Sphinx, exception: Exception | None) -> None:
    """Make the next build read every page again, so that it warns again.

    Sphinx warns about a page while it reads it, and does not read an unchanged page
    twice: with warnings as errors, a second try would pass without a word.
    """
    if exception is not None or app._warncount:
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)


def digest(root: Path = ROOT) -> str:
    """Return a short hash of whatever can change what a chapter computes."""
    total = hashlib.sha256(sys.version.encode())
    files = [root / "requirements.txt", *sorted((root / "pkg").rglob("*"))]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(file.relative_to(root).as_posix().encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def _require_this_package() -> None:
    # The hash speaks for the package beside this file; a chapter must import that one.
    found = importlib.util.find_spec("pkg")
    origin = Path(found.origin).resolve() if found and found.origin else None
    if origin is None or origin.parent != ROOT / "pkg":
        raise ConfigError(
            f"the chapters would import `pkg` from {origin}, not from {ROOT / 'pkg'}; "
            "build with `make book`, or run `pip install -e .` in this environment"
        )
