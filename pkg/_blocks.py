"""How much memory there is, what a computation takes, and blocks that fit."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pkg import _check

GB = 10**9
# Beside tensors there are the allocator's gaps and the libraries' own scratch: measured
# on networks of convolutions, a sixth to a quarter more.
SCRATCH = 1.25


def budget(memory_gb: float | None, device: torch.device) -> float:
    """Return how many bytes may be taken: half of what is free, or as asked."""
    if memory_gb is not None:
        return GB * float(_check.positive("memory_gb", memory_gb, ndim=0))
    free = free_memory()
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
            device
        )
        free = min(free, torch.cuda.mem_get_info(device)[0] + unused)
    return free / 2


def block_size(
    n: int, needed: Callable[[int], float], most: float, instead: str
) -> int:
    """Find the largest equal share of n points that fits.

    Parameters
    ----------
    n : int
        Points.
    needed : callable
        Bytes that a block of so many points takes.
    most : float
        Bytes that may be taken.
    instead : str
        What to advise that takes less.

    Returns
    -------
    int

    Raises
    ------
    MemoryError
        If one point is too many.
    """
    for blocks in range(1, n + 1):
        size = -(-n // blocks)
        if needed(size) <= most:
            return size
    raise MemoryError(
        f"even one point at a time takes {needed(1) / GB:.3g} GB, and `memory_gb` "
        f"allows {most / GB:.3g}. If there is more, pass memory_gb="
        f"{1.1 * needed(1) / GB:.2g}; or pass fewer points; or {instead}"
    )


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes of main memory that this process may still take."""
    limits = []
    if Path("/proc/meminfo").exists():
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [line.split() for line in lines if line.startswith("MemAvailable")]
        limits += [1024 * float(words[1]) for words in found]
    # A container may allow less than the machine has.
    if (group / "memory.max").exists():
        most = (group / "memory.max").read_text().strip()
        used = (group / "memory.current").read_text()
        limits += [] if most == "max" else [float(most) - float(used)]
    if not limits:  # macOS, Windows: half of what is built in, if we can learn it
        pages = getattr(os, "sysconf", lambda name: 2**20)("SC_PHYS_PAGES")
        limits = [pages * 4096 / 2]
    return max(min(limits), 0.0)


class Ledger(TorchDispatchMode):
    """Counts the bytes of the tensors made under it, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would load its compiler, in 2 s and 80 MB, to keep it away from us.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run the operation and enter what it made."""
        before = {
            id(t.untyped_storage())
            for t in tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._enter(tensor.untyped_storage(), before)
        return out

    def _enter(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = id(storage)
        if key in self.known or key in before:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """Run `work` once and return about how many bytes it took at most."""
    with Ledger() as ledger:
        work()
    return int(SCRATCH * ledger.peak)
