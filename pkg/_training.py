"""The figure in which a network trains: its traits, and the bytes it trains on.

A private half of `pkg.widgets`.
"""

import base64
import binascii
from typing import Any

import anywidget
import numpy as np
from jaxtyping import UInt8

from pkg import _compose
from pkg._compose import Guarded, compose

SIDE = 10  # pixels of a patch, as in train_views.js
FEWEST, MOST = 64, 600  # patches; 600 are 80 kB of the page
NETS = ("linear", "two-layer")
LOSSES = ("barlow_twins", "barlow_twins_weighted", "spectral")
PACES = (30, 120, 0)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


def _patches(name: str, text: Any) -> str:
    """Guard base64 of whole patches."""
    try:
        n, rest = divmod(len(base64.b64decode(text, validate=True)), SIDE * SIDE)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(
            f"`{name}` must be base64 text of grey levels ({error}); pass `images`"
        ) from None
    if rest or not FEWEST <= n <= MOST:
        raise ValueError(
            f"`{name}` must hold {FEWEST} to {MOST} patches of {SIDE * SIDE} bytes; "
            f"got {n} and {rest} bytes over. Pass `images`"
        )
    return str(text)


def _pace(name: str, value: Any) -> int:
    if isinstance(value, bool) or value not in PACES:
        raise ValueError(f"`{name}` must be one of {PACES}; got {value!r}")
    return int(value)


def _text(images: Any) -> str:
    """Grey levels of square images as base64 text."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] not in (
        (SIDE, SIDE),
        (SIDE, SIDE, 3),
    ):
        raise ValueError(
            f"`images` must be uint8 of shape (n, {SIDE}, {SIDE}) or (n, {SIDE}, "
            f"{SIDE}, 3); got {images.dtype} {images.shape}. Use "
            f"data.load('photos', n=400, size={SIDE}).x"
        )
    if not FEWEST <= len(images) <= MOST:
        raise ValueError(
            f"`images` must be {FEWEST} to {MOST} patches; got {len(images)}. Fewer "
            "have no spectrum worth learning, more weigh on the page"
        )
    grey = images if images.ndim == 3 else np.rint(images @ np.array(LUMA))
    if (grey.max(axis=(1, 2)) == grey.min(axis=(1, 2))).all():
        raise ValueError("`images` are all flat; pass pictures that show something")
    return base64.b64encode(grey.astype(np.uint8).tobytes()).decode("ascii")


class LivingNetwork(anywidget.AnyWidget):
    """A network that trains in the page, over what theory said before it began.

    The reader presses Play. Plain JavaScript draws two views of 256 patches a step, a
    window of 8 x 8 pixels moved by up to two and mirrored half of the time, and
    descends the theory's Barlow Twins loss (neither centred nor normalised) or the
    spectral one. Solid is what the network does, dashed the closed form from the
    effective start, dotted its step times, corrected for descent. For the linear net
    the eigenvalues are those over all pairs of views; with a hidden layer, over one
    fixed pair of each patch, and the prediction is for the hidden layer as it began.
    Introduced in chapter 5.

    Parameters
    ----------
    images : (n, 10, 10) or (n, 10, 10, 3) uint8
        64 to 600 patches; colours become grey.
    net : "linear" or "two-layer"
        f(x) = W x, or W tanh(V x) with 32 hidden units; five outputs.
    loss : "barlow_twins", "barlow_twins_weighted" or "spectral"
        Off-diagonal weight 1, or 0.3; or the spectral contrastive loss.
    start : float
        Standard deviation of the entries of W at the start, from 1e-6 to 1.
    rate : float
        Learning rate as a share of the stable limit 1/(4 gamma_1), 0.01 to 4. From 1
        on nothing is predicted, and a run that diverges says so.
    seed : int
        Number of the draw of the start and of the views, 0 to 999.
    pace : 30, 120 or 0
        Steps a second; 0 is as many as the page manages.
    log_steps : bool
        Logarithmic axis of steps.

    Raises
    ------
    ValueError
        If a value is out of its range or unknown. The same holds whenever one of these
        attributes is set later; each follows what the reader does in the page.
    """

    _esm = compose(
        *("words", "draw", "chart", "controls", "mount", "algebra", "random"),
        *("train_views", "train", "train_theory", "train_run"),
        *("train_story", "train_pictures", "train_figure"),
    )
    _css = _compose.style("figure", "train")

    # Two bytes for each grey level of nothing: replaced by `images` at once.
    patches = Guarded(_patches, base64.b64encode(bytes(FEWEST * SIDE * SIDE)).decode())
    net = Guarded(_compose.choice(*NETS), "linear")
    loss = Guarded(_compose.choice(*LOSSES), "barlow_twins")
    start = Guarded(_compose.between(1e-6, 1.0), 1e-3)
    rate = Guarded(_compose.between(0.01, 4.0), 0.1)
    seed = Guarded(_compose.whole(0, 999), 0)
    pace = Guarded(_pace, 120)
    log_steps = Guarded(_compose.switch, False)

    def __init__(
        self,
        images: UInt8[np.ndarray, "n 10 10"] | UInt8[np.ndarray, "n 10 10 3"],
        *,
        net: str = "linear",
        loss: str = "barlow_twins",
        start: float = 1e-3,
        rate: float = 0.1,
        seed: int = 0,
        pace: int = 120,
        log_steps: bool = False,
        **widget: Any,
    ) -> None:
        super().__init__(
            patches=_text(images),
            net=net,
            loss=loss,
            start=start,
            rate=rate,
            seed=seed,
            pace=pace,
            log_steps=log_steps,
            **widget,
        )
