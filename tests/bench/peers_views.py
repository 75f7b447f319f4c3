"""Views a second, ours and the peers', in one process; prints JSON.

Run by ``bench_views`` with the Python of the peers' environment. Every contender does
the work of the recipe "simclr", from uint8 images to float views: crop, flip, jitter
with hue in random order, grey, blur with the same kernel, each view with its own draws.

    PYTHONPATH=. PYTHON_OF_PEERS -m tests.bench.peers_views SIZE:VIEWS... REPEATS
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import kornia.augmentation as kornia
import torch
import torchvision.transforms.v2 as tv
import torchvision.transforms.v2.functional as tvf
from torch.nn.functional import affine_grid, grid_sample

from pkg import _colour, views

RECIPE = views.RECIPES["simclr"]
COLOURS = (RECIPE.brightness, RECIPE.contrast, RECIPE.saturation, RECIPE.hue)


def main(tasks: list[str], repeats: int) -> None:
    """Time every contender at every size, taking turns, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result: dict[str, Any] = {"parity": parity(), "seconds": {}}
    for task in tasks:
        size, n = (int(number) for number in task.split(":"))
        runs = contenders(torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(repeats + 1):
            for name, run in runs.items():
                # One thread and nothing to wait for: the processor's own time is the
                # wall's on an idle machine, and steadier on a busy one.
                started = time.process_time()
                run()
                if repeat:  # the first only warms up
                    times[name].append((time.process_time() - started) / n)
        medians = {name: statistics.median(values) for name, values in times.items()}
        result["seconds"][task] = medians
    print(json.dumps(result))


def contenders(images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Return what to time: the same views of the same images."""
    size = images.shape[1]
    generator = torch.Generator().manual_seed(0)
    pictures = images.permute(0, 3, 1, 2).contiguous()
    pil = [tvf.to_pil_image(picture) for picture in pictures]
    one_by_one, batched = torchvision_views(size), kornia_views(size)
    floats = pictures.to(torch.float32) / 255
    boxes = torch.tensor([[0.5, 0, 0.1], [0, 0.5, 0.1]]).expand(len(images), 2, 3)
    grid = affine_grid(boxes, list(floats.shape), align_corners=False)
    return {
        "ours": lambda: views.apply(images, views.draw(len(images), RECIPE, generator)),
        "kornia": lambda: batched(pictures.to(torch.float32) / 255),
        "torchvision on tensors": lambda: torch.stack(
            [one_by_one(picture) for picture in pictures]
        ),
        "torchvision on PIL": lambda: torch.stack(
            [one_by_one(picture) for picture in pil]
        ),
        "one bare grid_sample": lambda: grid_sample(
            floats, grid, padding_mode="border", align_corners=False
        ),
    }


def torchvision_views(size: int) -> tv.Transform:
    """Return torchvision's pipeline, for one image: a batch would share its draws."""
    return tv.Compose(
        [
            tv.RandomResizedCrop(size, scale=RECIPE.scale, ratio=RECIPE.ratio),
            tv.RandomHorizontalFlip(RECIPE.flip),
            tv.RandomApply([tv.ColorJitter(*COLOURS)], p=RECIPE.jitter),
            tv.RandomGrayscale(RECIPE.grey),
            tv.RandomApply([tv.GaussianBlur(kernel(size), RECIPE.sigma)], RECIPE.blur),
            tv.ToImage(),
            tv.ToDtype(torch.float32, scale=True),
        ]
    )


def kornia_views(size: int) -> torch.nn.Module:
    """Return kornia's pipeline, for a batch: each image draws its own numbers."""
    return torch.nn.Sequential(
        # Cutting out one by one, its default, is faster than its one warp.
        kornia.RandomResizedCrop((size, size), scale=RECIPE.scale, ratio=RECIPE.ratio),
        kornia.RandomHorizontalFlip(p=RECIPE.flip),
        kornia.ColorJitter(*COLOURS, p=RECIPE.jitter),
        kornia.RandomGrayscale(p=RECIPE.grey),
        kornia.RandomGaussianBlur((kernel(size),) * 2, RECIPE.sigma, p=RECIPE.blur),
    )


def kernel(size: int) -> int:
    """Return the side of the blur's kernel."""
    return 2 * _colour.blur_radius(size) + 1


def parity() -> dict[str, float]:
    """Return the largest difference from torchvision, operation by operation."""
    x = torch.randint(0, 256, (8, 3, 96, 96)) / 255
    order = torch.zeros(8, dtype=torch.int64)
    ones, none = torch.ones((8, 3)), torch.zeros(8)
    ours, theirs = {}, {}
    for column, name in enumerate(("brightness", "contrast", "saturation")):
        factors = ones.clone()
        factors[:, column] = 1.4
        ours[name] = _colour.jitter(x.clone(), factors, none, order)
        theirs[name] = getattr(tvf, f"adjust_{name}")(x, 1.4)
    ours["hue"] = _colour.hue(x, torch.full((8, 1, 1, 1), 0.13))
    theirs["hue"] = tvf.adjust_hue(x, 0.13)
    reach = _colour.blur_radius(96)
    wide = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    ours["blur"] = _colour.blur(x, torch.full((8,), 1.3))
    # torchvision mirrors at the border: it gets ours, repeated, and the rim is cut.
    soft = tvf.gaussian_blur(wide, [kernel(96)] * 2, [1.3, 1.3])
    theirs["blur"] = soft[:, :, reach:-reach, reach:-reach]
    ours["solarise"] = _colour.solarise(x)
    theirs["solarise"] = tvf.solarize(x, 0.5)
    return {name: float((ours[name] - theirs[name]).abs().max()) for name in ours}


if __name__ == "__main__":
    main(sys.argv[1:-1], int(sys.argv[-1]))
