"""What reading one file may cost: what it unpacks to, how deep it nests and how long it takes (docs/files.md)."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from avpipe.errors import AvpipeError

VARIABLE = "AVPIPE_READ_LIMITS"
"""Environment variable with a number, by which every limit is multiplied."""

MAX_DEPTH = 100
"""Containers within containers."""

_FREE_BYTES = 64 << 20
_RATIO = 64  # features that are packed shrink to a tenth; deflate alone can unpack to a thousand times its size
_FREE_SECONDS, _BYTES_PER_SECOND = 600, 1 << 20


class LimitError(ValueError):
    """A file would take more than its budget."""


class Budget:
    """What is left to a file; whoever unpacks or allocates for it charges first.

    Args:
        size: of the file, in bytes.
        max_bytes: what it may unpack to where the caller says so; by default 64 MiB and 64 times its size.

    Attributes:
        max_bytes: what it may unpack to.
    """

    def __init__(self, size: int, max_bytes: int | None = None) -> None:
        factor = _factor()
        self.max_bytes = math.ceil(factor * (_FREE_BYTES + _RATIO * size)) if max_bytes is None else max_bytes
        self._how = f"{VARIABLE} multiplies the limits" if max_bytes is None else "raise max_bytes if meant"
        self._left = self.max_bytes
        self._size = size
        self._seconds = factor * (_FREE_SECONDS + size / _BYTES_PER_SECOND)
        self._end = time.monotonic() + self._seconds

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Budget:
        """The default for a file."""
        return cls(Path(path).stat().st_size)

    def charge(self, n_bytes: int) -> None:
        """Take from the budget what is allocated next.

        Raises:
            LimitError: nothing is left, or the time is over.
        """
        self._left -= n_bytes
        self.check(self.max_bytes - self._left)
        if time.monotonic() > self._end:
            raise LimitError(f"reading it takes more than {self._seconds:,.0f} seconds ({VARIABLE} multiplies this)")

    def check(self, n_bytes: int, what: str = "its contents") -> None:
        """Raise LimitError if something is larger than the whole budget."""
        if n_bytes > self.max_bytes:
            raise LimitError(
                f"{what} exceed the {self.max_bytes:,} bytes that a file of {self._size:,} bytes may unpack to "
                f"({self._how})"
            )

    def check_depth(self, depth: int) -> None:
        """Raise LimitError if containers lie too deep in others."""
        if depth > MAX_DEPTH:
            raise LimitError(f"its containers are nested more than {MAX_DEPTH} deep")


def _factor() -> float:
    text = os.environ.get(VARIABLE, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise AvpipeError(
            f"{VARIABLE} is {text!r}; expected a number above 0, such as 4 for limits four times as high."
        )
    return factor
