"""Downloads: the half of `data` that knows the network, and is asked for by name.

pooch carries each file into a hidden folder beside its place, compares its SHA-256,
and only then does the file, or what is unpacked from it, move to where readers look.
A process that is killed leaves that hidden folder, which the next download removes.
"""

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

OFFLINE = "STEPWISE_OFFLINE"
ROOT = "STEPWISE_DATA"

TIMEOUT = (10, 30)  # seconds to connect, and between two pieces of an answer
SLOW = (10_000, 60)  # bytes a second, seconds: below this a source counts as stalled
PAUSES = (0, 2, 10)  # seconds before each round through the sources
LOCK_POLL = 1.0  # seconds between two tries while another process downloads the set
# Speed is looked at after each whole piece: below some 70 bytes a second a piece takes
# longer than the window of SLOW.
CHUNK = 2**12


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One file on the network, and where what it holds belongs."""

    file: str
    size: int
    sha256: str
    urls: tuple[str, ...]  # in the order in which they are tried
    splits: tuple[str, ...]
    folder: str = ""  # below the root, for a file that is kept as it is
    members: dict[str, int] = field(default_factory=dict)  # of an archive: path, bytes

    @property
    def verb(self) -> str:
        """What a reader who fetched it by hand does with it."""
        return "unpack" if self.members else "put"


# Sizes and SHA-256 of the archives are those of TensorFlow Datasets 4.9. The copy of
# CIFAR-10 that Swift for TensorFlow kept comes first. Its home in Toronto has been
# reported at 50 to 80 kB a second since June 2026 (github.com/pytorch/vision, issue
# 9536): up to an hour, and yet too fast to count as stalled. Should the copy go, that
# costs one request; should it change, its SHA-256 tells, and Toronto is asked next.
CIFAR10 = Remote(
    file="cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    urls=(
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/"
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
    splits=("train", "test"),
    members={
        f"cifar-10-batches-bin/{name}.bin": 30_730_000
        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    },
)
STL10 = Remote(
    file="stl10_binary.tar.gz",
    size=2_640_397_119,
    sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    urls=(
        "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    ),
    splits=("train", "test", "unlabeled"),
    members={
        "stl10_binary/train_X.bin": 138_240_000,
        "stl10_binary/train_y.bin": 5_000,
        "stl10_binary/test_X.bin": 221_184_000,
        "stl10_binary/test_y.bin": 8_000,
        "stl10_binary/unlabeled_X.bin": 2_764_800_000,
    },
)


def _fashion_mnist(file: str, size: int, sha256: str) -> Remote:
    return Remote(
        file=file,
        size=size,
        sha256=sha256,
        urls=(
            f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
            f"b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/{file}",
        ),
        splits=("train",) if file.startswith("train") else ("test",),
        folder="fashion-mnist",
    )


SOURCES = {
    "cifar10": (CIFAR10,),
    "stl10": (STL10,),
    # Zalando's own page lists MD5; the SHA-256 of the same files are those of
    # TensorFlow Datasets.
    "fashion_mnist": (
        _fashion_mnist(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        _fashion_mnist(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        _fashion_mnist(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        _fashion_mnist(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
}


class _WrongFile(Exception):
    """A source answers with something else: asking it again will not help."""


class _Stalled(Exception):
    """A source is too slow to wait for, or broke off: it may recover."""


def home(root: str | PathLike[str] | None) -> Path:
    """Return the folder of all sets: `root`, the environment's, or the user's cache."""
    if root is not None:
        return expanded("root", root)
    if os.environ.get(ROOT):
        return expanded(ROOT, os.environ[ROOT])
    import pooch

    return Path(pooch.os_cache("stepwise-ssl"))


def expanded(name: str, path: str | PathLike[str]) -> Path:
    """Return `path` with ``~`` written out, as a shell would have done."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"`{name}` is {str(path)!r}, and no such user has a home here; write the "
            "folder out"
        ) from error


def refusal(name: str, split: str, root: Path, found: str) -> str:
    """Say what is missing, what would be fetched from where, and by which call.

    Parameters
    ----------
    name, split : str
    root : path
        Where it was looked for.
    found : str
        What was found instead; may be empty.

    Returns
    -------
    str
        The message of an error.
    """
    remotes = _remotes(name, split)
    files = " and ".join(f"{r.file} ({r.size:,} bytes)" for r in remotes)
    call = f"data.load({name!r}, split={split!r}, root={str(root)!r}, download=True)"
    place = root / remotes[0].folder
    return (
        f"`root`: {name!r}, split {split!r}, is not in {root}"
        f"{' (' + found + ')' if found else ''}. Nothing is downloaded unasked: {call} "
        f"would fetch {files} from {remotes[0].urls[0]} into {place}. Or pass as "
        "`root` a folder that holds it"
    )


def fetch(name: str, split: str, root: Path, present: Callable[[], bool]) -> None:
    """Download what `split` needs into `root`, one process at a time.

    `present` says whether another process was faster.
    """
    remotes = _remotes(name, split)
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        urls = " and ".join(remote.urls[0] for remote in remotes)
        raise RuntimeError(
            f"`download` is True, but {OFFLINE} is set in the environment, so the "
            f"network is not used. Unset it, or get {urls} by another road and "
            f"{remotes[0].verb} it in {root}"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        held = _locked(root / f".{name}.lock", name)
    except OSError as error:
        raise RuntimeError(
            f"`root`: {root} cannot be written ({error}); pass a folder of your own"
        ) from error
    with held:
        if not present():
            _fetch_locked(name, remotes, root)


def _locked(path: Path, name: str) -> AbstractContextManager:
    """Take the lock, after whoever downloads the set now; say so while waiting."""
    import filelock
    from tqdm import tqdm

    lock = filelock.FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        pass
    # No limit: a living holder gives up by itself on a source that stalls, and at 10 kB
    # a second STL-10 takes three days. The system drops the lock of a process that
    # ends, however it ends.
    word = f"{name}: another process is downloading it, waiting"
    with tqdm(desc=word, bar_format="{desc} {elapsed}") as bar:
        while True:
            try:
                return lock.acquire(timeout=LOCK_POLL, poll_interval=LOCK_POLL / 4)
            except filelock.Timeout:
                bar.update()


def _fetch_locked(name: str, remotes: list[Remote], root: Path) -> None:
    prefix = f".{name}-partial-"
    for left in root.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    _check_space(name, remotes, root)
    # Beside its place: a move within one file system is atomic.
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=root) as partial:
            for remote in remotes:
                _place(remote, _download(remote, Path(partial)), root)
    except OSError as error:
        raise RuntimeError(
            f"`root`: {root} could not take {name} ({error}), and nothing half-written "
            "was kept; free some space, or pass another folder"
        ) from error


def _remotes(name: str, split: str) -> list[Remote]:
    return [remote for remote in SOURCES[name] if split in remote.splits]


def _check_space(name: str, remotes: list[Remote], root: Path) -> None:
    needed = sum(remote.size + sum(remote.members.values()) for remote in remotes)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise RuntimeError(
            f"`root`: {root} has {free / 1e6:,.0f} MB free, but {name} needs "
            f"{needed / 1e6:,.0f} MB while it is unpacked; free some, or pass another "
            "folder"
        )


def _download(remote: Remote, folder: Path) -> Path:
    """Try every source in turn, a few rounds with longer pauses between them."""
    import pooch
    import requests

    urls, failures = list(remote.urls), {}
    for pause in PAUSES:
        time.sleep(pause if urls else 0)
        for url in tuple(urls):
            try:
                path = pooch.retrieve(
                    url,
                    known_hash=f"sha256:{remote.sha256}",
                    fname=remote.file,
                    path=folder,
                    downloader=_transfer(remote),
                )
                return Path(path)
            except (_Stalled, requests.RequestException) as error:
                # urllib3 wraps the reason in the address, which we give ourselves.
                wrapped = error.args[0] if error.args else error
                failures[url] = str(getattr(wrapped, "reason", error))
            # pooch raises ValueError where the hash differs.
            except (_WrongFile, ValueError) as error:
                failures[url] = str(error)
                urls.remove(url)
    told = "; ".join(f"{url}: {failure}" for url, failure in failures.items())
    raise RuntimeError(
        f"{remote.file} could not be downloaded, and nothing of it was kept. {told}. "
        f"Try again later, or fetch it by hand ({remote.size:,} bytes, SHA-256 "
        f"{remote.sha256}) and {remote.verb} it where `root` points"
    )


def _transfer(remote: Remote) -> Callable[[str, str, Any], None]:
    """Return pooch's downloader for one file, which watches speed and size."""
    import pooch

    def transfer(url: str, output_file: str, caller: Any) -> None:
        watch = _Watch(remote)
        downloader = pooch.HTTPDownloader(
            progressbar=watch, chunk_size=CHUNK, timeout=TIMEOUT
        )
        try:
            downloader(url, output_file, caller)
        finally:
            watch.close()
        received = Path(output_file).stat().st_size
        if received != remote.size:
            with Path(output_file).open("rb") as file:
                page = file.read(512).lstrip().startswith(b"<")
            kind = "a web page" if page else "another file"
            told = f"{received:,} bytes came, not {remote.size:,}"
            if page or received == watch.total:
                raise _WrongFile(f"it sends {kind}: {told}")
            raise _Stalled(f"it broke off: {told}")

    return transfer


class _Watch:
    """A progress bar for pooch that gives up on what is too slow or too long."""

    def __init__(self, remote: Remote) -> None:
        from tqdm import tqdm

        self.total = 0  # set by pooch to the length that the source declares
        self.size, self.received = remote.size, 0
        self.since, self.before = time.monotonic(), 0
        self.bar = tqdm(
            total=remote.size, desc=remote.file, unit="B", unit_scale=True, ncols=79
        )

    def update(self, amount: int) -> None:
        self.bar.update(amount)
        self.received += amount
        if self.received > self.size + CHUNK:
            raise _WrongFile(f"it sends more than {self.size:,} bytes")
        (speed, window), now = SLOW, time.monotonic()
        if now - self.since > window:
            if self.received - self.before < speed * (now - self.since):
                raise _Stalled(f"it sends less than {speed:,} bytes a second")
            self.since, self.before = now, self.received

    def reset(self) -> None:
        self.bar.reset()
        self.received, self.before, self.since = 0, 0, time.monotonic()

    def close(self) -> None:
        self.bar.close()


def _place(remote: Remote, path: Path, root: Path) -> None:
    """Move a file, or the known members of an archive, to where readers look."""
    ready = {root / remote.folder / remote.file: path}
    if remote.members:
        ready = {root / name: path.parent / name for name in remote.members}
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                # Only names that we know, so that no member chooses its own place.
                name, content = member.name.removeprefix("./"), None
                if name in remote.members:
                    content = archive.extractfile(member)
                if content is not None:
                    target = path.parent / name
                    target.parent.mkdir(exist_ok=True)
                    with target.open("wb") as file:
                        shutil.copyfileobj(content, file)
    for final, whole in ready.items():
        final.parent.mkdir(parents=True, exist_ok=True)
        # pooch's files are for their owner alone; a folder may be shared.
        whole.chmod(0o644)
        os.replace(whole, final)
