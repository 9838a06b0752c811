"""Clips on local disks as a table lists them, and what every listing has in common; no video is opened."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError, listed, repeated
from avpipe.io.csv_tables import dict_reader
from avpipe.io.reading import reading

PATH, CLIP_ID, CLASS, URL, VIDEO_ID = "path", "clip_id", "class", "url", "video_id"
TIME_COLUMNS = ("start_seconds", "end_seconds")
SUBSET, CAPTION = "subset", "caption"
_FILLED = (CLIP_ID, PATH, URL, CLASS, SUBSET)
_COLUMNS = (*_FILLED, *TIME_COLUMNS)


@dataclass(frozen=True, order=True, slots=True)
class SourceClip:
    """One clip as its source lists it.

    Attributes:
        clip_id: unique in the dataset; for class folders the file's name without suffix.
        class_name: the folder's name, or the table's `class`; empty where a table has none.
        path: the file.
        start_seconds, end_seconds: the segment wanted; None: the whole file.
        size_bytes, modified_ns: of the file, -1 where it is missing; they tell a replaced file.
    """

    clip_id: str
    class_name: str
    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    size_bytes: int = -1
    modified_ns: int = -1


@dataclass(frozen=True)
class Described:
    """What a table says of a clip besides its place in a file.

    Attributes:
        clip_id: the clip.
        subset: where it belongs; None where the table has no such column.
        captions: every cell of a column whose name begins with `caption`, empty ones left out.
    """

    clip_id: str
    subset: str | None
    captions: tuple[str, ...]


def list_table(path: Path) -> list[SourceClip]:
    """The clips of a CSV table, sorted by clip id; files that do not exist are listed with size -1.

    Raises:
        AvpipeError: columns are missing, a time is not a number or ends before it starts, two clips with one id.
    """
    folder = str(path.parent)
    return checked([_from_row(row, place, folder) for row, place in table_rows(path)], str(path))


def describe_table(path: Path) -> list[Described]:
    """Subset and captions of a table's clips, sorted by clip id.

    Raises:
        AvpipeError: as `list_table`.
    """
    described = []
    for row, place in table_rows(path):
        clip_id = _from_row(row, place, str(path.parent)).clip_id
        subset = row[SUBSET].strip() if SUBSET in row else None
        described.append(Described(clip_id, subset, captions_of(row)))
    return sorted(described, key=lambda each: each.clip_id)


def captions_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """The captions of a table's row."""
    texts = [text.strip() for column, text in row.items() if column.startswith(CAPTION) and text]
    return tuple(filter(None, texts))


def table_header(path: Path) -> Sequence[str]:
    """The columns of a table.

    Raises:
        AvpipeError: it cannot be read, or lacks columns.
    """
    with _opened(path) as reader:
        return reader.fieldnames or ()


def table_rows(path: Path) -> Iterator[tuple[dict[str, str], str]]:
    """The rows of a table, every cell of which is text, and where each stands, for messages.

    One at a time: as mappings, the rows of a large table would fill more memory than all that planning keeps of them.

    Raises:
        AvpipeError: it cannot be read, or rows or columns are not in order.
    """
    with _opened(path) as reader:
        name, is_empty = str(path), True
        for row in reader:
            place = f"{name}, line {reader.line_num}"
            _check_cells(row, place)
            yield row, place
            is_empty = False
    if is_empty:
        raise AvpipeError(f"{path} has a header but no clip.")


@contextmanager
def _opened(path: Path) -> Iterator[csv.DictReader[str]]:
    expected = "a table of clips, CSV in UTF-8"
    if not path.is_file():  # a pipe would be waited for
        raise AvpipeError(f"{path} is no file; expected {expected}. Set datasets.<name>.source.path to it.")
    with reading(path, expected, "Correct it."), path.open(encoding="utf-8-sig", newline="") as stream:
        reader = dict_reader(stream, *_COLUMNS, CAPTION)
        _check_columns(path, reader.fieldnames or [])
        yield reader


def _check_cells(row: Mapping[str | None, Any], place: str) -> None:
    """As many cells as the header has, and none empty that says which clip it is and where it belongs."""
    if None in row or None in row.values():
        n_cells = sum(cell is not None for name, cell in row.items() if name is not None) + len(row.get(None, ()))
        n_columns = len(row) - (None in row)
        raise AvpipeError(
            f"{place}: {n_cells} cells, expected {n_columns} as in the header, empty ones too; found "
            f"{[cell for cell in row.values() if cell is not None]}. Correct the row; a comma within a cell needs "
            "quotes around it."
        )
    if empty := [name for name in _FILLED if name in row and not row[name].strip()]:
        raise AvpipeError(f"{place}: {', '.join(empty)} must not be empty; found {dict(row)}. Fill in or remove it.")


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Other columns are allowed, but not ones that were meant to be one of ours: they would not count."""
    missing = [] if URL in columns else [column for column in (PATH,) if column not in columns]
    misspelt = [column for column in columns if column not in _COLUMNS and _meant(column)]
    twice = [column for column in repeated(columns) if column]
    both = [PATH, URL] if {PATH, URL} <= set(columns) else []
    problems = {"has, perhaps misspelt,": misspelt, "lacks": missing, "has twice": twice, "has both of": both}
    for problem, offenders in problems.items():
        if offenders:
            raise AvpipeError(
                f"{path} {problem} the column(s) {', '.join(offenders)}; found {list(columns)}. "
                f"Expected {PATH} (or {URL}) and optionally {CLIP_ID}, {', '.join(TIME_COLUMNS)}, {CLASS} (zero-shot "
                f"learning needs it), {SUBSET} and {CAPTION} (retrieval)."
            )


def _meant(column: str) -> bool:
    name = column.strip().lower()
    is_caption = name.startswith(CAPTION) and not column.startswith(CAPTION)
    return name in _COLUMNS or is_caption or name.split("_")[0] in ("start", "end")


fields_of = attrgetter(*SourceClip.__dataclass_fields__)
"""All that is known of a clip, in a tuple; ten times faster than `dataclasses.astuple`."""


def shard_of(clip_id: str, n_shards: int) -> int:
    """The shard of a clip: sha256 of its id modulo the number of shards, so that no clip ever moves."""
    return int.from_bytes(hashlib.sha256(clip_id.encode("utf-8")).digest(), "big") % n_shards


def listing_digest(clips: list[SourceClip]) -> str:
    """A digest of a listing: changes when a clip is added, removed, renamed, re-cut or its file replaced."""
    text = json.dumps([fields_of(clip) for clip in sorted(clips, key=attrgetter("clip_id"))])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _from_row(row: dict[str, str], place: str, folder: str) -> SourceClip:
    start, end = segment_of(row, place)
    path = _joined(folder, row[PATH])
    clip_id = row.get(CLIP_ID) or id_of(Path(path).stem, start, end)
    return SourceClip(clip_id, sys.intern(row.get(CLASS, "")), path, start, end, *_size_and_time(path))


def _joined(folder: str, path: str) -> str:
    """A path below a folder, as `pathlib` writes it, which takes several times as long for 10^5 files."""
    text = os.path.join(folder, os.path.expanduser(path))  # noqa: PTH111, PTH118 - Path raises where there is no such user
    is_odd = "//" in text or "/./" in text or text.startswith("./") or text.endswith(("/", "/."))
    return str(Path(text)) if is_odd else text


def segment_of(row: Mapping[str, str], place: str) -> tuple[float | None, float | None]:
    """Start and end of a clip in seconds; None: of the whole file."""
    start, end = (_seconds(row.get(column), place) for column in TIME_COLUMNS)
    if end is not None and end <= (start or 0.0):
        raise AvpipeError(f"{place}: the clip ends at {end} s, not after its start at {start or 0.0} s.")
    return start, end


def id_of(name: str, start: float | None, end: float | None) -> str:
    """The id of a clip whose table gives none: the file's name without suffix, and the segment if there is one."""
    if start is None and end is None:
        return name
    return f"{name}_{start or 0.0:.10g}_{'end' if end is None else f'{end:.10g}'}"


def _seconds(text: str | None, place: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise AvpipeError(f"{place}: {text!r} is not a time in seconds from 0 on.")
    return value


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - os.stat on a str is several times faster than Path for 10^5 files
    except (OSError, ValueError):  # ValueError: a null byte
        return -1, -1
    return status.st_size, status.st_mtime_ns


def checked(clips: list[SourceClip], source: str) -> list[SourceClip]:
    """Clips sorted by clip id.

    Raises:
        AvpipeError: a name is not UTF-8, or two clips have one id.
    """
    unreadable = [clip.path for clip in clips if not _is_text(clip.path + clip.clip_id + clip.class_name)]
    if unreadable:
        raise AvpipeError(
            f"{source}: {len(unreadable)} file name(s) are not UTF-8, such as {unreadable[0]!r}. Rename them."
        )
    if twice := repeated(clip.clip_id for clip in clips):
        paths = sorted(clip.path for clip in clips if clip.clip_id == twice[0])
        raise AvpipeError(
            f"{source}: {len(twice)} clip id(s) occur more than once, such as {twice[0]!r}: {listed(paths)}. "
            "A clip id is the file's name without suffix (or the table's clip_id) and must be unique; "
            "rename or remove the extra files."
        )
    return sorted(clips, key=lambda clip: clip.clip_id)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
