"""The house holds its plan: who may import whom, and how large a room may grow.

Values flow one way, from images to pictures. The table below is that plan; a new edge
in it is a decision, not a detail.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PKG = ROOT / "pkg"
ROOMS = sorted(path.stem for path in PKG.glob("*.py"))

THEORY = {"_check", "record", "spectra"}
TRAINER = {
    *("_check", "record", "views", "nets", "losses"),
    *("track", "checkpoint", "distributed", "optim"),
}
TRAINER_HALVES = {"_batches", "_config", "_descend", "_guards", "_keep", "_run"}
# Two edges are missing on purpose: `flow` does not see `dynamics`, since it exists to
# disagree; `plots` and `widgets` receive results and compute nothing but the picture.
WIDGETS = {"_augmentations", "_figures", "_kernel_width", "_panel", "_push", "_race"}
WIDGETS |= {"_training", "_unfolding"}
MAY_IMPORT = {
    "__init__": set(),
    "_check": set(),
    "_steps": {"_check"},
    "spectra": {"_check", "_steps"},
    "kernels": {"_check", "_kernel_entries", "_product"},
    **{half: {"_check"} for half in ("_kernel_entries", "_product")},
    "record": {"_check"},
    "data": {"_check", "_fetch", "_folders", "_formats"},
    **{half: {"_check"} for half in ("_fetch", "_folders", "_formats")},
    "dynamics": {*THEORY, "_acceleration", "_modes", "_start", "_end"},
    **{half: THEORY for half in ("_acceleration", "_modes", "_start", "_end")},
    "flow": {*THEORY, "_accelerated_flow", "_solver"},
    "_accelerated_flow": {*THEORY, "_solver"},
    "_solver": {"_check"},
    "kpca": {*THEORY, "_contrastive", "_factor", "_kernel_checks", "_krylov"},
    "_kernel_checks": {"_check"},
    "_contrastive": {*THEORY, "_factor", "_kernel_checks", "_krylov", "_modes"},
    "_factor": {"spectra"},
    "_krylov": {"spectra"},
    **{room: {"_check"} for room in ("_resnets", "losses")},
    "nets": {"_check", "_resnets"},
    "ntk": {"_check", "_blocks", "_layers", "_pieces"},
    "_blocks": {"_check"},
    "_layers": set(),
    "_pieces": {"_layers"},
    "views": {"_check", "_colour", "_view_recipes"},
    "_colour": set(),
    "_view_recipes": {"_check"},
    **{room: {"_check"} for room in ("distributed", "checkpoint", "optim")},
    "track": THEORY,
    "trainer": {*TRAINER, "data", *TRAINER_HALVES},
    "_config": {"_check", "losses", "views"},
    "_batches": {"views"},
    "_run": {*TRAINER - {"views", "checkpoint"}, "_batches", "_config"},
    "_keep": {"checkpoint", "distributed", "_guards", "_run"},
    "_guards": {"data", "_config", "_run"},
    "_descend": {"_check", "losses", "optim", "record"},
    "modes": {*THEORY, "_meaning", "_probes"},
    **{half: {"_check"} for half in ("_meaning", "_probes")},
    "relatives": {*THEORY, "kernels", "_deep_linear", "_words"},
    "_deep_linear": {"_check", "record", "_solver"},
    "_words": {"_check"},
    "recipes": {*ROOMS} - {"__init__", "recipes", "plots", "widgets"},
    "_after_runs": {
        *("record", "spectra", "data", "views", "dynamics", "kernels", "kpca"),
        *("nets", "ntk", "optim", "trainer"),
    },
    "_rate_runs": {"_after_runs", "nets", "optim", "trainer"},
    "_network_cost": {"distributed", "nets", "trainer", "_run"},
    "_network_runs": {
        *("record", "spectra", "data", "distributed", "trainer", "_network_cost"),
        *("_keep", "_guards"),
    },
    "_recipe": {"record"},
    "_provenance": {"_recipe"},
    "_other_networks": {"checkpoint", "data", "nets", "trainer", "_batches"},
    "_looks": {"data", "kpca", "nets", "ntk", "trainer", "views"},
    "_principle_runs": {
        *("data", "kernels", "modes", "nets", "record", "spectra", "trainer"),
        *("_after_runs", "_looks", "_network_cost", "_other_networks"),
    },
    "_choice_runs": {
        *("data", "dynamics", "modes", "nets", "ntk", "record", "spectra", "track"),
        *("trainer", "views", "_after_runs", "_network_cost", "_looks"),
    },
    "_race_runs": {"data", "modes", "record", "spectra", "trainer", "_network_cost"},
    "_meeting_list": {
        *("_choice_runs", "_network_list", "_principle_runs", "_race_runs"),
        "_recipe",
    },
    "_network_list": {"_network_cost", "_network_runs", "_recipe"},
    "_recipe_list": {
        "_after_runs",
        "_grid_runs",
        "_meeting_list",
        "_network_list",
        "_recipe",
        "_rate_runs",
        "_scale_runs",
        "_spectra_runs",
        "_staircase_runs",
        "_unfolding_runs",
        "_wide_runs",
    },
    "_scale_runs": {"record", "data", "kernels", "kpca", "views"},
    "_grid_runs": {"record", "data", "dynamics", "spectra", "views"},
    "_spectra_runs": {*THEORY, "data", "dynamics", "flow", "views"},
    "_staircase_runs": {*THEORY, "data", "dynamics", "flow", "views"},
    "_unfolding_runs": {"record", "data", "modes", "spectra", "trainer"},
    "_wide_runs": {
        *("record", "spectra", "data", "views", "dynamics", "kernels", "kpca"),
        *("nets", "ntk", "trainer"),
    },
    "plots": {"_check", "record"},
    "_compose": {"_check"},
    "_figures": {"_check", "_compose"},
    **{half: {"_check", "_compose"} for half in ("_training", "_kernel_width")},
    "_push": {"_check", "_compose"},
    "_augmentations": {"_check", "_compose", "record"},
    "_race": {"_compose"},
    # It draws a run that is still going on, as the static figures do.
    "_panel": {"plots", "record"},
    "_unfolding": {"_check", "_compose", "record"},
    "widgets": {*("_check", "_compose", "record"), *WIDGETS},
}
# Rooms that must start in well under a second, and so never load torch.
LIGHT = {"_check", "spectra", "kernels", "record", "data", "dynamics", "flow", "kpca"}
LIGHT |= {"_fetch", "_folders", "_formats"}
LIGHT |= {"_contrastive", "_factor", "_kernel_checks", "_krylov"}
LIGHT |= {"modes", "relatives", "plots", "widgets"}
LIGHT |= {"_deep_linear", "_meaning", "_probes", "_words"}
LIGHT |= {"_modes", "_start", "_end", "_kernel_entries", "_product"}
LIGHT |= {"_acceleration", "_accelerated_flow", "_solver"}


def _imports(room: str) -> set[str]:
    """Rooms that `room` imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse((PKG / f"{room}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "pkg":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "pkg."
        ):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {n.name[4:] for n in node.names if n.name.startswith("pkg.")}
    return found - {"__version__"}


def _run(code: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_plan_allows(room):
    """The table is the plan; a room that is not in it has no place yet."""
    assert room in MAY_IMPORT
    assert _imports(room) <= MAY_IMPORT[room]


def test_no_theory_room_loads_torch():
    """A reader of the theory waits for NumPy, not for torch."""
    rooms = sorted(LIGHT & set(ROOMS))
    # One Python for all: each line tells whether torch was there after that room.
    loaded = _run(
        "import importlib, sys\n"
        f"for room in {rooms}:\n"
        "    importlib.import_module('pkg.' + room)\n"
        "    print(room, 'torch' in sys.modules)"
    )
    assert loaded.splitlines() == [f"{room} False" for room in rooms]


def test_importing_the_package_loads_nothing_heavy():
    """`import pkg` is a map of the rooms; each room is loaded when it is entered."""
    loaded = _run("import sys, pkg; print(*sys.modules)").split()
    heavy = {"numpy", "scipy", "matplotlib", "torch", "sklearn", "anywidget", "PIL"}
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_fits_in_400_lines(room):
    """In every house that we read, the hardest file was the longest one."""
    assert len((PKG / f"{room}.py").read_text(encoding="utf-8").splitlines()) <= 400


def _public(room: str) -> list[ast.FunctionDef | ast.ClassDef]:
    tree = ast.parse((PKG / f"{room}.py").read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        node
        for node in tree.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize("room", sorted({*ROOMS} - {"__init__", "_check"}))
def test_public_docstrings_say_what_goes_in_and_what_comes_out(room):
    """A sentence for all; Parameters and Returns where names alone cannot tell."""
    faults = []
    for node in _public(room):
        text = ast.get_docstring(node) or ""
        # "Parameters are those of `closed_form`; the result is (T, d)" says enough.
        wanted = ["Parameters", "Return|result"] if _needs_sections(node) else []
        faults += [f"{node.name}: {w}" for w in wanted if not re.search(w, text)]
        if not text.split("\n\n")[0].rstrip().endswith((".", "?")):
            faults.append(f"{node.name}: a first sentence")
    assert faults == []


def _needs_sections(node: ast.FunctionDef | ast.ClassDef) -> bool:
    if isinstance(node, ast.ClassDef) or _is_drawing(node):
        return False
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len(arguments) > 2 and ast.unparse(node.returns or node) != "None"


def _is_drawing(node: ast.FunctionDef) -> bool:
    # draw_* and figure_* return what they drew on; prose says it better.
    return node.name.startswith(("draw_", "figure_"))


def test_the_top_level_is_book_pkg_and_tests():
    """Beside them only what every Python project keeps at its root."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so built folders cannot be told from ours")
    folders = {line.split("/")[0] for line in listed.stdout.split("\n") if "/" in line}
    assert {name for name in folders if name[0] != "."} == {"book", "pkg", "tests"}
