"""Published sets: their formats, where they may lie, and how they are fetched.

No test leaves this machine: toy archives in the true formats come from a server on
the loopback address, which can also stall, lie, break off or answer with a web page.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tomllib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pkg import _fetch, _formats, data

TOYS = {
    "cifar10": {"train": 20, "test": 6},
    "stl10": {"train": 10, "test": 3, "unlabeled": 5},
    "fashion_mnist": {"train": 30, "test": 4},
}
BYTES = {"cifar10": 32, "stl10": 96, "fashion_mnist": 28}


# --- toy sets ------------------------------------------------------------------------


def pictures(name, split):
    """Images with a mark that no transposition keeps, and their labels."""
    rng = np.random.default_rng(len(name) + len(split))
    side, n = BYTES[name], TOYS[name][split]
    x = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    x[:, 0] = 200, 100, 50  # an orange line along the top, and nowhere else
    x[:, 1:, 0] = 0
    if name == "fashion_mnist":
        x = np.repeat(x[..., :1], 3, axis=-1)
    y = rng.permutation(np.arange(n) % 10)
    return x, np.full(n, -1) if split == "unlabeled" else y


def members(name):
    """Files of a toy set, written pixel run by pixel run, as its page describes."""
    files = {}
    for split in TOYS[name]:
        x, y = pictures(name, split)
        if name == "cifar10":
            names = [f"data_batch_{i}" for i in range(1, 6)]
            names = names if split == "train" else ["test_batch"]
            records = [
                bytes([label])
                + b"".join(
                    bytes(image[row, :, c]) for c in range(3) for row in range(32)
                )
                for image, label in zip(x, y, strict=True)
            ]
            each = len(records) // len(names)
            for i, batch in enumerate(names):
                content = b"".join(records[i * each : (i + 1) * each])
                files[f"cifar-10-batches-bin/{batch}.bin"] = content
        elif name == "stl10":
            files[f"stl10_binary/{split}_X.bin"] = b"".join(
                bytes(image[:, column, c])
                for image in x
                for c in range(3)
                for column in range(96)
            )
            if split != "unlabeled":
                files[f"stl10_binary/{split}_y.bin"] = bytes(int(k) + 1 for k in y)
        else:
            start = "train" if split == "train" else "t10k"
            shape = b"".join(size.to_bytes(4, "big") for size in (len(x), 28, 28))
            pixels = b"\0\0\x08\x03" + shape + bytes(x[..., 0].ravel())
            labels = b"\0\0\x08\x01" + shape[:4] + bytes(y.astype(np.uint8))
            files[f"fashion-mnist/{start}-images-idx3-ubyte.gz"] = gzip.compress(pixels)
            files[f"fashion-mnist/{start}-labels-idx1-ubyte.gz"] = gzip.compress(labels)
    return files


def fill(root, name):
    for path, content in members(name).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def pack(files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def remote_for(name, body, urls):
    """The table's entry with the toy archive in place of the published one."""
    published = _fetch.SOURCES[name][0]
    return replace(
        published,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        urls=tuple(urls),
        members={path: len(content) for path, content in members(name).items()},
    )


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """Small sets, an empty cache, no patience, and no proxy before the loopback."""
    monkeypatch.setattr(_formats, "IMAGES", TOYS)
    monkeypatch.setattr(_fetch, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(_fetch, "TIMEOUT", (2, 0.4))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(_fetch.ROOT, str(tmp_path / "cache"))
    monkeypatch.delenv(_fetch.OFFLINE, raising=False)


# --- a server that may misbehave -----------------------------------------------------


class Loopback:
    """Answers each path as told, and counts how often it was asked."""

    def __init__(self):
        self.answers, self.asked = {}, []
        self.open = threading.Event()  # set when stalled answers should give up
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                try:
                    outer.answers[self.path](self)
                except OSError:
                    pass  # the client has hung up

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Asked every hundredth of a second whether to stop.
        threading.Thread(
            target=self.server.serve_forever, args=(0.01,), daemon=True
        ).start()

    def url(self, name, answer):
        self.answers[f"/{name}"] = answer
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def start(self, handler, length, status=200):
        handler.send_response(status)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()

    def good(self, body, pause=0.0):
        def answer(handler):
            self.start(handler, len(body))
            for i in range(0, len(body), 2**14):
                handler.wfile.write(body[i : i + 2**14])
                self.open.wait(pause)

        return answer

    def cut(self, body):
        def answer(handler):
            self.start(handler, len(body))
            handler.wfile.write(body[: len(body) * 2 // 3])

        return answer

    def short(self, body):
        return self.good(body[: len(body) * 2 // 3])

    def unannounced_cut(self, body):
        def answer(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(body[: len(body) * 2 // 3])

        return answer

    def wrong(self, body):
        return self.good(body[:-1] + bytes([body[-1] ^ 1]))

    def long(self, body):
        return self.good(body * 4)

    def page(self, body):
        return self.good(b"<!DOCTYPE html><title>Busy</title>")

    def busy(self, body):
        def answer(handler):
            self.start(handler, 0, status=503)

        return answer

    def absent(self, body):
        def answer(handler):
            self.start(handler, 0, status=404)

        return answer

    def stall(self, body):
        def answer(handler):
            self.start(handler, len(body))
            handler.wfile.write(body[:1000])
            self.open.wait(30)

        return answer

    def mute(self, body):
        return lambda handler: self.open.wait(30)

    def trickle(self, body):
        return self.good(body, pause=0.5)

    def hang_up(self, body):
        return lambda handler: None


@pytest.fixture
def loopback():
    served = Loopback()
    yield served
    served.open.set()
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def body():
    return pack(members("cifar10"))


@pytest.fixture
def offer(monkeypatch, loopback, body):
    """Let CIFAR-10 come from the sources named, in that order."""

    def to(*kinds):
        urls = [loopback.url(kind, getattr(loopback, kind)(body)) for kind in kinds]
        remote = remote_for("cifar10", body, urls)
        monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
        return remote

    return to


def left_in(root):
    """What lies in `root`, but for the lock, which is empty and stays."""
    paths = sorted(path.name for path in root.glob("*"))
    return [name for name in paths if name != ".cifar10.lock"]


# --- formats -------------------------------------------------------------------------


SPLITS = [(name, split) for name, splits in TOYS.items() for split in splits]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_pixels_and_labels_come_back_as_they_were_published(tmp_path, name, split):
    x, y = pictures(name, split)
    images = data.load(name, split=split, root=fill(tmp_path, name))
    np.testing.assert_array_equal(images.x, x)
    np.testing.assert_array_equal(images.y, y)
    assert len(images.classes) == (0 if split == "unlabeled" else 10)
    assert f", {split}: {len(y)} of {len(y)} images" in images.provenance
    assert "lossless" in images.provenance and "licence" in images.provenance


@pytest.mark.parametrize(("name", "folder"), [(n, p) for n in TOYS for p in (0, 1)])
def test_root_may_be_the_folder_of_the_set_or_the_one_above(tmp_path, name, folder):
    fill(tmp_path, name)
    inside = tmp_path / next(iter(members(name))).split("/")[0]
    images = data.load(name, root=inside if folder else tmp_path)
    assert len(images) == TOYS[name]["train"]


def test_folders_that_torchvision_filled_are_read(tmp_path):
    fill(tmp_path, "fashion_mnist")
    (tmp_path / "FashionMNIST").mkdir()
    (tmp_path / "fashion-mnist").rename(tmp_path / "FashionMNIST/raw")
    x, _ = pictures("fashion_mnist", "test")
    images = data.load("fashion_mnist", split="test", root=tmp_path)
    np.testing.assert_array_equal(images.x, x)


def pickled_cifar(root):
    """The python version as Python 2 wrote it, and the MD5 of its files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for split in ("train", "test"):
        x, y = pictures("cifar10", split)
        names = [f"data_batch_{i}" for i in range(1, 6)]
        names = names if split == "train" else ["test_batch"]
        for batch, part in zip(
            names, np.array_split(np.arange(len(y)), len(names)), strict=True
        ):
            planes = x[part].transpose(0, 3, 1, 2).reshape(len(part), 3072)
            content = {"data": planes, "labels": [int(k) for k in y[part]]}
            raw = pickle.dumps(content, protocol=2)
            # NumPy's home before version 2, as in the published files.
            raw = raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            (folder / batch).write_bytes(raw)
            sums[batch] = hashlib.md5(raw).hexdigest()
    return sums


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pickled_version_is_read_when_its_bytes_are_known(
    tmp_path, monkeypatch, split
):
    monkeypatch.setattr(_formats, "CIFAR10_PICKLES", pickled_cifar(tmp_path))
    x, y = pictures("cifar10", split)
    images = data.load("cifar10", split=split, root=tmp_path)
    np.testing.assert_array_equal(images.x, x)
    np.testing.assert_array_equal(images.y, y)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_with_other_bytes_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_formats, "CIFAR10_PICKLES", pickled_cifar(tmp_path))
    bad = tmp_path / "cifar-10-batches-py/data_batch_3"
    bad.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="data_batch_3 is not the published file"):
        data.load("cifar10", root=tmp_path)
    assert not (tmp_path / "exploded").exists()


DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's Fashion-MNIST")
def test_the_published_fashion_mnist_is_read(monkeypatch):
    """The real files, where a package has laid them: packed anew, content the same."""
    monkeypatch.undo()
    images = data.load("fashion_mnist", root=DEBIAN)
    assert images.x.shape == (60_000, 28, 28, 3)
    np.testing.assert_array_equal(np.bincount(images.y), 6000)
    assert images.classes[images.y[0]] == "ankle boot"


def test_stl10_labelled_needs_no_unlabelled_file(tmp_path):
    fill(tmp_path, "stl10")
    (tmp_path / "stl10_binary/unlabeled_X.bin").unlink()
    for split in ("train", "test"):
        assert (
            len(data.load("stl10", split=split, root=tmp_path)) == TOYS["stl10"][split]
        )


def test_only_the_chosen_of_a_hundred_thousand_images_are_read(tmp_path, monkeypatch):
    """A sparse file of the true 2.8 GB; four images of it move 111 kB."""
    n = 100_000
    monkeypatch.setattr(_formats, "IMAGES", {"stl10": {"unlabeled": n}})
    (tmp_path / "stl10_binary").mkdir()
    x, _ = pictures("stl10", "unlabeled")
    chosen = np.random.default_rng(1).permutation(n)[:4]
    code = f"""
import resource, sys
from pkg import data
def peak():
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / (1e6 if sys.platform == "darwin" else 1e3)
before = peak()
images = data.load("stl10", split="unlabeled", n=4, seed=1, root={str(tmp_path)!r})
print(peak() - before)
print(images.x[2, :3, :3].tolist())
"""
    with open(tmp_path / "stl10_binary/unlabeled_X.bin", "wb") as file:
        file.seek(chosen[2] * 27_648)
        file.write(x[0].transpose(2, 1, 0).tobytes())
        file.truncate(n * 27_648)
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    grown, corner = shown.splitlines()
    assert json.loads(corner) == x[0, :3, :3].tolist()
    # Labels and permutation of 100,000 take some MB; the whole file would take 2,765.
    assert float(grown) < 50  # MB


def test_stl10_read_whole_is_a_map_of_the_file(tmp_path):
    images = data.load("stl10", split="unlabeled", root=fill(tmp_path, "stl10"))
    assert isinstance(images.x, np.memmap)


@pytest.mark.parametrize("name", TOYS)
def test_subsets_are_balanced_nested_and_of_any_size(tmp_path, name):
    fill(tmp_path, name)
    ten = data.load(name, n=10, seed=3, root=tmp_path)
    four = data.load(name, n=4, seed=3, root=tmp_path)
    np.testing.assert_array_equal(np.sort(ten.y), np.arange(10))
    np.testing.assert_array_equal(four.x, ten.x[:4])
    assert "10 of" in ten.provenance and ten.provenance.endswith("seed 3")
    small = data.load(name, n=4, seed=3, size=8, root=tmp_path)
    assert small.x.shape == (4, 8, 8, 3)
    assert not small.x.flags.writeable


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = data.load("digits")
    assert images.x.shape == (1797, 8, 8, 3)
    np.testing.assert_array_equal(images.y, digits.target)
    np.testing.assert_allclose(images.x[..., 1] * (16 / 255), digits.images, atol=0.04)
    assert data.load("digits", n=20, size=16).x.shape == (20, 16, 16, 3)
    assert "CC BY 4.0" in images.provenance


# --- what lies there already ---------------------------------------------------------


def test_a_folder_somebody_filled_needs_no_network(tmp_path, offer, loopback):
    offer("good")
    fill(tmp_path, "cifar10")
    images = data.load("cifar10", root=tmp_path, download=True)
    np.testing.assert_array_equal(images.x, pictures("cifar10", "train")[0])
    assert loopback.asked == []
    assert os.listdir(tmp_path) == ["cifar-10-batches-bin"]  # not even a lock


def test_root_comes_from_the_argument_then_the_environment_then_the_cache(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(_fetch.ROOT, str(tmp_path / "mine"))
    assert _fetch.home(tmp_path / "his") == tmp_path / "his"
    assert _fetch.home(None) == tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(_fetch.ROOT, "~/sets")
    assert _fetch.home("~/data") == tmp_path / "data"
    assert _fetch.home(None) == tmp_path / "sets"
    monkeypatch.delenv(_fetch.ROOT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "stepwise-ssl" in _fetch.home(None).parts[-1]


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    """In the name of a folder, and for a set, whichever room of `data` reads it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    fill(tmp_path / "sets", "cifar10")
    picture = Image.fromarray(pictures("cifar10", "test")[0][0])
    for name in _formats.CIFAR10:
        (tmp_path / "copy/test" / name).mkdir(parents=True)
        picture.save(tmp_path / "copy/test" / name / "0.png")
    assert len(data.load("cifar10", root="~/sets")) == 20
    assert len(data.load("cifar10-jpeg", split="test", root="~/copy")) == 10
    assert len(data.load("~/copy/test")) == 10


def test_a_split_asks_only_for_its_own_files(tmp_path):
    fill(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-bin/data_batch_4.bin").unlink()
    assert len(data.load("cifar10", split="test", root=tmp_path)) == 6
    with pytest.raises(ValueError, match=r"data_batch_4\.bin is missing"):
        data.load("cifar10", root=tmp_path)


def test_a_truncated_file_is_named_and_replaced_on_request(tmp_path, offer):
    offer("good")
    path = fill(tmp_path, "cifar10") / "cifar-10-batches-bin/data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"data_batch_2.bin holds 11,792 bytes, not"):
        data.load("cifar10", root=tmp_path)
    images = data.load("cifar10", root=tmp_path, download=True)
    np.testing.assert_array_equal(images.x, pictures("cifar10", "train")[0])


def damaged(root, name):
    """Files of the right size and wrong content."""
    folder = fill(root, name) / next(iter(members(name))).split("/")[0]
    if name == "cifar10":
        path = folder / "data_batch_1.bin"
        path.write_bytes(b"\xff" * path.stat().st_size)
    elif name == "stl10":
        path = folder / "train_y.bin"
        path.write_bytes(b"\x0b" * path.stat().st_size)
    else:
        path = folder / "train-images-idx3-ubyte.gz"
        raw = bytearray(path.read_bytes())
        raw[100] ^= 0xFF
        path.write_bytes(raw)
    return root


@pytest.mark.parametrize("name", TOYS)
def test_content_that_cannot_be_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"`root`: .*remove it.* load again"):
        data.load(name, root=damaged(tmp_path, name))


def test_labels_that_were_never_written_are_refused(tmp_path):
    """A file of zeros, as some tools leave one: STL-10's labels begin with 1."""
    path = fill(tmp_path, "stl10") / "stl10_binary/train_y.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match=r"`root`: .*labels.*load again"):
        data.load("stl10", root=tmp_path)


def test_a_page_in_place_of_a_gzipped_file_is_called_what_it_is(tmp_path):
    path = fill(tmp_path, "fashion_mnist") / "fashion-mnist/train-images-idx3-ubyte.gz"
    path.write_text("<html>503</html>")
    with pytest.raises(ValueError, match=r"images-idx3-ubyte\.gz is no gzip file"):
        data.load("fashion_mnist", root=tmp_path)


def test_an_idx_file_of_another_kind_is_refused(tmp_path):
    path = fill(tmp_path, "fashion_mnist") / "fashion-mnist/train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"<html>" + bytes(32)))
    with pytest.raises(ValueError, match=r"labels.*gzipped IDX file"):
        data.load("fashion_mnist", root=tmp_path)


# --- downloads -----------------------------------------------------------------------


def test_nothing_is_fetched_unasked_and_the_error_gives_the_call(
    tmp_path, offer, loopback
):
    remote = offer("good")
    root = tmp_path / "sets"
    with pytest.raises(
        ValueError, match=r"`root`.*Nothing is downloaded unasked"
    ) as told:
        data.load("cifar10", split="test", root=root)
    message = str(told.value)
    for part in (remote.file, f"{remote.size:,} bytes", remote.urls[0], str(root)):
        assert part in message
    assert loopback.asked == [] and not root.exists()

    call = re.search(r"data\.load\(.*?\)", message).group()
    images = eval(call, {"data": data})
    np.testing.assert_array_equal(images.x, pictures("cifar10", "test")[0])


def test_a_download_appears_whole_and_is_asked_for_once(tmp_path, offer, loopback):
    offer("good")
    for split in ("train", "test", "train"):
        images = data.load("cifar10", split=split, root=tmp_path, download=True)
        x, y = pictures("cifar10", split)
        np.testing.assert_array_equal(images.x, x)
        np.testing.assert_array_equal(images.y, y)
    assert loopback.asked == ["/good"]
    # The archive is not kept.
    assert left_in(tmp_path) == ["cifar-10-batches-bin"]


def test_files_that_are_no_archive_are_kept_as_they_came(
    tmp_path, monkeypatch, loopback
):
    remotes = []
    for path, content in members("fashion_mnist").items():
        file = path.split("/")[1]
        published = next(r for r in _fetch.SOURCES["fashion_mnist"] if r.file == file)
        url = loopback.url(file, loopback.good(content))
        digest = hashlib.sha256(content).hexdigest()
        remotes.append(
            replace(published, size=len(content), sha256=digest, urls=(url,))
        )
    monkeypatch.setattr(_fetch, "SOURCES", {"fashion_mnist": tuple(remotes)})
    images = data.load("fashion_mnist", split="test", root=tmp_path, download=True)
    np.testing.assert_array_equal(images.x, pictures("fashion_mnist", "test")[0])
    # A class that shares a folder can read what one of it fetched.
    placed = list((tmp_path / "fashion-mnist").iterdir())
    assert len(placed) == 2 and all(path.stat().st_mode & 0o044 for path in placed)
    # The other split's files are not asked for.
    assert sorted(loopback.asked) == [
        f"/t10k-{k}-ubyte.gz" for k in ("images-idx3", "labels-idx1")
    ]


# Kind of answer, what is said of it, and in how many of the three rounds it is asked:
# a source that sends something else is not asked again.
BAD_ANSWERS = [
    ("cut", "IncompleteRead", 3),
    ("unannounced_cut", "it broke off", 3),
    ("short", "another file: .* bytes came, not", 1),
    ("wrong", "hash", 1),
    ("long", "more than .* bytes", 1),
    ("page", "a web page: 34 bytes came", 1),
    ("busy", "503", 3),
    ("absent", "404", 3),
    ("stall", "timed out", 3),
    ("mute", "timed out", 3),
    ("hang_up", "RemoteDisconnected", 3),
]


@pytest.mark.parametrize(("kind", "said", "asked"), BAD_ANSWERS)
def test_a_bad_answer_is_reported_and_leaves_nothing(
    tmp_path, offer, loopback, kind, said, asked
):
    remote = offer(kind)
    with pytest.raises(RuntimeError, match=rf"could not be downloaded.*{said}") as told:
        data.load("cifar10", root=tmp_path, download=True)
    assert remote.urls[0] in str(told.value) and remote.sha256 in str(told.value)
    assert left_in(tmp_path) == []
    assert len(loopback.asked) == asked
    with pytest.raises(ValueError, match="Nothing is downloaded unasked"):
        data.load("cifar10", root=tmp_path)


@pytest.mark.parametrize("kind", [kind for kind, _, _ in BAD_ANSWERS])
def test_the_next_source_makes_up_for_a_bad_one(tmp_path, offer, loopback, kind):
    offer(kind, "good")
    started = time.monotonic()
    images = data.load("cifar10", root=tmp_path, download=True)
    # A silent source is left after 0.4 s here; it would hold out for 30.
    assert time.monotonic() - started < 10
    np.testing.assert_array_equal(images.x, pictures("cifar10", "train")[0])
    assert loopback.asked == [f"/{kind}", "/good"]
    assert left_in(tmp_path) == ["cifar-10-batches-bin"]


def test_a_source_that_trickles_is_left_for_the_next(
    tmp_path, monkeypatch, offer, loopback
):
    # 16 KiB every half second, against 78 kB as fast as this machine allows.
    monkeypatch.setattr(_fetch, "SLOW", (10**5, 0.25))
    offer("trickle", "good")
    data.load("cifar10", root=tmp_path, download=True)
    assert loopback.asked == ["/trickle", "/good"]


def test_a_source_that_drips_is_left_before_16_kib_have_come(
    tmp_path, monkeypatch, offer, loopback, body
):
    """A source is looked at piece by piece, so pieces are small: 4 KiB."""
    monkeypatch.setattr(_fetch, "SLOW", (10**5, 0.25))
    monkeypatch.setattr(_fetch, "TIMEOUT", (2, 5))
    remote, sent = offer("good"), []

    def drip(handler):
        loopback.start(handler, len(body))
        for i in range(0, len(body), 2**12):
            handler.wfile.write(body[i : i + 2**12])
            sent.append(loopback.asked.count("/good"))
            loopback.open.wait(0.5)

    urls = (loopback.url("drip", drip), *remote.urls)
    remote = replace(remote, urls=urls)
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    data.load("cifar10", root=tmp_path, download=True)
    assert loopback.asked == ["/drip", "/good"]
    # Pieces that were on their way before the next source was asked.
    assert sent.count(0) < 4


def test_a_refused_connection_is_one_more_bad_source(
    tmp_path, monkeypatch, offer, loopback
):
    remote = offer("good")
    closed = replace(remote, urls=("http://127.0.0.1:9/nobody", *remote.urls))
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (closed,)})
    assert len(data.load("cifar10", root=tmp_path, download=True)) == 20


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    tmp_path, monkeypatch, offer, loopback
):
    offer("good")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(_fetch.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RuntimeError, match=r"`root`: .* MB free, but cifar10 needs"):
        data.load("cifar10", root=tmp_path, download=True)
    assert loopback.asked == [] and left_in(tmp_path) == []


def test_a_disk_that_fills_while_unpacking_leaves_nothing(tmp_path, monkeypatch, offer):
    offer("good")
    copied = []

    def full(source, target):
        if copied:
            target.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(shutil.copyfileobj(source, target))

    monkeypatch.setattr(
        _fetch,
        "shutil",
        type("Full", (), {**vars(shutil), "copyfileobj": staticmethod(full)}),
    )
    with pytest.raises(RuntimeError, match=r"`root`: .*No space left.*another folder"):
        data.load("cifar10", root=tmp_path, download=True)
    assert left_in(tmp_path) == []


def test_a_disk_that_fills_while_a_file_arrives_is_told_with_its_remedy(
    tmp_path, monkeypatch, offer
):
    offer("good")

    def full(url, output_file, caller):
        Path(output_file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_fetch, "_transfer", lambda remote: full)
    with pytest.raises(RuntimeError, match=r"`root`: .*No space left.*another folder"):
        data.load("cifar10", root=tmp_path, download=True)
    assert left_in(tmp_path) == []


def test_the_environment_can_forbid_the_network(tmp_path, monkeypatch, offer, loopback):
    offer("good")
    monkeypatch.setenv(_fetch.OFFLINE, "1")
    with pytest.raises(RuntimeError, match=r"STEPWISE_OFFLINE is set.*Unset it"):
        data.load("cifar10", root=tmp_path, download=True)
    assert loopback.asked == [] and left_in(tmp_path) == []
    for off in ("0", ""):
        monkeypatch.setenv(_fetch.OFFLINE, off)
        data.load("cifar10", root=tmp_path / f"off{off}", download=True)
    monkeypatch.setenv(_fetch.OFFLINE, "1")
    # What is there already needs no network.
    assert (
        len(data.load("cifar10", root=fill(tmp_path, "cifar10"), download=True)) == 20
    )


def test_a_member_that_wants_another_place_is_left_in_the_archive(
    tmp_path, monkeypatch, loopback
):
    evil = {"../evil.bin": b"x", "/tmp/evil.bin": b"x", "cifar-10-batches-bin/x": b"x"}
    body = pack({**evil, **members("cifar10")})
    remote = remote_for("cifar10", body, [loopback.url("good", loopback.good(body))])
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    root = tmp_path / "root"
    data.load("cifar10", root=root, download=True)
    assert os.listdir(tmp_path) == ["root"]
    assert not (root / "cifar-10-batches-bin/x").exists()


def test_a_root_that_cannot_be_made_is_refused(tmp_path, offer):
    offer("good")
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match=r"`root`: .*cannot be written"):
        data.load("cifar10", root=tmp_path / "file/below", download=True)


# --- other processes -----------------------------------------------------------------


def start(root):
    """Another Python that downloads the toy CIFAR-10."""
    (remote,) = _fetch.SOURCES["cifar10"]
    code = (
        "from pkg import _fetch, _formats, data; from pkg._fetch import Remote;"
        f"_formats.IMAGES = {TOYS!r};"
        f"_fetch.SOURCES = {{'cifar10': ({remote!r},)}};"
        f"print(data.load('cifar10', root={str(root)!r}, download=True).x.sum())"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


def test_two_processes_at_once_download_once(tmp_path, monkeypatch, loopback, body):
    url = loopback.url("slow", loopback.good(body, pause=0.4))
    remote = remote_for("cifar10", body, [url])
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    both = [start(tmp_path), start(tmp_path)]
    shown = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    expected = str(pictures("cifar10", "train")[0].sum())
    assert [out.strip() for out, _ in shown] == [expected, expected]
    assert loopback.asked == ["/slow"]
    assert left_in(tmp_path) == ["cifar-10-batches-bin"]


def test_waiting_lasts_as_long_as_the_other_downloads_and_says_so(
    tmp_path, monkeypatch, offer, loopback, capsys
):
    import filelock

    offer("good")
    monkeypatch.setattr(_fetch, "LOCK_POLL", 0.02)
    held = filelock.FileLock(tmp_path / ".cifar10.lock", thread_local=False)
    held.acquire()

    def finish():
        fill(tmp_path, "cifar10")
        held.release()

    threading.Timer(0.5, finish).start()  # 25 tries
    assert len(data.load("cifar10", root=tmp_path, download=True)) == 20
    assert "cifar10: another process is downloading it, waiting" in (
        capsys.readouterr().err
    )
    assert loopback.asked == []


def test_one_that_waits_takes_over_from_one_that_is_killed(
    tmp_path, monkeypatch, loopback, body
):
    def answer(handler):
        first = loopback.asked == ["/source"]
        (loopback.stall if first else loopback.good)(body)(handler)

    remote = remote_for("cifar10", body, [loopback.url("source", answer)])
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    holder = start(tmp_path)
    deadline = time.monotonic() + 30
    while loopback.asked == []:
        assert time.monotonic() < deadline and holder.poll() is None
        time.sleep(0.02)
    waiter = start(tmp_path)
    heard = b""
    while b"waiting" not in heard:
        piece = os.read(waiter.stderr.fileno(), 1000)
        assert piece, heard  # nothing more: it ended
        heard += piece
    holder.kill()
    holder.communicate(timeout=30)
    shown, told = waiter.communicate(timeout=30)
    assert shown.strip() == str(pictures("cifar10", "train")[0].sum()), told
    assert left_in(tmp_path) == ["cifar-10-batches-bin"]


def test_what_a_killed_process_left_is_never_taken_for_the_set(
    tmp_path, monkeypatch, loopback, body
):
    stalled = loopback.url("slow", loopback.good(body, pause=30))
    fast = loopback.url("good", loopback.good(body))
    remote = remote_for("cifar10", body, [stalled])
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    process = start(tmp_path)
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size for p in tmp_path.glob(".cifar10-partial-*/*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)

    assert [name[:16] for name in left_in(tmp_path)] == [".cifar10-partial"]
    with pytest.raises(ValueError, match="Nothing is downloaded unasked"):
        data.load("cifar10", root=tmp_path)
    remote = replace(remote, urls=(fast,))
    monkeypatch.setattr(_fetch, "SOURCES", {"cifar10": (remote,)})
    assert len(data.load("cifar10", root=tmp_path, download=True)) == 20
    assert left_in(tmp_path) == ["cifar-10-batches-bin"]  # and the litter is gone


# --- the published tables ------------------------------------------------------------


def test_what_is_unpacked_is_what_is_looked_for(monkeypatch):
    """Sizes in the two tables agree, and every split can be fetched."""
    monkeypatch.undo()
    for name, splits in _formats.IMAGES.items():
        for split in splits:
            layout = _formats.layouts(name, split)[0]
            remotes = [r for r in _fetch.SOURCES[name] if split in r.splits]
            for file, size in layout.files.items():
                path = f"{layout.folder}/{file}"
                sizes = [r.members[path] for r in remotes if path in r.members]
                whole = [r for r in remotes if f"{r.folder}/{r.file}" == path]
                assert sizes == [size] or len(whole) == 1
    for remote in (r for remotes in _fetch.SOURCES.values() for r in remotes):
        assert re.fullmatch("[0-9a-f]{64}", remote.sha256)
        assert len(remote.urls) == len(set(remote.urls)) >= 2


def test_cifar10_is_asked_of_the_fast_copy_before_its_slow_home():
    hosts = [url.split("/")[2] for url in _fetch.CIFAR10.urls]
    assert hosts == ["storage.googleapis.com", "www.cs.toronto.edu"]


def test_every_package_that_downloads_is_declared():
    """One that only comes along with another may stay away with its next edition."""
    root = Path(_fetch.__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {re.split("[>=]", d)[0] for d in project["project"]["dependencies"]}
    pinned = (root / "requirements.txt").read_text(encoding="utf-8")
    found = re.findall(
        r"^ *(?:import|from) (\w+)", Path(_fetch.__file__).read_text(), re.M
    )
    foreign = set(found) - set(sys.stdlib_module_names)
    assert {"pooch", "requests"} <= foreign <= declared
    assert all(f"\n{name}==" in pinned for name in foreign)


BAD_CALLS = [
    ("cifar10", {"split": "unlabeled"}, r"`split` is 'unlabeled', but 'cifar10' has"),
    ("stl10", {"split": "validation"}, "`split` must be one of"),
    ("digits", {"split": "test"}, "`split` is 'test'.*hold some back"),
    ("digits", {"root": "."}, "`root` is where a named set lies"),
    ("digits", {"n": 1798}, "`n` is 1798, but digits holds 1797"),
    ("cifar10", {"n": 21, "root": "{full}"}, "`n` is 21, but CIFAR-10 holds 20"),
    ("cifar10", {"root": "{full}/cifar-10-batches-bin/test_batch.bin"}, "is a file"),
    ("cifar10", {"root": "{full}/nowhere"}, "is not in .*nowhere"),
    ("cifar-10", {}, "did you mean 'cifar10'"),
    ("fashion-mnist", {}, "did you mean 'fashion_mnist'"),
    ("cifar10", {"root": "~nobody-of-this-name/sets"}, "`root` is '~nobody.* write"),
    ("cifar10-jpeg", {"root": "~nobody-of-this-name"}, "`root` is '~nobody.* write"),
    ("~nobody-of-this-name/sets", {}, "`name_or_folder` is '~nobody.* write"),
    ("photos", {"size": 1}, "`size` is 1.*ask for more pixels"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_CALLS)
def test_a_bad_call_is_refused_with_its_remedy(tmp_path, name, options, message):
    fill(tmp_path, "cifar10")
    options = {
        key: value.format(full=tmp_path) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(ValueError, match=message):
        data.load(name, **options)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("value", [None, 3, b"photos", ["photos"]])
def test_what_is_no_name_and_no_path_is_refused(value):
    with pytest.raises(ValueError, match=r"`name_or_folder` must be one of .*; got"):
        data.load(value)
