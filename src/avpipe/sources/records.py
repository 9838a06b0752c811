"""What became of a video: a record beside it, which outlives whatever ends a run."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import TypeAdapter

from avpipe.io.atomic import write_json
from avpipe.sources.youtube.messages import Again

OK, NOT_TRIED = "ok", "not_tried"
DAYS_UNTIL_ANOTHER_TRY = 7


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video.

    Attributes:
        video_id: its name.
        outcome: `ok`, `not_tried`, or the reason that its clips get.
        cause: of `avpipe.sources.youtube.messages`, or `local`, `no_address`, `not_allowed`, `lost`.
        detail: what was said.
        again: whether and when it is tried again (`Again`).
        tries: how many there were.
        first_tried, last_tried: dates (UTC).
        bytes, sha256, seconds: of the file; None: not known.
        format, version: what yt-dlp chose, and its version.
        origin: `local`, or the host that it was fetched from.
        path: the file; where there is none, where it would be without its suffix.
    """

    video_id: str
    outcome: str
    cause: str
    detail: str = ""
    again: str = Again.NO.value
    tries: int = 0
    first_tried: str = ""
    last_tried: str = ""
    bytes: int | None = None
    sha256: str | None = None
    seconds: float | None = None
    format: str = ""
    version: str = ""
    origin: str = ""
    path: str = ""

    def is_settled(self, today: date) -> bool:
        """Whether another try would change nothing."""
        if self.again == Again.LATER.value and self.last_tried:
            return (today - date.fromisoformat(self.last_tried)).days < DAYS_UNTIL_ANOTHER_TRY
        return self.outcome == OK or self.again == Again.NO.value


def today() -> date:
    """The date as records have it (UTC)."""
    return datetime.now(UTC).date()


def record_path(stem: Path) -> Path:
    """Where the record of a fetched video lies."""
    return stem.with_name(f"{stem.name}.json")


def write_record(stem: Path, record: VideoRecord) -> None:
    """Keep what became of a video, whatever ends this run."""
    write_json(record_path(stem), asdict(record))


def read_record(stem: Path) -> VideoRecord | None:
    """What became of a video in an earlier run; None: nobody tried, or the record is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return TypeAdapter(VideoRecord).validate_json(record_path(stem).read_bytes())
    return None
