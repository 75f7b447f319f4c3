"""How the record of overtaken rates is made: a rate that stays, a kernel that grows.

A private half of ``pkg.recipes``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pkg import nets, optim, trainer
from pkg._after_runs import Made, Row, join, network, pairs, step_cost, thin


def overtaken_rate(
    config: Mapping[str, Any], roots: Mapping[str, str | Path], *, progress: bool
) -> Made:
    """Train with a rate that stays, and with one that follows the growing kernel.

    Parameters
    ----------
    config : mapping
        As in `after_training`; ``cases``, each a name, groups of GroupNorm (None for no
        normalisation), a factor of all weights, a factor of the readout, and one of
        ``{"lr": ...}`` and ``{"rate": ...}``; ``look``, steps between two
        measurements of gamma_1, and so of the rate that follows it.
    roots, progress
        As in `after_training`.

    Returns
    -------
    runs : tuple of Trajectory
        One per seed and case, case by case; shorter where a loss was no longer finite.
    arrays : dict
        By seed, case and look: ``top``, the largest gamma of the full blocks, and
        ``lr``; NaN after the end of a run. By seed and case: ``rise``, the most by
        which the loss stood above its lowest value so far.
    said : str
        Where the images came from.
    """
    from tqdm import tqdm

    cells = [(case, seed) for case in config["cases"] for seed in config["seeds"]]
    done = []
    for (_, groups, weights, readout, rule), seed in tqdm(
        cells, unit="network", disable=not progress
    ):
        x, x_prime, _, _, said = pairs(config, roots, seed)
        net = network(config, seed, groups)
        nets.scale_init_(net, weights, which="weights")
        nets.scale_init_(net, readout)
        done.append(_follow(net, x, x_prime, config, rule))
    shape = (len(config["cases"]), len(config["seeds"]), -1)
    arrays = {
        key: np.stack([end[key] for end in done]).reshape(shape).swapaxes(0, 1)
        for key in ("top", "lr")
    }
    rises = [_rise(end["run"].loss) for end in done]
    arrays["rise"] = np.reshape(rises, shape[:2]).T
    return tuple(thin(end["run"], 150) for end in done), arrays, said


def rate_cost(config: Mapping[str, Any]) -> tuple[float, float]:
    """Estimate seconds and peak bytes, by timing a few steps of the run's size."""
    seconds_step, peak = step_cost(config)
    # A look at gamma_1 takes about as long as 30 steps.
    steps = config["steps"] * (1 + 30 / config["look"])
    return len(config["seeds"]) * len(config["cases"]) * steps * seconds_step, peak


def _follow(
    net: nn.Sequential,
    x: Tensor,
    x_prime: Tensor,
    config: Mapping[str, Any],
    rule: Mapping[str, float],
) -> Row:
    looks = config["steps"] // config["look"]
    top, rates, stages = np.full(looks, np.nan), np.full(looks, np.nan), []
    for i in range(looks):
        top[i] = optim.top_gamma(net, x, x_prime, center=True)
        rates[i] = rule["lr"] if "lr" in rule else rule["rate"] / top[i]
        try:
            stage = trainer.descend(
                net,
                x,
                x_prime,
                lr=rates[i],
                steps=config["look"],
                center=True,
                rise=np.inf,
            )
        except RuntimeError:  # the loss is no longer finite
            break
        stages.append(stage)
    return {"run": join(stages), "top": top, "lr": rates}


def _rise(loss: np.ndarray) -> float:
    return float(np.max(loss - np.minimum.accumulate(loss)))
