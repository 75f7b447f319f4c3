"""Figures at a third of their weight, looking the same.

matplotlib writes every pixel in four channels. A line drawing has a few hundred shades,
so a palette holds it to within what an eye can see; a photograph keeps its channels and
is only packed better.
"""

import numpy as np
from PIL import Image
from sphinx.application import Sphinx

# Mean error of a palette, in steps of 1/255: line drawings stay below 0.1, photographs
# above 2.
UNSEEN = 0.3


def setup(app: Sphinx) -> None:
    """Repack the figures of the built site."""
    app.connect("build-finished", repack_figures)


def repack_figures(app: Sphinx, exception: Exception | None) -> None:
    """Rewrite each PNG that is not yet as small as it can be."""
    if exception is not None or app.builder.format != "html":
        return
    for file in (app.outdir / "_images").glob("*.png"):
        with Image.open(file) as image:
            image.load()
            packed = None if image.mode == "P" else smaller(image)
        if packed is not None:
            packed.save(file, optimize=True)


def smaller(image: Image.Image) -> Image.Image | None:
    """Return `image` with fewer channels, or None if it must stay as it is."""
    if image.mode not in ("RGB", "RGBA"):
        return None
    if image.mode == "RGBA" and image.getextrema()[3] != (255, 255):
        return None
    plain = image.convert("RGB")
    # No dithering: it would grain the flat background of a plot.
    palette = plain.quantize(256, dither=Image.Dither.NONE)
    error = np.asarray(palette.convert("RGB"), int) - np.asarray(plain, int)
    return palette if np.abs(error).mean() < UNSEEN else plain
