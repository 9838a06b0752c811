"""The status table of a stage: one row per requested clip, ok or a reason from the closed list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from avpipe.errors import Reason
from avpipe.io.tables import read_rows, write_rows

OK = "ok"
STATUSES = (OK, *(reason.value for reason in Reason))
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("pictures_share", pa.float64()),
        ("sound_share", pa.float64()),
        ("silent_sound", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class ClipStatus:
    """What a stage made of a clip.

    Attributes:
        clip_id: the clip.
        status: "ok" or the value of a `Reason`.
        detail: one line with numbers; empty where ok and whole.
        pictures_share, sound_share: how much was decoded, 0 to 1; None: not known, or there is none.
        silent_sound: whether the whole sound is digital silence; None: none was read.
    """

    clip_id: str
    status: str
    detail: str = ""
    pictures_share: float | None = None
    sound_share: float | None = None
    silent_sound: bool | None = None


def close_shard(target: str | os.PathLike[str], requested: Iterable[str], statuses: Iterable[ClipStatus]) -> None:
    """Check that every requested clip has exactly one status, then write the table, sorted by clip id.

    Raises:
        AssertionError: a clip has no status, two, or one outside the closed list; a bug, never the user's fault.
    """
    wanted = sorted(requested)
    rows = sorted(statuses, key=lambda row: row.clip_id)
    if [row.clip_id for row in rows] != wanted:
        difference = Counter(row.clip_id for row in rows)
        difference.subtract(wanted)
        wrong = {clip_id: n for clip_id, n in difference.items() if n}
        raise AssertionError(f"{target}: clips accounted too often (>0) or not at all (<0): {wrong}")
    counts = count(row.status for row in rows)
    if len(wanted) != sum(counts.values()):
        raise AssertionError(f"{target}: {len(wanted)} clips requested, but {counts} accounted for")
    write_rows(target, SCHEMA, (vars(row) for row in rows))


def read_statuses(source: str | os.PathLike[str]) -> list[ClipStatus]:
    """The rows that `close_shard` wrote (extra columns, as of a probe table, are ignored)."""
    return [_from_row(row) for row in read_rows(source)]


def count(statuses: Iterable[str]) -> dict[str, int]:
    """How often each status occurs, "ok" first, then the reasons that occur in the order of the closed list.

    Raises:
        AssertionError: a status outside the closed list.
    """
    counts = Counter(statuses)
    if unknown := set(counts) - set(STATUSES):
        raise AssertionError(f"statuses outside the closed list: {sorted(unknown)}")
    return {OK: counts[OK]} | {status: counts[status] for status in STATUSES[1:] if counts[status]}


def _from_row(row: Mapping[str, Any]) -> ClipStatus:
    shares = (row.get(name) for name in ("pictures_share", "sound_share", "silent_sound"))  # probe tables have none
    return ClipStatus(row["clip_id"], row["status"], row["detail"], *shares)
