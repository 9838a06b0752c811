"""What became of the videos of an annotation: a table for each shard, and their sum."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from avpipe.errors import AvpipeError, Reason
from avpipe.io.tables import read_metadata, read_rows, write_rows
from avpipe.sources.annotations.clips import Annotations
from avpipe.sources.records import NOT_TRIED, OK, VideoRecord

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("outcome", pa.string()),
        ("cause", pa.string()),
        ("detail", pa.string()),
        ("again", pa.string()),
        ("tries", pa.int64()),
        ("first_tried", pa.string()),
        ("last_tried", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("seconds", pa.float64()),
        ("format", pa.string()),
        ("version", pa.string()),
        ("origin", pa.string()),
        ("path", pa.string()),
    ]
)


def write_table(target: str | os.PathLike[str], records: Iterable[VideoRecord], mode: str) -> None:
    """Write the table of a shard.

    Args:
        target: the file.
        records: a record for each video.
        mode: `fetched` where videos were fetched, or `local`.
    """
    rows = sorted((asdict(record) for record in records), key=lambda row: row["video_id"])
    left = sum(row["outcome"] == NOT_TRIED for row in rows)
    write_rows(target, SCHEMA, rows, mode=mode, not_tried=str(left))


def read_mode(table: str | os.PathLike[str]) -> tuple[str, int] | None:
    """How a shard's table was made, and how many videos it leaves untried; None: there is none that can be read."""
    try:
        metadata = read_metadata(table)
        return metadata["mode"], int(metadata["not_tried"])
    except (FileNotFoundError, AvpipeError, KeyError, ValueError):
        return None


def unavailable(table: str | os.PathLike[str]) -> dict[str, tuple[str, str]]:
    """Where a video that is not there would lie -> why its clips have no result: reason and detail."""
    return {
        row["path"]: (
            Reason.MISSING.value if row["outcome"] == NOT_TRIED else row["outcome"],
            f"{row['cause']}: {row['detail']}" if row["detail"] else row["cause"],
        )
        for row in read_rows(table)
        if row["outcome"] != OK
    }


def sum_up(tables: Iterable[str | os.PathLike[str]], annotations: Annotations) -> dict[str, Any]:
    """How many videos and clips of a dataset are to be had.

    Returns:
        `videos`: requested, by outcome, by cause, by date of the last try, bytes, and the sha256 of the sorted ids of
        those that are there, one a line, by which two groups compare what their numbers rest on; `clips`: the same
        counts in total, by subset and by class.
    """
    rows = [row for table in tables for row in read_rows(table)]
    there = {row["video_id"] for row in rows if row["outcome"] == OK}
    outcomes = Counter(row["outcome"] for row in rows)
    if sum(outcomes.values()) != len({row["video_id"] for row in rows}):
        raise AssertionError(f"{len(rows)} videos, and {dict(outcomes)} accounted for")
    return {
        "videos": {
            "requested": len(rows),
            "outcomes": _sorted(outcomes),
            "causes": _sorted(Counter(row["cause"] for row in rows)),
            "dates": _sorted(Counter(row["last_tried"] for row in rows if row["last_tried"])),
            "versions": _sorted(Counter(row["version"] for row in rows if row["version"])),
            "bytes": sum(row["bytes"] or 0 for row in rows),
            "sha256_of_ids": hashlib.sha256("".join(f"{name}\n" for name in sorted(there)).encode()).hexdigest(),
        },
        "clips": {
            **_there(annotations, there, lambda _: "all")["all"],
            "subsets": _there(annotations, there, lambda clip: clip.subset),
            "classes": _there(annotations, there, lambda clip: clip.class_name),
        },
    }


def _there(annotations: Annotations, there: set[str], group: Any) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for clip in annotations.clips:
        each = counts.setdefault(group(clip), {"requested": 0, "there": 0})
        each["requested"] += 1
        each["there"] += clip.fetched_as in there
    return dict(sorted(counts.items()))


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
