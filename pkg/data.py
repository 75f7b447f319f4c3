"""Image sets as bytes, each with a sentence that says where it came from.

One function, one result: ``load`` returns ``Images`` whatever the source, so that a
chapter changes data by changing one word. Introduced in chapter 5.
"""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from pkg import _check

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Path(__file__).parent / "photos"
NAMES = ("photos", "cifar10-jpeg")
SPLITS = ("train", "test")
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# Both constants of the crop rule were set once, by hand, so that the spectrum of
# Gamma of the photographs falls like CIFAR-10's. Smaller crops or no test of contrast
# leave patches of sky and wall, and most of Gamma's trace in its first mode.
CROP_SIDE = (0.3, 1.0)
MIN_CONTRAST = 0.12

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Modes of Pillow that become RGB without losing what they hold.
CONVERTIBLE = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")


@dataclass(frozen=True, eq=False, kw_only=True)
class Images:
    """A set of images, their labels, and where they came from.

    Attributes
    ----------
    x : (n, height, width, 3) uint8
        Red, green, blue. Read-only.
    y : (n,) int64
        Index into `classes`; -1 where nothing is known. Read-only.
    classes : tuple of str
        Names of the labels; empty when no image has one.
    provenance : str
        Name, source, licence, number, size and seed in one line, for captions.
    """

    x: UInt8[np.ndarray, "n height width 3"]
    y: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    provenance: str

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"`x` and `y` need one common length; got {len(self.x)} and "
                f"{len(self.y)}"
            )
        for name in ("x", "y"):
            # A view: freezing it leaves the caller's own array writable.
            frozen = getattr(self, name).view()
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)

    def __len__(self) -> int:
        return len(self.y)


def load(
    name_or_folder: str | PathLike[str],
    *,
    split: str = "train",
    n: int | None = None,
    size: int | None = None,
    seed: int = 0,
    root: str | PathLike[str] | None = None,
) -> Images:
    """Load a named image set, or any folder of images.

    ``"photos"`` ships with the package and is the default of every chapter: square
    crops of a few photographs, a stand-in for CIFAR-10 that needs no download. The
    side of a crop is log-uniform between 0.3 and 1 of the photograph's short side,
    and a crop is kept only if its pixels vary enough: mean over channels of the
    standard deviation at least 0.12 in units of full scale. Both numbers were set by
    hand against CIFAR-10's spectrum. Introduced in chapter 5.

    Parameters
    ----------
    name_or_folder : str or path
        ``"photos"``; ``"cifar10-jpeg"``, a copy of CIFAR-10 as JPEG files under
        `root`; or a folder. In a folder, sub-folders are classes in alphabetical
        order, and folders called ``train`` and ``test`` are splits of the same form.
        Images directly in the folder have no label.
    split : "train" or "test"
        Which split of a folder to read. Sets without splits know only "train".
    n : int, optional
        How many images. Photographs: 500 by default, equally many from each. Folders:
        all, in order of file name, by default; given `n`, a random subset in random
        order, whose classes differ by at most one image where there are enough. Only
        the chosen files are read, and the first images of a larger subset with the
        same seed are the smaller one.
    size : int, optional
        Side in pixels. Photographs: 32 by default. Folders: as they are by default;
        given `size`, the central square of each image is resized, antialiased.
    seed : int
        Decides the crops or the subset; the same seed gives the same images.
    root : path, optional
        Where a named set lies: for ``"cifar10-jpeg"`` the folder that holds
        ``train`` and ``test``.

    Returns
    -------
    Images
        ``x`` is (n, height, width, 3) uint8. ``y`` of the photographs says which
        photograph. Pictures are turned upright as their EXIF tag asks; greyscale and
        palette pictures become RGB, and transparent ones lie on white. Colour
        profiles are not applied.

    Raises
    ------
    ValueError
        If the name is unknown, the folder is missing, empty or of unclear form, `n`
        is more than there is, sizes differ and `size` is not given, or a file is
        broken or of a kind that has no faithful 8-bit RGB form: CMYK, 16 bits a
        channel, several frames. The message names the file and the remedy.
    """
    seed = _check.count("seed", seed, low=0)
    if n is not None:
        n = _check.count("n", n)
    if size is not None:
        size = _check.count("size", size)
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}; got {split!r}")

    if name_or_folder == "cifar10-jpeg":
        return _cifar10_jpeg(root, split, n, size, seed)
    if root is not None:
        raise ValueError(
            f"`root` is where a named set lies, and {str(name_or_folder)!r} needs "
            "none; leave it out"
        )
    if name_or_folder == "photos":
        return _photos(split, 500 if n is None else n, size or 32, seed)
    folder = Path(name_or_folder)
    if not folder.exists() and len(folder.parts) == 1:
        _check.choice("name_or_folder", str(name_or_folder), NAMES)
    return _folder("name_or_folder", folder, split, n, size, seed)


# --- the photographs -----------------------------------------------------------------


def _photos(split: str, n: int, size: int, seed: int) -> Images:
    if split != "train":
        raise ValueError(
            f"`split` is {split!r}, but the photographs have no such split; pass "
            "another `seed` for other crops"
        )
    paths = sorted(PHOTOS.glob("*.jpg"))
    photos = [_open_rgb(path) for path in paths]
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % len(photos))
    x = np.stack([_crop(photos[label], size, rng) for label in y])
    provenance = (
        f"photos: {n} crops of {size} px from {len(photos)} photographs bundled with "
        "the package (CC BY, CC0 and public domain; pkg/photos/ATTRIBUTION.md); side "
        f"log-uniform in {CROP_SIDE[0]:g} to {CROP_SIDE[1]:g} of the short side, "
        f"contrast at least {MIN_CONTRAST:g}; seed {seed}"
    )
    classes = tuple(path.stem for path in paths)
    return Images(x=x, y=y, classes=classes, provenance=provenance)


def _crop(photo: "Image", size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw square crops of `photo` until one passes the test of contrast."""
    # It ends: of the emptiest photograph (the cat) still a third of the crops pass.
    low, high = np.log(CROP_SIDE)
    while True:
        side = round(min(photo.size) * np.exp(rng.uniform(low, high)))
        left = int(rng.integers(photo.width - side + 1))
        top = int(rng.integers(photo.height - side + 1))
        crop = _resize(photo, size, (left, top, left + side, top + side))
        if crop.std(axis=(0, 1)).mean() >= 255 * MIN_CONTRAST:
            return crop


# --- folders -------------------------------------------------------------------------


def _cifar10_jpeg(
    root: str | PathLike[str] | None,
    split: str,
    n: int | None,
    size: int | None,
    seed: int,
) -> Images:
    if root is None:
        raise ValueError(
            "`root` is missing: 'cifar10-jpeg' is not part of the package. Pass the "
            "folder that holds its train/ and test/"
        )
    images = _folder("root", Path(root), split, n, size, seed)
    if images.classes != CIFAR10:
        raise ValueError(
            f"`root` must hold CIFAR-10's ten classes as folders; found "
            f"{images.classes}. Pass the folder that holds train/ and test/"
        )
    about = images.provenance.partition(", ")[2]
    return replace(images, provenance=f"CIFAR-10 (JPEG copy), {about}")


def _folder(
    name: str, folder: Path, split: str, n: int | None, size: int | None, seed: int
) -> Images:
    paths, y, classes = _listing(name, folder, split)
    found, order = len(paths), ""
    if n is not None:
        if n > found:
            raise ValueError(
                f"`n` is {n}, but {folder} holds {found} images; ask for fewer"
            )
        chosen = _balanced(y, n, np.random.default_rng(seed))
        paths, y = [paths[i] for i in chosen], y[chosen]
        order = f"; seed {seed}"
    x = _stack(paths, size)
    provenance = (
        f"folder {folder.resolve().name}, {split}: {len(y)} of {found} images, "
        f"{len(classes)} classes, {x.shape[2]} x {x.shape[1]} px; licence not "
        f"known to the package{order}"
    )
    return Images(x=x, y=y, classes=classes, provenance=provenance)


def _listing(
    name: str, folder: Path, split: str
) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Return the files of one split, their labels, and the names of the labels."""
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


def _balanced(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `n` positions at random, taking one of each class in turn."""
    order = rng.permutation(len(y))
    turn = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        mine = order[y[order] == label]
        turn[mine] = np.arange(len(mine))
    return order[np.argsort(turn[order], kind="stable")][:n]


# --- files ---------------------------------------------------------------------------


def _stack(paths: list[Path], size: int | None) -> np.ndarray:
    """Read `paths` into one array (n, height, width, 3)."""
    first = _pixels(paths[0], size)
    x = np.empty((len(paths), *first.shape), dtype=np.uint8)
    x[0] = first
    for i, path in enumerate(paths[1:], start=1):
        pixels = _pixels(path, size)
        if pixels.shape != first.shape:
            raise ValueError(
                f"`size` is missing, and sizes differ: {paths[0]} is "
                f"{first.shape[1]} x {first.shape[0]} px, {path} is "
                f"{pixels.shape[1]} x {pixels.shape[0]}. Pass one, such as size=32"
            )
        x[i] = pixels
    return x


def _pixels(path: Path, size: int | None) -> np.ndarray:
    """Read one file whole, or its central square resized to `size`."""
    image = _open_rgb(path)
    if size is None:
        return np.asarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _resize(image, size, (left, top, left + side, top + side))


def _resize(image: "Image", size: int, box: tuple[int, int, int, int]) -> np.ndarray:
    from PIL.Image import Resampling

    # Pillow widens the filter when it shrinks, so fine texture does not alias.
    return np.asarray(image.resize((size, size), Resampling.BILINEAR, box=box))


def _open_rgb(path: Path) -> "Image":
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
