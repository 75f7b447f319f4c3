"""The neural tangent kernel of a torch module, exact or sketched.

A network's gradients are its features: Theta(x, y) is the inner product of the
gradients at x and at y. They are never kept. One layer at a time is asked for its
gradients, one output at a time, and only their inner products stay. The result is a
NumPy array in float64, ready for `pkg.kpca`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedParameter

from pkg import _check
from pkg._blocks import block_size, budget, peak_bytes
from pkg._layers import Factors, flat, gram
from pkg._pieces import Pieces, Run, cut, not_finite

__all__ = ["empirical", "sketch"]

OUTPUTS = ("trace", "block")
METHODS = ("auto", "layerwise", "per_output")
FEW, FEWER = 3, 2  # probe points
CHUNK = 256  # points that are sketched together
STRIP = 256  # rows of a symmetric product that are computed together


def empirical(
    model: nn.Module,
    x: Shaped[Tensor, "n ..."],
    y: Shaped[Tensor, "m ..."] | None = None,
    *,
    output: str = "trace",
    method: str = "auto",
    memory_gb: float | None = None,
    progress: bool = False,
) -> Float64[np.ndarray, "n m"] | Float64[np.ndarray, "d n d m"]:
    """Compute the empirical NTK of a model between points.

    Theta_ab(x, y) is the inner product of the gradients of output a at x and output b
    at y, over all parameters that require gradients. Theory speaks of one number for
    two points: the average (1/d) sum_a Theta_aa. Introduced in chapter 8.

    Parameters
    ----------
    model : nn.Module
        Maps (n, ...) to (n, d), each point by itself. Nothing of it is changed.
    x : (n, ...)
        Points, on the model's device and in its dtype (or whole numbers).
    y : (m, ...), optional
        Further points; x again when left out, and K is then symmetric to the bit.
    output : "trace" or "block"
        The average over outputs, or all d x d blocks.
    method : "auto", "layerwise" or "per_output"
        Layerwise where a layer is known (linear, convolution, the usual normalisations)
        and the gradients of single points, output by output, where it is not; or the
        first alone, refusing unknown layers; or the second for all.
    memory_gb : float, optional
        What may be taken beside what is in use, in 1e9 bytes: K and the work. Half of
        the free memory when left out. Points are taken in blocks that fit; with k
        blocks the passes through the network are repeated about k times.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    (n, m), or (d, n, d, m) for blocks
        Sums inside a layer have the model's precision, the rest float64.

    Raises
    ------
    ValueError
        If the points do not fit the model, or the model is no function of each point by
        itself (batch norm or dropout in training mode: call ``model.eval()``), has no
        trainable parameter, or does not return (n, d); or if the kernel is not finite.
    MemoryError
        If not even a pair of points fits; the message says how much it takes.
    RuntimeError
        If torch cannot differentiate the model point by point, or the model treats
        later points in another way than the first (a layer is called twice, or is given
        the points in another order).

    References
    ----------
    Novak, Sohl-Dickstein and Schoenholz, "Fast Finite Width Neural Tangent Kernel",
    arXiv:2206.08720.
    """
    _check.choice("output", output, OUTPUTS)
    _check.choice("method", method, METHODS)
    _check_model(model)
    _check_points("x", x, model)
    if y is not None:
        _check_points("y", y, model)
        if y.shape[1:] != x.shape[1:] or y.dtype != x.dtype:
            raise ValueError(
                f"`x` and `y` must hold points of one kind; got {x.dtype} "
                f"{tuple(x.shape[1:])} and {y.dtype} {tuple(y.shape[1:])}"
            )
    few = x[torch.arange(FEW) % len(x)]
    pieces = cut(model, few, few[:FEWER], method)
    d = range(pieces.d)
    groups = [d] if output == "block" else [d[a : a + 1] for a in d]
    needed = _needed(pieces, few, groups[0], len(x), None if y is None else len(y))
    longest = max(len(x), 0 if y is None else len(y))
    instead = (
        "pass output='trace', which keeps one number for a pair"
        if output == "block"
        else "use `ntk.sketch`, which needs no matrix of all pairs"
    )
    size = block_size(longest, needed, budget(memory_gb, x.device), instead)
    K = _by_blocks(pieces, x, y, groups, size, progress)
    return K if output == "block" else K[0, :, 0]


def sketch(
    model: nn.Module,
    x: Shaped[Tensor, "n ..."],
    dim: int = 4096,
    *,
    seed: int = 0,
    memory_gb: float | None = None,
    progress: bool = False,
) -> Float64[np.ndarray, "n dim"]:
    """Sketch the gradients of all outputs, so that inner products estimate the NTK.

    Every pair of an output and a parameter falls into one of `dim` buckets with a
    random sign. The inner product of two sketches is right on average, and its error
    falls like ``dim**-0.5``. The features feed ``kpca.fit_features``; K is never
    formed.

    Parameters
    ----------
    model, x, memory_gb, progress
        As for `empirical`.
    dim : int
        Features.
    seed : int
        Of buckets and signs. The two views of a set of images need one seed, or their
        sketches have nothing in common.

    Returns
    -------
    (n, dim)
        Estimates the average over outputs: ``phi @ phi.T`` has mean
        ``empirical(model, x)``.

    Raises
    ------
    ValueError, MemoryError, RuntimeError
        As `empirical`.

    References
    ----------
    Charikar, Chen and Farach-Colton, "Finding frequent items in data streams",
    Theoretical Computer Science 312 (2004).
    """
    dim, seed = _check.count("dim", dim), _check.count("seed", seed, low=0)
    _check_model(model)
    _check_points("x", x, model)
    few = x[torch.arange(FEW) % len(x)]
    pieces = cut(model, few, few[:FEWER], "auto")
    point = peak_bytes(lambda: _sketch_block(pieces, few, dim, seed)) / FEW

    def needed(size: int) -> float:
        return 8 * dim * len(x) + point * size

    most = budget(memory_gb, x.device)
    size = block_size(min(len(x), CHUNK), needed, most, "pass a smaller `dim`")
    features = np.empty((len(x), dim))
    with _bar(len(x), "NTK sketch", progress) as bar:
        for i in range(0, len(x), size):
            block = _sketch_block(pieces, x[i : i + size], dim, seed)
            features[i : i + size] = block / pieces.d**0.5
            bar.update(len(block))
    return features


def _needed(
    pieces: Pieces, few: Tensor, outputs: range, n: int, m: int | None
) -> Callable[[int], float]:
    """Learn on probe points how many bytes blocks of a size take, K included."""

    def probe() -> None:
        run = pieces.run(few, new=True)
        _pair(pieces, run, run, outputs)

    point = peak_bytes(probe) / len(few)
    # Of a pair of gradients: three numbers while products are added up, two in float64.
    entry = 3 * max(pieces.dtype.itemsize, 4) + 2 * 8
    columns = n if m is None else m

    def needed(size: int) -> float:
        left, right = min(size, n), min(size, columns)
        points = n if m is None and size >= n else left + right
        entries = entry * left * right + 8 * n * columns
        return point * points + len(outputs) ** 2 * entries

    return needed


def _by_blocks(
    pieces: Pieces,
    x: Tensor,
    y: Tensor | None,
    groups: list[range],
    size: int,
    progress: bool,
) -> np.ndarray:
    """Fill K (outputs, n, outputs, m), one pair of blocks of points at a time."""
    columns = x if y is None else y
    K = np.zeros((len(groups[0]), len(x), len(groups[0]), len(columns)))
    firsts, seconds = range(0, len(x), size), range(0, len(columns), size)
    pairs = sum(y is not None or i <= j for i in firsts for j in seconds)
    with _bar(pairs * len(groups), "NTK", progress) as bar:
        for i in firsts:
            left = pieces.run(x[i : i + size], new=True)
            for j in seconds if y is not None else seconds[i // size :]:
                same = y is None and i == j
                right = left
                if not same:  # of one set, each block has its turn on the left
                    new = y is not None and i == 0
                    right = pieces.run(columns[j : j + size], new=new)
                here = np.s_[:, i : i + size, :, j : j + size]
                for outputs in groups:
                    block = _pair(pieces, left, right, outputs) / len(groups)
                    K[here] += block.reshape(K[here].shape)
                    bar.update()
                if y is None and not same:
                    K[:, j : j + size, :, i : i + size] = K[here].transpose(2, 3, 0, 1)
                del right  # its graph, before the next one is made
            del left
    return K


def _pair(pieces: Pieces, left: Run, right: Run, outputs: range) -> np.ndarray:
    """Sum over all pieces for two blocks of points: (outputs * n, outputs * m)."""
    same = left is right
    worths = pieces.pull_back(left, outputs)
    others = worths if same else pieces.pull_back(right, outputs)
    shape = len(outputs) * len(left.z), len(outputs) * len(right.z)
    theta = _wide(left.z).new_zeros(shape)
    for i in range(len(pieces.pieces)):
        rows = pieces.gradients(i, left, worths)
        columns = rows if same else pieces.gradients(i, right, others)
        for row, column in zip(rows, columns, strict=True):
            _add_gram(theta, row, column)
        del rows, columns  # one layer's gradients at a time
    if same:
        theta = theta.triu() + theta.triu(1).mT
    return _finite(theta.double().cpu().numpy(), pieces)


def _add_gram(theta: Tensor, left: Factors, right: Factors) -> None:
    if left is not right:
        theta += gram(left, right)
        return
    # A symmetric product: strips of rows, each from the diagonal on.
    for start in range(0, len(theta), STRIP):
        strip = tuple(factor[start : start + STRIP] for factor in left)
        rest = tuple(factor[start:] for factor in left)
        theta[start : start + STRIP, start:] += gram(strip, rest)


def _sketch_block(pieces: Pieces, x: Tensor, dim: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)  # on the CPU: one sketch everywhere
    run = pieces.run(x, new=True)
    features = _wide(run.z).new_zeros((len(x), dim))
    for a in range(pieces.d):
        worths = pieces.pull_back(run, range(a, a + 1))
        for i in range(len(pieces.pieces)):
            for factors in pieces.gradients(i, run, worths):
                rows = flat(factors)
                drawn = torch.randint(2 * dim, (rows.shape[1],), generator=generator)
                drawn = drawn.to(rows.device)
                signs = 1 - 2 * (drawn % 2)
                features.index_add_(1, drawn // 2, _wide(rows * signs))
                del rows
    return _finite(features.double().cpu().numpy(), pieces)


def _finite(values: np.ndarray, pieces: Pieces) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(not_finite(pieces.dtype))
    return values


def _wide(values: Tensor) -> Tensor:
    """Half precision is too coarse to add up in."""
    return values.float() if values.element_size() < 4 else values


def _bar(total: int, what: str, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=not progress)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"`model` must be a torch.nn.Module; got {type(model).__name__}"
        )
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise ValueError("`model` has lazy layers; call it once on a batch first")
    trainable = [p for p in model.parameters() if p.requires_grad]
    if torch.is_inference_mode_enabled() or any(p.is_inference() for p in trainable):
        raise ValueError(
            "`model` cannot be differentiated in inference mode; make and pass it "
            "outside of torch.inference_mode()"
        )
    if any(p.is_complex() for p in trainable):
        raise ValueError(
            "`model` has complex parameters; hold their real and imaginary parts as "
            "parameters of their own"
        )
    if not trainable:
        raise ValueError(
            "`model` has no parameter that requires a gradient, so its NTK is zero; "
            "pass a model with trainable parameters"
        )
    for what in ("device", "dtype"):
        found = {str(getattr(p, what)) for p in trainable}
        if len(found) > 1:
            raise ValueError(
                f"`model` has parameters of more than one {what}: {sorted(found)}; "
                "move them to one with model.to(...)"
            )
    for name, layer in model.named_modules():
        batched = isinstance(layer, _BatchNorm) and (
            layer.training or layer.running_mean is None
        )
        if batched:
            raise ValueError(
                f"`model` normalises over the batch in {name!r} "
                f"({type(layer).__name__}), so it is no function of each point by "
                "itself; call model.eval(), or use GroupNorm"
            )
        tracks = isinstance(layer, _InstanceNorm) and layer.track_running_stats
        if tracks and layer.training:
            raise ValueError(
                f"`model` gathers statistics in {name!r} ({type(layer).__name__} in "
                "training mode); call model.eval()"
            )
        random = isinstance(layer, (_DropoutNd, nn.RReLU)) and getattr(layer, "p", True)
        if random and layer.training:
            raise ValueError(
                f"`model` is random in {name!r} ({type(layer).__name__} in training "
                "mode); call model.eval()"
            )


def _check_points(name: str, points: Tensor, model: nn.Module) -> None:
    if not isinstance(points, Tensor):
        raise ValueError(
            f"`{name}` must be a torch tensor; got {type(points).__name__}. Use "
            "torch.as_tensor"
        )
    if points.ndim == 0 or points.numel() == 0:
        raise ValueError(
            f"`{name}` must hold at least one point, (n, ...); got shape "
            f"{tuple(points.shape)}"
        )
    first = next(p for p in model.parameters() if p.requires_grad)
    if points.device != first.device:
        raise ValueError(
            f"`{name}` is on {points.device}, `model` on {first.device}; move one with "
            ".to(...)"
        )
    whole = not (points.is_floating_point() or points.is_complex())  # tokens
    if not whole and points.dtype != first.dtype:
        raise ValueError(
            f"`{name}` is {points.dtype}, `model` {first.dtype}; convert one with "
            ".to(...)"
        )
    good = points.isfinite().flatten(1).all(1) if points.ndim > 1 else points.isfinite()
    if not bool(good.all()):
        worst = int(good.logical_not().nonzero()[0, 0])
        raise ValueError(f"`{name}` must be finite; point {worst} is not")
