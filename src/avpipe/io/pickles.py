"""Reading foreign pickles without running them: plain containers, text, numbers and numpy arrays only.

A pickle is a program that may call any importable function. Here every global that a pickle names is looked
up in a closed list of stand-ins of our own; numpy's own constructors are not among them, because a hostile
dtype state can make numpy treat raw bytes as object pointers. Arrays are built by `numpy.frombuffer` from a
dtype that was checked, and what a file may allocate is bounded by `max_bytes`.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avpipe.errors import AvpipeError

MAX_BYTES = 1 << 30
"""Largest file read, and the most that its arrays may add up to; the published ones have less than 0.5 MB."""

_REFUSED_OPCODES = frozenset(
    {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
)
_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_PLAIN_DTYPE = re.compile(r"(\?|[biufc](1|2|4|8|16)|[SU]\d{1,9}|O8?)")
_MALFORMED = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
)


def read_pickle(path: str | os.PathLike[str], *, encoding: str = "ASCII", max_bytes: int = MAX_BYTES) -> Any:
    """The object in a pickle of plain containers, str, bytes, numbers and numpy arrays and scalars.

    Args:
        path: the file.
        encoding: of Python 2 strings, as in `pickle.load`.
        max_bytes: largest file accepted, and the most that arrays, sets and byte strings may add up to.

    Raises:
        AvpipeError: the file is absent, too large, malformed, or names any other global (the message has its
            name).
    """
    return _load(_read(path, max_bytes), path, encoding, max_bytes)


def read_pickled_npy(path: str | os.PathLike[str], *, encoding: str = "ASCII", max_bytes: int = MAX_BYTES) -> Any:
    """The contents of an `.npy` file, which may be a pickled object array; of a 0-d array the one element.

    The published word vectors are such files: a 0-d object array with a dict (specs/avca.md §1.4). Arguments
    and errors as for `read_pickle`; a file that does not begin with numpy's magic string is refused.
    """
    data = _read(path, max_bytes)
    stream = io.BytesIO(data)
    try:
        major, _minor = np.lib.format.read_magic(stream)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
        shape, fortran, dtype = read_header(stream)
    except (ValueError, KeyError) as error:
        raise AvpipeError(
            f"{path} is not an .npy file of version 1 or 2 ({error}); save it again with numpy.save."
        ) from error
    body = data[stream.tell() :]
    if dtype.hasobject:
        array = _load(body, path, encoding, max_bytes)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise AvpipeError(f"{path}: the pickled part is not an array of shape {shape} as the header says.")
    else:
        expected = math.prod(shape) * dtype.itemsize
        if len(body) != expected or min(shape, default=0) < 0:
            raise AvpipeError(
                f"{path}: {len(body)} bytes of data, expected {expected} for {dtype} {shape}; "
                "the file is damaged, fetch it again."
            )
        flat = np.frombuffer(body, dtype) if body else np.empty(0, dtype)
        array = flat.reshape(shape, order="F" if fortran else "C").copy()
    return array.item() if shape == () else array


def _read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; check the path or fetch the file first.")
    size = path.stat().st_size
    if size > max_bytes:
        raise AvpipeError(f"{path} has {size} bytes, more than the {max_bytes} accepted; raise max_bytes if meant.")
    return path.read_bytes()


def _load(data: bytes, path: str | os.PathLike[str], encoding: str, max_bytes: int) -> Any:
    try:
        _check_opcodes(data)
        unpickler = _RestrictedUnpickler(io.BytesIO(data), encoding=encoding)
        unpickler.budget = max_bytes
        return _resolve(unpickler.load(), {})
    except _MALFORMED as error:
        raise AvpipeError(
            f"{path} was not read: {error}. Expected a pickle of plain containers, text, numbers and numpy "
            "arrays. If you trust the file, convert it to such a pickle where it was made."
        ) from error


def _check_opcodes(data: bytes) -> None:
    """Refuse what allocates before it is checked: memo indices and lengths that exceed the file."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _REFUSED_OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name} is refused")
        if opcode.name in _MEMO_OPCODES and not 0 <= (argument or 0) <= len(data):
            raise pickle.UnpicklingError(f"memo index {argument} exceeds the {len(data)} bytes of the pickle")


class _Stand:
    """What a permitted global unpickles to: callable, and immune to BUILD, which sets attributes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the pickle sets the state of a function or type")


class _Dtype:
    """A dtype by its published spelling; a state may only set the byte order."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str, *_align_and_copy: object) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"dtype {name!r} is not a plain number, string or object type")
        self._name = name
        self._order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("structured dtypes are refused")
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._name).newbyteorder(self._order)


class _Array:
    """An array between numpy's two pickling steps; `_resolve` replaces it by the real one."""

    __slots__ = ("_charge", "items", "shape", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self.values: np.ndarray[Any, Any] | None = None
        self.items: list[Any] | None = None
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array without a dtype")
        if dtype.dtype().hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape) or fortran:
                raise pickle.UnpicklingError("an object array whose items do not fit its shape")
            self.items, self.shape = data, tuple(shape)
        else:
            self.values = _array_from_bytes(self._charge, data, dtype, shape, "F" if fortran else "C")


def _array_from_bytes(
    charge: Callable[[int], None], data: Any, dtype: Any, shape: Any, order: str = "C"
) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or dtype.dtype().hasobject:
        raise pickle.UnpicklingError("an array whose data are not plain bytes")
    charge(len(data))
    values = np.frombuffer(bytes(data), dtype.dtype()) if data else np.empty(0, dtype.dtype())
    return values.reshape(tuple(shape), order="F" if order == "F" else "C").copy(order="K")


class _RestrictedUnpickler(pickle.Unpickler):
    budget = 0

    def find_class(self, module: str, name: str) -> Any:
        numpy_core = module.removeprefix("numpy._core.") if module.startswith("numpy._core.") else None
        if module.startswith("numpy.core."):
            numpy_core = module.removeprefix("numpy.core.")
        key = ("numpy core " + numpy_core if numpy_core else module.replace("__builtin__", "builtins"), name)
        stands: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): self._refuse_call,
            ("numpy", "dtype"): _Dtype,
            ("numpy core multiarray", "_reconstruct"): self._reconstruct,
            ("numpy core multiarray", "scalar"): self._scalar,
            ("numpy core numeric", "_frombuffer"): self._frombuffer,
            ("_codecs", "encode"): self._encode,
            ("builtins", "set"): self._charged(set),
            ("builtins", "frozenset"): self._charged(frozenset),
            ("builtins", "bytes"): lambda: b"",  # how protocols 0 to 2 write empty ones
            ("builtins", "bytearray"): self._encode_bytearray,
            ("builtins", "complex"): complex,
            ("collections", "OrderedDict"): self._charged(dict),  # a plain dict keeps the order and has no attributes
        }
        if key not in stands:
            raise pickle.UnpicklingError(f"it names the global {module}.{name}, which is refused")
        return _Stand(stands[key])

    def _charge(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise pickle.UnpicklingError("its contents exceed max_bytes")

    def _refuse_call(self, *args: object) -> Any:
        raise pickle.UnpicklingError("it calls numpy.ndarray, which allocates without data")

    def _reconstruct(self, kind: object, shape: object, typecode: object) -> _Array:
        if not isinstance(kind, _Stand) or kind._call != self._refuse_call or shape != (0,):
            raise pickle.UnpicklingError("an array that is not a plain numpy.ndarray")
        return _Array(self._charge)

    def _scalar(self, dtype: object, data: object) -> Any:
        return _array_from_bytes(self._charge, data, dtype, (1,))[0]

    def _frombuffer(self, data: object, dtype: object, shape: object, order: str, axes: object = None) -> Any:
        if order not in ("C", "F") or axes is not None:
            raise pickle.UnpicklingError(f"an array with memory order {order!r}; pickle a contiguous copy instead")
        return _array_from_bytes(self._charge, data, dtype, shape, order)

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r} is refused")
        self._charge(len(text))
        return text.encode("latin-1")

    def _encode_bytearray(self, data: Any = b"", encoding: str = "latin-1") -> bytearray:
        if not isinstance(data, str | bytes | bytearray):  # bytearray(n) would allocate n bytes
            raise pickle.UnpicklingError("bytearray of something other than bytes")
        if isinstance(data, str):
            data = self._encode(data, encoding)
        self._charge(len(data))
        return bytearray(data)

    def _charged(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        def build(*args: Any) -> Any:
            items = args[0] if args else []
            if len(args) > 1 or not isinstance(items, list | tuple):
                raise pickle.UnpicklingError("a container of something other than a list")
            self._charge(64 * len(items))
            return kind(*args)

        return build


def _resolve(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace the array stand-ins in nested containers; each object once, since they may share parts.

    `done` maps an object's id to the object, which keeps the id from being used again, and its replacement.
    """
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Stand | _Dtype):
        raise pickle.UnpicklingError("a function or type as a value")
    if isinstance(value, _Array):
        result = _finished_array(value)
        done[id(value)] = value, result
        for index, item in zip(np.ndindex(value.shape), value.items or [], strict=False):
            result[index] = _resolve(item, done)
        return result
    if isinstance(value, tuple):
        done[id(value)] = value, tuple(_resolve(item, done) for item in value)
        return done[id(value)][1]
    if isinstance(value, dict):
        done[id(value)] = value, value
        for key in value:
            value[key] = _resolve(value[key], done)
    elif isinstance(value, list):
        done[id(value)] = value, value
        value[:] = [_resolve(item, done) for item in value]
    return value


def _finished_array(array: _Array) -> np.ndarray[Any, Any]:
    if array.items is not None:
        return np.empty(array.shape, object)
    if array.values is None:
        raise pickle.UnpicklingError("an array without contents")
    return array.values
