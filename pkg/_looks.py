"""What is asked of a trained network: embeddings, features, and its kernel in parts.

A private half of ``pkg.recipes``.
"""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from pkg import data, kpca, nets, ntk, trainer, views

PAIRS_SEED = 1000  # no seed of a run


def network_of(run: trainer.Run) -> nets.ResNet:
    """Return the network of a run, as what it is."""
    assert isinstance(run.model, nets.ResNet)
    return run.model


def untrained(config: trainer.TrainConfig) -> nets.ResNet:
    """Build the network of a run as it was drawn, with torch's own readout."""
    build = getattr(nets, config.encoder)
    generator = torch.Generator().manual_seed(config.seed)
    network: nets.ResNet = build(config.d, generator=generator, **config.options)
    return network


def pairs(images: data.Images, config: trainer.TrainConfig, n: int) -> Tensor:
    """Draw pairs as a run sees them.

    Parameters
    ----------
    images : Images
        The first n are taken.
    config : TrainConfig
        Its views, and its seed.
    n : int

    Returns
    -------
    (2n, 3, h, w)
        All x first, then the x' in the same order.
    """
    generator = torch.Generator().manual_seed(config.seed + PAIRS_SEED)
    x, x_prime = views.pair(images.x[:n], config.recipe, generator=generator)
    return trainer.standardize(torch.cat([x, x_prime]))


def kernel_parts(net: nets.ResNet, both: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute the NTK, centred view by view, in two parts.

    Parameters
    ----------
    net : ResNet
    both : (2n, 3, h, w)

    Returns
    -------
    readout, rest : (2n, 2n)
        The part of the readout, and that of all other layers.
    """
    features = centre(numbers(net.features(both)))
    net.fc.requires_grad_(False)
    try:
        rest = centred(ntk.empirical(net, both))
    finally:
        net.fc.requires_grad_(True)
    return features @ features.T, rest


def leading_modes(K: np.ndarray, d: int) -> np.ndarray:
    """Find the leading contrastive modes of a kernel.

    Parameters
    ----------
    K : (2n, 2n)
    d : int

    Returns
    -------
    (2n, d)
    """
    with warnings.catch_warnings():
        # Small gaps are part of what is recorded.
        warnings.filterwarnings("ignore", message="gamma_")
        return kpca.fit(K, d).embeddings


def centred(K: np.ndarray) -> np.ndarray:
    """Centre a kernel view by view."""
    return centre(centre(K).T)


def centre(rows: np.ndarray) -> np.ndarray:
    """Subtract from each view, one half of the rows, its own mean."""
    halves = np.split(rows, 2)
    return np.concatenate([half - half.mean(axis=0) for half in halves])


def numbers(z: Tensor) -> np.ndarray:
    """Return a tensor's numbers in float64."""
    return z.detach().double().numpy()


def embed(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Embed images at rest, without augmentation.

    Parameters
    ----------
    net : nn.Module
    pixels : (n, h, w, 3) uint8

    Returns
    -------
    (n, d)
    """
    x = trainer.standardize(torch.tensor(pixels).permute(0, 3, 1, 2) / 255)
    with torch.no_grad():
        return np.concatenate([numbers(net(part)) for part in x.split(500)])


def features_of(net: nets.ResNet, pixels: np.ndarray) -> np.ndarray:
    """Return what the readout reads of images at rest, without augmentation.

    Parameters
    ----------
    net : ResNet
    pixels : (n, h, w, 3) uint8

    Returns
    -------
    (n, p)
    """
    x = trainer.standardize(torch.tensor(pixels).permute(0, 3, 1, 2) / 255)
    with torch.no_grad():
        return np.concatenate([numbers(net.features(part)) for part in x.split(500)])
