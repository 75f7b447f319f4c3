"""Several processes train one network: `torchrun` starts them, this room joins them.

Every rank draws the views of the whole batch from the same seed and embeds its own
share of them; the embeddings are gathered, and every rank evaluates the same loss on
all of them. On one process each function here does nothing, so the loop has one form.
"""

import functools
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from pkg import _check

PATIENCE = 3.0  # seconds in which a rank that lives answers the roll call
PAUSE = 0.1  # seconds before the end of a session
_sessions = itertools.count()


class Session(NamedTuple):
    """This process among those that train together.

    Attributes
    ----------
    rank : int
        Its number, from 0.
    world : int
        How many there are.
    device : torch.device
        Where its share of the work is done.
    """

    rank: int
    world: int
    device: torch.device


@contextmanager
def session(
    device: str | torch.device | None = None, *, timeout: float = 600.0
) -> Iterator[Session]:
    """Join the processes that `torchrun` has started, for the length of a with block.

    Rank, world and address come from the environment that torchrun sets. Without it
    there is one process, and nothing to join. Ranks speak through NCCL on CUDA devices
    and through gloo on CPUs.

    Parameters
    ----------
    device : str or torch.device, optional
        Left out: CUDA where there is one, each rank of a machine on a card of its own;
        else the CPU.
    timeout : float
        Seconds after which a rank that keeps the others waiting counts as lost. Longer
        than the longest pause of any rank, such as writing a checkpoint.

    Returns
    -------
    Session
        Rank, world and device, for the length of the block.

    Raises
    ------
    ValueError
        If there are more ranks than cards on this machine: lower --nproc-per-node.
    RuntimeError
        Inside the block, if another rank dies or hangs; the message names it. Start
        the same command again: the run goes on from its checkpoint. (On CUDA devices
        NCCL may end the process itself when the time is out; torchrun then names it.)
    """
    timeout = float(_check.positive("timeout", timeout, ndim=0))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = _place(device, int(os.environ.get("LOCAL_RANK", "0")), world)
    if world == 1 or dist.is_initialized():
        yield Session(_rank(), _world(), place)  # a group made elsewhere ends there
        return
    register, rank, world = _meet()
    # Words of an earlier session must not be taken for this one's.
    store = dist.PrefixStore(f"session {next(_sessions)}", register)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group(
        "nccl" if place.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout),
    )
    try:
        yield Session(rank, world, place)
    except RuntimeError as error:
        if not _is_of_the_group(error):
            raise
        with _not_told_to_end():
            lost = _roll_call(store, rank, world)
        if not lost:
            raise  # all are here, so the call itself was wrong
        who = f"ranks {lost} of {world} do" if lost[1:] else f"rank {lost[0]} does"
        raise RuntimeError(
            f"{who} not answer rank {rank} any more: dead, or stuck for longer than "
            f"{timeout:g} s. Look for the first error in its own output, then start "
            "the same command again; the run goes on from its checkpoint"
        ) from error
    finally:
        # A thread of gloo may still wait for the interpreter, to let go of a tensor;
        # who ends the group holds the interpreter, and waits for the thread.
        time.sleep(PAUSE)
        dist.destroy_process_group()


def is_main() -> bool:
    """Say whether this process writes files and draws bars: rank 0, or the only one."""
    return _rank() == 0


def share(n: int) -> slice:
    """Take this rank's part of a batch of `n`: consecutive rows, as many for each.

    Raises
    ------
    ValueError
        If `n` cannot be dealt out evenly; the message names the nearest batches.
    """
    n, world = _check.count("n", n), _world()
    if n % world:
        below, above = n - n % world, n - n % world + world
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"a batch of {n} pairs cannot be dealt to {world} ranks evenly; use {near}"
        )
    size = n // world
    return slice(_rank() * size, (_rank() + 1) * size)


def gather(z: Float[Tensor, "n d"]) -> Float[Tensor, "N d"]:
    """Collect the embeddings of all ranks, in the order of the batch, with gradients.

    Row i of the result is pair i of the whole batch, if each rank embeds its `share`;
    gather each view by itself. If every rank then evaluates the same loss L on the
    result, the gradient that reaches a rank's own rows is world times dL/dz: backward
    adds what the ranks send, and they send the same. DistributedDataParallel takes
    the mean over ranks of what their rows give the weights, and that is dL/dW, as if
    one process had seen the batch. Without the gradient of the others' copies it
    would be 1 / world of it.

    Parameters are z (n, d), with one n on all ranks; the result is (world n, d).
    """
    # autograd.Function.apply has no types of its own.
    return z if _world() == 1 else _Gather.apply(z)  # type: ignore[no-untyped-call]


def same(value: Any) -> Any:
    """Give every rank the value of rank 0; what the other ranks pass is dropped.

    For what is read from a clock, a disk or a person: a rank that decided by itself
    would one day stop while the others wait.
    """
    if _world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z) for _ in range(_world())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)  # (world n, d)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()  # (world n, d)
        dist.all_reduce(total)
        return total[share(len(total))]


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _place(device: str | torch.device | None, local: int, world: int) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type != "cuda" or world == 1:
        return place
    cards = torch.cuda.device_count()
    if local >= cards:
        raise ValueError(
            f"`device` is {str(device)!r}, but this machine has {cards} cards and rank "
            f"{local} of it would be without one; pass torchrun --nproc-per-node="
            f"{max(cards, 1)}, or device='cpu'"
        )
    return torch.device("cuda", local)


@functools.cache
def _meet() -> tuple[dist.Store, int, int]:
    # Once a process: without torchrun, rank 0 keeps the register, and a second one at
    # the same address would be sought while the first is being closed.
    return next(dist.rendezvous("env://"))


def _is_of_the_group(error: RuntimeError) -> bool:
    # Gloo raises a plain RuntimeError and names its own source file.
    return isinstance(error, dist.DistError) or "gloo/" in str(error)


@contextmanager
def _not_told_to_end() -> Iterator[None]:
    """Put off the SIGTERM by which torchrun ends the ranks that are left.

    It waits half a minute for them, and would otherwise silence who knows what is lost.
    """
    try:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone may ask
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _roll_call(store: dist.Store, rank: int, world: int) -> list[int]:
    """Find the ranks that do not say within a few seconds that they are still here."""
    missing = [other for other in range(world) if other != rank]
    deadline = time.monotonic() + PATIENCE
    try:
        store.set(f"here/{rank}", "")
        while missing and time.monotonic() < deadline:
            missing = [other for other in missing if not store.check([f"here/{other}"])]
            time.sleep(0.05)
    except RuntimeError:
        return [0]  # without torchrun, rank 0 keeps the store
    return missing
