"""Checkpoints: two files, written in turn, so that one of them is always whole.

A rename that replaces a file is atomic on a local disk, and a promise that no one
keeps on a mounted Drive. So nothing is renamed: the older of two slots is overwritten
in place, while the newer one is not touched. A process killed while it writes leaves
one broken slot, which its checksum betrays, and one whole.

A slot is one line of JSON, readable with ``head -1``, and what torch.save makes of the
state. It is read with ``weights_only=True``: numbers, text and tensors, never code.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pkg import _check

MAGIC = "stepwise-ssl checkpoint"
FORMAT = 1
SLOTS = ("checkpoint.0", "checkpoint.1")
LONGEST = 1 << 24  # bytes of a header; ResNet-50 needs 20 thousand
PLAIN = (type(None), bool, int, float, str, Tensor, nn.Parameter)


def describe(config: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Say of what run and of what network a checkpoint is.

    Parameters
    ----------
    config : mapping
        Names and values of the configuration, such as ``dataclasses.asdict`` gives.
    model : nn.Module
        Its parameters and buffers are listed by name, dtype and shape.

    Returns
    -------
    dict
        ``configuration``, ``architecture`` and ``versions``: pass it as `about`.
    """
    state = model.state_dict()
    return {
        "configuration": dict(config),
        "architecture": {
            name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            for name, value in state.items()
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def save(
    folder: str | Path,
    state: Mapping[str, Any],
    *,
    step: int,
    about: Mapping[str, Any],
) -> Path:
    """Write a checkpoint over the older of the two in a folder.

    The newer one is not touched, and stays the one that `load` takes until the last
    byte of this one has been written and flushed.

    Parameters
    ----------
    folder : path
        Made if missing; one folder a run.
    state : mapping
        Tensors, numbers, text, and dicts, lists and tuples of them: what ``state_dict``
        and ``get_state`` return.
    step : int
        Steps taken so far, for the header and for messages.
    about : mapping
        From `describe`, which ``load`` compares.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If `state` holds what `load` would refuse, `about` cannot be written as JSON, or
        `folder` is a file.
    RuntimeError
        If the file cannot be written: no space left, or no permission. What was written
        of it is removed, and the checkpoint before it is whole.
    """
    folder = Path(folder)
    _refuse_code("state", state)
    header = {
        "magic": MAGIC,
        "format": FORMAT,
        "step": _check.count("step", step, low=0),
        "about": json.loads(_json(about)),
    }
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getbuffer()
    _refuse_file(folder)
    newest = _newest(_slots(folder))
    header["generation"] = 1 + (newest.header["generation"] if newest else 0)
    header["bytes"] = len(payload)
    header["sha256"] = _checksum(payload, header)
    other = SLOTS[newest is not None and newest.path.name == SLOTS[0]]
    _write(folder / other, json.dumps(header).encode() + b"\n", payload, newest)
    return folder / other


def load(
    folder: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    may_differ: Collection[str] = (),
) -> dict[str, Any] | None:
    """Read the newest checkpoint of a folder that is whole.

    Every tensor comes to the CPU; ``load_state_dict`` moves it to where it belongs.

    Parameters
    ----------
    folder : path
        As given to `save`.
    about : mapping, optional
        What this run is, from `describe`; left out, nothing is compared.
    may_differ : collection of str
        Names in the configuration that may have changed: how far to train, say.

    Returns
    -------
    dict or None
        The state, or None where nothing was saved, or where a kill struck while the
        very first checkpoint was written.

    Raises
    ------
    ValueError
        If the checkpoint is of another configuration (each differing name is told with
        both values), of another network (the first differing parameter is), of another
        format, or holds code; or if `folder` is a file.
    RuntimeError
        If no slot is whole, or one cannot be read.

    Warns
    -----
    UserWarning
        If the newest slot is broken and the older one is taken, and if torch or Python
        is another version: the run goes on, but to other bits.

    References
    ----------
    Before torch 2.6 a file made for it could get past ``weights_only``
    (CVE-2025-32434): with an old torch, load only what you wrote.
    """
    folder = Path(folder)
    _refuse_file(folder)
    slots = _slots(folder)
    newest = _newest(slots)
    broken = [slot for slot in slots if slot.fault]
    if newest is None:
        if len(broken) == 1 and broken[0].is_cut_off:
            warnings.warn(
                f"the first checkpoint in {folder} was cut off while it was written, "
                "and there is no other: the run begins again",
                stacklevel=2,
            )
        elif broken:
            raise RuntimeError(
                f"no checkpoint in {folder} is whole: {_faults(broken)}. Delete them "
                "and start again, or bring back a copy"
            )
        return None
    if broken:
        warnings.warn(
            f"{_faults(broken)}; going on from the checkpoint before it, "
            f"{newest.path.name} of step {newest.header['step']}",
            stacklevel=2,
        )
    _check_format(newest)
    if about is not None:
        _compare(newest, json.loads(_json(about)), may_differ)
    return _open(newest)


class _Slot(NamedTuple):
    path: Path
    header: dict[str, Any]
    payload: bytes
    fault: str  # empty if it is whole
    is_cut_off: bool = False  # as a kill leaves it


def _slots(folder: Path) -> list[_Slot]:
    return [_read(folder / name) for name in SLOTS if os.path.lexists(folder / name)]


def _newest(slots: list[_Slot]) -> _Slot | None:
    whole = [slot for slot in slots if not slot.fault]
    return max(whole, key=lambda slot: slot.header["generation"], default=None)


def _read(path: Path) -> _Slot:
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST)
            header = _header(line)
            # Nothing is read from a device, nor as much as a damaged header may say.
            found = os.fstat(file.fileno()).st_size - len(line)
            payload = file.read() if header and found == header["bytes"] else b""
    except OSError as error:
        raise RuntimeError(
            f"the checkpoint {path} cannot be read ({_reason(error)}); see whether its "
            "disk is mounted and you may read it"
        ) from error
    if not header:
        cut = not line.endswith(b"\n") and len(line) < LONGEST
        return _Slot(path, {}, b"", "has no readable header", cut)
    if found != header["bytes"]:
        fault = f"holds {found} of {header['bytes']} bytes of state"
        return _Slot(path, header, payload, fault, found < header["bytes"])
    if header.get("sha256") != _checksum(payload, header):
        return _Slot(path, header, payload, "does not match its checksum")
    return _Slot(path, header, payload, "")


def _header(line: bytes) -> dict[str, Any] | None:
    try:
        header = json.loads(line)
        numbers = (header["generation"], header["step"], header["bytes"])
        good = header["magic"] == MAGIC and all(type(n) is int for n in numbers)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return header if good and header["bytes"] >= 0 else None


def _checksum(payload: bytes | memoryview, header: Mapping[str, Any]) -> str:
    """SHA-256 of the state and of what is said of it; the same in every format."""
    said = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(payload)
    digest.update(json.dumps(said, sort_keys=True).encode())
    return digest.hexdigest()


def _write(
    path: Path, header: bytes, payload: memoryview, newest: _Slot | None
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(header)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        kept = (
            f"the one before it, {newest.path.name} of step {newest.header['step']}, "
            "is whole"
            if newest
            else "there is none before it"
        )
        raise RuntimeError(
            f"the checkpoint {path} cannot be written ({_reason(error)}); {kept}. Make "
            "room or leave to write there, or choose another folder, and start again"
        ) from error


def _open(slot: _Slot) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(slot.payload), "cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # The checksum holds, so these bytes were meant: damage is not the reason.
        raise ValueError(
            f"the checkpoint {slot.path} holds something else than tensors, numbers "
            "and text, which may be code; none of it was run. It was not written by "
            "this package; delete it"
        ) from error


def _check_format(slot: _Slot) -> None:
    found = slot.header.get("format")
    if found != FORMAT:
        raise ValueError(
            f"the checkpoint {slot.path} has format {found} and this package reads "
            f"{FORMAT}; go on with the package that wrote it, or with an empty folder"
        )


def _compare(
    slot: _Slot, wanted: Mapping[str, Any], may_differ: Collection[str]
) -> None:
    stored = slot.header["about"]
    rows = _differences(stored, wanted, "configuration")
    told = "; ".join(f"{k} was {a}, now {b}" for k, a, b in rows if k not in may_differ)
    if told:
        raise ValueError(
            f"the checkpoint {slot.path} is of another configuration: {told}. Pass the "
            "configuration it was made with, or another folder"
        )
    weights = _differences(stored, wanted, "architecture")
    if weights:
        name, there, here = weights[0]
        raise ValueError(
            f"the checkpoint {slot.path} is of another network: {name!r} was {there}, "
            f"now {here}, and {len(weights)} differ in all. Pass the model it was made "
            "with, or another folder"
        )
    for name, there, here in _differences(stored, wanted, "versions"):
        warnings.warn(
            f"the checkpoint {slot.path} was written with {name} {there} and is read "
            f"with {here}: the run goes on, but may end with other last digits",
            stacklevel=3,
        )


def _differences(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], part: str
) -> list[tuple[str, str, str]]:
    """Names whose values differ, with both values, in the order of this run's."""
    a, b = stored.get(part, {}), wanted.get(part, {})

    def value(values: Mapping[str, Any], name: str) -> str:
        return json.dumps(values[name], sort_keys=True) if name in values else "absent"

    rows = [(name, value(a, name), value(b, name)) for name in {**b, **a}]
    return [row for row in rows if row[1] != row[2]]


def _refuse_code(name: str, value: Any) -> None:
    """Refuse now what `load` would refuse when it is too late."""
    if type(value) in (dict, OrderedDict):
        for key, entry in value.items():
            _refuse_code(f"a key of {name}", key)
            _refuse_code(f"{name}[{key!r}]", entry)
    elif type(value) in (list, tuple):
        for i, entry in enumerate(value):
            _refuse_code(f"{name}[{i}]", entry)
    elif type(value) not in PLAIN:
        raise ValueError(
            f"`{name}` is a {type(value).__name__}; a checkpoint holds tensors, "
            "numbers, text, and dicts, lists and tuples of them, so that reading it "
            "can run no code. Convert it first"
        )


def _refuse_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"`folder` is {str(folder)!r}, which is a file; a checkpoint needs a "
            "folder of its own"
        )


def _json(about: Mapping[str, Any]) -> str:
    try:
        return json.dumps(about)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`about` must hold what JSON can write ({error}); convert it first"
        ) from None


def _faults(broken: list[_Slot]) -> str:
    return ", ".join(f"{slot.path} {slot.fault}" for slot in broken)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
