"""What a training run holds, and one step of it.

A private half of `pkg.trainer`.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pkg import distributed, losses, nets, optim
from pkg._batches import Batches, Draw, standardize
from pkg._config import TrainConfig
from pkg.track import Probe, Tracker

LOOKS = 3  # at gamma_1, of which the largest sets the rate


class Training:
    """A run between two steps: network, generator, spectra so far.

    Parameters
    ----------
    config : TrainConfig
    pixels : (n, h, w, 3) uint8
    model : nn.Module or None
        In place of the encoder that `config` names.
    place : distributed.Session
        The device, and how many processes share each batch.
    """

    def __init__(
        self,
        config: TrainConfig,
        pixels: np.ndarray,
        model: nn.Module | None,
        place: distributed.Session,
    ) -> None:
        device = place.device
        self.config, self.device, self.world = config, device, place.world
        distributed.share(config.batch)  # refuses a batch that cannot be dealt evenly
        # One generator: it draws the weights, and then every batch.
        generator = torch.Generator().manual_seed(config.seed)
        if model is None:
            build = getattr(nets, config.encoder)
            model = build(config.d, generator=generator, **config.options)
            if config.start != 1.0:
                nets.scale_init_(model, config.start)
        self.model = model.to(device)
        # torch's own types do not know this keyword.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = _wrapped(self.model, self.world, config.compile)
        self.dtype, self.scaler = _precision(config.precision, device)
        self.batches = Batches(pixels, config.recipe, config.batch, generator, device)
        # One kernel for all weights; with fp16 it also skips a step without the host.
        fused = device.type == "cuda"
        self.optimizer = torch.optim.SGD(_trained(model), lr=1.0, fused=fused)
        self.tracker = Tracker(config.d, device)
        self.probe = self._probe(pixels[: config.probe])
        self.marks = {*np.linspace(0, config.steps, config.snapshots).round().tolist()}
        self.step, self.t, self.lr = 0, 0.0, config.lr or 0.0
        self.rates = Rates()
        self.direction: dict[str, Tensor] = {}

    def advance(self) -> None:
        """Look at the network, and take one step; after the last step, only look.

        The host waits for the device only where gamma_1 is measured, and where the
        gradient is preconditioned: the eigenvectors of a small matrix.
        """
        config, last = self.config, self.step == self.config.steps
        before = self.batches.state() if last else {}
        draw = self.batches.draw()
        if config.lr is None and not last and config.looks(self.step):
            self._measure(draw)
        if config.probe and self.step in self.marks - {*self.probe.steps}:
            self.probe.take(self.step, self.t, self.model, self.embed)
        x, x_prime = self.batches.make(draw[distributed.share(config.batch)])
        z, z_prime = self.embed(torch.cat([x, x_prime])).chunk(2)
        z, z_prime = distributed.gather(z), distributed.gather(z_prime)
        if config.precondition:
            z, z_prime = optim.precondition(
                z,
                z_prime,
                power=config.precondition,
                floor=config.floor,
                center=config.centered,
            )
        loss = losses.METHODS[config.method](z, z_prime, **config.keywords)
        if self.step > self.tracker.latest and (last or config.records(self.step)):
            self.tracker.push(self.step, self.t, loss, z, z_prime)
        if last:
            # A run that is made longer takes its next step on this very batch.
            self.batches.restore(before)
        else:
            self._descend(loss)
            self.t += self.lr
            self.step += 1

    def embed(self, x: Tensor) -> Tensor:
        """Embed views: half precision for the encoder, float32 for what it returns."""
        wide = next(self.model.parameters()).dtype
        x = x.to(wide).contiguous(memory_format=torch.channels_last)
        half: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.dtype is not None:
            half = torch.autocast(self.device.type, self.dtype)
        with half:
            z = self.network(x)
        if z.ndim != 2 or z.shape != (len(x), self.config.d):
            raise ValueError(
                f"`model` must map (n, 3, h, w) to (n, d) with d = {self.config.d}; "
                f"{tuple(x.shape)} became {tuple(z.shape)}"
            )
        return z.to(wide)

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.param_groups[0]["lr"] = self.lr
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _measure(self, draw: Draw) -> None:
        """Set the rate from the kernel as it is now, on a few pairs of the batch."""
        config = self.config
        x, x_prime = self.batches.make(draw[: config.pairs])
        wide = next(self.model.parameters()).dtype
        gamma = optim.top_gamma(
            self.model,
            x.to(wide),
            x_prime.to(wide),
            center=config.centered,
            tol=0.05,
            iterations=20,
            direction=self.direction,
        )
        # Processes on unlike machines may differ in the last digit.
        gamma = distributed.same(gamma)
        # Few pairs make it noisy, and one rate too large does harm that waits of small
        # ones do not: the largest of the last looks counts.
        self.lr = config.rate / max([*self.rates.gamma[1 - LOOKS :], gamma])
        self.rates.add(self.step, gamma, self.lr)

    def _probe(self, pixels: np.ndarray) -> Probe:
        x = torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2) / 255
        return Probe(standardize(x))

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers from which `restore` goes on to the same bits."""
        return {
            "step": self.step,
            "t": self.t,
            "lr": self.lr,
            "rates": self.rates.state(),
            "direction": self.direction,
            "model": self.model.state_dict(),
            "scaler": {} if self.scaler is None else self.scaler.state_dict(),
            "batches": self.batches.state(),
            "tracker": self.tracker.state(),
            "probe": self.probe.state(),
            # Nothing of ours draws from these; a network with dropout does.
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all()
            if self.device.type == "cuda"
            else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.step, self.t, self.lr = state["step"], state["t"], state["lr"]
        self.rates.restore(state["rates"])
        self.direction = {k: v.to(self.device) for k, v in state["direction"].items()}
        self.model.load_state_dict(state["model"])
        if self.scaler is not None and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.batches.restore(state["batches"])
        self.tracker.restore(state["tracker"])
        self.probe.restore(state["probe"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and state["cuda_random"]:
            torch.cuda.set_rng_state_all(state["cuda_random"])


@dataclass
class Rates:
    """Every look at gamma_1: the step, gamma_1, and the learning rate from then on."""

    step: list[int] = field(default_factory=list)
    gamma: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)

    def add(self, step: int, gamma: float, lr: float) -> None:
        """Add one look."""
        self.step.append(step)
        self.gamma.append(gamma)
        self.lr.append(lr)

    def state(self) -> dict[str, list[Any]]:
        """Return all that `restore` needs."""
        return {"step": [*self.step], "gamma": [*self.gamma], "lr": [*self.lr]}

    def restore(self, state: Mapping[str, list[Any]]) -> None:
        """Take up what `state` returned."""
        self.step, self.gamma = [*state["step"]], [*state["gamma"]]
        self.lr = [*state["lr"]]


def _trained(model: nn.Module) -> list[nn.Parameter]:
    found = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError(
            "`model` has no parameter that requires a gradient; call "
            "requires_grad_() on what is to be trained"
        )
    return found


def _wrapped(
    model: nn.Module, world: int, compiled: bool
) -> Callable[[Tensor], Tensor]:
    if world > 1:
        # The flag keeps gradients in one order from the first step on. Without it DDP
        # arranges them anew after that step, and a run that resumes begins with the
        # other order: three ranks or more then differ in the last bit. That none were
        # unused, DDP reports once; all is well.
        model = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    # Not in place: gamma_1 is measured on the model as it is, which torch.func can
    # differentiate and a compiled one it cannot.
    return torch.compile(model) if compiled else model


def _precision(
    name: str, device: torch.device
) -> tuple[torch.dtype | None, "torch.amp.GradScaler | None"]:
    """Choose the encoder's half precision: bf16 where the card has it, else fp16."""
    if name == "auto":
        name = "float32"
        if device.type == "cuda":
            # A T4 (7.5) emulates bf16, slowly.
            capable = torch.cuda.get_device_capability(device) >= (8, 0)
            name = "bf16" if capable else "fp16"
    if name == "float32":
        return None, None
    if name == "bf16":
        return torch.bfloat16, None
    return torch.float16, torch.amp.GradScaler(device.type)
