"""Make resnets.npz: what torchvision's residual networks compute.

torchvision fails beside the CPU build of torch that this book pins, so it lives in an
environment of its own::

    python3 -m venv elsewhere
    elsewhere/bin/pip install torch==2.14.1 torchvision==0.29.1 numpy
    elsewhere/bin/python tests/golden/make_resnets.py

For each case the file holds the names and shapes of the state, and for weights and
images that both sides draw from one NumPy generator: the output in evaluation mode, the
output in training mode (batch statistics), and the norm of every parameter's gradient
there.
"""

import json
from pathlib import Path

import numpy as np

D, IMAGES = 5, 4
# Network, stem, normalisation, side of the images.
CASES = {
    "resnet18": ("resnet18", "imagenet", "batch", 48),
    "resnet50": ("resnet50", "imagenet", "batch", 48),
    "resnet18_small": ("resnet18", "cifar", "group", 17),
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Return values for a state of such names and shapes, in float64."""
    rng = np.random.default_rng(0)
    values = {}
    for name, shape in shapes.items():
        draw = 2 * rng.random(shape) - 1
        if name.endswith("num_batches_tracked"):
            draw = np.zeros(shape)
        elif name.endswith("running_var"):
            draw = 1 + draw / 2
        elif len(shape) > 1:  # convolutions, and the readout
            draw *= np.sqrt(6 / np.prod(shape[1:]))
        elif name.endswith("weight"):  # scales
            draw = 1 + draw / 2
        values[name] = draw
    return values


def images(side: int) -> np.ndarray:
    """Return (IMAGES, 3, side, side + 3)."""
    return np.random.default_rng(1).standard_normal((IMAGES, 3, side, side + 3))


def signs() -> np.ndarray:
    """Return (IMAGES, D), what the output is multiplied by before it is summed."""
    return np.cos(np.arange(IMAGES * D)).reshape(IMAGES, D)


def main() -> None:
    """Compute every case and write the file beside this script."""
    import torch
    import torchvision

    arrays = {}
    for case, (network, stem, norm, side) in CASES.items():
        grouped = {"norm_layer": lambda c: torch.nn.GroupNorm(8, c)}
        model = getattr(torchvision.models, network)(
            **grouped if norm == "group" else {}
        )
        if stem == "cifar":
            model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
            model.maxpool = torch.nn.Identity()
        model.fc = torch.nn.Linear(model.fc.in_features, D, bias=False)
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        values = {k: torch.tensor(v) for k, v in weights(shapes).items()}
        model.double().load_state_dict(values)
        x = torch.tensor(images(side))
        z = model.eval()(x).detach()
        trained = model.train()(x)
        (trained * torch.tensor(signs())).sum().backward()
        arrays[f"{case}_state"] = np.array(json.dumps(list(shapes.items())))
        arrays[f"{case}_eval"] = z.numpy()
        arrays[f"{case}_train"] = trained.detach().numpy()
        gradients = [float(p.grad.norm()) for p in model.parameters()]
        arrays[f"{case}_gradients"] = np.array(gradients)
    path = Path(__file__).with_name("resnets.npz")
    np.savez_compressed(path, **arrays)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
