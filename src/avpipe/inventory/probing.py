"""The probe stage: what is in each clip's file, and which clips go on from here."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from avpipe import versions
from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.inventory.shards import SCHEMA as INVENTORY_SCHEMA
from avpipe.inventory.status import OK, ClipStatus, count
from avpipe.io.tables import read_metadata, read_rows, write_rows
from avpipe.logs import Progress
from avpipe.media.probe import MediaInfo, probe_media
from avpipe.sources.local import SourceClip

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),
        *(field for field in INVENTORY_SCHEMA if field.name != "clip_id"),
        ("source_sha256", pa.string()),
        ("duration_seconds", pa.float64()),
        ("video_codec", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("rate_hz", pa.float64()),
        ("frames", pa.int64()),
        ("rotation_degrees", pa.float64()),
        ("audio_codec", pa.string()),
        ("audio_rate_hz", pa.int64()),
        ("channels", pa.int64()),
    ]
)
_FILE_KEY = tuple(INVENTORY_SCHEMA.names)


@dataclass(frozen=True)
class Requirements:
    """What a dataset asks of a clip.

    Attributes:
        require_audio: whether a clip without a sound track is set aside.
        min_seconds, max_seconds: allowed lengths; None: any.
    """

    require_audio: bool
    min_seconds: float
    max_seconds: float | None


def probe_shard(
    clips: list[SourceClip],
    requirements: Requirements,
    target: str | os.PathLike[str],
    unavailable: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> dict[str, int]:
    """Probe the clips of a shard and write one row for each; files seen before are not read again.

    Args:
        clips: of the shard.
        requirements: what each must have.
        target: the Parquet file to write.
        unavailable: where a video that is not there would lie -> why: reason and detail.

    Returns:
        How many clips have which status.
    """
    known = {_file_key(row): row for row in _previous_rows(target)}
    progress = Progress(len(clips), "clips probed")
    files: dict[tuple[str, int], dict[str, Any]] = {}  # clips may share a long file; it is read once
    rows = []
    for clip in clips:
        measured = known.get(tuple(getattr(clip, key) for key in _FILE_KEY))
        if measured is None:
            row = _measure(clip, files)
            if clip.size_bytes < 0 and clip.path in unavailable:
                row["status"], row["detail"] = unavailable[clip.path]
        else:
            row = measured
            progress.reused += 1
        row = _judge(row, requirements)
        rows.append(row)
        if row["status"] != OK:
            progress.fell_out(row["clip_id"], row["status"], row["detail"])
        elif measured is None:
            progress.succeeded()
    progress.close()
    write_rows(target, SCHEMA, rows, stage=versions.PROBE)
    counts = count(row["status"] for row in rows)
    if len(clips) != sum(counts.values()):
        raise AssertionError(f"{target}: {len(clips)} clips requested, but {counts} accounted for")
    return counts


@dataclass(frozen=True)
class ProbedClip:
    """A row of the probe table, as later stages need it."""

    clip_id: str
    class_name: str
    path: Path
    start_seconds: float | None
    end_seconds: float | None
    source_sha256: str
    status: str
    seconds: float | None = None

    def source_key(self) -> str:
        """A digest of the file's content and the segment of it that is used."""
        text = f"{self.source_sha256} {self.start_seconds} {self.end_seconds}"
        return hashlib.sha256(text.encode()).hexdigest()


def read_probed(source: str | os.PathLike[str], *, only_ok: bool = True) -> list[ProbedClip]:
    """The clips of a probe table, by default only those that go on."""
    return [
        ProbedClip(
            row["clip_id"],
            row["class_name"],
            Path(row["path"]),
            row["start_seconds"],
            row["end_seconds"],
            row["source_sha256"] or "",
            row["status"],
            _length(row),
        )
        for row in read_rows(source)
        if row["status"] == OK or not only_ok
    ]


def _previous_rows(target: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of the last run, unless another version of this stage wrote them or they cannot be read."""
    if not Path(target).exists():
        return []
    try:
        if read_metadata(target).get("stage") != versions.PROBE:
            return []
        return [row for row in read_rows(target) if row["source_sha256"] is not None]
    except AvpipeError as error:
        logging.getLogger(__name__).warning("The previous table cannot be reused: %s", error)
        return []


def _file_key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in _FILE_KEY)


def _measure(clip: SourceClip, files: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    """Everything that does not depend on what the dataset asks of a clip; `files` remembers what files hold."""
    file = (clip.path, clip.modified_ns)
    if file not in files:
        files[file] = _measure_file(clip)
    return dict.fromkeys(SCHEMA.names) | asdict(clip) | files[file]


def _measure_file(clip: SourceClip) -> dict[str, Any]:
    """Digest, streams and status of a clip's file."""
    measured: dict[str, Any] = {}
    try:
        if clip.size_bytes < 0:
            raise FileNotFoundError
        if not stat.S_ISREG(os.stat(clip.path).st_mode):  # noqa: PTH116 - a pipe would be waited for
            return measured | {"status": Reason.DECODE_ERROR.value, "detail": f"no regular file at {clip.path}"}
        with open(clip.path, "rb") as stream:  # noqa: PTH123
            measured["source_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        return measured | _describe(probe_media(Path(clip.path))) | {"status": OK, "detail": ""}
    except FileNotFoundError:
        return measured | {"status": Reason.MISSING.value, "detail": f"no file at {clip.path}"}
    except PermissionError as error:
        return measured | {"status": Reason.DECODE_ERROR.value, "detail": f"not readable: {error}"}
    except ClipFailure as failure:
        return measured | {"status": failure.reason.value, "detail": failure.detail}


def _describe(info: MediaInfo) -> dict[str, Any]:
    described: dict[str, Any] = {"duration_seconds": info.duration_seconds}
    if info.video is not None:
        described |= {
            "video_codec": info.video.codec,
            "width": info.video.width,
            "height": info.video.height,
            "rate_hz": info.video.rate_hz,
            "frames": info.video.packets,
            "rotation_degrees": info.video.rotation_degrees,
        }
    if info.audio is not None:
        described |= {
            "audio_codec": info.audio.codec,
            "audio_rate_hz": info.audio.rate_hz,
            "channels": info.audio.channels,
        }
    return described


_SET_BY_REQUIREMENTS = (Reason.NO_AUDIO.value, Reason.TOO_SHORT.value, Reason.TOO_LONG.value)


def _judge(row: dict[str, Any], requirements: Requirements) -> dict[str, Any]:
    """Apply the dataset's requirements to a measured row (again, where they have changed)."""
    if row["status"] not in (OK, *_SET_BY_REQUIREMENTS):
        return row
    status = _shortcoming(row, requirements) or ClipStatus(row["clip_id"], OK)
    return row | {"status": status.status, "detail": status.detail}


def _shortcoming(row: dict[str, Any], requirements: Requirements) -> ClipStatus | None:
    def because(reason: Reason, detail: str) -> ClipStatus:
        return ClipStatus(row["clip_id"], reason.value, detail)

    if requirements.require_audio and row["audio_codec"] is None:
        return because(Reason.NO_AUDIO, f"no sound track in {row['path']}")
    length = _length(row)
    if length is not None and length <= 0:
        return because(
            Reason.TOO_SHORT,
            f"the clip starts at {row['start_seconds']} s, the file ends at {row['duration_seconds']} s",
        )
    if length is not None and length < requirements.min_seconds:
        return because(Reason.TOO_SHORT, f"{length:.3f} s, at least {requirements.min_seconds:g} s are asked for")
    if requirements.max_seconds is not None and length is not None and length > requirements.max_seconds:
        return because(Reason.TOO_LONG, f"{length:.3f} s, at most {requirements.max_seconds:g} s are asked for")
    return None


def _length(row: dict[str, Any]) -> float | None:
    end = min((value for value in (row["end_seconds"], row["duration_seconds"]) if value is not None), default=None)
    return None if end is None else end - (row["start_seconds"] or 0.0)
