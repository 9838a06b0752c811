"""HowTo100M's files: the list of videos, each video's three files as AVLnet publishes them, and the captions."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.formats.pickles import read_pickle
from avpipe.io.csv_tables import dict_reader
from avpipe.io.reading import reading

CHUNK_CHARACTERS = 1 << 22
_ENTRY_CHARACTERS = 1 << 24  # of one video: a day of speech has less than a tenth
_KEYS = ("start", "end", "text")
_STRUCTURE = '{video id: {"start": [...], "end": [...], "text": [...]}} with lists of one length'


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
    with reading(path, "a table with a column `path`"), path.open(newline="", encoding="utf-8-sig") as file:
        table = dict_reader(file, "path")
        if "path" not in (table.fieldnames or []):
            raise AvpipeError(f"{path} has the columns {table.fieldnames}, expected one called `path`.")
        rows = [(row["path"] or "").replace("None/", "").strip() for row in table]
    for number, row in enumerate(rows, start=2):
        if not row or PurePosixPath(row).is_absolute() or ".." in PurePosixPath(row).parts or row.endswith("/"):
            raise AvpipeError(f"{path}, line {number}: {row!r}; expected category/subfolder/video_id.")
    if not rows:
        raise AvpipeError(f"{path} lists no video.")
    return rows


def find_file(folder: Path, row: str, kind: Literal["2d", "3d", "spec"]) -> Path:
    """One of a video's files: in the video's folder, as published, or beside it, where the publication's text puts it.

    Args:
        folder: of the features.
        row: category/subfolder/video_id.
        kind: 2-D features, 3-D features or the spectrogram.

    Raises:
        ClipFailure: MISSING, neither is there.
    """
    inside = folder / row / f"{row.rsplit('/', 1)[-1]}_{kind}.npz"
    beside = inside.parent.with_name(inside.name)
    for path in (inside, beside):
        if path.is_file():
            return path
    raise ClipFailure(Reason.MISSING, f"neither {inside} nor {beside}")


def read_caption_columns(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[Collection[Any]]]]:
    """Video ids with start, end and text of each caption, from caption.json or caption.pickle, one video at a time.

    Both files map a video id to {"start": [...], "end": [...], "text": [...]}, in seconds; whether the three are of
    one length is not looked at. JSON is read as a stream and holds one entry. A pickle is unpickled whole, without
    running it; that takes several times the file's size, so the JSON is the one to use for all of HowTo100M.

    Args:
        path: the file; .json is JSON, anything else a pickle.

    Raises:
        AvpipeError: the file is absent, cut short, or of another structure.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; expected HowTo100M's caption.json or caption.pickle.")
    for video_id, found in _json_videos(path) if path.suffix == ".json" else _pickle_videos(path):
        if not isinstance(found, Mapping) or not set(_KEYS) <= set(found):
            held = f"keys {sorted(map(str, found))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
            raise AvpipeError(f"{path}: video {video_id!r} has {held}, expected {_STRUCTURE}.")
        columns = [found[key] for key in _KEYS]
        if not all(isinstance(column, list | tuple) or getattr(column, "ndim", 0) == 1 for column in columns):
            kinds = ", ".join(f"{key} {type(column).__name__}" for key, column in zip(_KEYS, columns, strict=True))
            raise AvpipeError(f"{path}: video {video_id!r} has {kinds}, expected {_STRUCTURE}.")
        yield video_id, columns


def _pickle_videos(path: Path) -> Iterator[tuple[str, Any]]:
    found = read_pickle(path)
    if not isinstance(found, dict):
        raise AvpipeError(f"{path} holds a {type(found).__name__}, expected {_STRUCTURE}.")
    for video_id in list(found):
        yield str(video_id), found.pop(video_id)  # what was copied need not be kept


def _json_videos(path: Path) -> Iterator[tuple[str, Any]]:
    """The entries of the object that a JSON file holds, one at a time."""
    with reading(path, f"a whole JSON file, {_STRUCTURE}"), path.open(encoding="utf-8-sig") as file:
        yield from _Entries(file)


class _Entries:
    """Iterates over the entries of a JSON object in a text file; holds a chunk of text and one entry."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._position = 0
        self._decode = json.JSONDecoder().raw_decode

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        if self._peek() == "}":
            self._position += 1
        else:
            while True:
                key = self._value()
                if not isinstance(key, str):
                    raise ValueError(f"a key that is {key!r}")
                self._expect(":")
                yield key, self._value()
                if self._expect(",}") == "}":
                    break
        if self._peek():
            raise ValueError("text follows the object's end")

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self._position < len(self._text) and self._text[self._position] in " \t\r\n":
                self._position += 1
            if self._position < len(self._text) or not self._fill():
                return self._text[self._position : self._position + 1]

    def _expect(self, characters: str) -> str:
        found = self._peek()
        if not found or found not in characters:
            raise ValueError(f"found {found or 'the end'!r} where one of {characters!r} belongs")
        self._position += 1
        return found

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except ValueError:
                if len(self._text) - self._position > _ENTRY_CHARACTERS or not self._fill():
                    raise
                continue
            self._position = end
            return value

    def _fill(self) -> bool:
        """Drop what was read and append more text, the more the longer the entry is; whether there was any."""
        rest = self._text[self._position :]
        more = self._file.read(max(CHUNK_CHARACTERS, len(rest)))
        self._text, self._position = rest + more, 0
        return bool(more)
