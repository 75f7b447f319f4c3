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
SHARE = 0.25
OVERHEAD = 0.6e9  # what torch itself takes


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
    """Time a step of a recipe's first run here, and count its bytes."""
    wanted = trainer.TrainConfig(**{**settings_of(config), "lr": 1e-9, "steps": 2})
    size, n = config["size"], wanted.batch
    pixels = torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8).numpy()
    with distributed.session() as place:
        training = Training(wanted, pixels, None, place)
        training.advance()
        started = time.perf_counter()
        training.advance()
        training.tracker.fetch()  # waits for the device
        seconds = time.perf_counter() - started
    return seconds, count(config)[1]


def count(config: Mapping[str, Any]) -> tuple[float, float]:
    """Count the FLOPs of a step, and the bytes at its peak, without any pixels.

    The network is built on torch's meta device, which computes shapes alone. A step
    takes three times the FLOPs of a forward pass; at its peak lie the images, weights
    with gradients, and what the forward pass keeps for the backward one.

    Returns
    -------
    flops, bytes : float
    """
    train = trainer.TrainConfig(**settings_of(config))
    model = getattr(nets, train.encoder)(train.d, **train.options).to("meta")
    size, kept = config["size"], {}

    def note(x: Tensor) -> Tensor:
        kept[id(x.untyped_storage())] = x
        return x

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(note, lambda x: x),
    ):
        model(torch.empty((2 * train.batch, 3, size, size), device="meta"))
    activations: float = sum(x.untyped_storage().nbytes() for x in kept.values())
    if train.precision != "float32":
        activations /= 2
    weights = 2 * 4 * sum(p.numel() for p in model.parameters())
    images = config["n"] * size * size * 3
    return 3.0 * counter.get_total_flops(), activations + weights + images + OVERHEAD


def on_cards(config: Mapping[str, Any]) -> list[str]:
    """Say for each card how long the recipe takes, and whether it fits: a line each."""
    flops, peak = count(config)
    steps = steps_of(config)
    return [
        f"{card}: {steps} steps, about {steps * flops / (SHARE * speed) / 3600:.1f} h "
        f"at {SHARE:.0%} of its half-precision peak; {peak / 1e9:.1f} of "
        f"{memory / 1e9:.0f} GB"
        + ("" if peak < memory else ": too much; halve the batch, or use more cards")
        for card, (speed, memory) in CARDS.items()
    ]
