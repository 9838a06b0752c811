"""What an annotation file says of a clip, and the checks that every parser shares."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError, listed, repeated
from avpipe.io.reading import GET_AGAIN, reading

YOUTUBE_ID = re.compile("[A-Za-z0-9_-]{11}")
_LONGEST_TEXT = 10_000  # of a label or sentence, in characters


@dataclass(frozen=True)
class AnnotatedClip:
    """One clip as a dataset's annotation describes it.

    Attributes:
        clip_id: unique in the dataset.
        video_id: the video that it is cut from; several clips may share one.
        class_name: its label, spelt as the dataset's splits spell it; empty where there is none.
        subset: of the annotation, such as training; empty where there is none.
        captions: its sentences.
        start_seconds, end_seconds: the segment; None: the whole video.
        video_seconds: the video's length; None: not annotated.
        url: of the video; empty: that of YouTube, where `video_id` is one of its ids.
        is_fetched_alone: whether its segment is fetched, and not the video.
    """

    clip_id: str
    video_id: str
    class_name: str = ""
    subset: str = ""
    captions: tuple[str, ...] = ()
    start_seconds: float | None = None
    end_seconds: float | None = None
    video_seconds: float | None = None
    url: str = ""
    is_fetched_alone: bool = False

    @property
    def fetched_as(self) -> str:
        """The name of the file that is fetched for it."""
        return self.clip_id if self.is_fetched_alone and self.end_seconds is not None else self.video_id

    @property
    def address(self) -> str:
        """Where the video can be fetched; empty where nobody knows."""
        is_youtube = YOUTUBE_ID.fullmatch(self.video_id) is not None
        return self.url or (f"https://www.youtube.com/watch?v={self.video_id}" if is_youtube else "")

    @property
    def is_empty(self) -> bool:
        """Whether nothing lies between start and end, so that no clip can be cut."""
        return None not in (self.start_seconds, self.end_seconds) and self.end_seconds <= self.start_seconds  # type: ignore[operator]


@dataclass(frozen=True)
class Annotations:
    """A dataset's clips in the order of its files, and what a person should know of them, a sentence each."""

    clips: tuple[AnnotatedClip, ...]
    notes: tuple[str, ...] = ()


class Misfit(Exception):  # noqa: N818 - becomes the one message of a file
    """An entry that is not as the format says; the text names entry, key and what was expected."""


@contextmanager
def parsing(path: Path, expected: str) -> Iterator[None]:
    """Turn every fault of an annotation file into one AvpipeError that names the file and the entry."""
    try:
        with reading(path, expected):
            yield
    except Misfit as error:
        raise AvpipeError(f"{path} is not {expected}: {error}. {GET_AGAIN}") from None


def checked(clips: Iterable[AnnotatedClip], notes: Iterable[str] = ()) -> Annotations:
    """Clips with unique ids.

    Raises:
        Misfit: there is none, or two have one id.
    """
    clips = tuple(clips)
    if not clips:
        raise Misfit("it has no clip")
    if twice := repeated(clip.clip_id for clip in clips):
        raise Misfit(f"two clips have one id: {listed(twice)}")
    return Annotations(clips, tuple(notes))


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte order mark, any line ends."""
    return path.read_text(encoding="utf-8-sig")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_table(
    path: Path, columns: tuple[str, ...] | None = None, *, has_last_end: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a csv file with their places, by column.

    Args:
        path: the file.
        columns: their names where the file has no header, all of which each row must have; None: it has one.
        has_last_end: whether the published file's last line has an end, by which a cut in the last cell is told.

    Raises:
        Misfit: a row has too few or too many cells, or the file is cut.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(_lines(stream, has_last_end), strict=True)
        try:
            names = columns or tuple(cell.strip() for cell in next(rows, ()))
            for row in rows:
                place = f"line {rows.line_num}"
                if not row:
                    continue
                if len(row) != len(names):
                    raise Misfit(f"{place} has {len(row)} cells, expected {len(names)} ({', '.join(names)})")
                yield place, dict(zip(names, row, strict=True))
        except csv.Error as error:
            raise Misfit(f"line {rows.line_num}: {error}") from None


def _lines(stream: Iterable[str], has_last_end: bool) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        if has_last_end and not line.endswith(("\n", "\r")):
            raise Misfit(f"line {number} is cut: it has no end")
        yield line


def read_json(path: Path) -> Any:
    """A JSON file; NaN and infinity, which JSON does not have, are refused, and so is a key that occurs twice."""
    return json.loads(read_text(path), parse_constant=_refuse_constant, object_pairs_hook=_object)


def _refuse_constant(name: str) -> None:
    raise Misfit(f"{name} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Misfit(f"an object has keys twice: {listed(name[:80] for name in repeated(key for key, _ in pairs))}")
    return found


def entry(value: Any, key: str, kind: type | tuple[type, ...], place: str) -> Any:
    """The value of a key of a JSON object.

    Raises:
        Misfit: no object, no such key, or a value of another kind.
    """
    if not isinstance(value, Mapping) or key not in value:
        raise Misfit(f"{place} has no {key!r}")
    found = value[key]
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise Misfit(f"{place} has {key!r}: {str(found)[:80]!r}, expected {_name_of(kind)}")
    if isinstance(found, str) and len(found) > _LONGEST_TEXT:
        raise Misfit(f"{place} has {key!r} of {len(found):,} characters, expected {_LONGEST_TEXT:,} at most")
    return found


def _name_of(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", list: "a list", dict: "an object", int: "a whole number", float: "a number"}
    return names[kind[-1] if isinstance(kind, tuple) else kind]


def seconds(value: Any, place: str) -> float:
    """A time in seconds, from a number or its text.

    Raises:
        Misfit: it is no finite number from 0.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise Misfit(f"{place} has the time {str(value)[:80]!r}, expected seconds from 0")
    return number


def segment(value: Any, place: str) -> tuple[float, float]:
    """Start and end of an annotation.

    Raises:
        Misfit: it is no list of two times.
    """
    found = entry(value, "segment", list, place)
    if len(found) != 2:
        raise Misfit(f"{place} has a segment of {len(found)} numbers, expected start and end")
    return seconds(found[0], place), seconds(found[1], place)


def youtube_id(value: str, place: str) -> str:
    """The id of a video.

    Raises:
        Misfit: it is none.
    """
    if not YOUTUBE_ID.fullmatch(value):
        raise Misfit(f"{place} has the video id {value[:80]!r}, expected 11 letters, digits, '-' or '_'")
    return value
