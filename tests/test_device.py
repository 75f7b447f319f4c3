"""One step of training on the device alone: nothing left on the CPU, no waiting host.

Torch's meta device has shapes and no numbers. There a step fails that asks what a
number is, which on a GPU would make the host wait, or that mixes in a tensor of the
CPU. So a machine without a GPU finds both. The tests marked `gpu` hold what it cannot:
the same bits twice, half precision, the same numbers as a CPU's, and memory.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pkg import distributed, losses, trainer, views
from pkg._run import Training

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"width": 8}
# Every loss, every recipe of the views and every encoder is there at least once.
STEPS = [
    ("demo", {}, "barlow_twins", "standard"),
    ("demo", {}, "simclr", "strong"),
    ("demo", {}, "vicreg", "weak"),
    ("demo", {}, "spectral", "barlow_twins"),
    ("demo", {"norm": "batch"}, "vicreg", "vicreg"),
    ("resnet18", {**SMALL, "pool": 2}, "barlow_twins", "simclr_cifar"),
    ("resnet50", SMALL, "simclr", "simclr"),
]


class OneDevice(TorchDispatchMode):
    """Refuse an operation on the meta device that is given a tensor of the CPU.

    The meta device itself lets some of them pass, such as a matrix product. Numbers
    (tensors without axes) may stand beside; on a GPU they cost nothing.
    """

    COPIES = torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        devices = {tensor.device.type for tensor in given if tensor.ndim}
        if {"meta", "cpu"} <= devices and func not in self.COPIES:
            raise RuntimeError(f"{func} was given a tensor that was left on the CPU")
        return func(*args, **(kwargs or {}))


def training(device, *, model=None, n=32, side=16, **changes):
    """A run before its first step, on random bytes."""
    small = {"method": "barlow_twins", "batch": 16, "pairs": 8, "lr": 0.01, "steps": 8}
    config = trainer.TrainConfig(**{**small, **changes})
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3))
    place = distributed.Session(0, 1, torch.device(device))
    return Training(config, pixels.astype(np.uint8), model, place)


def test_the_steps_below_leave_no_loss_view_or_encoder_out():
    encoders, _, methods, recipes = map(set, zip(*map(_hashable, STEPS), strict=True))
    assert encoders == {"demo", "resnet18", "resnet50"}
    assert methods == {*losses.METHODS}
    assert recipes == {*views.RECIPES}


def _hashable(step):
    encoder, options, method, recipe = step
    return encoder, tuple(options.items()), method, recipe


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(step[::2]))
def test_a_step_stays_on_its_device(step):
    """With its views, loss, spectra, probe and descent; and the last look after it."""
    _take(*step, probe=0 if "resnet50" in step else 4)


@pytest.mark.slow
@pytest.mark.parametrize("method", losses.METHODS)
@pytest.mark.parametrize("encoder", ["demo", "resnet18", "resnet50"])
def test_every_loss_and_view_stays_with_every_network(encoder, method):
    options = {} if encoder == "demo" else SMALL
    for i, recipe in enumerate(views.RECIPES):
        record, probe = (("every", 0), ("log", 4))[i % 2]
        _take(encoder, options, method, recipe, record=record, probe=probe)


def _take(encoder, options, method, recipe, **changes):
    run = training(
        "meta",
        encoder=encoder,
        options=options,
        method=method,
        views=recipe,
        side=32 if encoder == "resnet50" else 16,
        steps=1,
        snapshots=2,
        **changes,
    )
    with OneDevice():
        run.advance()
        gradients = [p.grad for p in run.model.parameters()]
        run.advance()
    assert all(g is not None and g.is_meta for g in gradients)
    # Both looks gathered on the device, and nothing was fetched.
    assert (run.step, len(run.tracker._waiting), run.tracker.steps) == (1, 2, [])
    assert all(numbers.is_meta for _, _, numbers in run.tracker._waiting)
    assert [z.is_meta for z in run.probe.z] == [True] * len(run.probe.steps)
    assert len(run.probe.z) == (2 if changes["probe"] else 0)


class Wrong(nn.Module):
    """A network with a fault that a CPU does not mind."""

    def __init__(self, fault):
        super().__init__()
        self.readout = nn.Linear(3 * 16 * 16, 8, bias=False)
        self.fault = fault

    def forward(self, x):
        return self.fault(self.readout(x.flatten(1)))


FAULTS = {
    "asks for a number": lambda z: z / z.detach().abs().max().item(),
    "decides by a number": lambda z: z if z.sum() > 0 else -z,
    "picks by a mask": lambda z: z[z[:, 0] < np.inf],
    "goes by way of the CPU": lambda z: z.cpu().to(z.device),
    "adds what the CPU has": lambda z: z + torch.zeros(8),
    "multiplies by what the CPU has": lambda z: z @ torch.eye(8),
    "is indexed by what the CPU has": lambda z: z[torch.arange(len(z))],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_meta_device_finds_the_fault(fault):
    """A test of the tests above: on the CPU the same network takes its step."""
    training("cpu", model=Wrong(FAULTS[fault])).advance()
    wrong = training("meta", model=Wrong(FAULTS[fault]))
    found = (RuntimeError, NotImplementedError)
    with OneDevice(), pytest.raises(found, match=r"CPU|meta"):
        wrong.advance()


def test_the_host_waits_where_gamma_is_measured_and_nowhere_else():
    run = training("meta", lr=None, refresh=100)  # and often at first: every ten
    with OneDevice():
        with pytest.raises(RuntimeError, match="item"):
            run.advance()
        run.step, run.lr = 1, 0.01  # as if it had been measured
        run.advance()
    assert run.step == 2


# What needs the numbers ---------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

TWICE = """
import sys, torch
from tests.test_device import training

torch.use_deterministic_algorithms(True)  # an operation that cannot raises

def weights():
    run = training("cuda", encoder=sys.argv[1], precision=sys.argv[2], side=32, start=1)
    for _ in range(8):
        run.advance()
    return run.model.state_dict()

first, second = weights(), weights()
assert all(torch.equal(first[k], second[k]) for k in first)
moved = training("cuda", encoder=sys.argv[1], start=1).model.state_dict()
assert not torch.equal(first["conv1.weight"], moved["conv1.weight"])
"""


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("encoder", ["demo", "resnet18", "resnet50"])
def test_a_gpu_takes_the_same_steps_twice(encoder, precision):
    """To the bit, where torch is told to be deterministic."""
    # cuBLAS reads this once, when it starts.
    told = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    command = [sys.executable, "-c", TWICE, encoder, precision]
    run = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.fixture
def without_tf32():
    """Full float32 on the GPU, whose convolutions take ten bits by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("method", losses.METHODS)
def test_a_gpu_and_a_cpu_agree(method, without_tf32):
    """The same draws, views, losses and spectra, to float32, over a few steps."""
    runs = []
    for device in ("cpu", "cuda"):
        run = training(device, method=method, precision="float32", start=0.1, probe=4)
        for _ in range(4):
            run.advance()
        run.tracker.fetch()
        runs.append(run)
    for name in ("loss", "eigenvalues"):
        ours, theirs = (np.array(getattr(run.tracker, name)) for run in runs)
        largest = np.abs(ours).max(axis=-1, keepdims=True)
        # Sums in another order, and four steps in which the difference grows.
        assert (np.abs(theirs - ours) <= 1e-3 * largest).all()
    z, z_gpu = (run.probe.snapshots().z for run in runs)
    np.testing.assert_allclose(z_gpu, z, atol=1e-3 * np.abs(z).max())


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_the_encoders_alone(precision):
    """Near float32 where the loss is read, and the weights do move, and stay finite."""
    runs = {}
    for name in ("float32", precision):
        run = training("cuda", precision=name, start=0.1, steps=40)
        before = run.model.conv1.weight.detach().clone()
        x, _ = run.batches.make(run.batches.draw())
        assert run.embed(x).dtype == torch.float32
        for _ in range(40):
            run.advance()
        run.tracker.fetch()
        assert np.isfinite(run.tracker.loss).all()
        assert not torch.equal(run.model.conv1.weight, before)
        runs[name] = run
    assert (runs[precision].scaler is not None) == (precision == "fp16")
    exact, half = (np.array(run.tracker.eigenvalues)[0, 0] for run in runs.values())
    # Eight bits in every convolution; only the leading modes are so well determined.
    np.testing.assert_allclose(half[:3], exact[:3], rtol=0.05)


@cuda
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("method", losses.METHODS)
def test_the_host_never_waits_for_the_gpu(method, precision):
    """The driver itself says so, also while it takes snapshots."""
    run = training("cuda", method=method, precision=precision, probe=4, snapshots=5)
    for _ in range(2):
        run.advance()  # libraries load, and may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            run.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.step == 6
    assert len(run.probe.z) == 3


@cuda
@pytest.mark.gpu
def test_half_precision_takes_less_memory():
    peaks = {}
    for precision in ("float32", "bf16"):
        run = training(
            "cuda", encoder="resnet18", precision=precision, batch=256, n=256, side=32
        )
        run.advance()
        torch.cuda.reset_peak_memory_stats()
        run.advance()
        peaks[precision] = torch.cuda.max_memory_allocated()
        del run
        torch.cuda.empty_cache()
    # What is kept for the way back is half as wide; weights and gradients are not.
    assert peaks["bf16"] < 0.7 * peaks["float32"]


@cuda
@pytest.mark.gpu
def test_out_of_memory_names_a_batch_that_fits():
    pixels = np.zeros((4096, 32, 32, 3), dtype=np.uint8)
    config = trainer.TrainConfig(
        method="barlow_twins", encoder="resnet18", batch=4096, steps=1, lr=0.01
    )
    torch.cuda.empty_cache()
    share = 3e9 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.raises(RuntimeError, match=r"a batch of \d+ fits: pass batch="):
            trainer.fit(config, pixels, device="cuda", progress=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
