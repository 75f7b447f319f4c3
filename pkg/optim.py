"""Learning rates from the kernel that moves, and gradients that late modes can feel.

Descent on the theory's loss is stable below 1 / (4 gamma_1), where gamma_1 is the
largest eigenvalue of the contrastive kernel of the network as it is now. (A negative
eigenvalue gamma asks for less than 1 / (2 abs(gamma)) at C = 0, which matters where the
two views of a pair disagree more than they agree.) In a network that learns features
gamma_1 grows, so the rate is measured again on the way.

A mode that is not learned yet has a gradient as small as itself. `precondition` gives
it more, and knows nothing of the network but its embeddings.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from pkg import _check


def top_gamma(
    model: nn.Module,
    x: Float[Tensor, "n ..."],
    x_prime: Float[Tensor, "n ..."],
    *,
    center: bool = False,
    tol: float = 1e-2,
    iterations: int = 100,
    direction: dict[str, Tensor] | None = None,
) -> float:
    """Estimate the largest eigenvalue of a network's contrastive kernel.

    With J the derivative of all 2n embeddings by the p parameters, and P the swap of
    the two views, the operator J^T P J / (2n) is the Gamma of the linearised network:
    its features are the gradients of every output. Power iteration needs one
    derivative forward and one back each time, and stores no kernel. The estimate
    approaches from below. Introduced in chapter 9.

    Parameters
    ----------
    model : nn.Module
        Maps (n, ...) to (n, d). Parameters with ``requires_grad`` count.
    x, x_prime : (n, ...)
        Two views, row i with row i, on the model's device.
    center : bool
        For a loss that subtracts each output's mean, in each view by itself.
    tol : float
        Stop when the estimate grows by less than this share in one iteration. Where
        gamma_2 is near gamma_1 it may then be a few times this share too low.
    iterations : int
        Stop after so many in any case.
    direction : dict of str to tensor, optional
        Where the iteration begins, by parameter, and where it leaves its end: the
        same dict passed again makes a second look at a kernel that has moved a little
        cheap. Empty at first.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no parameter is trained, the shapes differ, a number is not finite, no mode
        is positive, or the model has batch normalisation in training mode.
    """
    tol = float(_check.positive("tol", tol))
    iterations = _check.count("iterations", iterations)
    if x.shape != x_prime.shape:
        raise ValueError(
            "`x` and `x_prime` must have one shape, row i with row i; got "
            f"{tuple(x.shape)} and {tuple(x_prime.shape)}"
        )
    # Channels first, as the forward derivative of GroupNorm wants them; contiguous()
    # would leave the strides of 1x1 kernels as they are.
    weights = {
        k: p.detach().clone(memory_format=torch.contiguous_format)
        for k, p in model.named_parameters()
        if p.requires_grad
    }
    if not weights:
        raise ValueError(
            "`model` has no parameter that requires a gradient; call "
            "requires_grad_() on what is to be trained"
        )
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            raise ValueError(
                f"`model` has batch normalisation in training mode ({name!r}): its "
                "embedding of an image depends on the others, so it has no kernel. "
                "Call model.eval(), or use GroupNorm"
            )
    both = torch.cat([x, x_prime])

    def embed(parameters: dict[str, Tensor]) -> Tensor:
        z = functional_call(model, parameters, (both,))
        return _centred(z, len(x)) if center else z

    backward = vjp(embed, weights)[1]
    # One direction for every dtype and device; its length does not matter.
    generator = torch.Generator().manual_seed(0)
    v = {k: torch.randn(p.shape, generator=generator).to(p) for k, p in weights.items()}
    if direction:
        # A tenth of it stays, so that a mode which has overtaken since is found.
        v = {k: direction[k] + 0.1 * part for k, part in _unit(v).items()}
    shift = estimate = 0.0
    for _ in range(iterations):
        v = _unit(v)
        forward = jvp(embed, (weights,), (v,))[1]
        swapped = forward.roll(len(x), 0) / len(both)
        (product,) = backward(swapped)
        before, estimate = estimate, _inner(v, product)
        if not math.isfinite(estimate):
            raise ValueError(
                "`x`, `x_prime` or the weights of `model` are so large, or not finite, "
                f"that gamma_1 is {estimate}; look at the embeddings first"
            )
        # Behind a shift the estimate moves by a smaller share of itself each time.
        slow = 1 + shift / abs(estimate) if estimate else 1.0
        done = slow * abs(estimate - before) <= tol * abs(estimate) and estimate > 0
        if direction is not None:
            direction.update(v)
        if done:
            return estimate
        # Power iteration finds the largest modulus. Where that is a negative
        # eigenvalue, adding it back turns the positive end into the largest.
        shift = max(shift, -estimate)
        v = {k: product[k] + shift * v[k] for k in v}
    if estimate <= 0:
        raise ValueError(
            "no mode of the pairs `x`, `x_prime` was found to be positive: after "
            f"{iterations} iterations the largest eigenvalue is {estimate:.3g}. The "
            "two views agree too little for anything to be learned; check that row i "
            "of both is one image"
        )
    return estimate


def precondition(
    z: Float[Tensor, "n d"],
    z_prime: Float[Tensor, "n d"],
    *,
    power: float,
    floor: float,
    center: bool = False,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Return two views' embeddings as they are, with a gradient that late modes feel.

    On the way back the gradient of each row is multiplied by (``|C|`` + floor I)^-power
    with C the symmetrised cross-correlation of the two views. In the linear model that
    is the same matrix from the left of dL/dW. A direction in which C is small, because
    it is not learned yet, gets up to floor^-power times its gradient; one that is
    learned keeps about its own. C may have negative eigenvalues, so we take moduli: a
    small one is a direction not learned, whatever its sign. The loss is not touched.
    Introduced in chapter 15.

    Parameters
    ----------
    z, z_prime : (n, d)
        Embeddings of the two views; under several processes those of the whole batch,
        so that all multiply by one matrix.
    power : float
        0 changes nothing; 1/2 lets a mode above the floor grow at a constant speed
        instead of exponentially; 1 is faster still.
    floor : float
        What counts as small. It bounds the gain, and with it the length of a step.
    center : bool
        Take C about each output's mean, in each view by itself; as the loss does.

    Returns
    -------
    z, z_prime : (n, d)
        The same numbers.

    Raises
    ------
    ValueError
        If `power` is negative, `floor` is not positive, or the shapes differ.
    """
    power = float(_check.nonnegative("power", power, ndim=0))
    floor = float(_check.positive("floor", floor, ndim=0))
    if z.ndim != 2 or z.shape != z_prime.shape:
        raise ValueError(
            "`z` and `z_prime` must be (n, d), row i with row i; got "
            f"{tuple(z.shape)} and {tuple(z_prime.shape)}"
        )
    if power == 0:
        return z, z_prime
    # In float64, since a late mode drowns in float32; Apple's GPUs have none.
    wide = torch.float32 if z.device.type == "mps" else torch.float64
    with torch.no_grad():
        a, b = z.to(wide), z_prime.to(wide)
        if center:
            a, b = a - a.mean(0), b - b.mean(0)
        C = (a.T @ b + b.T @ a) / (2 * len(z))
        # What is not finite stops the run elsewhere, in words; eigh would without.
        values, vectors = torch.linalg.eigh(C.nan_to_num(0.0, 0.0, 0.0))
        gain = (vectors * (values.abs() + floor) ** -power) @ vectors.T  # (d, d)
    # autograd.Function.apply has no types of its own.
    z = _Gain.apply(z, gain)  # type: ignore[no-untyped-call]
    z_prime = _Gain.apply(z_prime, gain)  # type: ignore[no-untyped-call]
    return z, z_prime


class _Gain(torch.autograd.Function):
    """The identity, whose backward multiplies by a matrix."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(gain)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gain,) = ctx.saved_tensors
        return gradient @ gain.to(gradient), None


def _centred(z: Tensor, n: int) -> Tensor:
    return torch.cat([view - view.mean(0) for view in z.split(n)])


def _inner(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float(sum((a[k].double() * b[k].double()).sum() for k in a))


def _unit(v: dict[str, Tensor]) -> dict[str, Tensor]:
    length = _inner(v, v) ** 0.5
    return {k: part / length for k, part in v.items()} if length > 0 else v
