"""Make losses.npz: what another library and the published code say of the losses.

lightly brings a torch of its own, so it lives in an environment apart from the book's::

    python3 -m venv elsewhere
    elsewhere/bin/pip install lightly==1.6.0 numpy
    elsewhere/bin/python tests/golden/make_losses.py

Where lightly has no such loss or no such option, the published code's lines stand here
instead, one step a line as they are there; where it has, both are computed and must
agree. The file holds for each batch the two inputs, and for each loss its value and
its gradients: ``small_vicreg`` and ``small_vicreg_grad`` (2, n, d).
"""

from pathlib import Path

import numpy as np
import torch
from lightly.loss import BarlowTwinsLoss, NTXentLoss, VICRegLoss
from torch import nn
from torch.nn import functional as F


def batches() -> dict[str, np.ndarray]:
    """Return (2, n, d) each: two views that share a part, wide, tiny and large."""
    rng = np.random.default_rng(0)
    shapes = {"few": (3, 2), "small": (8, 4), "wide": (12, 20), "usual": (40, 10)}
    made = {}
    for name, shape in shapes.items():
        shared, *own = rng.standard_normal((3, *shape))
        made[name] = np.stack([shared + 0.5 * noise + 0.2 for noise in own])
    return made | {"tiny": 1e-3 * made["small"], "large": 20 * made["small"]}


def off_diagonal(x):
    """As in the code of Barlow Twins and VICReg."""
    n, _ = x.shape
    return x.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten()


def published_barlow_twins(z1, z2):
    """As in the code of the paper, where the weight is 0.0051."""
    bn = nn.BatchNorm1d(z1.shape[1], affine=False, dtype=z1.dtype)
    c = bn(z1).T @ bn(z2)
    c = c.div(z1.shape[0])
    on_diag = torch.diagonal(c).add(-1).pow(2).sum()
    off_diag = off_diagonal(c).pow(2).sum()
    return on_diag + 0.0051 * off_diag


def published_simclr(hidden1, hidden2, *, hidden_norm, temperature):
    """As in the code of the paper, whose sum of two means counts every view twice."""
    if hidden_norm:
        hidden1, hidden2 = F.normalize(hidden1), F.normalize(hidden2)
    batch_size = hidden1.shape[0]
    labels = torch.arange(batch_size)
    masks = F.one_hot(labels, batch_size)
    logits_aa = torch.matmul(hidden1, hidden1.T) / temperature - masks * 1e9
    logits_bb = torch.matmul(hidden2, hidden2.T) / temperature - masks * 1e9
    logits_ab = torch.matmul(hidden1, hidden2.T) / temperature
    logits_ba = torch.matmul(hidden2, hidden1.T) / temperature
    loss_a = F.cross_entropy(torch.cat([logits_ab, logits_aa], 1), labels)
    loss_b = F.cross_entropy(torch.cat([logits_ba, logits_bb], 1), labels)
    return (loss_a + loss_b) / 2


def published_vicreg(x, y, *, cov_coeff=1.0, eps=0.0001, target=1.0):
    """As in the code of the paper, where eps and target are the constants above."""
    repr_loss = F.mse_loss(x, y)
    x = x - x.mean(dim=0)
    y = y - y.mean(dim=0)
    std_x = torch.sqrt(x.var(dim=0) + eps)
    std_y = torch.sqrt(y.var(dim=0) + eps)
    std_loss = (
        torch.mean(F.relu(target - std_x)) / 2 + torch.mean(F.relu(target - std_y)) / 2
    )
    cov_x = (x.T @ x) / (x.shape[0] - 1)
    cov_y = (y.T @ y) / (y.shape[0] - 1)
    cov_loss = off_diagonal(cov_x).pow(2).sum().div(x.shape[1]) + off_diagonal(
        cov_y
    ).pow(2).sum().div(x.shape[1])
    return 25.0 * repr_loss + 25.0 * std_loss + cov_coeff * cov_loss


def published_spectral(z1, z2):
    """As in the code of the paper, within its ball, where nothing is shortened."""
    loss_part1 = -2 * torch.mean(z1 * z2) * z1.shape[1]
    square_term = torch.matmul(z1, z2.T) ** 2
    loss_part2 = (
        torch.mean(
            torch.triu(square_term, diagonal=1) + torch.tril(square_term, diagonal=-1)
        )
        * z1.shape[0]
        / (z1.shape[0] - 1)
    )
    return loss_part1 + loss_part2


def theory_barlow_twins(z1, z2):
    """Write ||C - I||^2 of centred views out, entry by entry."""
    z1, z2 = z1 - z1.mean(0), z2 - z2.mean(0)
    n, d = z1.shape
    loss = 0.0
    for i in range(d):
        for j in range(d):
            entry = (z1[:, i] @ z2[:, j] + z1[:, j] @ z2[:, i]) / (2 * n)
            loss = loss + (entry - float(i == j)) ** 2
    return loss


# By name: (one form, another that must agree with it or None). Tests know the names.
LOSSES = {
    "barlow_twins": (published_barlow_twins, BarlowTwinsLoss(lambda_param=0.0051)),
    "simclr": (
        lambda z, y: published_simclr(z, y, hidden_norm=True, temperature=0.5),
        NTXentLoss(temperature=0.5),
    ),
    "vicreg": (published_vicreg, VICRegLoss()),
    "spectral": (published_spectral, None),
    "barlow_twins_stepwise": (theory_barlow_twins, None),
    "simclr_stepwise": (
        lambda z, y: published_simclr(z, y, hidden_norm=False, temperature=1.0),
        None,
    ),
    "vicreg_stepwise": (
        lambda z, y: published_vicreg(
            z, y, cov_coeff=10.0, eps=0.1, target=float(np.sqrt(1.1))
        ),
        None,
    ),
}


def evaluate(loss, batch: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss of two views and its gradients (2, n, d)."""
    z, z_prime = (torch.tensor(view, requires_grad=True) for view in batch)
    value = loss(z, z_prime)
    gradients = torch.autograd.grad(value, (z, z_prime))
    return value.item(), torch.stack(gradients).numpy()


def main() -> None:
    """Compute every loss of every batch and write them beside this script."""
    made = batches()
    tables = dict(made)
    for name, (form, other) in LOSSES.items():
        for batch, views in made.items():
            value, gradients = evaluate(form, views)
            if other is not None:
                again, gradients_again = evaluate(other, views)
                scale = np.abs(gradients).max()
                np.testing.assert_allclose(again, value, rtol=1e-13)
                np.testing.assert_allclose(
                    gradients_again, gradients, rtol=0, atol=1e-12 * scale
                )
            tables[f"{batch}_{name}"] = np.array(value)
            tables[f"{batch}_{name}_grad"] = gradients
    path = Path(__file__).with_name("losses.npz")
    np.savez_compressed(path, **tables)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
