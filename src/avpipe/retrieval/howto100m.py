"""Features of long videos in the layout that AVLnet publishes for HowTo100M (specs/avlnet.md §1.4).

A video's three files are {row}/{video_id}_{2d,3d,spec}.npz below the folder of the features, where row is
category/subfolder/video_id; the publication's text puts them into category/subfolder itself. Both are found.
Arrays are read by their place in the file; nothing is unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import lzma
import os
import struct
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features.spectrogram_frontend import MEL_BANDS
from avpipe.formats.file_rows import FileRows, Rows, Segments, Span, checked_rows, cut, merged
from avpipe.retrieval.corpus import VISUAL_DIMENSION, LongVideo

log = logging.getLogger(__name__)

ROWS_PER_SECOND = (1.0, 24 / 16)
"""Of the 2-D and the 3-D features."""

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 1
_DTYPES = {np.dtype(name) for name in ("<f2", "<f4", "<f8")}
_MALFORMED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,  # from numpy's parser of headers, as are the rest
    SyntaxError,
    TypeError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    EOFError,
    OSError,
)
_warned_compressed = threading.Event()


class HowTo100MCorpus:
    """Long videos in the published layout.

    Args:
        rows: `category/subfolder/video_id` of each video, as `read_list` gives them.
        features: folder of the 2-D and 3-D features.
        audio: folder of the spectrograms; None: the same.
    """

    def __init__(
        self,
        rows: Sequence[str],
        features: str | os.PathLike[str],
        audio: str | os.PathLike[str] | None = None,
    ) -> None:
        self._features = Path(features)
        self._audio = self._features if audio is None else Path(audio)
        self._ids = [row.rsplit("/", 1)[-1] for row in rows]
        self._rows = dict(zip(reversed(self._ids), reversed(rows), strict=True))  # of equal ids the first

    def video_ids(self) -> Sequence[str]:
        """Every video of the list, in its order."""
        return self._ids

    def locate(self, video_id: str) -> LongVideo:
        """Find a video's features, reading the headers of its three files.

        Raises:
            ClipFailure: missing, or decode_error for what is not an .npz file with one array of numbers.
        """
        row = self._rows[video_id]
        audio = find_rows(self._file(self._audio, row, "spec"), "arr_0", width=MEL_BANDS, is_transposed=True)
        visual = tuple(
            (find_rows(self._file(self._features, row, kind), "features", width=VISUAL_DIMENSION), rate)
            for kind, rate in zip(("2d", "3d"), ROWS_PER_SECOND, strict=True)
        )
        return LongVideo(audio, visual)

    def digest(self, video_ids: Sequence[str]) -> str:
        """Digest of the list: the files say nothing of what they were computed from."""
        return hashlib.sha256("\n".join(self._rows[video_id] for video_id in video_ids).encode()).hexdigest()

    def _file(self, folder: Path, row: str, kind: str) -> Path:
        name = f"{row.rsplit('/', 1)[-1]}_{kind}.npz"
        inside = folder / row / name
        if inside.is_file():
            return inside
        beside = (folder / row).parent / name
        if beside.is_file():
            return beside
        raise ClipFailure(Reason.MISSING, f"neither {inside} nor {beside}")


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """The videos of a list such as HowTo100M_1166_videopaths.txt: a table with a column `path`.

    Returns:
        Each row's path without `None/`, as published.

    Raises:
        AvpipeError: the file is absent, has no such column or no row, or a path is no relative one.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; expected the list of videos, a text file with the header `path`.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if "path" not in (table.fieldnames or []):
                raise AvpipeError(f"{path} has the columns {table.fieldnames}, expected one called `path`.")
            rows = [(row["path"] or "").replace("None/", "").strip() for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise AvpipeError(f"{path} is no table of UTF-8 text: {error}. Expected one with a column `path`.") from error
    for number, row in enumerate(rows, start=2):
        if not row or PurePosixPath(row).is_absolute() or ".." in PurePosixPath(row).parts or row.endswith("/"):
            raise AvpipeError(f"{path}, line {number}: {row!r}; expected category/subfolder/video_id.")
    if not rows:
        raise AvpipeError(f"{path} lists no video.")
    return rows


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
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{key}.npy")
            if member.flag_bits & _ENCRYPTED:
                raise ValueError("it is encrypted")
            with archive.open(member) as stream:
                shape, fortran, dtype, header_bytes = _read_header(stream)
        if len(shape) != 2:
            raise ValueError(f"the array {key!r} has shape {shape}, expected two axes, one of them of {width}")
        n_bytes = shape[0] * shape[1] * dtype.itemsize
        if header_bytes + n_bytes != member.file_size:
            raise ValueError(f"{member.file_size:,} bytes for {dtype} {shape}, expected {header_bytes + n_bytes:,}")
        n_rows, found_width = (shape[1], shape[0]) if is_transposed else shape
        if member.compress_type == zipfile.ZIP_STORED:
            offset = _member_offset(path, member) + header_bytes
            return FileRows(path, offset, dtype, n_rows, found_width, is_transposed != fortran)
    except FileNotFoundError as error:
        raise ClipFailure(Reason.MISSING, f"{path} does not exist") from error
    except KeyError as error:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path} has no array {key!r}") from error
    except _MALFORMED as error:
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
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as stream:
                bytes_read = archive.getinfo(f"{self.key}.npy").compress_size
                found: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        except _MALFORMED as error:
            raise AvpipeError(f"{self.path} cannot be unpacked: {error}. Restore it and run again.") from error
        rows = found.T if self.is_transposed else found
        blocks = {(first, stop): checked_rows(rows[first:stop], self.path) for first, stop in merged(spans, 0)}
        return Segments(cut(blocks, spans, self.width), bytes_read)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran's order, type, and bytes before the values of an .npy stream.

    Raises:
        ValueError: malformed, or values that are not little-endian floating-point numbers.
    """
    versions: dict[int, Callable[..., Any]] = {
        1: np.lib.format.read_array_header_1_0,
        2: np.lib.format.read_array_header_2_0,
    }
    major, _ = np.lib.format.read_magic(stream)
    if major not in versions:
        raise ValueError(f"an array of .npy version {major}, expected 1 or 2")
    shape, fortran, dtype = versions[major](stream)
    if dtype not in _DTYPES:
        raise ValueError(f"values of type {dtype}, expected float16, float32 or float64")
    if any(length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype, stream.tell()


def _member_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose two last fields may differ from the directory's."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        name_bytes, extra_bytes = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        offset = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        if offset + member.file_size > os.fstat(file.fileno()).st_size:
            raise ValueError("it was cut short")
    return offset


def _warn_compressed(path: Path) -> None:
    if not _warned_compressed.is_set():
        _warned_compressed.set()
        log.warning(
            "%s is compressed, so the whole video is unpacked for a window of it, and perhaps others are too: "
            "write such files with numpy.savez instead of savez_compressed to read windows alone.",
            path,
        )
