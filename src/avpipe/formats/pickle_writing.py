"""Writing pickles with torch tensors in them, without torch, so that `pickle.load` gives tensors.

The few opcodes are those that `avpipe.formats.pickles` reads, written item by item. torch itself would write the
address of a tensor's storage into the file, so that equal tensors give different bytes; here equal values give equal
bytes.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.io.atomic import atomic_path

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",  # bytes other than 0 and 1 are no booleans to numpy, so they are compared with 0 later
}
_STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items() if name != "BoolStorage"} | {"|b1": "BoolStorage"}
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of torch's format before 1.6, which storages inside pickles still have
LEGACY_VERSION = 1001
LEGACY_START = pickle.dumps(MAGIC_NUMBER, 2)
_SYSTEM = {
    "protocol_version": LEGACY_VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


@dataclass(frozen=True)
class PlainArray:
    """Floats that `write_pickle` is to write as a numpy array, not as a tensor."""

    values: npt.NDArray[Any]


def write_pickle(path: str | os.PathLike[str], value: Any) -> None:
    """Write dicts, lists, str and int, with numpy arrays of numbers as CPU tensors; equal values, equal bytes.

    The file is a pickle of protocol 4 that `pickle.load` reads where torch 1.6 or later is installed. Arrays
    of text and `PlainArray` are written as numpy arrays, readable by numpy 1 and 2; iterators are written as lists
    without being held in memory.

    Raises:
        AvpipeError: a value is of another type.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(b"\x80\x04")
        _write_value(stream, value)
        stream.write(b".")


def _write_value(stream: IO[bytes], value: Any) -> None:
    if isinstance(value, PlainArray):
        _write_plain_array(stream, value.values)
    elif isinstance(value, np.ndarray):
        (_write_plain_array if value.dtype.kind == "U" else _write_tensor)(stream, value)
    elif isinstance(value, dict):
        stream.write(b"}(")
        for key, item in value.items():
            _write_value(stream, key)
            _write_value(stream, item)
        stream.write(b"u")
    elif isinstance(value, list | tuple | Iterator):
        stream.write(b"(" if isinstance(value, tuple) else b"](")
        for item in value:
            _write_value(stream, item)
        stream.write(b"t" if isinstance(value, tuple) else b"e")
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        stream.write(b"X" + struct.pack("<I", len(text)) + text)
    elif value is None or isinstance(value, bool):
        stream.write({None: b"N", True: b"\x88", False: b"\x89"}[value])
    elif isinstance(value, int):
        encoded = pickle.encode_long(value)
        stream.write(b"\x8a" + struct.pack("<B", len(encoded)) + encoded)
    else:
        raise AvpipeError(
            f"A {type(value).__name__} cannot be written; expected containers, str, int and numpy arrays."
        )


def _write_global(stream: IO[bytes], module: str, name: str) -> None:
    _write_value(stream, module)
    _write_value(stream, name)
    stream.write(b"\x93")


def _write_bytes(stream: IO[bytes], *parts: bytes | memoryview) -> None:
    stream.write(b"\x8e" + struct.pack("<Q", sum(map(len, parts))))
    for part in parts:
        stream.write(part)


def _as_bytes(values: npt.NDArray[Any]) -> bytes | memoryview:
    """The memory of contiguous values, not copied (memoryview cannot cast what is empty)."""
    return values.reshape(-1).view(np.uint8).data if values.size else b""


def _write_tensor(stream: IO[bytes], values: npt.NDArray[Any]) -> None:
    name = _STORAGE_NAMES.get(values.dtype.newbyteorder("<").str.replace("|i", "<i").replace("|u", "<u"))
    if name is None:
        raise AvpipeError(f"An array of {values.dtype} cannot be written as a tensor; expected bool, int or float.")
    shape = values.shape
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    strides = [math.prod(max(size, 1) for size in shape[i + 1 :]) for i in range(len(shape))]
    _write_global(stream, "torch._utils", "_rebuild_tensor_v2")
    stream.write(b"(")
    _write_global(stream, "torch.storage", "_load_from_bytes")
    _write_bytes(stream, _legacy_header(name, values.size), struct.pack("<q", values.size), _as_bytes(values))
    stream.write(b"\x85R")
    _write_value(stream, 0)
    _write_value(stream, shape)
    _write_value(stream, tuple(strides))
    _write_value(stream, False)
    _write_global(stream, "collections", "OrderedDict")
    stream.write(b")RtR")


def _legacy_header(name: str, length: int) -> bytes:
    """All of a legacy torch.save file of one storage but its length and numbers."""
    body = io.BytesIO()
    body.write(b"\x80\x02(")
    _write_value(body, "storage")
    body.write(f"ctorch\n{name}\n".encode())
    for item in ("0", "cpu", length, None):
        _write_value(body, item)
    body.write(b"tQ.")
    plain = [pickle.dumps(part, 2) for part in (LEGACY_VERSION, _SYSTEM)]
    return b"".join([LEGACY_START, *plain, body.getvalue(), pickle.dumps(["0"], 2)])


def _write_plain_array(stream: IO[bytes], values: npt.NDArray[Any]) -> None:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    size, is_text = values.dtype.itemsize, values.dtype.kind == "U"
    if values.dtype.kind not in "Uf":
        raise AvpipeError(f"A numpy array of {values.dtype} cannot be written; expected text or floats.")
    _write_global(stream, "numpy.core.multiarray", "_reconstruct")  # numpy 1 does not know numpy._core
    stream.write(b"(")
    _write_global(stream, "numpy", "ndarray")
    _write_value(stream, (0,))
    _write_bytes(stream, b"b")
    stream.write(b"tR(")
    _write_value(stream, 1)
    _write_value(stream, values.shape)
    _write_global(stream, "numpy", "dtype")
    _write_value(stream, (f"U{size // 4}" if is_text else f"f{size}", False, True))
    stream.write(b"R")
    _write_value(stream, (3, "<", None, None, None, *((size, 4, 8) if is_text else (-1, -1, 0))))
    stream.write(b"b")
    _write_value(stream, False)
    _write_bytes(stream, _as_bytes(values))
    stream.write(b"tb")
