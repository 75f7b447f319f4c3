"""A network cut into pieces whose gradients, one a sample, are at hand.

Hooks see what goes into every layer that owns trainable parameters, and one backward
pass an output brings back what its result is worth. Trust is earned: on each of a few
probe points the sample's gradient must be the model's, parameter by parameter, and no
other row may be worth anything to it. What fails, or cannot be caught by a hook, is
left to the whole model, differentiated sample by sample. That rows keep to their points
is tested on all points again: worthless points must have worthless rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from pkg._layers import Factors, Rule, any_layer, buffers_kept, rule_for, total

WHOLE = ""  # the model's own name among its modules


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Parameters that share one rule: a layer's, or what is left to the model."""

    name: str
    layer: nn.Module
    parameters: tuple[str, ...]
    rule: Rule

    def full_names(self) -> list[str]:
        """Name the parameters as the model does."""
        return [f"{self.name}.{name}".lstrip(".") for name in self.parameters]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer: its input, and where in the graph its output was made."""

    seen: Tensor
    edge: GradientEdge
    shape: torch.Size  # of the output


@dataclass(frozen=True, kw_only=True)
class Run:
    """A forward pass: outputs (n, d) with their graph, and the calls on the way."""

    z: Tensor
    calls: dict[str, list[Call | None]]  # None where a hook does not understand

    def is_plain(self, name: str) -> bool:
        """Whether a layer was called once, and gave each point its own row."""
        calls, n = self.calls[name], len(self.z)
        call = calls[0] if len(calls) == 1 else None
        if call is None or not call.seen.ndim:
            return False
        return len(call.seen) == call.shape[0] == n

    def call(self, name: str) -> Call:
        """Return the one plain call of a layer."""
        [call] = self.calls[name]
        if call is None or not self.is_plain(name):
            raise RuntimeError(_other_path(f"layer {name!r}"))
        return call

    def pull_back(self, worth: Tensor, names: list[str]) -> list[Tensor]:
        """Differentiate the sum of worth * z by what the named layers put out."""
        calls = [self.call(name) for name in names]
        edges = [call.edge for call in calls]
        worths = _differentiate(self.z, worth, edges)
        return [
            self.z.new_zeros(call.shape) if found is None else found
            for call, found in zip(calls, worths, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A model, cut."""

    model: nn.Module
    pieces: tuple[Piece, ...]
    d: int
    dtype: torch.dtype  # of the outputs
    unused: dict[str, nn.Parameter] = field(default_factory=dict)

    def run(self, x: Tensor, *, new: bool) -> Run:
        """Pass x forward, and make sure that the model takes the path of the probe.

        Whether rows keep to their points is tested when the points are `new`.
        """
        run = forward(self.model, x, {piece.name: piece.layer for piece in self.pieces})
        for piece in self.pieces:
            if not run.is_plain(piece.name):
                raise RuntimeError(_other_path(f"layer {piece.name!r}"))
        if self.unused:
            unused = list(self.unused.values())
            leads = _differentiate(run.z, torch.ones_like(run.z), unused)
            for name, lead in zip(self.unused, leads, strict=True):
                if lead is not None:
                    raise RuntimeError(_other_path(f"parameter {name!r}"))
        if new:
            self._check_rows(run)
        return run

    def _check_rows(self, run: Run) -> None:
        """Half of the points, drawn at random, are worth nothing: so are their rows."""
        names = [piece.name for piece in self.pieces if piece.name != WHOLE]
        worth = _weights(run.z)
        idle = worth[:, 0] < 1
        if not names or len(run.z) == 1:
            return
        worths = run.pull_back(worth * ~idle[:, None], names)
        mixed = torch.stack([found[idle].any() for found in worths]).tolist()
        if any(mixed):
            raise RuntimeError(_other_path(f"layer {names[mixed.index(True)]!r}"))

    def pull_back(self, run: Run, outputs: range) -> list[list[Tensor]]:
        """Bring back what each piece's result is worth to each of some outputs."""
        names = [piece.name for piece in self.pieces]
        unit = torch.eye(self.d, dtype=run.z.dtype, device=run.z.device)
        return [run.pull_back(unit[a].expand_as(run.z), names) for a in outputs]

    def gradients(self, i: int, run: Run, worths: list[list[Tensor]]) -> list[Factors]:
        """Return piece i's gradients, one entry a parameter, rows (outputs, n)."""
        piece = self.pieces[i]
        seen = run.call(piece.name).seen
        rows = [
            piece.rule(piece.layer, piece.parameters, seen, worth[i])
            for worth in worths
        ]
        return [
            tuple(
                torch.cat(parts) for parts in zip(*(r[name] for r in rows), strict=True)
            )
            if len(rows) > 1
            else rows[0][name]
            for name in piece.parameters
        ]


def forward(model: nn.Module, x: Tensor, watched: dict[str, nn.Module]) -> Run:
    """Run the model with its graph and write down the calls of some layers.

    Parameters
    ----------
    model : nn.Module
    x : (n, ...)
        Points.
    watched : dict of str to nn.Module
        Layers by name. Their hooks are gone when this returns or raises.

    Returns
    -------
    Run
    """
    calls: dict[str, list[Call | None]] = {name: [] for name in watched}
    hooks = []

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple, named: dict, out: object) -> None:
            plain = len(args) == 1 and not named and isinstance(args[0], Tensor)
            if plain and isinstance(out, Tensor) and out.ndim and out.requires_grad:
                # An edge, not the tensor: it still means this layer's output after an
                # activation has overwritten the tensor in place.
                edge = get_gradient_edge(out)
                seen = args[0].detach()
                calls[name].append(Call(seen=seen, edge=edge, shape=out.shape))
            else:
                calls[name].append(None)

        hooks.append(layer.register_forward_hook(hook, with_kwargs=True))

    try:
        for name, layer in watched.items():
            watch(name, layer)
        with torch.enable_grad():
            z = model(x.detach().clone())  # the model may write on what it is given
        for call in calls.get(WHOLE, []):
            if call is not None:
                calls[WHOLE] = [replace(call, seen=x.detach())]
        return Run(z=z, calls=calls)
    finally:
        for hook in hooks:
            hook.remove()


def cut(model: nn.Module, few: Tensor, fewer: Tensor, method: str) -> Pieces:
    """Cut the model into pieces and prove on probe points that none is missing.

    Parameters
    ----------
    model : nn.Module
    few, fewer : (k, ...), (l, ...)
        Probe points. They begin alike but differ in number: an axis that belongs to the
        points is as long as there are points in both.
    method : "auto", "layerwise" or "per_output"
        As for `pkg.ntk.empirical`.

    Returns
    -------
    Pieces
    """
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    layers = {} if method == "per_output" else _owners(model)
    watched = {WHOLE: model, **{name: layer for name, (layer, _) in layers.items()}}
    with buffers_kept(model):
        run, other = forward(model, few, watched), forward(model, fewer, watched)
    _check_outputs(run.z, other.z, len(few), len(fewer))
    pieces = []
    for name, (layer, parameters) in layers.items():
        if run.is_plain(name) and other.is_plain(name):
            rule = rule_for(layer, parameters, run.call(name).seen)
            pieces.append(
                Piece(name=name, layer=layer, parameters=parameters, rule=rule)
            )

    kept, used = _proved(pieces, run, trainable)
    covered = {name for piece in kept for name in piece.full_names()}
    left = tuple(name for name in trainable if name in used - covered)
    if method == "layerwise" and (left or any(p.rule is any_layer for p in kept)):
        names = [*left, *(p.name for p in kept if p.rule is any_layer)]
        raise ValueError(
            "`method` is 'layerwise', but there is no layerwise rule for "
            f"{', '.join(map(repr, names))}; method='auto' takes per-output gradients "
            "there"
        )
    if left:
        whole = Piece(name=WHOLE, layer=model, parameters=left, rule=any_layer)
        if not _proved([whole], run, trainable)[0]:
            raise RuntimeError(
                "torch cannot differentiate `model` point by point with respect to "
                f"{', '.join(map(repr, left))}: vmap fails there, or the gradients of "
                "single points do not add up. Freeze these parameters, or write what "
                "uses them in operations that act on each point by itself"
            )
        kept.append(whole)
    unused = {n: p for n, p in trainable.items() if n not in {*covered, *left}}
    return Pieces(
        model=model,
        pieces=tuple(kept),
        d=run.z.shape[1],
        dtype=run.z.dtype,
        unused=unused,
    )


def _owners(model: nn.Module) -> dict[str, tuple[nn.Module, tuple[str, ...]]]:
    """Find the modules that own trainable parameters, each theirs alone."""
    owned: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owned[id(parameter)] = owned.get(id(parameter), 0) + 1
    owners = {}
    for name, layer in model.named_modules():
        direct = layer.named_parameters(recurse=False, remove_duplicate=False)
        names = tuple(n for n, p in direct if p.requires_grad and owned[id(p)] == 1)
        if names:
            owners[name] = (layer, names)
    return owners


def _differentiate(
    z: Tensor, worth: Tensor, by: Sequence[Tensor] | Sequence[GradientEdge]
) -> tuple[Tensor | None, ...]:
    # A scalar of our own: given `worth` for itself, torch.autograd.grad loads a
    # symbolic algebra to check its shape.
    with torch.enable_grad():
        value = (z * worth).sum()
    return torch.autograd.grad(value, by, retain_graph=True, allow_unused=True)


def _weights(z: Tensor) -> Tensor:
    """Random weights on points and outputs, the same at every call: nothing cancels."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(z.shape, generator=generator) + 0.5).to(z)


def _proved(
    pieces: list[Piece], run: Run, trainable: dict[str, nn.Parameter]
) -> tuple[list[Piece], set[str]]:
    """Keep the pieces that are right at each point; and name the parameters in use."""
    weights, used = _weights(run.z), set()
    for i in range(len(run.z)):
        worth = torch.zeros_like(weights)
        worth[i] = weights[i]
        wanted = _differentiate(run.z, worth, list(trainable.values()))
        alone = {
            name: gradient
            for name, gradient in zip(trainable, wanted, strict=True)
            if gradient is not None
        }
        if not all(bool(gradient.isfinite().all()) for gradient in alone.values()):
            raise ValueError(not_finite(run.z.dtype))
        used |= set(alone)
        if pieces:
            worths = run.pull_back(worth, [piece.name for piece in pieces])
            pairs = zip(pieces, worths, strict=True)
            pieces = [p for p, found in pairs if _is_right(p, run, found, i, alone)]
    return pieces, used


def _is_right(
    piece: Piece, run: Run, worth: Tensor, i: int, alone: dict[str, Tensor]
) -> bool:
    """Compare with the gradient at point i alone, which knows no pieces."""
    if worth[:i].any() or worth[i + 1 :].any():  # row i is not point i's
        return False
    seen = run.call(piece.name).seen
    try:
        found = piece.rule(piece.layer, piece.parameters, seen, worth)
    except RuntimeError:  # from vmap, which cannot map every operation
        return False
    for name, full_name in zip(piece.parameters, piece.full_names(), strict=True):
        added = total(found[name])
        wanted = alone.get(full_name, torch.zeros_like(added)).flatten()
        slack = 10 * torch.finfo(added.dtype).eps ** 0.5
        if not _norm(added - wanted, 0) <= slack * _size(found[name]):
            return False
    return True


def _size(factors: Factors) -> Tensor:
    """Add the norms of all samples' gradients."""
    return torch.stack([_norm(factor, 1) for factor in factors]).prod(0).sum()


def _norm(values: Tensor, axis: int) -> Tensor:
    return torch.linalg.vector_norm(values, dim=axis, dtype=torch.float64)


def not_finite(dtype: torch.dtype) -> str:
    """Say that a gradient, or a product of two, is NaN or infinity."""
    return (
        "the NTK of `model` is not finite: gradients or their products overflow "
        f"{dtype}, or a gradient does not exist. Scale the points or the weights "
        "down, or take model.double() and x.double()"
    )


def _check_outputs(z: Tensor, other: Tensor, n: int, n_other: int) -> None:
    """Refuse a model that is no function of each point by itself."""
    if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != n:
        found = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(
            f"`model` must return a tensor (n, d), one row a point; got {found} for "
            f"{n} points. Flatten it, or wrap the model"
        )
    if z.shape[1] == 0 or not z.is_floating_point():
        raise ValueError(
            f"`model` must return d >= 1 real numbers a point; got {z.dtype} of shape "
            f"{tuple(z.shape)}"
        )
    if not bool(z.isfinite().all()):
        raise ValueError("`model` returns NaN or infinity; check its weights")
    if not z.requires_grad:
        raise ValueError(
            "`model` returns outputs without a graph; no trainable parameter leads to "
            "them. Remove torch.no_grad or .detach() from its forward"
        )
    gap = (z[:n_other] - other).abs().max()
    if gap > 10 * torch.finfo(z.dtype).eps ** 0.5 * z.abs().max():
        raise ValueError(
            "`model` gives one point different outputs in different batches, by up to "
            f"{gap:.2g}; a kernel needs a function of each point by itself. Call "
            "model.eval(), and use GroupNorm in place of batch statistics"
        )


def _other_path(what: str) -> str:
    return (
        f"{what} is not used as it was on the first points: the model takes another "
        "path for other points; pass method='per_output'"
    )
