"""numpy's .npy and .npz files, of which no pickle is run: whole arrays, and rows over time read by their place."""

from __future__ import annotations

import io
import logging
import math
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import ClipFailure, Reason
from avpipe.formats.file_rows import FileRows, Rows, Segments, Span, checked_rows, cut, merged
from avpipe.formats.unpickling import RestrictedUnpickler, read_bounded, resolve
from avpipe.formats.zip_checks import member_offset
from avpipe.io.budget import Budget
from avpipe.io.reading import GET_AGAIN, READ_ERRORS, reading

_log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
"""Largest .npy read whole; the published ones have less than 0.5 MB."""

_HEADER_BYTES = 10_000  # numpy itself parses no longer ones
_ROW_DTYPES = {np.dtype(name) for name in ("<f2", "<f4", "<f8")}
_warned_compressed = threading.Event()


def read_npy(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Any:
    """The contents of an `.npy` file, which may be a pickled object array; of a 0-d array the one element.

    The published word vectors are such files: a 0-d object array with a dict (docs/methods.md, Class vectors).

    Args:
        path: the file.
        max_bytes: largest file accepted.

    Raises:
        AvpipeError: the file is absent, too large, malformed, or its pickle names a global that is not permitted
            (`avpipe.formats.unpickling`). Nothing in it is run.
    """
    data = read_bounded(path, max_bytes)
    with reading(path, "an .npy file of version 1 or 2 with numbers, or with plain containers, text and arrays"):
        array = _read_array(data)
        return array.item() if array.shape == () else array


def read_npz(path: str | os.PathLike[str], expected: str, advice: str = GET_AGAIN) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a small .npz file by name.

    Args:
        path: the file.
        expected, advice: for messages, as in `avpipe.io.reading.reading`.

    Raises:
        AvpipeError: no such file, or malformed, or of more than it may unpack to.
    """
    with reading(path, expected, advice), zipfile.ZipFile(path) as archive:
        budget, arrays = Budget.of(path), {}
        for member in archive.infolist():
            _check_member(member, budget)
            arrays[member.filename.removesuffix(".npy")] = _read_array(archive.read(member))
        return arrays


def numbers(value: Any) -> npt.NDArray[Any]:
    """An array of an array, or of nested lists of numbers and arrays; numpy itself would make room for any text.

    Raises:
        ValueError: something else is in it, or the lists are not of one length.
    """
    if isinstance(value, list | tuple):
        return np.asarray(value if {int, float}.issuperset(map(type, value)) else [numbers(each) for each in value])
    array = np.asarray(value) if isinstance(value, np.ndarray | np.number | int | float) else np.empty((), object)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"a {type(value).__name__} where numbers are expected")
    return array


def find_rows(path: Path, key: str, *, width: int, is_transposed: bool = False) -> Rows:
    """Where the array of an .npz file lies, as rows over time.

    A member that is not compressed, as numpy.savez writes it, is read by its place. Checksums cover whole members, so
    they are not looked at. A compressed one is read whole each time, with a warning, once.

    Args:
        path: the .npz file.
        key: the array's name.
        width: numbers in a row; another width is left to be found by who knows the stream, unless sizes are missing.
        is_transposed: whether the array is [width, time] rather than [time, width].

    Raises:
        ClipFailure: missing or decode_error.
    """
    if not path.is_file():
        raise ClipFailure(Reason.MISSING, f"{path} does not exist, or is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{key}.npy")
            _check_member(member, Budget.of(path))
            with archive.open(member) as stream:
                shape, fortran, dtype = _read_header(stream)
                header_bytes = stream.tell()
        if dtype not in _ROW_DTYPES:
            raise ValueError(f"values of type {dtype}, expected float16, float32 or float64")
        if len(shape) != 2:
            raise ValueError(f"the array {key!r} has shape {shape}, expected two axes, one of them of {width}")
        n_bytes = math.prod(shape) * dtype.itemsize
        if header_bytes + n_bytes != member.file_size:
            raise ValueError(f"{member.file_size:,} bytes for {dtype} {shape}, expected {header_bytes + n_bytes:,}")
        n_rows, found_width = reversed(shape) if is_transposed else shape
        if member.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                offset = member_offset(file, member) + header_bytes
            return FileRows(path, offset, dtype, n_rows, found_width, is_transposed != fortran)
    except KeyError as error:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path} has no array {key!r}") from error
    except READ_ERRORS as error:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {error}") from error
    _warn_compressed(path)
    return CompressedRows(path, key, n_rows, found_width, is_transposed)


@dataclass(frozen=True)
class CompressedRows:
    """Rows in a compressed member of an .npz file: whatever is read, all of it is unpacked.

    Attributes:
        path: the file.
        key: the array's name.
        n_rows, width: sizes.
        is_transposed: whether the array is [width, n_rows].
    """

    path: Path
    key: str
    n_rows: int
    width: int
    is_transposed: bool

    def read(self, spans: Sequence[Span]) -> Segments:
        """Some segments.

        Raises:
            AvpipeError: the file is damaged, or a value read is not finite.
        """
        with (
            reading(self.path, "an .npz file as it was before", "Restore it and run again."),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.key}.npy") as stream,
        ):
            bytes_read = archive.getinfo(f"{self.key}.npy").compress_size
            found: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        rows = found.T if self.is_transposed else found
        blocks = {(first, stop): checked_rows(rows[first:stop], self.path) for first, stop in merged(spans, 0)}
        return Segments(cut(blocks, spans, self.width), bytes_read)


def _check_member(member: zipfile.ZipInfo, budget: Budget) -> None:
    """Raise one of READ_ERRORS where unpacking a member would cost more than the file may."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in a way that numpy does not write")
    budget.charge(member.file_size)  # zipfile unpacks no more than this


def _read_array(data: bytes) -> npt.NDArray[Any]:
    """The array of an .npy file."""
    stream = io.BytesIO(data)
    shape, fortran, dtype = _read_header(stream)
    body = memoryview(data)[stream.tell() :]
    if dtype.hasobject:
        budget = Budget(len(data))
        array = resolve(RestrictedUnpickler(io.BytesIO(body), budget).load(), budget)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise ValueError(f"the pickled part is not an array of shape {shape} as the header says")
        return array
    expected = math.prod(shape) * dtype.itemsize
    if len(body) != expected:
        raise ValueError(f"it is damaged, with {len(body)} bytes instead of {expected} for {dtype} {shape}")
    flat = np.frombuffer(body, dtype) if body else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of an .npy stream, which is left at its values.

    Raises:
        One of READ_ERRORS: it is malformed, or of a version that no numbers need.
    """
    readers: dict[int, tuple[int, Callable[..., Any]]] = {
        1: (2, np.lib.format.read_array_header_1_0),
        2: (4, np.lib.format.read_array_header_2_0),
    }
    major, _ = np.lib.format.read_magic(stream)
    if major not in readers:
        raise ValueError(f"an array of .npy version {major}, expected 1 or 2")
    size_bytes, read = readers[major]
    size = stream.read(size_bytes)
    length = int.from_bytes(size, "little")
    if length > _HEADER_BYTES:  # numpy would read all of it first
        raise ValueError(f"a header of {length:,} bytes; expected {_HEADER_BYTES:,} at most")
    shape, fortran, dtype = read(io.BytesIO(size + stream.read(length)))
    if any(length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}: the header is damaged")
    if dtype.kind not in "biufcSUO":
        raise ValueError(f"values of type {dtype}, expected numbers or text")
    return shape, fortran, dtype


def _warn_compressed(path: Path) -> None:
    if not _warned_compressed.is_set():
        _warned_compressed.set()
        _log.warning(
            "%s is compressed, so the whole video is unpacked for a window of it, and perhaps others are too: "
            "write such files with numpy.savez instead of savez_compressed to read windows alone.",
            path,
        )
