"""Ranks: two processes have the loss and gradient of one, and a lost one is named.

Run as a program, this file is what the ranks do: one interpreter that loads torch once
and forks them.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from pkg import distributed, losses, nets

PAIRS, D = 12, 4
FORMS = {
    f"{method}, {form}": (method, losses.STEPWISE[method] if form == "stepwise" else {})
    for method in losses.METHODS
    for form in ("stepwise", "published")
}


def build():
    """A demo ResNet and pairs of noisy images; every call makes the same ones."""
    generator = torch.Generator().manual_seed(0)
    model = nets.demo(D, norm="group", generator=generator).double()
    x = torch.randn(PAIRS, 3, 10, 10, generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return model, x, x + 0.5 * noise


def loss_and_gradient(form, gather=distributed.gather):
    """As a training step does: this rank's share, both views in one pass."""
    method, keywords = FORMS[form]
    model, x, x_prime = build()
    network = model
    if torch.distributed.is_initialized():
        network = nn.parallel.DistributedDataParallel(model)
    mine = distributed.share(PAIRS)
    z, z_prime = network(torch.cat([x[mine], x_prime[mine]])).chunk(2)
    loss = losses.METHODS[method](gather(z), gather(z_prime), **keywords)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    return loss.detach(), gradient


def gather_without_gradient(z):
    """What a plain all_gather gives: only its own rows know where they are from."""
    parts = [torch.empty_like(z) for _ in range(2)]
    torch.distributed.all_gather(parts, z.detach())
    parts[torch.distributed.get_rank()] = z
    return torch.cat(parts)


# --- what a rank does -----------------------------------------------------------------


def computing(rank):
    with distributed.session("cpu") as (number, world, device):
        assert (number, world, device.type) == (rank, 2, "cpu")
        found = {form: loss_and_gradient(form) for form in FORMS}
        found["detached"] = loss_and_gradient(
            "barlow_twins, stepwise", gather_without_gradient
        )
        rows = torch.arange(4.0)[distributed.share(4)].reshape(2, 1).requires_grad_()
        gathered = distributed.gather(rows)
        # Every rank with a loss of its own: what arrives is the sum over ranks.
        (gathered[:, 0] @ torch.tensor([1.0, 2.0, 3.0, 4.0]) * 10.0**rank).backward()
        found["gathered"] = gathered.detach().flatten().tolist()
        found["adjoint"] = rows.grad.flatten().tolist()
        found["same"] = distributed.same({"from": rank})
        found["main"] = distributed.is_main()
        try:
            distributed.share(7)
        except ValueError as error:
            found["uneven"] = str(error)
    with distributed.session("cpu"):  # a second run in one process
        found["again"] = distributed.same(rank + 10)
    found["after"] = distributed.share(7)
    return found


def losing(victim, how):
    def losing_one(rank):
        with distributed.session("cpu", timeout=1.5):
            distributed.gather(torch.ones(1, 1))
            if rank == victim:
                if how == "fails":
                    raise RuntimeError("a fault of its own")
                if how == "stuck":
                    time.sleep(4)
                os.kill(os.getpid(), signal.SIGKILL)
            model = nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
            model(torch.ones(1, 1)).sum().backward()

    return losing_one


def failing_alike(rank):
    with distributed.session("cpu"):
        distributed.gather(torch.ones(1, 1))
        raise RuntimeError("every rank diverged")


CASES = {
    "computing": (2, computing),
    "killed": (3, losing(1, "killed")),
    "rank 0 killed": (2, losing(0, "killed")),
    "stuck": (2, losing(1, "stuck")),
    "fails": (2, losing(1, "fails")),
    "alike": (2, failing_alike),
}


def be_rank(case, rank, port, folder):
    world, work = CASES[case]
    os.environ |= {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)},
    }
    try:
        result = work(rank)
    except Exception as error:
        traceback.print_exc()
        result = f"{type(error).__name__}: {error}"
    torch.save(result, folder / f"{case}.{rank}")


def main(folder):
    import torch._dynamo  # DDP loads it: once here, not once a rank

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    processes = []
    for case, (world, _) in CASES.items():
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(world):
            told = (case, rank, port, Path(folder))
            processes.append(fork.Process(target=be_rank, args=told))
            processes[-1].start()
    for process in processes:
        process.join(60)
        process.kill()  # one that hangs has left no result, and is missed by its test


# --- what is tested -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What every rank of every case returned, or how it failed."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, __file__, str(folder)]
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    found = {p.name: torch.load(p, weights_only=False) for p in folder.iterdir()}
    assert done.returncode == 0, done.stderr
    found["log"] = done.stderr
    return found


@pytest.mark.parametrize("form", FORMS)
def test_two_ranks_have_the_loss_and_gradient_of_one(ranks, form):
    """With GroupNorm, through DistributedDataParallel, in double precision."""
    loss, gradient = loss_and_gradient(form)
    assert gradient.norm() > 0
    for rank in range(2):
        loss_there, gradient_there = ranks[f"computing.{rank}"][form]
        torch.testing.assert_close(loss_there, loss, rtol=1e-12, atol=0)
        # Entries are sums of terms as large as the largest entry.
        size = float(gradient.abs().max())
        torch.testing.assert_close(
            gradient_there, gradient, rtol=0, atol=1e-12 * size
        )  # fmt: skip


def test_without_the_gradient_of_the_copies_half_of_it_is_lost(ranks):
    """The trap of a plain all_gather: 1 / world of the gradient, in silence."""
    _, gradient = loss_and_gradient("barlow_twins, stepwise")
    loss, lost = ranks["computing.0"]["detached"]
    assert float(loss) == pytest.approx(
        float(loss_and_gradient("barlow_twins, stepwise")[0])
    )
    torch.testing.assert_close(2 * lost, gradient, rtol=1e-9, atol=1e-9)


def test_gather_is_in_the_order_of_the_batch_and_backward_adds_over_ranks(ranks):
    for rank in range(2):
        found = ranks[f"computing.{rank}"]
        assert found["gathered"] == [0.0, 1.0, 2.0, 3.0]
        # Rank 0 weighs with 1, rank 1 with 10.
        assert found["adjoint"] == [[11.0, 22.0], [33.0, 44.0]][rank]


def test_ranks_agree_on_what_rank_0_says(ranks):
    for rank in range(2):
        found = ranks[f"computing.{rank}"]
        assert found["same"] == {"from": 0} and found["again"] == 10
        assert found["main"] == (rank == 0)
        assert found["uneven"] == (
            "a batch of 7 pairs cannot be dealt to 2 ranks evenly; use 6 or 8"
        )
        assert found["after"] == slice(0, 7)  # one process again


def test_one_process_needs_no_group():
    z = torch.ones(3, 2, requires_grad=True)
    with distributed.session("cpu") as place:
        assert place == (0, 1, torch.device("cpu"))
        assert distributed.gather(z) is z
        assert distributed.share(5) == slice(0, 5) and distributed.is_main()
        assert distributed.same(place) is place
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("case", "survivors", "victim"),
    [("killed", (0, 2), 1), ("rank 0 killed", (1,), 0), ("stuck", (0,), 1),
     ("fails", (0,), 1)],
)  # fmt: skip
def test_a_lost_rank_is_named_by_the_others(ranks, case, survivors, victim):
    for rank in survivors:
        said = f"RuntimeError: rank {victim} does not answer rank {rank} any more"
        assert re.match(re.escape(said), ranks[f"{case}.{rank}"])
        assert "start the same command again" in ranks[f"{case}.{rank}"]
    assert f"{case}.{victim}" not in ranks or case in ("fails", "stuck")


def test_a_rank_that_fails_says_so_itself(ranks):
    """Its own error is not taken for a lost rank, nor is one that all ranks share."""
    assert ranks["fails.1"] == "RuntimeError: a fault of its own"
    for rank in range(2):
        assert ranks[f"alike.{rank}"] == "RuntimeError: every rank diverged"


REFUSALS = {
    "no rows": (lambda: distributed.share(0), "`n` must be at least 1; got 0"),
    "no time": (
        lambda: distributed.session("cpu", timeout=0.0).__enter__(),
        "`timeout` must be finite and positive; it is 0",
    ),
    "more ranks than cards": (
        lambda: distributed.session("cuda").__enter__(),
        "this machine has 1 cards and rank 1 of it would be without one; pass torchrun "
        "--nproc-per-node=1",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_refused_by_name(case, as_a_user, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    call, message = REFUSALS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_more_ranks_than_pairs_are_refused_with_the_smallest_batch(monkeypatch):
    monkeypatch.setattr(distributed, "_world", lambda: 8)
    with pytest.raises(
        ValueError, match=r"a batch of 3 pairs .* 8 ranks evenly; use 8"
    ):
        distributed.share(3)


if __name__ == "__main__":
    main(sys.argv[1])
