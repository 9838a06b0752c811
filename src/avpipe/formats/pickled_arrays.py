"""What pickled arrays are made of before they are arrays: parts that do nothing, and numbers that wait."""

from __future__ import annotations

import math
import pickle
import re
import reprlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

MAX_DIMENSIONS = 32
"""Of an array: numpy 1's limit."""

_PLAIN_DTYPE = re.compile(r"(\?|[biufc](1|2|4|8|16)|[SU]\d{1,9}|O8?)")

shown = reprlib.repr
"""A value for a message; a pickle can hold small values whose `repr` never ends."""


class Part:
    """What makes sense only inside another object: refused as a value, as a key and as the target of BUILD."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def set_state(self, state: Any) -> None:
        """What BUILD does."""
        raise pickle.UnpicklingError("the pickle sets the state of a function or type")


class Placeholder(Part):
    """What a permitted global unpickles to."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        """What REDUCE does with the global."""
        return self.call(*args)


class Dtype(Part):
    """A dtype by its published spelling; a state may only set the byte order."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str, *_align_and_copy: object) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"dtype {shown(name)} is not a plain number, string or object type")
        self._name = name
        self._order: Literal["<", ">", "|", "="] = "="

    def set_state(self, state: Any) -> None:
        """Set the byte order."""
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("structured dtypes are refused")
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        """numpy's."""
        return np.dtype(self._name).newbyteorder(self._order)


class Unfinished:
    """An array that `resolve` makes once the whole pickle was read; BUILD is refused unless a subclass takes it."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def set_state(self, state: Any) -> None:
        """What BUILD does."""
        raise pickle.UnpicklingError("the pickle sets the state of an array a second time")

    @property
    def n_bytes(self) -> int:
        """What it will take in memory."""
        raise NotImplementedError

    def finish(self) -> np.ndarray[Any, Any]:
        """The array."""
        raise NotImplementedError

    def items(self) -> list[Any]:
        """What an array of objects holds, in C order; nothing for an array of numbers or text."""
        return []


class Array(Unfinished):
    """A numpy array between the two steps in which numpy pickles it."""

    __slots__ = ("_data", "_dtype", "_order", "_shape")

    def __init__(self) -> None:
        self._dtype: np.dtype[Any] | None = None
        self._data: Any = b""

    def set_state(self, state: Any) -> None:
        """Take shape, type, order and contents, as numpy pickles them."""
        shape, dtype, is_fortran, data = state[-4:]
        self.fill(data, dtype, shape, "F" if is_fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: Literal["C", "F"] = "C") -> Array:
        """Take what the array is to be made of, if it fits together."""
        if not isinstance(dtype, Dtype):
            raise pickle.UnpicklingError("an array without a dtype")
        if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int for n in shape):
            raise pickle.UnpicklingError(f"an array of the shape {shown(shape)}")
        found, count = dtype.dtype(), math.prod(shape)
        if found.hasobject:
            if not isinstance(data, list) or len(data) != count or min(shape, default=0) < 0 or order == "F":
                raise pickle.UnpicklingError("an object array whose items do not fit its shape")
        elif not isinstance(data, bytes | bytearray):
            raise pickle.UnpicklingError("an array whose data are not plain bytes")
        elif len(data) != count * found.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes for an array of {found} and the shape {shown(shape)}")
        self._data, self._dtype, self._shape, self._order = data, found, shape, order
        return self

    @property
    def n_bytes(self) -> int:
        """What it will take in memory."""
        return len(self._data)

    def finish(self) -> np.ndarray[Any, Any]:
        """The array."""
        if self._dtype is None:
            raise pickle.UnpicklingError("an array without contents")
        if self._dtype.hasobject:
            return np.empty(self._shape, object)
        flat = np.frombuffer(self._data, self._dtype) if self._data else np.empty(0, self._dtype)
        self._data = b""  # or the numbers would be in memory twice until all arrays are made
        return flat.reshape(self._shape, order=self._order).copy(order="K")

    def items(self) -> list[Any]:
        """What an array of objects holds."""
        return self._data if isinstance(self._data, list) else []
