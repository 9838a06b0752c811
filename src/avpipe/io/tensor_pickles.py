"""Pickles with torch tensors in them, read without torch as numpy arrays and written so that torch reads tensors.

A tensor that is pickled names `torch.storage._load_from_bytes` on bytes that are a torch.save file of their own,
which torch unpickles in turn without any restriction: `pickle.load` of such a file may run anything. Here both
levels go through `avpipe.io.pickles.RestrictedUnpickler` with stand-ins for the three kinds of globals that a CPU
tensor needs. `torch.load(weights_only=True)` was not used for the inner level: it is safe against calls, but it
allocates what sizes and strides promise, inflates compressed zip members, knows no bound, and has had holes of its
own; what a storage of numbers needs is little enough to be read here in full.

Writing goes the other way with the same few opcodes. torch itself would write the address of the storage into
the file, so that equal tensors give different bytes; here equal values give equal bytes.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.io.atomic import atomic_path
from avpipe.io.pickles import (
    Budget,
    Part,
    RestrictedUnpickler,
    Unfinished,
    check_opcodes,
    malformed_refused,
    read_bounded,
    resolve,
)

MAX_BYTES = 16 << 30
"""Largest file read, and the most that its contents may add up to; VGGSound's largest cache has about 1.5 GB."""

_EXPECTED = "a pickle or torch.save file of plain containers, text, numbers, numpy arrays and CPU tensors"
_STORAGES = {
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
_STORAGE_NAMES = {dtype: name for name, dtype in _STORAGES.items() if name != "BoolStorage"} | {"|b1": "BoolStorage"}
_ZIP_START = b"PK\x03\x04"
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of torch's format before 1.6, which storages inside pickles still have
_LEGACY_VERSION = 1001
_LEGACY_START = pickle.dumps(_MAGIC_NUMBER, 2)
_SYSTEM = {
    "protocol_version": _LEGACY_VERSION,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
_PERSISTENT = frozenset({"BINPERSID"})
_MAX_DIMENSIONS = 32  # numpy 1's limit


def read_tensor_pickle(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Any:
    """The object in a pickle or torch.save file (zip or legacy), with a numpy array in place of each CPU tensor.

    Read are tensors of bool, 8 to 64 bit integers and 16 to 64 bit floats. Tensors that share a storage become
    separate arrays. Reading takes about three times the size of the file in memory.

    Args:
        path: the file.
        max_bytes: largest file accepted, and the most that tensors and arrays may add up to.

    Raises:
        AvpipeError: the file is absent, too large or malformed, has tensors of a GPU, or names any other global,
            in the file or in the bytes of a storage (the message has its name). Nothing in the file is run.
    """
    data = read_bounded(path, max_bytes)
    with malformed_refused(path, _EXPECTED):
        budget = Budget(max_bytes)
        if data.startswith(_ZIP_START):
            value = _read_zip(data, budget, _TensorUnpickler)
        elif data.startswith(_LEGACY_START):
            value = _read_legacy(data, budget, _TensorUnpickler)
        else:
            stream = io.BytesIO(data)
            check_opcodes(stream, len(data))
            value = _TensorUnpickler(stream, budget).load()
        return resolve(value, {})


def write_tensor_pickle(path: str | os.PathLike[str], value: Any) -> None:
    """Write dicts, lists, str and int, with numpy arrays of numbers as CPU tensors; equal values, equal bytes.

    The file is a pickle of protocol 4 that `pickle.load` reads where torch 1.6 or later is installed. Arrays
    of text are written as numpy arrays, readable by numpy 1 and 2.

    Raises:
        AvpipeError: a value is of another type.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(b"\x80\x04")
        _write_value(stream, value)
        stream.write(b".")


class _StorageType(Part):
    """The class of a storage, such as torch.FloatStorage."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_STORAGES[self.name])


class _Storage(Part):
    """The numbers under one or more tensors; `data` of a legacy file comes after the tensors that use it."""

    __slots__ = ("data", "kind", "length")

    def __init__(self, kind: _StorageType, length: int, data: bytes | memoryview | None = None) -> None:
        self.kind = kind
        self.length = length
        self.data = data

    @property
    def size(self) -> int:
        return self.length * self.kind.dtype.itemsize


class _Tensor(Unfinished):
    """A view of a storage, checked to lie inside of it."""

    __slots__ = ("_offset", "_sizes", "_storage", "_strides")

    def __init__(self, storage: _Storage, offset: Any, sizes: Any, strides: Any, budget: Budget) -> None:
        if not isinstance(storage, _Storage) or not isinstance(sizes, tuple) or not isinstance(strides, tuple):
            raise pickle.UnpicklingError("a tensor that is not made of a storage, sizes and strides")
        numbers = (offset, *sizes, *strides)
        plain = all(type(number) is int and number >= 0 for number in numbers)
        if not plain or len(sizes) != len(strides) or len(sizes) > _MAX_DIMENSIONS:
            raise pickle.UnpicklingError(f"a tensor with offset {offset!r}, sizes {sizes} and strides {strides}")
        count = math.prod(sizes)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if count and last >= storage.length:
            raise pickle.UnpicklingError(f"a tensor that ends at {last} in a storage of {storage.length} numbers")
        budget.charge(count * storage.kind.dtype.itemsize)
        self._storage, self._offset, self._sizes, self._strides = storage, offset, sizes, strides

    def finish(self) -> npt.NDArray[Any]:
        dtype, data = self._storage.kind.dtype, self._storage.data
        if data is None or len(data) != self._storage.size:
            raise pickle.UnpicklingError("a tensor whose storage has no data")
        if not math.prod(self._sizes):
            values = np.empty(self._sizes, dtype)
        else:
            steps = [
                stride * dtype.itemsize if size > 1 else 0
                for size, stride in zip(self._sizes, self._strides, strict=True)
            ]
            # The bounds were checked; the constructor checks them again.
            values = np.ndarray(self._sizes, dtype, data, self._offset * dtype.itemsize, steps).copy()
        return values != 0 if self._storage.kind.name == "BoolStorage" else values


class _StorageUnpickler(RestrictedUnpickler):
    """For the bytes of one storage: nothing but the class of a storage may be named in them."""

    def __init__(self, stream: io.BytesIO, budget: Budget, find: Callable[[str, _Storage], None] | None = None) -> None:
        super().__init__(stream, budget)
        self._find = find
        self._storages: dict[str, _Storage] = {}

    def stands(self) -> dict[tuple[str, str], Any]:
        """The classes of storages."""
        return {("torch", name): _StorageType(name) for name in _STORAGES}

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a torch.save file refers to by its key."""
        if self._find is None or not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise pickle.UnpicklingError("a persistent id that is not that of a storage")
        word, kind, key, location, length, *view = pid
        if word != "storage" or not isinstance(kind, _StorageType) or type(key) is not str or type(length) is not int:
            raise pickle.UnpicklingError("a persistent id that is not that of a storage")
        if location != "cpu":
            raise pickle.UnpicklingError(f"a tensor on the device {location!r}; move it to the CPU before it is saved")
        if view not in ([], [None]) or length < 0:
            raise pickle.UnpicklingError(f"a storage of length {length} that is a view of another: {view}")
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = _Storage(kind, length)
            self._find(key, storage)
        if (storage.kind.name, storage.length) != (kind.name, length):
            raise pickle.UnpicklingError(f"storage {key!r} is said to have two types or lengths")
        return storage


class _TensorUnpickler(_StorageUnpickler):
    """For a whole file: plain values, arrays and tensors."""

    def __init__(self, stream: io.BytesIO, budget: Budget, find: Callable[[str, _Storage], None] | None = None) -> None:
        super().__init__(stream, budget, find)
        self._known: dict[int, tuple[object, _Storage]] = {}

    def stands(self) -> dict[tuple[str, str], Any]:
        """Those of plain pickles and what tensors are pickled with."""
        return {
            **RestrictedUnpickler.stands(self),
            **super().stands(),
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch.storage", "_load_from_bytes"): self._load_from_bytes,
        }

    def _rebuild_tensor(
        self, storage: Any, offset: Any, sizes: Any, strides: Any, _needs_grad: Any, _hooks: Any, metadata: Any = None
    ) -> _Tensor:
        if metadata:
            raise pickle.UnpicklingError(f"a tensor with the metadata {metadata!r}; save a plain copy of it")
        return _Tensor(storage, offset, sizes, strides, self.budget)

    def _load_from_bytes(self, data: Any) -> _Storage:
        """The storage in a nested torch.save file; equal ids are parsed once, or a tiny file could ask for many."""
        if id(data) not in self._known:
            if not isinstance(data, bytes):
                raise pickle.UnpicklingError("a storage that is not made of bytes")
            read = _read_zip if data.startswith(_ZIP_START) else _read_legacy
            storage = read(data, self.budget, _StorageUnpickler)
            if not isinstance(storage, _Storage):
                raise pickle.UnpicklingError(f"a {type(storage).__name__} where the numbers of a tensor belong")
            self._known[id(data)] = data, storage
        return self._known[id(data)][1]


def _read_legacy(data: bytes, budget: Budget, unpickler: type[_StorageUnpickler]) -> Any:
    """Four pickles (magic number, version, system, the object), then the storages' keys and their numbers."""
    stream = io.BytesIO(data)

    def load(find: Callable[[str, _Storage], None] | None = None) -> Any:
        check_opcodes(stream, len(data), _PERSISTENT if find else frozenset())
        return (unpickler if find else _StorageUnpickler)(stream, budget, find).load()

    if load() != _MAGIC_NUMBER or load() != _LEGACY_VERSION:
        raise pickle.UnpicklingError("the bytes of a tensor that are not in a format of torch.save")
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise pickle.UnpicklingError("tensors of a big-endian machine")
    storages: dict[str, _Storage] = {}
    value = load(storages.__setitem__)
    keys = load()
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise pickle.UnpicklingError("a list of storages that is not that of the tensors")
    view = memoryview(data)
    start = stream.tell()
    for key in keys:
        storage = storages[key]
        (length,) = struct.unpack_from("<q", data, start) if len(data) >= start + 8 else (-1,)
        start += 8
        if length != storage.length or start + storage.size > len(data):
            raise pickle.UnpicklingError(
                f"a storage of {storage.length} numbers, of which {max(len(data) - start, 0)} bytes are there"
            )
        storage.data = view[start : start + storage.size]
        start += storage.size
    return value


def _read_zip(data: bytes, budget: Budget, unpickler: type[_StorageUnpickler]) -> Any:
    """One folder with data.pkl, the storages as data/<key>, and the byte order; nothing in it is compressed."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        sizes = [info.file_size for info in archive.infolist()]
        plain = all(info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1 for info in archive.infolist())
        if not plain or sum(sizes) > len(data):
            raise pickle.UnpicklingError("a zip archive with compressed, encrypted or overlapping members")

        def find(key: str, storage: _Storage) -> None:
            storage.data = archive.read(members[f"data/{key}"])

        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise pickle.UnpicklingError("tensors of a big-endian machine")
        body = archive.read(members["data.pkl"])
        stream = io.BytesIO(body)
        check_opcodes(stream, len(body), _PERSISTENT)
        return unpickler(stream, budget, find).load()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise pickle.UnpicklingError(f"a torch.save file that is a damaged zip archive ({error})") from error


def _write_value(stream: IO[bytes], value: Any) -> None:
    if isinstance(value, np.ndarray):
        (_write_text_array if value.dtype.kind == "U" else _write_tensor)(stream, value)
    elif isinstance(value, dict):
        stream.write(b"}(")
        for key, item in value.items():
            _write_value(stream, key)
            _write_value(stream, item)
        stream.write(b"u")
    elif isinstance(value, list | tuple):
        stream.write(b"](" if isinstance(value, list) else b"(")
        for item in value:
            _write_value(stream, item)
        stream.write(b"e" if isinstance(value, list) else b"t")
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
    plain = [pickle.dumps(part, 2) for part in (_LEGACY_VERSION, _SYSTEM)]
    return b"".join([_LEGACY_START, *plain, body.getvalue(), pickle.dumps(["0"], 2)])


def _write_text_array(stream: IO[bytes], values: npt.NDArray[np.str_]) -> None:
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    _write_global(stream, "numpy.core.multiarray", "_reconstruct")  # numpy 1 does not know numpy._core
    stream.write(b"(")
    _write_global(stream, "numpy", "ndarray")
    _write_value(stream, (0,))
    _write_bytes(stream, b"b")
    stream.write(b"tR(")
    for item in (1, values.shape):
        _write_value(stream, item)
    _write_global(stream, "numpy", "dtype")
    _write_value(stream, (f"U{values.dtype.itemsize // 4}", False, True))
    stream.write(b"R")
    _write_value(stream, (3, "<", None, None, None, values.dtype.itemsize, 4, 8))
    stream.write(b"b")
    _write_value(stream, False)
    _write_bytes(stream, _as_bytes(values))
    stream.write(b"tb")
