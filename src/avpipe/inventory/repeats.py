"""Clips with the same content under several names: found where shards meet, from the digests of the probe tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from avpipe.inventory.status import OK
from avpipe.io.tables import read_rows


def find_repeats(probes: Iterable[str]) -> dict[str, str]:
    """Clip -> the first clip, by clip id, that has the same content; only clips that have an earlier one.

    Content is that of the file and the segment of it; a segment that reaches to the file's end equals one without end.

    Args:
        probes: the probe table of every shard; only clips that are ok there count.
    """
    contents = {row["clip_id"]: _content(row) for probe in probes for row in read_rows(probe) if row["status"] == OK}
    first: dict[tuple[Any, ...], str] = {}
    found = {clip_id: first.setdefault(content, clip_id) for clip_id, content in sorted(contents.items()) if content}
    return {clip_id: one for clip_id, one in found.items() if one != clip_id}


def _content(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is equal where clips are; nothing where the file was not read."""
    if not row.get("source_sha256"):
        return ()
    end, length = row["end_seconds"], row["duration_seconds"]
    is_open = end is None or (length is not None and end >= length)
    return row["source_sha256"], row["start_seconds"] or 0.0, None if is_open else end
