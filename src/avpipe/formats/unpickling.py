"""Unpickling without running anything: plain containers, text, numbers and numpy arrays only.

A pickle is a program that may call any importable function. Here every global that a pickle names is looked
up in a closed list of stand-ins of our own; numpy's own constructors are not among them, because a hostile
dtype state can make numpy treat raw bytes as object pointers. Arrays are built by `numpy.frombuffer` from a
dtype that was checked, once the whole pickle was read and weighed. The interpreter is the one that the standard
library has in Python: it allocates nothing in advance, and each instruction of a pickle can be bounded. A table of
them says what is allowed. `avpipe.formats.pickles` extends `RestrictedUnpickler.stand_ins` by torch's tensors.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.errors import AvpipeError
from avpipe.formats.pickled_arrays import Array, Dtype, Part, Placeholder, Unfinished, shown
from avpipe.io.budget import Budget

_OPCODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_REFUSED_OPCODES = set(
    "PERSID EXT1 EXT2 EXT4 INST OBJ NEWOBJ NEWOBJ_EX LONG4 NEXT_BUFFER READONLY_BUFFER".split()  # noqa: SIM905
)
_KEY_TYPES = (str, bytes, int, float, np.integer, np.floating, np.bool_, type(None))
_MAX_KEY_LENGTH, _MAX_KEY_NUMBER = 1 << 16, 1 << 60
_NUMBERS = {int, float, bool, complex, type(None)}
_ITEM_BYTES = 64  # what a number or a container takes in memory, about


def read_bounded(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The bytes of a file.

    Raises:
        AvpipeError: it does not exist or has more than `max_bytes`.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist or is no file; check the path or fetch the file first.")
    size = path.stat().st_size
    if size > max_bytes:
        raise AvpipeError(f"{path} has {size} bytes, more than the {max_bytes} accepted; raise max_bytes if meant.")
    return path.read_bytes()


class RestrictedUnpickler(pickle._Unpickler):
    """Unpickles with stand-ins for the globals it permits and refuses all others by name.

    Args:
        stream: at the start of a pickle.
        budget: what may be allocated.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: the pickle is malformed, or more or other than is permitted.
    """

    memo: dict[int, Any]  # these five are the library's
    read: Callable[[int], bytes]
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: io.BytesIO, budget: Budget) -> None:
        super().__init__(stream)
        self.budget = budget

    def load(self) -> Any:
        """The object, with stand-ins for its arrays (`resolve`)."""
        try:
            with _without_collection():
                return super().load()
        except (EOFError, struct.error) as error:
            raise pickle.UnpicklingError("the pickle is exhausted before its end") from error
        finally:
            self.memo.clear()  # it refers to all values

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global, never the global itself."""
        numpy_core = re.fullmatch(r"numpy\._?core\.(.*)", module)
        key = (f"numpy core {numpy_core[1]}" if numpy_core else module.replace("__builtin__", "builtins"), name)
        stand_in = self.stand_ins().get(key)
        if stand_in is None:
            raise pickle.UnpicklingError(f"it names the global {shown(module)[1:-1]}.{name[:80]}, which is refused")
        return stand_in if isinstance(stand_in, Part | str) else Placeholder(stand_in)

    def stand_ins(self) -> dict[tuple[str, str], Callable[..., Any] | Part | str]:
        """(module, name) -> what is called or used in its place; both spellings of numpy's core are "numpy core"."""
        return {
            ("numpy", "ndarray"): self._refuse_call,
            ("numpy", "dtype"): Dtype,
            ("numpy core multiarray", "_reconstruct"): self._reconstruct,
            ("numpy core multiarray", "scalar"): self._scalar,
            ("numpy core numeric", "_frombuffer"): self._frombuffer,
            ("_codecs", "encode"): self._encode,
            ("builtins", "set"): self._set,
            ("builtins", "frozenset"): lambda items=(): frozenset(self._set(items)),
            ("builtins", "bytes"): lambda: b"",  # how protocols 0 to 2 write empty ones
            ("builtins", "bytearray"): self._bytearray,
            ("builtins", "complex"): complex,
            ("collections", "OrderedDict"): self._dict,  # a plain dict keeps the order and has no attributes
        }

    def _refuse_call(self, *args: object) -> Any:
        raise pickle.UnpicklingError("it calls numpy.ndarray, which allocates without data")

    def _reconstruct(self, kind: object, shape: object, typecode: object) -> Array:
        if not isinstance(kind, Placeholder) or kind.call != self._refuse_call or shape != (0,):
            raise pickle.UnpicklingError("an array that is not a plain numpy.ndarray")
        return Array()

    def _scalar(self, dtype: object, data: object) -> Any:
        array = Array().fill(data, dtype, (1,))
        if array.items():
            raise pickle.UnpicklingError("a number that is an object")
        self.budget.charge(array.n_bytes)
        return array.finish()[0]

    def _frombuffer(self, data: object, dtype: object, shape: object, order: str, axes: object = None) -> Any:
        if order not in ("C", "F") or axes is not None:
            raise pickle.UnpicklingError(f"an array with memory order {shown(order)}; pickle a contiguous copy instead")
        return Array().fill(data, dtype, shape, order)  # type: ignore[arg-type]

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 write bytes."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"_codecs.encode to {shown(encoding)} is refused")
        self.budget.charge(len(text))
        return text.encode("latin-1")

    def _bytearray(self, data: Any = b"", encoding: str = "latin-1") -> bytearray:
        if isinstance(data, str):
            data = self._encode(data, encoding)
        if not isinstance(data, bytes | bytearray):  # bytearray(n) would allocate n bytes
            raise pickle.UnpicklingError("bytearray of something other than bytes")
        self.budget.charge(len(data))
        return bytearray(data)

    def _set(self, items: Any = ()) -> set[Any]:
        if not isinstance(items, list | tuple):
            raise pickle.UnpicklingError("a container of something other than a list")
        self.budget.charge(_ITEM_BYTES * len(items))
        return set(_checked_keys(items))

    def _dict(self, pairs: Any = ()) -> dict[Any, Any]:
        if not isinstance(pairs, list | tuple) or not all(isinstance(each, list | tuple) for each in pairs):
            raise pickle.UnpicklingError("a container of something other than a list")
        self.budget.charge(_ITEM_BYTES * len(pairs))
        keys = _checked_keys([key for key, _ in pairs])
        return dict(zip(keys, (value for _, value in pairs), strict=True))

    def _load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(self._bytearray(self.read(length)))  # the library would allocate that length first

    def _load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Part | Unfinished):
            target.set_state(state)
        elif not isinstance(target, dict):  # torch's state dicts carry an attribute that no reader needs
            raise pickle.UnpicklingError(f"the pickle sets the state of a {type(target).__name__}")

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _as(dict, self.stack[-1]).update(zip(_checked_keys([key]), [value], strict=True))

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        _as(dict, self.stack[-1]).update(zip(_checked_keys(items[::2]), items[1::2], strict=True))

    def _load_dict(self) -> None:
        items = self.pop_mark()  # after which `append` is another
        self.append(dict(zip(_checked_keys(items[::2]), items[1::2], strict=True)))

    def _load_additems(self) -> None:
        items = _checked_keys(self.pop_mark())
        _as(set, self.stack[-1]).update(items)

    def _load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(_checked_keys(items)))

    def _load_append(self) -> None:
        value = self.stack.pop()
        _as(list, self.stack[-1]).append(value)

    def _load_appends(self) -> None:
        items = self.pop_mark()
        _as(list, self.stack[-1]).extend(items)


def _instruction(code: int) -> Callable[[Any], None]:
    """What an instruction does: as in the standard library, unless it is replaced above or refused."""
    name = _OPCODES.get(code, hex(code))

    def refuse(_: RestrictedUnpickler) -> None:
        raise pickle.UnpicklingError(f"opcode {name} is refused")

    if name in _REFUSED_OPCODES:
        return refuse
    known: Callable[[Any], None] = pickle._Unpickler.dispatch.get(code, refuse)
    return getattr(RestrictedUnpickler, f"_load_{name.lower()}", known)


RestrictedUnpickler.dispatch = {code: _instruction(code) for code in range(256)}


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise pickle.UnpicklingError(f"the pickle adds to a {type(value).__name__} as if it were a {kind.__name__}")
    return value


def _checked_keys(keys: Iterable[Any]) -> list[Any]:
    """Keys of dicts and members of sets that hash in one step and, but for chance, to numbers of their own.

    Containers as keys are hashed through and through, each time: a few hundred bytes of tuples can take for ever.
    """
    keys = list(keys)
    for key in keys:
        if not isinstance(key, _KEY_TYPES):
            raise pickle.UnpicklingError(f"a {type(key).__name__} as a key; expected text or a number")
        if isinstance(key, str | bytes):
            if len(key) > _MAX_KEY_LENGTH:
                raise pickle.UnpicklingError(f"a key of {len(key):,} characters, more than {_MAX_KEY_LENGTH:,}")
        elif isinstance(key, int) and abs(key) > _MAX_KEY_NUMBER:
            raise pickle.UnpicklingError(f"a number above {_MAX_KEY_NUMBER:,} as a key")
    return keys


@contextmanager
def _without_collection() -> Iterator[None]:
    """Looking for circles among ever more objects would take most of the time; these have none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def resolve(value: Any, budget: Budget) -> Any:
    """Make the arrays in nested containers, each object once, since they may share parts.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: a value that is none; containers that hold themselves, are nested too
            deep, or would be larger than the budget if what they share were written out, as later steps do.
    """
    with _without_collection():
        return _Resolver(budget).resolve(value)[0]


class _Resolver:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # id -> the object, which keeps the id from being used again, its replacement and its weight when unfolded
        self._done: dict[int, tuple[Any, Any, int]] = {}

    def resolve(self, value: Any, depth: int = 0) -> tuple[Any, int]:
        kind = type(value)
        if kind in _NUMBERS:
            return value, _ITEM_BYTES
        if kind in (str, bytes, bytearray):
            return value, _ITEM_BYTES + len(value)
        if isinstance(value, np.generic):
            return value, _ITEM_BYTES + value.nbytes
        if isinstance(value, Part):
            raise pickle.UnpicklingError("a function or type as a value")
        if not value and kind in (list, tuple, dict):
            return value, _ITEM_BYTES
        if id(value) in self._done:
            _, result, weight = self._done[id(value)]
            if weight < 0:
                raise pickle.UnpicklingError("a container that holds itself")
            return result, weight
        self._budget.check_depth(depth)
        self._done[id(value)] = value, None, -1
        result, weight = self._container(value, depth + 1)
        self._budget.check(weight, "its contents, written out where they are shared,")
        self._done[id(value)] = value, result, weight
        return result, weight

    def _container(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, set | frozenset):
            return value, _ITEM_BYTES * (1 + len(value))
        if isinstance(value, Unfinished):
            items = value.items()
            n_bytes = value.n_bytes + _ITEM_BYTES * (1 + len(items))
            self._budget.charge(n_bytes)
            result = value.finish()
            found = [self.resolve(item, depth) for item in items]
            flat = result.reshape(-1)
            for place, (item, _) in enumerate(found):
                flat[place] = item
            return result, n_bytes + sum(weight for _, weight in found)
        if isinstance(value, dict):
            weight = _ITEM_BYTES
            for key in value:
                value[key], more = self.resolve(value[key], depth)
                weight += _ITEM_BYTES + more
            return value, weight
        found = [self.resolve(item, depth) for item in value]
        weight = _ITEM_BYTES + sum(weight for _, weight in found)
        if isinstance(value, tuple):
            return tuple(item for item, _ in found), weight
        value[:] = [item for item, _ in found]
        return value, weight
