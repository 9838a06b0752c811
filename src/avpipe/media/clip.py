"""A clip: a segment of a media file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clip:
    """A segment of a media file.

    Attributes:
        clip_id: unique name in its dataset.
        path: the media file.
        start_seconds, end_seconds: the segment, from the file's first time stamp; None: from its start, to its end.
    """

    clip_id: str
    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None
