"""Folders of pictures, read into bytes: the half of `data` that knows files.

A folder's sub-folders are classes, in alphabetical order; a file is read as upright
8-bit RGB, or refused by name.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SPLITS = ("train", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Modes of Pillow that become RGB without losing what they hold.
CONVERTIBLE = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")


def listing(
    name: str, folder: Path, split: str
) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """List the files of one split, their labels, and the names of the labels.

    Parameters
    ----------
    name : str
        The argument that gave `folder`, for errors.
    folder : path
        Holds splits, classes, or images without labels.
    split : "train" or "test"

    Returns
    -------
    paths, y, classes : list of n paths, (n,) int64, tuple of str
    """
    folder = _split_folder(name, folder, split)
    folders, loose = _folders_in(folder), _images_in(folder, "*")
    if folders and loose:
        raise ValueError(
            f"`{name}`: {folder} holds images beside the folder {folders[0].name}/, so "
            "it is unclear what the labels are. Move one or the other away"
        )
    groups = [_images_in(sub, "**/*") for sub in folders] or [loose]
    for sub, group in zip(folders or [folder], groups, strict=True):
        if not group:
            raise ValueError(
                f"`{name}`: {sub} holds no images. Files ending in "
                f"{', '.join(SUFFIXES)} are read"
            )
    labels = range(len(groups)) if folders else [-1]
    y = np.repeat(np.array(labels, dtype=np.int64), [len(group) for group in groups])
    paths = [path for group in groups for path in group]
    return paths, y, tuple(sub.name for sub in folders)


def _split_folder(name: str, folder: Path, split: str) -> Path:
    """Return the folder of `split`, which is `folder` itself when it has no splits."""
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"`{name}`: {folder} {found}; pass a folder of images")
    folders = [sub.name for sub in _folders_in(folder)]
    splits = [sub for sub in folders if sub in SPLITS]
    if splits and splits != folders:
        raise ValueError(
            f"`{name}`: {folder} holds {splits[0]}/ beside other folders, so it is "
            f"unclear whether these are splits or classes. Pass {folder / splits[0]}, "
            "or rename the class"
        )
    if split in splits:
        return folder / split
    if splits or split != "train":
        raise ValueError(f"`split` is {split!r}, but {folder} holds no {split}/")
    return folder


def _folders_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def _images_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES
        # Hidden files and folders, such as a Mac's ._0.jpg, are no pictures.
        and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def balanced(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `n` positions at random, taking one of each class in turn.

    Parameters
    ----------
    y : (N,)
        Labels.
    n : int
        At most N.
    rng : Generator

    Returns
    -------
    (n,)
        Positions; those for a smaller `n` are the first of those for a larger one.
    """
    order = rng.permutation(len(y))
    turn = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        mine = order[y[order] == label]
        turn[mine] = np.arange(len(mine))
    return order[np.argsort(turn[order], kind="stable")][:n]


# --- files ---------------------------------------------------------------------------


def stack(paths: list[Path], size: int | None) -> np.ndarray:
    """Read `paths` into one array (n, height, width, 3)."""
    first = read(paths[0], size)
    x = np.empty((len(paths), *first.shape), dtype=np.uint8)
    x[0] = first
    for i, path in enumerate(paths[1:], start=1):
        pixels = read(path, size)
        if pixels.shape != first.shape:
            raise ValueError(
                f"`size` is missing, and sizes differ: {paths[0]} is "
                f"{first.shape[1]} x {first.shape[0]} px, {path} is "
                f"{pixels.shape[1]} x {pixels.shape[0]}. Pass one, such as size=32"
            )
        x[i] = pixels
    return x


def read(path: Path, size: int | None) -> np.ndarray:
    """Read one file whole, or its central square resized to `size`."""
    image = open_rgb(path)
    if size is None:
        return np.asarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return resize(image, size, (left, top, left + side, top + side))


def resize(image: "Image", size: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Resize the `box` (left, top, right, bottom) of an image.

    Parameters are Pillow's; the result is (size, size, 3), or (size, size) if grey.
    """
    from PIL.Image import Resampling

    # Pillow widens the filter when it shrinks, so fine texture does not alias.
    return np.asarray(image.resize((size, size), Resampling.BILINEAR, box=box))


def resize_all(x: np.ndarray, size: int) -> np.ndarray:
    """Resize square images (n, height, width, 3) in memory, one at a time."""
    from PIL import Image

    resized = np.empty((len(x), size, size, 3), dtype=np.uint8)
    for i, each in enumerate(x):
        image = Image.fromarray(np.ascontiguousarray(each))
        resized[i] = resize(image, size, (0, 0, image.width, image.height))
    return resized


def open_rgb(path: Path) -> "Image":
    """Read one file as upright 8-bit RGB; refuse what has no such form."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            finding = _unfaithful(file)
            image = ImageOps.exif_transpose(file)
    # Each decoder of Pillow breaks in its own way: OSError, SyntaxError, zlib.error...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); replace or remove it"
        ) from error
    if finding:
        raise ValueError(f"{path} {finding}; save it as one 8-bit RGB picture first")
    if "A" in image.getbands() or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _unfaithful(image: "Image") -> str:
    """Say what 8-bit RGB would lose of `image`; nothing, if it loses nothing."""
    # Pillow opens 16-bit colour as plain RGB and drops the low byte in silence; only
    # the decoder's raw mode, such as "RGB;16B", tells.
    raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.mode[0] in "IF" or any(f";16{order}" in raw for order in "BLN"):
        return f"has more than 8 bits a channel (mode {image.mode})"
    if image.mode not in CONVERTIBLE:
        return f"is in {image.mode} colours"
    # A phone's JPEG (MPO) carries a preview as its second frame.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        return "holds several frames"
    return ""
