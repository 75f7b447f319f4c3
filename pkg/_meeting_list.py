"""The recipes in which theory meets networks: chapters 13 to 15.

A private half of ``pkg.recipes``.
"""

from typing import Any

from pkg._choice_runs import choice_cost, chosen_modes
from pkg._network_list import CLIMBS
from pkg._principle_runs import one_principle, principle_cost
from pkg._race_runs import race, race_cost
from pkg._recipe import Recipe

_SEEDS = [40, 41, 42, 43, 44]


def _climb(method: str, **changes: Any) -> list[Any]:
    return [
        changes.pop("name", method),
        {"method": method, **CLIMBS[method], **changes},
    ]


def _asked(method: str, **changes: Any) -> list[Any]:
    """A case whose views are what is varied."""
    name, settings = _climb(method, **changes)
    return [name, {k: v for k, v in settings.items() if k != "views"}]


# The weak views, and seven that change one thing each.
_WEAK = {
    "scale": [0.7, 1.0],
    "ratio": [0.9, 1.1],
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "jitter": 1.0,
    "grey": 0.0,
}
_WIDE = [3 / 4, 4 / 3]
_VIEWS: list[list[Any]] = [
    ["weak", {}],
    ["no crop", {"scale": [1.0, 1.0], "ratio": [1.0, 1.0]}],
    ["small crops", {"scale": [0.3, 1.0], "ratio": _WIDE}],
    ["smaller crops", {"scale": [0.1, 1.0], "ratio": _WIDE}],
    ["no mirror", {"flip": 0.0}],
    ["hue", {"hue": 0.2}],
    ["grey", {"grey": 0.4}],
    ["solarise", {"solarise": 0.2}],
]


def _losses(**steps: int) -> list[list[Any]]:
    starts = {"barlow_twins": 1e-3, "simclr": 1e-2, "vicreg": 1e-3}
    return [
        _asked(method, start=start, steps=steps[method])
        for method, start in starts.items()
    ]


_CHOSEN: dict[str, Any] = {
    "data": "cifar10-jpeg",
    "n": 6000,
    "size": 16,
    "pairs": 600,
    "dim": 1024,
    "s0": 1e-3,
    "views": _WEAK,
    "recipes": _VIEWS,
    "train": {
        "encoder": "demo",
        "precision": "float32",
        "batch": 64,
        "probe": 256,
        "snapshots": 61,
        "guard": False,
    },
    "cases": _losses(barlow_twins=240, simclr=400, vicreg=360),
    "seeds": _SEEDS,
}


def _race(
    name: str,
    start: float,
    steps: int,
    power: float = 0.0,
    floor: float = 1e-2,
    rate: float = 0.4,
) -> list[Any]:
    how = {"start": start, "steps": steps, "rate": rate}
    return [name, how | ({"precondition": power, "floor": floor} if power else {})]


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
    Recipe(
        name="chosen-modes",
        summary="which of eight recipes of views lets which modes rise, three losses",
        make=chosen_modes,
        cost=choice_cost,
        config=_CHOSEN,
        roots=("cifar10-jpeg",),
        resumes=True,
    ),
    Recipe(
        name="foreseen-delays",
        summary="the same on fresh seeds, each loss by its own clock and growth",
        make=chosen_modes,
        cost=choice_cost,
        config={
            **_CHOSEN,
            "level": 0.1,
            "unit": 1.0,
            "growth": "own",
            "train": {**_CHOSEN["train"], "snapshots": 121},
            "cases": _losses(barlow_twins=240, simclr=400, vicreg=600),
            "seeds": [45, 46, 47, 48, 49],
        },
        roots=("cifar10-jpeg",),
        resumes=True,
    ),
    Recipe(
        name="race",
        summary="steps to each mode with a preconditioner and without, on CIFAR-10",
        make=race,
        cost=race_cost,
        config={
            "data": "cifar10-jpeg",
            "n": 6000,
            "size": 16,
            "judged": 1000,
            "train": {
                "method": "barlow_twins",
                "encoder": "demo",
                "precision": "float32",
                "batch": 64,
                "probe": 3000,
                "snapshots": 9,
                "guard": False,
            },
            "cases": [
                _race("plain, small start", 1e-5, 1300),
                _race("inverse root, small start", 1e-5, 400, 0.5),
                _race("inverse, small start", 1e-5, 400, 1.0, 0.03, 0.25),
                _race("plain, standard start", 1.0, 800),
                _race("inverse root, standard start", 1.0, 400, 0.5),
                _race("inverse, standard start", 1.0, 400, 1.0, 0.03, 0.25),
            ],
            "seeds": _SEEDS,
        },
        roots=("cifar10-jpeg",),
        resumes=True,
    ),
)
