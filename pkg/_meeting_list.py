"""The recipes in which theory meets networks: chapters 13 to 15.

A private half of ``pkg.recipes``.
"""

from typing import Any

from pkg._network_list import CLIMBS
from pkg._principle_runs import one_principle, principle_cost
from pkg._recipe import Recipe

_SEEDS = [40, 41, 42, 43, 44]


def _climb(method: str, **changes: Any) -> list[Any]:
    return [
        changes.pop("name", method),
        {"method": method, **CLIMBS[method], **changes},
    ]


MEETING = (
    Recipe(
        name="one-principle",
        summary="kernels, modes and neighbours of the demo ResNet on CIFAR-10",
        make=one_principle,
        cost=principle_cost,
        config={
            "data": "cifar10-jpeg",
            "n": 6000,
            "size": 16,
            "test": 2000,
            "pairs": 200,
            "train": {
                "encoder": "demo",
                "precision": "float32",
                "probe": 512,
                "snapshots": 121,
            },
            "cases": [
                _climb("barlow_twins", steps=1500),
                _climb("simclr", steps=900),
                _climb("vicreg", steps=1400),
                _climb(
                    "barlow_twins",
                    name="barlow_twins, weak views",
                    views="weak",
                    steps=1000,
                ),
            ],
            "others": 600,
            "kernels": [40, 41, 42],
            "cases_kept": [0, 1, 2],
            "seeds": _SEEDS,
        },
        roots=("cifar10-jpeg",),
        resumes=True,
    ),
)
