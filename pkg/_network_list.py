"""The recipes of networks that climb: demo runs, ResNets on CIFAR-10, full size.

A private half of ``pkg.recipes``.
"""

from collections.abc import Mapping
from typing import Any

from pkg._network_cost import on_cards
from pkg._network_runs import network_cost, network_staircases
from pkg._recipe import Recipe

# How each loss climbs: views, start and rate suit the loss, and were piloted with seeds
# that no record has. VICReg's hinge is rounded so far that its push hardly weakens
# while a mode rises.
CLIMBS: dict[str, dict[str, Any]] = {
    "barlow_twins": {"views": "strong", "start": 1e-7, "rate": 0.25},
    "simclr": {"views": "strong", "start": 1e-4, "rate": 0.28},
    "vicreg": {
        "views": "weak",
        "start": 1e-6,
        "rate": 0.2,
        "terms": {"cov_coeff": 10.0, "eps": 0.8, "target": 1.8**0.5},
    },
}
_FRESH, _CONTROLS, _LARGER = [30, 31, 32, 33, 34], [30, 31, 32], [20, 21, 22]
# A larger network's step is dear: it starts where the wait is shorter.
_SHORTER = {"barlow_twins": {"start": 1e-5}}


def _cases(
    changes: Mapping[str, Mapping[str, Any]], *, controls: list[int], **steps: int
) -> list[list[Any]]:
    """Every loss from its small start, from torch's own, and at five times the rate."""
    small, standard, fast = [], [], []
    for method, how in CLIMBS.items():
        one = {"method": method, **how, **changes.get(method, {})}
        few = {"steps": steps["control"], "seeds": controls, "guard": False}
        small.append([f"{method}, small start", {**one, "steps": steps[method]}])
        standard.append([f"{method}, standard start", {**one, **few, "start": 1.0}])
        fast.append([f"{method}, large rate", {**one, **few, "rate": 5 * how["rate"]}])
    return small + standard + (fast if steps["fast"] else [])


_DEMO_STEPS = {"barlow_twins": 1800, "simclr": 900, "vicreg": 2000, "control": 200}
_RESNET_STEPS = {"barlow_twins": 500, "simclr": 300, "vicreg": 400, "control": 60}

CLIMBING = (
    Recipe(
        name="demo-photos",
        summary="the demo ResNet under three losses on the bundled photographs",
        make=network_staircases,
        cost=network_cost,
        config={
            "data": "photos",
            "n": 2048,
            "size": 16,
            "train": {"encoder": "demo", "precision": "float32"},
            "cases": _cases({}, controls=_CONTROLS, fast=1, **_DEMO_STEPS),
            "seeds": _FRESH,
        },
        resumes=True,
    ),
    Recipe(
        name="demo-cifar10",
        summary="the same on CIFAR-10 (JPEG copy)",
        make=network_staircases,
        cost=network_cost,
        config={
            "data": "cifar10-jpeg",
            "n": 6000,
            "size": 16,
            "train": {"encoder": "demo", "precision": "float32"},
            "cases": _cases({}, controls=_CONTROLS, fast=1, **_DEMO_STEPS),
            "seeds": _FRESH,
        },
        roots=("cifar10-jpeg",),
        resumes=True,
    ),
    Recipe(
        name="resnet18-cifar10",
        summary="half-width ResNet-18 under three losses on CIFAR-10 (JPEG copy)",
        make=network_staircases,
        cost=network_cost,
        config={
            "data": "cifar10-jpeg",
            "n": 20000,
            "size": 16,
            "train": {
                "encoder": "resnet18",
                "options": {"width": 32, "pool": 2},
                "batch": 64,
                "precision": "float32",
            },
            "cases": _cases(_SHORTER, controls=_LARGER, fast=0, **_RESNET_STEPS),
            "seeds": _LARGER,
        },
        roots=("cifar10-jpeg",),
        resumes=True,
        elsewhere=on_cards,
    ),
    Recipe(
        name="resnet50-cifar10",
        summary="quarter-width ResNet-50 on CIFAR-10 (JPEG copy), one seed",
        make=network_staircases,
        cost=network_cost,
        config={
            "data": "cifar10-jpeg",
            "n": 20000,
            "size": 16,
            "train": {
                "encoder": "resnet50",
                "options": {"stem": "cifar", "width": 16},
                "batch": 32,
                "precision": "float32",
            },
            "cases": [
                [
                    "barlow_twins, small start",
                    {
                        "method": "barlow_twins",
                        **CLIMBS["barlow_twins"],
                        **_SHORTER["barlow_twins"],
                        "steps": 400,
                    },
                ]
            ],
            "seeds": [20],
        },
        roots=("cifar10-jpeg",),
        resumes=True,
        elsewhere=on_cards,
    ),
    *(
        Recipe(
            name=f"resnet50-stl10-{method.replace('_', '-')}",
            summary=f"ResNet-50 under {method} on STL-10, full size",
            make=network_staircases,
            cost=network_cost,
            config={
                "data": "stl10",
                "split": "unlabeled",
                "n": 100000,
                "size": 96,
                "train": {
                    "encoder": "resnet50",
                    "method": method,
                    **how,
                    "d": 32,
                    "batch": 256,
                    "steps": 20000,
                    "record": "log",
                    "probe": 500,
                },
                "cases": [
                    ["small start", {}],
                    ["standard start", {"start": 1.0, "guard": False}],
                ],
                "seeds": [0],
            },
            roots=("stl10",),
            resumes=True,
            elsewhere=on_cards,
            awaits="a GPU",
        )
        for method, how in CLIMBS.items()
    ),
)
