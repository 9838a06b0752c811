"""Pickles and torch.save files, read without running them and without torch: tensors become numpy arrays.

A tensor that is pickled names `torch.storage._load_from_bytes` on bytes that are a torch.save file of their own,
which torch unpickles in turn without any restriction: `pickle.load` of such a file may run anything. Here both
levels go through `avpipe.formats.unpickling.RestrictedUnpickler` with stand-ins for the three kinds of globals that a
CPU tensor needs. `torch.load(weights_only=True)` was not used for the inner level: it is safe against calls, but it
allocates what sizes and strides promise, inflates compressed zip members, knows no bound, and has had holes of its
own; what a storage of numbers needs is little enough to be read here in full.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.formats.pickle_writing import LEGACY_START, LEGACY_VERSION, MAGIC_NUMBER, STORAGES
from avpipe.formats.pickled_arrays import MAX_DIMENSIONS, Part, Unfinished, shown
from avpipe.formats.unpickling import RestrictedUnpickler, read_bounded, resolve
from avpipe.formats.zip_checks import ZIP_START, stored_members
from avpipe.io.budget import Budget
from avpipe.io.reading import reading

MAX_BYTES = 16 << 30
"""Largest file read; VGGSound's largest cache has about 1.5 GB."""

_EXPECTED = "a pickle or torch.save file of plain containers, text, numbers, numpy arrays and CPU tensors"


def read_pickle(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Any:
    """The object in a pickle or torch.save file (zip or legacy), with a numpy array in place of each CPU tensor.

    Read are plain containers, str, bytes, numbers, numpy arrays and scalars, and tensors of bool, 8 to 64 bit
    integers and 16 to 64 bit floats. Keys are text and numbers. Tensors that share a storage become separate arrays.
    Reading takes about twice the size of the file in memory.

    Args:
        path: the file.
        max_bytes: largest file accepted, and the most that its contents may add up to, written out where parts are
            shared; by default `MAX_BYTES` and `avpipe.io.budget.Budget`.

    Raises:
        AvpipeError: the file is absent, too large or malformed, has tensors of a GPU, or names any other global,
            in the file or in the bytes of a storage (the message has its name). Nothing in the file is run.
    """
    data = read_bounded(path, MAX_BYTES if max_bytes is None else max_bytes)
    with reading(path, _EXPECTED, "If you trust the file, convert it to such a pickle where it was made."):
        budget = Budget(len(data), max_bytes)
        value = _unpickle(data, budget, TensorUnpickler)
        del data  # before the tensors are made, or there would be a third copy of their numbers
        return resolve(value, budget)


def unpickle(data: bytes, unpickler: type[TensorUnpickler]) -> Any:
    """The object in the bytes of a pickle or torch.save file, by an unpickler that may know more globals.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: it is malformed, or more or other than is permitted.
    """
    budget = Budget(len(data))
    return resolve(_unpickle(data, budget, unpickler), budget)


def _unpickle(data: bytes, budget: Budget, unpickler: type[TensorUnpickler]) -> Any:
    """The object with stand-ins for its arrays."""
    if data.startswith(ZIP_START):
        return _read_zip(data, budget, unpickler)
    if data.startswith(LEGACY_START):
        return _read_legacy(data, budget, unpickler)
    return unpickler(io.BytesIO(data), budget).load()


class StorageType(Part):
    """The class of a storage, such as torch.FloatStorage."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers in a file."""
        return np.dtype(STORAGES.get(self.name, "<u2"))


class _Storage(Part):
    """The numbers under one or more tensors; `data` of a legacy file comes after the tensors that use it."""

    __slots__ = ("data", "kind", "length")

    def __init__(self, kind: StorageType, length: int, data: bytes | memoryview | None = None) -> None:
        self.kind = kind
        self.length = length
        self.data = data

    @property
    def size(self) -> int:
        return self.length * self.kind.dtype.itemsize


class _Tensor(Unfinished):
    """A view of a storage, checked to lie inside of it."""

    __slots__ = ("_offset", "_sizes", "_storage", "_strides")

    def __init__(self, storage: _Storage, offset: Any, sizes: Any, strides: Any) -> None:
        if not isinstance(storage, _Storage) or not isinstance(sizes, tuple) or not isinstance(strides, tuple):
            raise pickle.UnpicklingError("a tensor that is not made of a storage, sizes and strides")
        plain = all(type(number) is int and number >= 0 for number in (offset, *sizes, *strides))
        if not plain or len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS:
            found = f"offset {shown(offset)}, sizes {shown(sizes)} and strides {shown(strides)}"
            raise pickle.UnpicklingError(f"a tensor with {found}")
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.length:
            raise pickle.UnpicklingError(f"a tensor that ends at {last} in a storage of {storage.length} numbers")
        self._storage, self._offset, self._sizes, self._strides = storage, offset, sizes, strides

    @property
    def n_bytes(self) -> int:
        return math.prod(self._sizes) * self._storage.kind.dtype.itemsize

    def finish(self) -> npt.NDArray[Any]:
        kind, data = self._storage.kind, self._storage.data
        if data is None or len(data) != self._storage.size:
            raise pickle.UnpicklingError("a tensor whose storage has no data")
        n = kind.dtype.itemsize
        if not self.n_bytes:
            values = np.empty(self._sizes, kind.dtype)
        else:
            steps = [stride * n if size > 1 else 0 for size, stride in zip(self._sizes, self._strides, strict=True)]
            # The bounds were checked; the constructor checks them again.
            values = np.ndarray(self._sizes, kind.dtype, data, self._offset * n, steps).copy()
        if kind.name == "BFloat16Storage":  # the upper half of a float32
            return (values.astype("<u4") << 16).view("<f4")
        return values != 0 if kind.name == "BoolStorage" else values


class _StorageUnpickler(RestrictedUnpickler):
    """For the bytes of one storage: nothing but the class of a storage may be named in them."""

    only_cpu = True

    def __init__(self, stream: io.BytesIO, budget: Budget, find: Callable[[str, _Storage], None] | None = None) -> None:
        super().__init__(stream, budget)
        self._find = find
        self._storages: dict[str, _Storage] = {}

    def stand_ins(self) -> dict[tuple[str, str], Any]:
        """The classes of storages."""
        return {("torch", name): StorageType(name) for name in STORAGES}

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that a torch.save file refers to by its key."""
        if self._find is None:
            raise pickle.UnpicklingError("opcode BINPERSID is refused")
        if not isinstance(pid, tuple) or len(pid) not in (5, 6):
            raise pickle.UnpicklingError("a persistent id that is not that of a storage")
        word, kind, key, location, length, *view = pid
        if word != "storage" or not isinstance(kind, StorageType) or type(key) is not str or type(length) is not int:
            raise pickle.UnpicklingError("a persistent id that is not that of a storage")
        if self.only_cpu and location != "cpu":
            raise pickle.UnpicklingError(
                f"a tensor on the device {shown(location)}; move it to the CPU before it is saved"
            )
        if view not in ([], [None]) or length < 0:
            raise pickle.UnpicklingError(f"a storage of length {length} that is a view of another: {shown(view)}")
        storage = self._storages.get(key)
        if storage is None:
            storage = self._storages[key] = _Storage(kind, length)
            self._find(key, storage)
        if (storage.kind.name, storage.length) != (kind.name, length):
            raise pickle.UnpicklingError(f"storage {shown(key)} is said to have two types or lengths")
        return storage


class TensorUnpickler(_StorageUnpickler):
    """For a whole file: plain values, arrays and tensors."""

    def __init__(self, stream: io.BytesIO, budget: Budget, find: Callable[[str, _Storage], None] | None = None) -> None:
        super().__init__(stream, budget, find)
        self._known: dict[int, tuple[object, _Storage]] = {}

    def stand_ins(self) -> dict[tuple[str, str], Any]:
        """Those of plain pickles and what tensors are pickled with."""
        return {
            **RestrictedUnpickler.stand_ins(self),
            **super().stand_ins(),
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch.storage", "_load_from_bytes"): self._load_from_bytes,
        }

    def _rebuild_tensor(
        self,
        storage: Any,
        offset: Any,
        sizes: Any,
        strides: Any,
        _grad: Any = None,
        _hooks: Any = None,
        metadata: Any = None,
    ) -> _Tensor:
        if metadata:
            raise pickle.UnpicklingError(f"a tensor with the metadata {shown(metadata)}; save a plain copy of it")
        return _Tensor(storage, offset, sizes, strides)

    def _load_from_bytes(self, data: Any) -> _Storage:
        """The storage in a nested torch.save file; equal ids are parsed once, or a tiny file could ask for many."""
        if id(data) not in self._known:
            if not isinstance(data, bytes):
                raise pickle.UnpicklingError("a storage that is not made of bytes")
            read = _read_zip if data.startswith(ZIP_START) else _read_legacy
            storage = read(data, self.budget, _StorageUnpickler)
            if not isinstance(storage, _Storage):
                raise pickle.UnpicklingError(f"a {type(storage).__name__} where the numbers of a tensor belong")
            self._known[id(data)] = data, storage
        return self._known[id(data)][1]


def _read_legacy(data: bytes, budget: Budget, unpickler: type[_StorageUnpickler]) -> Any:
    """Four pickles (magic number, version, system, the object), then the storages' keys and their numbers."""
    stream = io.BytesIO(data)

    def load(find: Callable[[str, _Storage], None] | None = None) -> Any:
        return (unpickler if find else _StorageUnpickler)(stream, budget, find).load()

    if load() != MAGIC_NUMBER or load() != LEGACY_VERSION:
        raise pickle.UnpicklingError("the bytes of a tensor that are not in a format of torch.save")
    system = load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise pickle.UnpicklingError("tensors of a big-endian machine")
    storages: dict[str, _Storage] = {}
    value = load(storages.__setitem__)
    keys = load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
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
    members = stored_members(data)

    def find(key: str, storage: _Storage) -> None:
        storage.data = members[f"data/{key}"]

    if members.get("byteorder", b"little") != b"little":
        raise pickle.UnpicklingError("tensors of a big-endian machine")
    return unpickler(io.BytesIO(members["data.pkl"]), budget, find).load()
