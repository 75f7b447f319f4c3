"""What a step of a training run costs: timed here, and counted for two GPUs.

A private half of ``pkg.recipes``.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pkg import distributed, nets, trainer
from pkg._run import Training

# Half-precision peak of the data sheet in FLOP/s, and memory in bytes. The share of the
# peak that a ResNet at this size reaches is our guess, and said where it is used.
CARDS = {"T4": (65e12, 16e9), "A100": (312e12, 40e9)}
SHARE = 0.1
OVERHEAD = 0.6e9  # what torch itself takes
# What half precision keeps for the way back, next to float32. Autocast has BatchNorm in
# half, but GroupNorm in float32: its input and the ReLU behind it take 4 bytes each, as
# ever, and the next convolution's input 2 more.
HALF = {"batch": 0.5, "group": 10 / 8}
PAIRS = 16  # of a timed step on a CPU; the rest of the batch takes as long each


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe's first run."""
    settings = {**config["train"], **config["cases"][0][1]}
    settings.pop("seeds", None)
    return settings


def steps_of(config: Mapping[str, Any]) -> int:
    """Count the steps of all runs of a recipe."""
    return sum(
        {**config["train"], **changes}["steps"]
        * len(changes.get("seeds", config["seeds"]))
        for _, changes in config["cases"]
    )


def step_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Time a step of a recipe's first run here, with few pairs on a CPU."""
    settings = {**settings_of(config), "lr": 1e-9, "steps": 2}
    wanted, size = trainer.TrainConfig(**settings), config["size"]
    with distributed.session() as place:
        few = wanted.batch
        if place.device.type == "cpu":
            few = min(few, max(PAIRS, wanted.d, wanted.pairs))
        small = trainer.TrainConfig(**{**settings, "batch": few, "probe": 0})
        pixels = torch.randint(0, 256, (few, size, size, 3), dtype=torch.uint8).numpy()
        training = Training(small, pixels, None, place)
        training.advance()
        started = time.perf_counter()
        training.advance()
        training.tracker.fetch()  # waits for the device
        seconds = time.perf_counter() - started
    half = training.dtype is not None
    return seconds * wanted.batch / few, count(config, half=half)[1]


def count(config: Mapping[str, Any], *, half: bool) -> tuple[float, float]:
    """Count the FLOPs of a step, and the bytes at its peak, without any pixels.

    The network is built on torch's meta device, which computes shapes alone. A step
    takes three times the FLOPs of a forward pass; at its peak lie the images, weights
    with gradients, and what the forward pass keeps for the backward one: with `half`,
    in the precision that autocast chooses on a GPU.

    Returns
    -------
    flops, bytes : float
    """
    train = trainer.TrainConfig(**settings_of(config))
    model = getattr(nets, train.encoder)(train.d, **train.options).to("meta")
    size = config["size"]
    weights = {_storage(p): p for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(x: Tensor) -> Tensor:
        kept[_storage(x)] = x
        return x

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
    ):
        model(torch.empty((2 * train.batch, 3, size, size), device="meta"))
    activations = sum(_bytes(x) for key, x in kept.items() if key not in weights)
    if half:
        activations *= HALF[train.options.get("norm", "group")]
    learned = 2.0 * sum(_bytes(p) for p in weights.values())
    images = config["n"] * size * size * 3
    return 3.0 * counter.get_total_flops(), activations + learned + images + OVERHEAD


def _storage(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def _bytes(x: Tensor) -> float:
    return float(x.untyped_storage().nbytes())


def on_cards(config: Mapping[str, Any]) -> list[str]:
    """Say for each card how long the recipe takes, and whether it fits: a line each."""
    half = settings_of(config).get("precision", "auto") != "float32"
    flops, peak = count(config, half=half)
    steps = steps_of(config)
    return [
        f"{card}: {steps} steps, about {steps * flops / (SHARE * speed) / 3600:.1f} h "
        f"at {SHARE:.0%} of its half-precision peak; {peak / 1e9:.1f} of "
        f"{memory / 1e9:.0f} GB"
        + ("" if peak < memory else ": too much; halve the batch, or use more cards")
        for card, (speed, memory) in CARDS.items()
    ]
