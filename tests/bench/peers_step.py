"""Seconds of a step, ours and lightly's in Lightning's Trainer; prints JSON.

Run by ``bench_step`` with the Python of the peers' environment. Both train the same
network with the same loss on batches of the same size from the same images, on one
thread. Both are timed twice: with the views that they make themselves (lightly's by its
transform, on pictures in a data loader, as a user has it), and with views that are
ready, so that the loop is all that is added. Ours follows its spectra in every step.

    PYTHONPATH=. PYTHON_OF_PEERS -m tests.bench.peers_step REPEATS
"""

import json
import logging
import statistics
import sys
import time
import warnings

import numpy as np
import pytorch_lightning as pl
import torch
from lightly.loss import BarlowTwinsLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pkg import data, distributed, nets
from pkg._batches import Batches
from pkg._run import Training
from pkg.trainer import TrainConfig
from pkg.views import RECIPES

SIDE, BATCH, D, LAMBDA, LR = 32, 128, 8, 5e-3, 1e-6
RECIPE = RECIPES["simclr_cifar"]
ROUNDS = 3


def main(repeats: int) -> None:
    """Time each contender in rounds that take turns."""
    torch.set_num_threads(1)
    pixels = data.load("photos", n=4 * BATCH, size=SIDE).x
    contenders = {
        "own views": (ours(pixels), lightning(own_views(pixels))),
        "views ready": (ours(pixels, ready=True), lightning(ready(pixels))),
    }
    times: dict[str, tuple[list, list]] = {name: ([], []) for name in contenders}
    for _ in range(ROUNDS):
        for name, pair in contenders.items():
            for run, seconds in zip(pair, times[name], strict=True):
                # The first steps of a round only warm up.
                seconds += run(repeats // ROUNDS + 3)[3:]
    medians = {k: [statistics.median(t) for t in pair] for k, pair in times.items()}
    print(json.dumps(medians))


def ours(pixels, *, ready=False):
    """Return what takes some steps of our loop, and tells the seconds of each."""
    config = TrainConfig(
        method="barlow_twins",
        terms={"lambd": LAMBDA},
        d=D,
        start=1.0,
        views=RECIPE,
        batch=BATCH,
        lr=LR,
        steps=10**6,
    )
    place = distributed.Session(0, 1, torch.device("cpu"))
    training = Training(config, pixels, None, place)
    if ready:
        pair = training.batches.make(training.batches.draw())
        training.batches.make = lambda draw: pair

    def run(steps: int) -> list[float]:
        clock = [time.process_time()]
        for _ in range(steps):
            training.advance()
            clock.append(time.process_time())
        training.tracker.fetch()
        return np.diff(clock).tolist()

    return run


def lightning(loader):
    """Return the same for Lightning's Trainer on a loader of pairs of views."""
    module = Module()

    def run(steps: int) -> list[float]:
        module.clock = []
        pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=steps + 1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, loader)
        # From the start of one step to that of the next, the loader's work included.
        return np.diff(module.clock).tolist()

    return run


class Module(pl.LightningModule):
    """The demo network and lightly's loss, as lightly's own examples write them."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        model = nets.demo(D, generator=generator)
        self.model = model.to(memory_format=torch.channels_last)
        self.criterion = BarlowTwinsLoss(lambda_param=LAMBDA)
        self.clock: list[float] = []

    def on_train_batch_start(self, batch, batch_idx):
        """Read the clock."""
        self.clock.append(time.process_time())

    def training_step(self, batch, batch_idx):
        """Embed both views in one pass, as ours does."""
        x = torch.cat(list(batch)).contiguous(memory_format=torch.channels_last)
        return self.criterion(*self.model(x).chunk(2))

    def configure_optimizers(self):
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=LR)


class Pictures(Dataset):
    """Pairs of lightly's views of PIL images."""

    def __init__(self, pixels):
        self.pictures = [Image.fromarray(picture) for picture in pixels]
        self.transform = SimCLRTransform(
            input_size=SIDE,
            cj_strength=0.5,
            min_scale=RECIPE.scale[0],
            gaussian_blur=0.0,
        )

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return self.transform(self.pictures[i])


def own_views(pixels):
    """Return lightly's loader, in this process: one core is what ours has too."""
    data = Pictures(pixels)
    return DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)


def ready(pixels):
    """Return a loader that hands out one ready batch of pairs again and again."""
    generator = torch.Generator().manual_seed(0)
    batches = Batches(pixels, RECIPE, BATCH, generator, torch.device("cpu"))
    return DataLoader([batches.make(batches.draw())] * 4, batch_size=None)


if __name__ == "__main__":
    # Advice on workers and logs, on what is printed here as JSON.
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    main(int(sys.argv[1]))
