"""Rows over time that stay in their file: segments of them are read, never the whole."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError

GAP_BYTES = 1 << 14
"""Up to so much between two segments is read along with them. Smaller gaps are no saving: the kernel's read-ahead
fetches them in any case, and a request costs more (benchmarks/pretraining_windows.py)."""

Span = tuple[int, int]
"""First row and the one after the last."""


class Segments(NamedTuple):
    """Rows [n, d] of each span asked for, float16 or float32, and the bytes that were read for them."""

    rows: list[npt.NDArray[np.floating]]
    bytes_read: int


class Rows(Protocol):
    """Feature rows over time of one video."""

    @property
    def n_rows(self) -> int:
        """How many."""

    @property
    def width(self) -> int:
        """Numbers in a row."""

    def read(self, spans: Sequence[Span]) -> Segments:
        """Some segments; an empty span gives no rows."""


@dataclass(frozen=True)
class FileRows:
    """Rows that lie uncompressed in a file. Nothing is open between reads, so threads may share it.

    Attributes:
        path: the file.
        offset: where the values begin, in bytes.
        dtype: float16, float32 or float64, little-endian.
        n_rows, width: sizes.
        is_transposed: the file has them as [width, n_rows], so that a segment is in `width` places.
    """

    path: Path
    offset: int
    dtype: np.dtype[np.floating]
    n_rows: int
    width: int
    is_transposed: bool = False

    @property
    def n_bytes(self) -> int:
        """Of all values."""
        return self.n_rows * self.width * self.dtype.itemsize

    def read(self, spans: Sequence[Span]) -> Segments:
        """Some segments, each byte once: spans that overlap, or nearly touch, are read together.

        Raises:
            AvpipeError: the file ends early or cannot be read, or the values read are not all finite.
        """
        row_bytes = self.dtype.itemsize * (1 if self.is_transposed else self.width)
        blocks = {span: self._new(span) for span in merged(spans, GAP_BYTES // row_bytes)}
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                for span, block in blocks.items():
                    self._fill(descriptor, span, block)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AvpipeError(f"{self.path} cannot be read: {error.strerror}. Restore it and run again.") from error
        bytes_read = sum(block.nbytes for block in blocks.values())
        values = {
            span: checked_rows(block.T if self.is_transposed else block, self.path) for span, block in blocks.items()
        }
        return Segments(cut(values, spans, self.width), bytes_read)

    def _new(self, span: Span) -> npt.NDArray[np.floating]:
        length = span[1] - span[0]
        return np.empty((self.width, length) if self.is_transposed else (length, self.width), self.dtype)

    def _fill(self, descriptor: int, span: Span, block: npt.NDArray[np.floating]) -> None:
        if not self.is_transposed:
            self._read_into(descriptor, block, self.offset + span[0] * self.width * self.dtype.itemsize)
            return
        for index, band in enumerate(block):
            self._read_into(descriptor, band, self.offset + (index * self.n_rows + span[0]) * self.dtype.itemsize)

    def _read_into(self, descriptor: int, block: npt.NDArray[np.floating], offset: int) -> None:
        values: Any = block.reshape(-1).view(np.uint8)  # a buffer, though not to mypy
        buffer = memoryview(values)
        done = 0
        while done < len(buffer):
            n = os.preadv(descriptor, [buffer[done:]], offset + done)
            if n == 0:
                raise AvpipeError(
                    f"{self.path} ends at byte {offset + done:,}, expected {self.offset + self.n_bytes:,}: it was cut "
                    "after its header was read. Restore it and run again."
                )
            done += n


def checked_rows(rows: npt.NDArray[np.floating], path: Path) -> npt.NDArray[np.floating]:
    """The rows as float16 or float32; float64 is rounded to float32.

    Raises:
        AvpipeError: NaN or infinity among them.
    """
    # numpy's isfinite takes 14 times as long for float16 as looking at the exponents.
    wrong = (rows.view(np.uint16) & 0x7C00) == 0x7C00 if rows.dtype == np.float16 else ~np.isfinite(rows)
    if wrong.any():
        raise AvpipeError(
            f"{path} has {int(wrong.sum()):,} values that are NaN or infinite in a segment of {len(rows):,} rows, "
            "expected numbers. Compute its features again or leave the video out."
        )
    return rows.astype(np.float32, copy=False) if rows.dtype == np.float64 else rows


def merged(spans: Sequence[Span], gap: int) -> list[Span]:
    """The fewest spans that cover all of some spans, those with at most `gap` rows between them joined."""
    found: list[Span] = []
    for first, stop in sorted(span for span in spans if span[0] < span[1]):
        if found and first <= found[-1][1] + gap:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((first, stop))
    return found


def cut(
    blocks: Mapping[Span, npt.NDArray[np.floating]], spans: Sequence[Span], width: int
) -> list[npt.NDArray[np.floating]]:
    """The rows of each span out of blocks that cover them (`merged`, in its order); views, not copies."""
    ordered = list(blocks.items())
    begins = [first for (first, _), _ in ordered]
    empty = np.empty((0, width), ordered[0][1].dtype if ordered else np.float32)
    rows = []
    for first, stop in spans:
        if first < stop:
            (begin, _), block = ordered[bisect_right(begins, first) - 1]
            rows.append(block[first - begin : stop - begin])
        else:
            rows.append(empty)
    return rows
