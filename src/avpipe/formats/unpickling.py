"""Unpickling without running anything: plain containers, text, numbers and numpy arrays only.

A pickle is a program that may call any importable function. Here every global that a pickle names is looked
up in a closed list of stand-ins of our own; numpy's own constructors are not among them, because a hostile
dtype state can make numpy treat raw bytes as object pointers. Arrays are built by `numpy.frombuffer` from a
dtype that was checked, and what a file may allocate is bounded by `max_bytes`. `avpipe.formats.pickles` extends
`RestrictedUnpickler.stand_ins` by torch's tensors and inherits the rest.
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

_REFUSED_OPCODES = frozenset(
    {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
)
_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_PLAIN_DTYPE = re.compile(r"(\?|[biufc](1|2|4|8|16)|[SU]\d{1,9}|O8?)")


def read_bounded(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The bytes of a file.

    Raises:
        AvpipeError: it does not exist or has more than `max_bytes`.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; check the path or fetch the file first.")
    size = path.stat().st_size
    if size > max_bytes:
        raise AvpipeError(f"{path} has {size} bytes, more than the {max_bytes} accepted; raise max_bytes if meant.")
    return path.read_bytes()


def _check_opcodes(stream: io.BytesIO, allowed: frozenset[str]) -> None:
    """Refuse what allocates before it is checked: memo indices and lengths beyond the stream, left at its start."""
    start, size = stream.tell(), stream.seek(0, io.SEEK_END)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _REFUSED_OPCODES - allowed:
            raise pickle.UnpicklingError(f"opcode {opcode.name} is refused")
        if opcode.name in _MEMO_OPCODES and not 0 <= (argument or 0) <= size:
            raise pickle.UnpicklingError(f"memo index {argument} exceeds the {size} bytes of the pickle")
    stream.seek(start)


class Budget:
    """What the contents of a file may still allocate, in bytes; shared by the unpicklers of its parts."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def charge(self, size: int) -> None:
        """Take `size` bytes from the budget; refuses the pickle when nothing is left."""
        self._left -= size
        if self._left < 0:
            raise pickle.UnpicklingError("its contents exceed max_bytes")


class Part:
    """What makes sense only inside another object: refused as a value, as a key and as the target of BUILD."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the pickle sets the state of a function or type")


class Placeholder(Part):
    """What a permitted global unpickles to: callable, and immune to BUILD, which sets attributes."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        """What REDUCE does with the global."""
        return self.call(*args)


class _Dtype(Part):
    """A dtype by its published spelling; a state may only set the byte order."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str, *_align_and_copy: object) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"dtype {name!r} is not a plain number, string or object type")
        self._name = name
        self._order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: Any) -> None:
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("structured dtypes are refused")
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._name).newbyteorder(self._order)


class Unfinished:
    """An array that `resolve` makes once the whole pickle was read; BUILD is refused unless a subclass takes it."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the pickle sets the state of an array a second time")

    def finish(self) -> np.ndarray[Any, Any]:
        """The array."""
        raise NotImplementedError

    def items(self) -> list[Any]:
        """What an array of objects holds, in C order; nothing for an array of numbers or text."""
        return []


class _Array(Unfinished):
    """A numpy array between the two steps in which numpy pickles it."""

    __slots__ = ("_budget", "_items", "_shape", "_values")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._values: np.ndarray[Any, Any] | None = None
        self._items: list[Any] | None = None
        self._shape: tuple[int, ...] = ()

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array without a dtype")
        if dtype.dtype().hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape) or fortran:
                raise pickle.UnpicklingError("an object array whose items do not fit its shape")
            self._items, self._shape = data, tuple(shape)
        else:
            self._values = _array_from_bytes(self._budget, data, dtype, shape, "F" if fortran else "C")

    def finish(self) -> np.ndarray[Any, Any]:
        if self._items is not None:
            return np.empty(self._shape, object)
        if self._values is None:
            raise pickle.UnpicklingError("an array without contents")
        return self._values

    def items(self) -> list[Any]:
        return self._items or []


def _array_from_bytes(budget: Budget, data: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or dtype.dtype().hasobject:
        raise pickle.UnpicklingError("an array whose data are not plain bytes")
    budget.charge(len(data))
    values = np.frombuffer(bytes(data), dtype.dtype()) if data else np.empty(0, dtype.dtype())
    return values.reshape(tuple(shape), order="F" if order == "F" else "C").copy(order="K")


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles with stand-ins for the globals it permits and refuses all others by name.

    Args:
        stream: at the start of a pickle.
        budget: what may be allocated.
        allowed: names of opcodes that a subclass handles, although they are refused in general.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: the pickle is malformed, or more or other than is permitted.
    """

    def __init__(self, stream: io.BytesIO, budget: Budget, allowed: frozenset[str] = frozenset()) -> None:
        _check_opcodes(stream, allowed)
        super().__init__(stream)
        self.budget = budget

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global, never the global itself."""
        numpy_core = module.removeprefix("numpy._core.") if module.startswith("numpy._core.") else None
        if module.startswith("numpy.core."):
            numpy_core = module.removeprefix("numpy.core.")
        key = ("numpy core " + numpy_core if numpy_core else module.replace("__builtin__", "builtins"), name)
        stand_in = self.stand_ins().get(key)
        if stand_in is None:
            raise pickle.UnpicklingError(f"it names the global {module}.{name}, which is refused")
        return stand_in if isinstance(stand_in, Part) else Placeholder(stand_in)

    def stand_ins(self) -> dict[tuple[str, str], Callable[..., Any] | Part]:
        """(module, name) -> what is called or used in its place; both spellings of numpy's core are "numpy core"."""
        return {
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

    def _refuse_call(self, *args: object) -> Any:
        raise pickle.UnpicklingError("it calls numpy.ndarray, which allocates without data")

    def _reconstruct(self, kind: object, shape: object, typecode: object) -> _Array:
        if not isinstance(kind, Placeholder) or kind.call != self._refuse_call or shape != (0,):
            raise pickle.UnpicklingError("an array that is not a plain numpy.ndarray")
        return _Array(self.budget)

    def _scalar(self, dtype: object, data: object) -> Any:
        return _array_from_bytes(self.budget, data, dtype, (1,))[0]

    def _frombuffer(self, data: object, dtype: object, shape: object, order: str, axes: object = None) -> Any:
        if order not in ("C", "F") or axes is not None:
            raise pickle.UnpicklingError(f"an array with memory order {order!r}; pickle a contiguous copy instead")
        return _array_from_bytes(self.budget, data, dtype, shape, order)

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r} is refused")
        self.budget.charge(len(text))
        return text.encode("latin-1")

    def _encode_bytearray(self, data: Any = b"", encoding: str = "latin-1") -> bytearray:
        if not isinstance(data, str | bytes | bytearray):  # bytearray(n) would allocate n bytes
            raise pickle.UnpicklingError("bytearray of something other than bytes")
        if isinstance(data, str):
            data = self._encode(data, encoding)
        self.budget.charge(len(data))
        return bytearray(data)

    def _charged(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        def build(*args: Any) -> Any:
            items = args[0] if args else []
            if len(args) > 1 or not isinstance(items, list | tuple):
                raise pickle.UnpicklingError("a container of something other than a list")
            self.budget.charge(64 * len(items))
            return kind(*args)

        return build


def resolve(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace the array stand-ins in nested containers; each object once, since they may share parts.

    `done` maps an object's id to the object, which keeps the id from being used again, and its replacement.
    """
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, Part):
        raise pickle.UnpicklingError("a function or type as a value")
    if isinstance(value, Unfinished):
        result = value.finish()
        done[id(value)] = value, result
        for index, item in zip(np.ndindex(result.shape), value.items(), strict=False):
            result[index] = resolve(item, done)
        return result
    if isinstance(value, tuple):
        done[id(value)] = value, tuple(resolve(item, done) for item in value)
        return done[id(value)][1]
    if isinstance(value, dict):
        done[id(value)] = value, value
        for key in value:
            value[key] = resolve(value[key], done)
    elif isinstance(value, list):
        done[id(value)] = value, value
        value[:] = [resolve(item, done) for item in value]
    return value
