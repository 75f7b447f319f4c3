"""What decides a training run.

A private half of `pkg.trainer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pkg import _check, losses
from pkg.views import RECIPES, Recipe

ENCODERS = ("demo", "resnet18", "resnet50")
PRECISIONS = ("auto", "float32", "bf16", "fp16")
# In the first two periods gamma_1 is measured so many times as often: when the first
# mode rises, the encoder begins to learn, and within some 25 steps gamma_1 grows
# several times over.
EARLY = 10
# A log schedule keeps every step up to twice as many, and then thins out.
LOG_SPACING = 50


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a training run, besides the images.

    Introduced in chapter 11.

    Attributes
    ----------
    method : "barlow_twins", "simclr", "vicreg" or "spectral"
        The loss, in the form that climbs stairs: ``losses.STEPWISE``.
    terms : mapping, optional
        Keywords of the loss instead of those; ``{}`` is the published form.
    encoder : "demo", "resnet18" or "resnet50"
        A function of `pkg.nets`; ``fit`` takes any other module as `model`.
    options : mapping
        Its further keywords, such as ``{"width": 32, "pool": 2}``.
    d : int
        Embedding dimensions.
    start : float
        Factor of the readout's initial weights: 1 is torch's own start.
    views : str or views.Recipe
        How much two views may differ.
    batch : int
        Pairs of a step, over all processes together.
    steps : int
    rate : float
        Learning rate times gamma_1, the largest eigenvalue of the network's own
        contrastive kernel, measured again every `refresh` steps; the largest of the
        last three measurements counts. Barlow Twins is stable below 1 / 4.
    lr : float, optional
        A fixed learning rate instead; needed with batch normalisation, under which a
        network has no kernel.
    precondition, floor : float
        Multiply the gradient of the embeddings by (``|C|`` + floor)^-precondition, so
        that modes not learned yet get more of it: ``optim.precondition``. At 0 nothing
        is multiplied; 1/2 and 1 are the powers of chapter 15.
    refresh, pairs : int
        Steps between two measurements of gamma_1, ten times as many in the first two
        periods, and on how many pairs of the batch: few pairs overestimate it, and so
        are on the safe side.
    precision : "auto", "float32", "bf16" or "fp16"
        Of the encoder; embeddings, loss and spectra are float32 and float64 always.
        "auto" is float32 on a CPU, and on a GPU bf16 where the card has it.
    compile : bool
        Whether torch compiles the network: minutes once, for long runs on a GPU.
    record : "every" or "log"
        Spectra of every step, or of one in every 1 to 2 % of the steps so far.
    probe, snapshots : int
        How many images, the first of the set, are embedded at how many evenly spaced
        steps.
    guard : bool
        Stop a run that diverges or collapses; False to watch it do so.
    seed : int
        Draws weights, batches and views.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or `d` is 1 or more than `batch`.
    """

    method: str
    terms: Mapping[str, Any] | None = None
    encoder: str = "demo"
    options: Mapping[str, Any] = field(default_factory=dict)
    d: int = 8
    start: float = 1e-3
    views: str | Recipe = "strong"
    batch: int = 128
    steps: int = 600
    rate: float = 0.2
    lr: float | None = None
    precondition: float = 0.0
    floor: float = 1e-2
    refresh: int = 50
    pairs: int = 16
    precision: str = "auto"
    compile: bool = False
    record: Literal["every", "log"] = "every"
    probe: int = 0
    snapshots: int = 61
    guard: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _check.choice("method", self.method, tuple(losses.METHODS))
        _check.choice("encoder", self.encoder, ENCODERS)
        _check.choice("precision", self.precision, PRECISIONS)
        _check.choice("record", self.record, ("every", "log"))
        for name in ("steps", "refresh"):
            _check.count(name, getattr(self, name))
        for name in ("batch", "pairs", "snapshots"):
            _check.count(name, getattr(self, name), low=2)
        for name in ("probe", "seed"):
            _check.count(name, getattr(self, name), low=0)
        if _check.count("d", self.d) == 1:
            raise ValueError(
                "`d` is 1: one dimension makes one step at most; ask for 2 or more"
            )
        if self.batch < self.d:
            raise ValueError(
                f"`batch` is {self.batch}, fewer pairs than `d` = {self.d} dimensions, "
                "which they cannot tell apart; pass a larger batch or a smaller d"
            )
        if self.pairs > self.batch:
            raise ValueError(
                f"`pairs` is {self.pairs}, more than `batch` = {self.batch}; gamma_1 "
                "is measured on a part of the batch"
            )
        _check.positive("start", self.start, ndim=0)
        _check.positive("rate", self.rate, ndim=0)
        if self.lr is not None:
            _check.positive("lr", self.lr, ndim=0)
        _check.nonnegative("precondition", self.precondition, ndim=0)
        _check.positive("floor", self.floor, ndim=0)
        if not isinstance(self.views, Recipe):
            _check.choice("views", self.views, tuple(RECIPES))

    @property
    def recipe(self) -> "Recipe":
        """The recipe of the views, where a name was given."""
        if isinstance(self.views, str):
            return RECIPES[self.views]
        return self.views

    @property
    def keywords(self) -> Mapping[str, Any]:
        """Keywords of the loss."""
        return losses.STEPWISE[self.method] if self.terms is None else self.terms

    @property
    def centered(self) -> bool:
        """Whether the loss ignores each output's mean, to leading order."""
        default = self.method != "spectral"
        return bool(self.keywords.get("center", default))

    def looks(self, step: int) -> bool:
        """Say whether gamma_1 is measured before a step."""
        often = max(1, self.refresh // EARLY)
        return step % (often if step < 2 * self.refresh else self.refresh) == 0

    def records(self, step: int) -> bool:
        """Say whether the spectra of a step are kept."""
        if self.record == "every":
            return True
        return step % max(1, 2 ** ((step // LOG_SPACING).bit_length() - 1)) == 0
