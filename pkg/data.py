"""Image sets as bytes, each with a sentence that says where it came from.

One function, one result: ``load`` returns ``Images`` whatever the source, so that a
chapter changes data by changing one word. Introduced in chapter 1.
"""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from pkg import _check, _fetch, _folders, _formats

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS = Path(__file__).parent / "photos"
NAMES = ("photos", "digits", "fashion_mnist", "cifar10", "cifar10-jpeg", "stl10")
SPLITS = ("train", "test", "unlabeled")
CIFAR10 = _formats.CIFAR10

# Both constants of the crop rule were set once, by hand, so that the spectrum of
# Gamma of the photographs falls like CIFAR-10's. Smaller crops or no test of contrast
# leave patches of sky and wall, and most of Gamma's trace in its first mode.
CROP_SIDE = (0.3, 1.0)
MIN_CONTRAST = 0.12
MAX_TRIES = 1000

# Title and origin of the sets that are read from `root`, for their provenance.
ABOUT = {
    "fashion_mnist": (
        "Fashion-MNIST",
        "lossless, grey repeated in three channels; Zalando, MIT licence",
    ),
    "cifar10": (
        "CIFAR-10",
        "lossless; www.cs.toronto.edu/~kriz/cifar.html, which states no licence",
    ),
    "stl10": (
        "STL-10",
        "lossless; cs.stanford.edu/~acoates/stl10, which states no licence, from "
        "ImageNet",
    ),
}


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
    download: bool = False,
) -> Images:
    """Load a named image set, or any folder of images.

    ``"photos"`` ships with the package and is the default of every chapter: square
    crops of a few photographs, a stand-in for CIFAR-10 that needs no download. The
    side of a crop is log-uniform between 0.3 and 1 of the photograph's short side,
    and a crop is kept only if its pixels vary enough: mean over channels of the
    standard deviation at least 0.12 in units of full scale. Both numbers were set by
    hand against CIFAR-10's spectrum. ``"digits"`` are scikit-learn's 1,797 digits of
    8 by 8. ``"fashion_mnist"``, ``"cifar10"`` and ``"stl10"`` are read from `root` in
    the form in which they are published. Introduced in chapter 1.

    Nothing is downloaded unless `download` is true, and never when the variable
    STEPWISE_OFFLINE is set to anything but 0. A download tries its sources in turn,
    three rounds, and leaves one that stalls; a file counts only if its SHA-256 is the
    published one, and appears under `root` whole or not at all. While another process
    downloads the same set there, we wait for it. STL-10 is a single archive of 2.6 GB
    that unpacks to 3.1 GB, whichever split is asked for.

    Parameters
    ----------
    name_or_folder : str or path
        ``"photos"``, ``"digits"``, ``"fashion_mnist"``, ``"cifar10"``, ``"stl10"``;
        ``"cifar10-jpeg"``, a copy of CIFAR-10 as JPEG files under `root`; or a folder.
        In a folder, sub-folders are classes in alphabetical order, and folders called
        ``train`` and ``test`` are splits of the same form. Images directly in the
        folder have no label.
    split : "train", "test" or "unlabeled"
        Which split to read. Photographs, digits and folders without splits know only
        "train"; "unlabeled" is STL-10's. No split of a set touches another's files.
    n : int, optional
        How many images. Photographs: 500 by default, equally many from each. All
        else: everything, in order of file, by default; given `n`, a random subset in
        random order, whose classes differ by at most one image where there are
        enough. Only the chosen files are read, and the first images of a larger
        subset with the same seed are the smaller one.
    size : int, optional
        Side in pixels. Photographs: 32 by default. All else: as it is by default;
        given `size`, the central square of each image is resized, antialiased.
    seed : int
        Decides the crops or the subset; the same seed gives the same images.
    root : path, optional
        Where a named set lies: for ``"cifar10-jpeg"`` the folder that holds ``train``
        and ``test``; for the published sets a folder with the files themselves, with
        ``cifar-10-batches-bin``, ``cifar-10-batches-py``, ``stl10_binary`` or
        ``fashion-mnist``, or one that torchvision filled. By default the folder named
        by the variable STEPWISE_DATA, or else the user's cache. Files that lie there
        are accepted by their sizes (Fashion-MNIST: unpacked), pickles by their MD5.
        Debian's dataset-fashion-mnist lies in ``/usr/share/datasets/fashion-mnist``.
        In all of these, and in the name of a folder, ``~`` is the user's home.
    download : bool
        Permission to fetch what is missing under `root`. Where nothing is missing, or
        the set has no download, it changes nothing.

    Returns
    -------
    Images
        ``x`` is (n, height, width, 3) uint8. ``y`` of the photographs says which
        photograph; of unlabelled images it is -1. Pictures are turned upright as their
        EXIF tag asks; greyscale and palette pictures become RGB, and transparent ones
        lie on white. Colour profiles are not applied. STL-10 read whole is a memory
        map, of which only what is used is read.

    Raises
    ------
    ValueError
        If the name or the split is unknown, the folder is missing, empty or of unclear
        form, a named set is not under `root` and `download` is false, `n` is more than
        there is, sizes differ and `size` is not given, or a file is broken or of a
        kind that has no faithful 8-bit RGB form: CMYK, 16 bits a channel, several
        frames. The message names the file and the remedy.
    RuntimeError
        If a download is forbidden, finds too little disk, or fails at every source.
        The message says what each source did; nothing half-written remains.
    """
    seed = _check.count("seed", seed, low=0)
    if n is not None:
        n = _check.count("n", n)
    if size is not None:
        size = _check.count("size", size)
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}; got {split!r}")

    if not isinstance(name_or_folder, str | PathLike):
        raise ValueError(
            f"`name_or_folder` must be one of {NAMES}, or the path of a folder; got "
            f"{name_or_folder!r}"
        )
    if name_or_folder in _formats.IMAGES:
        return _published(str(name_or_folder), split, n, size, seed, root, download)
    if name_or_folder == "cifar10-jpeg":
        return _cifar10_jpeg(root, split, n, size, seed)
    if root is not None:
        raise ValueError(
            f"`root` is where a named set lies, and {str(name_or_folder)!r} needs "
            "none; leave it out"
        )
    if name_or_folder == "photos":
        return _photos(split, 500 if n is None else n, size or 32, seed)
    if name_or_folder == "digits":
        return _digits(split, n, size, seed)
    folder = _fetch.expanded("name_or_folder", name_or_folder)
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
    photos = [_folders.open_rgb(path) for path in paths]
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
    # Of the emptiest photograph (the cat) still a third of the crops pass; a crop of a
    # single pixel never does.
    low, high = np.log(CROP_SIDE)
    for _ in range(MAX_TRIES):
        side = round(min(photo.size) * np.exp(rng.uniform(low, high)))
        left = int(rng.integers(photo.width - side + 1))
        top = int(rng.integers(photo.height - side + 1))
        crop = _folders.resize(photo, size, (left, top, left + side, top + side))
        if crop.std(axis=(0, 1)).mean() >= 255 * MIN_CONTRAST:
            return crop
    raise ValueError(
        f"`size` is {size}, and none of {MAX_TRIES} crops of a photograph varies "
        f"enough at that size (contrast {MIN_CONTRAST:g}); ask for more pixels"
    )


# --- named sets ----------------------------------------------------------------------


def _digits(split: str, n: int | None, size: int | None, seed: int) -> Images:
    if split != "train":
        raise ValueError(
            f"`split` is {split!r}, but scikit-learn's digits have no such split; load "
            "'train' and hold some back"
        )
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Grey levels run from 0 to 16.
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    about = (
        "lossless, grey levels 0 to 16 stretched to 0 to 255 and repeated in three "
        "channels; UCI's Optical Recognition of Handwritten Digits, test part, CC BY "
        "4.0, from scikit-learn"
    )
    classes = tuple(str(name) for name in digits.target_names)
    y = digits.target.astype(np.int64)
    return _images("digits", split, x, y, classes, about, n, size, seed)


def _published(
    name: str,
    split: str,
    n: int | None,
    size: int | None,
    seed: int,
    root: str | PathLike[str] | None,
    download: bool,
) -> Images:
    splits = tuple(_formats.IMAGES[name])
    if split not in splits:
        raise ValueError(f"`split` is {split!r}, but {name!r} has only {splits}")
    home = _fetch.home(root)
    if home.is_file():
        raise ValueError(f"`root`: {home} is a file; pass a folder")
    x, y = _read(name, split, home, download)
    title, about = ABOUT[name]
    classes = () if split == "unlabeled" else _formats.CLASSES[name]
    return _images(title, split, x, y, classes, about, n, size, seed)


def _read(
    name: str, split: str, home: Path, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels and labels, fetched first if they are missing and may be."""
    try:
        return _formats.read(name, split, home)
    except _formats.Missing as missing:
        found = str(missing)
    if not download:
        raise ValueError(_fetch.refusal(name, split, home, found))
    _fetch.fetch(name, split, home, lambda: _formats.present(name, split, home))
    return _formats.read(name, split, home)


def _images(
    title: str,
    split: str,
    x: np.ndarray,
    y: np.ndarray,
    classes: tuple[str, ...],
    about: str,
    n: int | None,
    size: int | None,
    seed: int,
) -> Images:
    """Choose, colour and resize what a reader found, and say so in one line."""
    found, order = len(y), ""
    if n is not None:
        chosen = _choose(y, n, seed, title)
        x, y, order = np.ascontiguousarray(x[chosen]), y[chosen], f"; seed {seed}"
    if x.shape[-1] == 1:
        x = np.repeat(x, 3, axis=-1)
    if size is not None:
        x = _folders.resize_all(x, size)
    provenance = (
        f"{title}, {split}: {len(y)} of {found} images, {len(classes)} classes, "
        f"{x.shape[2]} x {x.shape[1]} px; {about}{order}"
    )
    return Images(x=x, y=y, classes=classes, provenance=provenance)


def _choose(y: np.ndarray, n: int, seed: int, where: str) -> np.ndarray:
    """Return `n` positions of a random subset with balanced classes."""
    if n > len(y):
        raise ValueError(
            f"`n` is {n}, but {where} holds {len(y)} images; ask for fewer"
        )
    return _folders.balanced(y, n, np.random.default_rng(seed))


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
    home = _fetch.expanded("root", root)
    images = _folder("root", home, split, n, size, seed)
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
    paths, y, classes = _folders.listing(name, folder, split)
    found, order = len(paths), ""
    if n is not None:
        chosen = _choose(y, n, seed, str(folder))
        paths, y = [paths[i] for i in chosen], y[chosen]
        order = f"; seed {seed}"
    x = _folders.stack(paths, size)
    provenance = (
        f"folder {folder.resolve().name}, {split}: {len(y)} of {found} images, "
        f"{len(classes)} classes, {x.shape[2]} x {x.shape[1]} px; licence not "
        f"known to the package{order}"
    )
    return Images(x=x, y=y, classes=classes, provenance=provenance)
