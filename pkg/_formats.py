"""The formats in which image sets are published: the half of `data` that knows bytes.

Each set lies in one of a few layouts, its own or the one that torchvision leaves
behind. A file is accepted by its size; pickles, by the published MD5 of their bytes.
Readers return pixels (n, height, width, channels) and labels (n,), in file order.
"""

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Published numbers of images. Sizes of files follow from them.
IMAGES = {
    "fashion_mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "stl10": {"train": 5_000, "test": 8_000, "unlabeled": 100_000},
}
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The same kinds of things in another order, and a monkey in place of the frog.
STL10 = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
FASHION_MNIST = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# MD5 of the members of cifar-10-python.tar.gz, as torchvision 0.29.1 lists them.
CIFAR10_PICKLES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


class Layout(NamedTuple):
    """One form of one split: a folder, its files, and who reads them."""

    folder: str  # below the root
    files: Mapping[str, int | None]  # size in bytes; None: the reader checks a hash
    read: Callable[[list[Path]], tuple[np.ndarray, np.ndarray]]


class Missing(Exception):
    """What is not there, in words; caught where a download may be offered."""


def read(name: str, split: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the pixels and labels of a split that lies under `root`.

    Parameters
    ----------
    name, split : str
        One of `IMAGES`.
    root : path
        The folder of the set, or one above it.

    Returns
    -------
    x, y : (n, height, width, 1 or 3) uint8, (n,) int64

    Raises
    ------
    Missing
        If the split is not there, complete.
    ValueError
        If a file of the right size has the wrong content.
    """
    layout, folder = find(name, split, root)
    paths = [folder / file for file in layout.files]
    x, y = layout.read(paths)
    classes = len(CLASSES[name])
    lowest = -1 if split == "unlabeled" else 0
    if len(x) != len(y) or y.min() < lowest or y.max() >= classes:
        raise ValueError(
            f"`root`: {folder} holds {len(x)} images, {len(y)} labels from {y.min()} "
            f"to {y.max()}, where {name} has {classes} classes, counted from 0; remove "
            "its files and load again"
        )
    return x, y


def find(name: str, split: str, root: Path) -> tuple[Layout, Path]:
    """Find the first complete layout, below `root` or in `root` itself.

    Parameters
    ----------
    name, split, root
        As in `read`.

    Returns
    -------
    layout, folder

    Raises
    ------
    Missing
        If there is none; it says what was found instead.
    """
    seen = []
    for layout in layouts(name, split):
        for folder in (root / layout.folder, root):
            faults = [_fault(folder / file, n) for file, n in layout.files.items()]
            if not any(faults):
                return layout, folder
            # A folder with none of the files is no attempt at the set.
            if not all(fault == "is missing" for fault in faults):
                bad = next(i for i, fault in enumerate(faults) if fault)
                seen.append(f"{folder / [*layout.files][bad]} {faults[bad]}")
    raise Missing("; ".join(seen))


def present(name: str, split: str, root: Path) -> bool:
    """Say whether a split lies under `root`, complete.

    Parameters are those of `read`; the result is True where `read` finds all files.
    """
    try:
        find(name, split, root)
    except Missing:
        return False
    return True


def layouts(name: str, split: str) -> list[Layout]:
    """Return the forms in which a split may lie, the preferred one first."""
    n = IMAGES[name][split]
    if name == "cifar10":
        batches = [f"data_batch_{i}" for i in range(1, 6)]
        batches = batches if split == "train" else ["test_batch"]
        each = n // len(batches) * 3073
        binary = {f"{batch}.bin": each for batch in batches}
        return [
            Layout("cifar-10-batches-bin", binary, cifar_binary),
            Layout("cifar-10-batches-py", dict.fromkeys(batches), cifar_python),
        ]
    if name == "stl10":
        files: dict[str, int | None] = {f"{split}_X.bin": n * 3 * 96 * 96}
        if split != "unlabeled":
            files[f"{split}_y.bin"] = n
        return [Layout("stl10_binary", files, stl10)]
    start = "train" if split == "train" else "t10k"
    zipped = {
        f"{start}-images-idx3-ubyte.gz": 16 + n * 28 * 28,
        f"{start}-labels-idx1-ubyte.gz": 8 + n,
    }
    folders = ("fashion-mnist", "FashionMNIST/raw")
    return [Layout(folder, zipped, idx) for folder in folders]


def _fault(path: Path, wanted: int | None) -> str:
    """Say what is wrong with a file of `wanted` bytes; nothing if nothing is."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if path.suffix == ".gz" and size >= 4:
        # A gzip file ends in its unpacked size, and packed sizes differ: Debian's
        # Fashion-MNIST has the published images, packed anew.
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return "is no gzip file"
            file.seek(-4, io.SEEK_END)
            size = int.from_bytes(file.read(), "little")
    if wanted is None or size == wanted:
        return ""
    return f"holds {size:,} bytes, not {wanted:,}"


def cifar_binary(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read records of one label and 3 planes, red, green, blue, row by row."""
    raw = np.concatenate([np.fromfile(path, dtype=np.uint8) for path in paths])
    records = raw.reshape(-1, 3073)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), records[:, 0].astype(np.int64)


def cifar_python(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read the same planes from pickles whose bytes are the published ones.

    A pickle may run any code, so bytes are compared first and then unpickled from
    memory: what is run is one of six known files, or nothing.
    """
    planes, labels = [], []
    for path in paths:
        raw = path.read_bytes()
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if found != CIFAR10_PICKLES[path.name]:
            raise ValueError(
                f"`root`: {path} is not the published file (MD5 {found}), and a pickle "
                "of unknown origin is not opened. Remove it, or pass the folder of the "
                "binary version"
            )
        batch = pickle.loads(raw, encoding="latin1")
        planes.append(batch["data"].reshape(-1, 3, 32, 32))
        labels.append(np.array(batch["labels"], dtype=np.int64))
    return np.concatenate(planes).transpose(0, 2, 3, 1), np.concatenate(labels)


def stl10(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Map 3 planes of 96 by 96, column by column; labels, if any, run from 1 to 10.

    The pixels are a memory map: nothing is read before it is chosen.
    """
    planes = np.memmap(paths[0], dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96)
    if len(paths) == 1:
        y = np.full(len(planes), -1, dtype=np.int64)
    else:
        y = np.fromfile(paths[1], dtype=np.uint8).astype(np.int64) - 1
    return planes.transpose(0, 3, 2, 1), y


def idx(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read grey images and their labels from two files of the MNIST family."""
    images, labels = (_idx(path) for path in paths)
    return images[..., None], labels.astype(np.int64)


def _idx(path: Path) -> np.ndarray:
    """Read one IDX file of bytes: two zeros, type 8, axes, big-endian shape, data."""
    try:
        raw = gzip.decompress(path.read_bytes())
        ndim = raw[3]
        shape = np.frombuffer(raw, dtype=">i4", count=ndim, offset=4)
        if raw[:3] != b"\0\0\x08":
            raise ValueError(f"it begins with {raw[:4].hex()}")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        raise ValueError(
            f"`root`: {path} cannot be read as a gzipped IDX file ({error}); remove it "
            "and load again"
        ) from error


CLASSES = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10, "stl10": STL10}
