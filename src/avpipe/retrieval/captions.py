"""Captions with times of many videos, as HowTo100M has them: caption.json or caption.pickle.

Source: docs/methods.md, Long videos.

HowTo100M has 136 million captions, so they are kept as arrays and one block of text, not as Python objects.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from array import array
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.formats.howto100m import read_caption_columns
from avpipe.retrieval.windows import VideoCaptions

log = logging.getLogger(__name__)


class Captions:
    """Captions by video id, cleaned when they are added: in order of start, with an end behind the start.

    Attributes:
        changes: what was done to captions -> how often: "dropped, time is not a number", "dropped, ends before it
            starts or at once", "start below 0 set to 0"; and "videos put in order of start".
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._starts, self._ends = array("d"), array("d")
        self._text = bytearray()
        self._offsets, self._text_ends = array("q", [0]), array("q")
        self.changes: dict[str, int] = {}

    def add(self, video_id: str, starts: Collection[Any], ends: Collection[Any], texts: Collection[Any]) -> None:
        """Add a video's captions.

        A caption whose start or end is not a finite number is left out, then one that does not end after it starts
        (a start below 0 counts as 0). The rest is sorted by start, those of equal start staying as they were. A text
        that is None or NaN is empty.

        Raises:
            ValueError: the id was added before, or the three differ in length.
        """
        if video_id in self._index:
            raise ValueError("it occurs twice")
        if not len(starts) == len(ends) == len(texts):
            raise ValueError(f"{len(starts)} starts, {len(ends)} ends and {len(texts)} texts")
        kept = [found for found in map(self._cleaned, starts, ends, texts) if found is not None]
        if any(after[0] < before[0] for before, after in pairwise(kept)):
            self._note("videos put in order of start")
            kept.sort(key=lambda caption: caption[0])
        for start, end, text in kept:
            self._starts.append(start)
            self._ends.append(end)
            self._text += text.encode("utf-8", "replace")  # JSON may hold half of a surrogate pair
            self._text_ends.append(len(self._text))
        self._index[video_id] = len(self._index)
        self._offsets.append(len(self._starts))

    def _cleaned(self, start: Any, end: Any, text: Any) -> tuple[float, float, str] | None:
        begin, stop = _seconds(start), _seconds(end)
        if not (math.isfinite(begin) and math.isfinite(stop)):
            self._note("dropped, time is not a number")
            return None
        if stop <= max(0.0, begin):
            self._note("dropped, ends before it starts or at once")
            return None
        if begin < 0:
            self._note("start below 0 set to 0")
        is_absent = text is None or (isinstance(text, float) and math.isnan(text))
        return max(0.0, begin), stop, "" if is_absent else str(text)

    def _note(self, change: str) -> None:
        self.changes[change] = self.changes.get(change, 0) + 1

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._index

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._index)

    @property
    def n_captions(self) -> int:
        """Captions of all videos."""
        return len(self._starts)

    def of(self, video_id: str) -> VideoCaptions:
        """One video's captions; none for a video that has none left, or is not known."""
        begin, end = self._span(video_id)
        texts = [self._text_at(position) for position in range(begin, end)]
        return VideoCaptions(self._starts[begin:end].tolist(), self._ends[begin:end].tolist(), texts)

    def first_start(self, video_id: str) -> float | None:
        """When a video's first caption starts, in seconds; None without captions."""
        begin, end = self._span(video_id)
        return self._starts[begin] if begin < end else None

    def texts(self) -> Iterator[str]:
        """The text of every caption, from which the words that are needed are known."""
        return map(self._text_at, range(len(self._starts)))

    def digest(self) -> str:
        """sha256 of all captions and the ids they belong to."""
        total = hashlib.sha256(json.dumps(list(self._index)).encode())
        for part in (self._offsets, self._starts, self._ends, self._text_ends, self._text):
            total.update(part)
        return total.hexdigest()

    def _span(self, video_id: str) -> tuple[int, int]:
        position = self._index.get(video_id)
        return (0, 0) if position is None else (self._offsets[position], self._offsets[position + 1])

    def _text_at(self, position: int) -> str:
        begin = self._text_ends[position - 1] if position else 0
        return self._text[begin : self._text_ends[position]].decode()


def read_captions(path: str | os.PathLike[str], video_ids: Collection[str] | None = None) -> Captions:
    """Read HowTo100M's caption.json or caption.pickle.

    JSON costs no memory beyond the result, a pickle several times its size: see
    `avpipe.formats.howto100m.read_caption_columns`.

    Args:
        path: the file; .json is JSON, anything else a pickle.
        video_ids: videos to keep; None: all.

    Raises:
        AvpipeError: the file is absent, cut short, or of another structure.
    """
    wanted = None if video_ids is None else frozenset(video_ids)
    captions = Captions()
    for video_id, columns in read_caption_columns(path):
        if wanted is None or video_id in wanted:
            try:
                captions.add(video_id, *columns)
            except ValueError as error:
                raise AvpipeError(f"{path}: video {video_id!r}: {error}. Fetch it again.") from error
    if captions.changes:
        changes = "; ".join(f"{change}: {n:,}" for change, n in sorted(captions.changes.items()))
        log.warning("%s: %s captions of %s videos; %s", path, f"{captions.n_captions:,}", f"{len(captions):,}", changes)
    return captions


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # the last of whole numbers beyond the range of float64
        return math.nan
