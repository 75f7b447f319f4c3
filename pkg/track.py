"""What a training run is asked while it runs: its spectra, and pictures of a probe.

The d x d moments of a step's embeddings stay on the device; every so often all that
have gathered are fetched at once. So a look at each step costs one small matrix
product, and no step waits for the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pkg import _check
from pkg.record import Trajectory

MATRICES = ("covariance", "cross-correlation")


@dataclass
class Tracker:
    """Spectra of the embeddings of every recorded step.

    Two matrices are followed: the covariance of all 2n embeddings of a batch, and the
    symmetrised cross-correlation C of its two views, each centred. Introduced in
    chapter 11.

    Attributes
    ----------
    d : int
        Embedding dimensions.
    device : torch.device
        Where the embeddings are.
    steps, t, loss : lists
        One entry a recorded step, fetched so far.
    eigenvalues : list of (2, d) arrays
        Descending, of the covariance and of C.
    """

    d: int
    device: torch.device
    steps: list[int] = field(default_factory=list)
    t: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    eigenvalues: list[np.ndarray] = field(default_factory=list)
    _waiting: list[tuple[int, float, Tensor]] = field(default_factory=list)

    @property
    def latest(self) -> int:
        """The last step that was pushed or fetched; -1 before the first."""
        if self._waiting:
            return self._waiting[-1][0]
        return self.steps[-1] if self.steps else -1

    def push(
        self,
        step: int,
        t: float,
        loss: Float[Tensor, ""],
        z: Float[Tensor, "n d"],
        z_prime: Float[Tensor, "n d"],
    ) -> None:
        """Keep a step's loss and moments on the device; the host does not wait."""
        numbers = moments(z, z_prime).flatten()
        loss = loss.detach().to(numbers).reshape(1)
        self._waiting.append((step, t, torch.cat([numbers, loss])))

    def fetch(self) -> int:
        """Bring what has gathered to the host, and say how many steps it was.

        Raises
        ------
        FloatingPointError
            At the first loss or embedding that is not finite; the message says which
            step. What came before it is kept.
        """
        if not self._waiting:
            return 0
        waiting, self._waiting = self._waiting, []
        rows = torch.stack([numbers for _, _, numbers in waiting]).cpu().numpy()
        rows = rows.astype(np.float64)
        good = np.isfinite(rows).all(axis=1)
        last = len(rows) if good.all() else int(good.argmin())
        if last:
            matrices = rows[:last, :-1].reshape(last, 2, self.d, self.d)
            self.eigenvalues += list(np.linalg.eigvalsh(matrices)[:, :, ::-1])
            self.loss += rows[:last, -1].tolist()
            self.steps += [step for step, _, _ in waiting[:last]]
            self.t += [t for _, t, _ in waiting[:last]]
        if last < len(rows):
            step = waiting[last][0]
            raise FloatingPointError(f"the loss or the embeddings of step {step}")
        return last

    def trajectory(self, matrix: str, source: str) -> Trajectory:
        """Return what was fetched as the house's one result type.

        Parameters
        ----------
        matrix : "covariance" or "cross-correlation"
        source : str
            For the legend.

        Raises
        ------
        ValueError
            If `matrix` is another word, or nothing was recorded.
        """
        which = MATRICES.index(_check.choice("matrix", matrix, MATRICES))
        if not self.steps:
            raise ValueError(f"no {matrix} was recorded yet; fetch first")
        return Trajectory(
            t=np.array(self.t),
            step=np.array(self.steps),
            loss=np.array(self.loss),
            eigenvalues=np.stack(self.eigenvalues)[:, which],
            order="rank",
            matrix="covariance" if which == 0 else "cross-correlation",
            source=source,
        )

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs; call `fetch` first."""
        n = len(self.steps)
        eigenvalues = np.array(self.eigenvalues).reshape(n, 2, self.d)
        return {
            "steps": torch.tensor(self.steps, dtype=torch.int64),
            "t": torch.tensor(self.t, dtype=torch.float64),
            "loss": torch.tensor(self.loss, dtype=torch.float64),
            "eigenvalues": torch.from_numpy(eigenvalues),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; what was waiting is forgotten."""
        self._waiting = []
        self.steps, self.t = state["steps"].tolist(), state["t"].tolist()
        self.loss = state["loss"].tolist()
        self.eigenvalues = list(state["eigenvalues"].numpy())


def moments(
    z: Float[Tensor, "n d"], z_prime: Float[Tensor, "n d"]
) -> Float[Tensor, "2 d d"]:
    """Compute the covariance of all embeddings and the symmetrised C, in float64.

    A float32 product has a floor at some 1e-7 of its largest eigenvalue, where a mode
    that has not risen yet drowns. Introduced in chapter 11.
    """
    # Apple's GPUs have no float64.
    wide = torch.float32 if z.device.type == "mps" else torch.float64
    z, z_prime = z.detach().to(wide), z_prime.detach().to(wide)
    n = len(z)
    z, z_prime = z - z.mean(0), z_prime - z_prime.mean(0)
    C = z.T @ z_prime / n
    # About the mean of all 2n embeddings it would hold the distance of the two means
    # as well: a direction that no image has.
    covariance = (z.T @ z + z_prime.T @ z_prime) / (2 * n)
    return torch.stack([covariance, (C + C.T) / 2])


def layer_spectra(
    model: nn.Module, x: Float[Tensor, "n c h w"]
) -> dict[str, Float[np.ndarray, " p"]]:
    """Find the covariance spectrum of what each part of a network makes of images.

    Features with height and width are averaged over them first. ``modes.dimension`` of
    what comes back, while a network trains, says how its hidden layers unfold.
    Introduced in chapter 11.

    Parameters
    ----------
    model : nn.Module
        Seen in evaluation mode, and left in the mode that it was in.
    x : (n, channels, height, width)
        Images as the network sees them, on its device.

    Returns
    -------
    dict of str to (p,)
        For each child of `model`, by name, in the order in which they were called: the
        eigenvalues of its p features' covariance over the images, descending.

    Raises
    ------
    ValueError
        If there are fewer than two images, or `model` has no children.
    """
    if len(x) < 2:
        raise ValueError(f"`x` holds {len(x)} images; a covariance needs two or more")
    found: dict[str, np.ndarray] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            features = output.flatten(2).mean(2) if output.ndim > 2 else output
            covariance = moments(features, features)[0].cpu().numpy()
            found[name] = np.linalg.eigvalsh(covariance)[::-1].astype(np.float64)

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in model.named_children()]
    if not hooks:
        raise ValueError(
            "`model` has no children to look into; wrap its layers in nn.Sequential"
        )
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(x)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshots:
    """Embeddings of a fixed probe set along a run.

    Attributes
    ----------
    step : (S,) int
        Steps before which they were taken.
    t : (S,)
        Flow times.
    z : (S, n, d) float32
        One row an image, without augmentation.
    """

    step: np.ndarray
    t: np.ndarray
    z: Float[np.ndarray, "S n d"]

    def __len__(self) -> int:
        return len(self.step)


@dataclass
class Probe:
    """A fixed set of images, embedded now and then while a network trains.

    Introduced in chapter 12.

    Attributes
    ----------
    x : (n, channels, height, width)
        As the network sees them; on its device.
    """

    x: Tensor
    steps: list[int] = field(default_factory=list)
    t: list[float] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)

    def take(
        self, step: int, t: float, model: nn.Module, embed: Callable[[Tensor], Tensor]
    ) -> None:
        """Embed the probe with `embed`, in evaluation mode; nothing waits."""
        training = model.training
        model.eval()
        with torch.no_grad():
            self.z.append(embed(self.x).float())
        model.train(training)
        self.steps.append(step)
        self.t.append(t)

    def snapshots(self) -> Snapshots:
        """Return all that were taken."""
        self.z = [z.cpu() for z in self.z]
        d = self.z[0].shape[1] if self.z else 0
        stack = np.array([z.numpy() for z in self.z], dtype=np.float32)
        return Snapshots(
            step=np.array(self.steps, dtype=np.int64),
            t=np.array(self.t, dtype=np.float64),
            z=stack.reshape(len(self.z), len(self.x), d),
        )

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs."""
        kept = self.snapshots()
        return {
            "steps": torch.from_numpy(kept.step),
            "t": torch.from_numpy(kept.t),
            "z": torch.from_numpy(kept.z),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.steps, self.t = state["steps"].tolist(), state["t"].tolist()
        self.z = list(state["z"])
