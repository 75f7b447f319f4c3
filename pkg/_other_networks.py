"""Two neighbours of the networks that climb: a supervised one, and SimSiam.

A private half of ``pkg.recipes``. Plain loops, for comparison only: the same encoder,
images and views, SGD with momentum.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from pkg import checkpoint, data, nets, trainer
from pkg._batches import Batches

LR, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
WIDTH, NARROW = 64, 16  # outputs of SimSiam's projector, and inside its predictor


def others(
    config: trainer.TrainConfig,
    images: data.Images,
    seed: int,
    steps: int,
    keep: Path,
    progress: bool,
) -> dict[str, nets.ResNet]:
    """Train the two neighbours of a seed, and return them beside an untrained net.

    Parameters
    ----------
    config : TrainConfig
        Encoder, views and batch.
    images : Images
        With labels.
    seed : int
        Draws weights, batches and views.
    steps : int
    keep : path
        Folder for their weights, so that the same call need not train them again.
    progress : bool
        Show a bar on the terminal.

    Returns
    -------
    dict
        "untrained", "supervised", "simsiam": networks whose ``features`` compare.
    """
    build = getattr(nets, config.encoder)
    made: dict[str, nets.ResNet] = {}
    for kind in ("untrained", "supervised", "simsiam"):
        generator = torch.Generator().manual_seed(seed)
        outputs = {"untrained": config.d, "supervised": len(images.classes)}
        net = build(outputs.get(kind, WIDTH), generator=generator, **config.options)
        if kind != "untrained":
            head = _predictor(generator) if kind == "simsiam" else nn.ModuleList()
            about = {"kind": kind, "seed": seed, "steps": steps}
            folder = keep / f"{kind}-{seed}"
            state = checkpoint.load(folder, about=checkpoint.describe(about, net))
            if state is None:
                _train(net, head, config, images, generator, steps, progress)
                checkpoint.save(
                    folder,
                    {"net": net.state_dict()},
                    step=steps,
                    about=checkpoint.describe(about, net),
                )
            else:
                net.load_state_dict(state["net"])
        made[kind] = net
    return made


def _train(
    net: nets.ResNet,
    head: nn.ModuleList,
    config: trainer.TrainConfig,
    images: data.Images,
    generator: torch.Generator,
    steps: int,
    progress: bool,
) -> None:
    from tqdm import tqdm

    batches = Batches(
        images.x, config.recipe, config.batch, generator, torch.device("cpu")
    )
    labels = torch.tensor(images.y)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *head.parameters()],
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=DECAY,
    )
    for _ in tqdm(range(steps), unit="step", disable=not progress):
        draw = batches.draw()
        z = net(torch.cat(batches.make(draw)))
        if not len(head):
            loss = cross_entropy(z, labels[draw.rows].repeat(2))
        else:
            loss = _agreement(head, z)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _predictor(generator: torch.Generator) -> nn.ModuleList:
    """SimSiam's tail: a normalisation that ends the projector, and the predictor."""
    layers = nn.ModuleList(
        [
            nn.BatchNorm1d(WIDTH, affine=False),
            nn.Linear(WIDTH, NARROW, bias=False),
            nn.BatchNorm1d(NARROW),
            nn.Linear(NARROW, WIDTH, bias=False),
        ]
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
    return layers


def _agreement(head: nn.ModuleList, z: Tensor) -> Tensor:
    """Return minus the cosine of each view's prediction and the other, held still.

    Chen and He, "Exploring Simple Siamese Representation Learning", arXiv:2011.10566.
    """
    norm, narrow, middle, wide = head
    z, z_prime = (norm(view) for view in z.chunk(2))
    p, p_prime = (wide(torch.relu(middle(narrow(view)))) for view in (z, z_prime))
    there = cosine_similarity(p, z_prime.detach()).mean()
    back = cosine_similarity(p_prime, z.detach()).mean()
    return -(there + back) / 2
