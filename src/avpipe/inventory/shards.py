"""The inventory of a shard: one row per clip, written from a listing of the source."""

from __future__ import annotations

import os
from dataclasses import asdict

import pyarrow as pa

from avpipe.errors import AvpipeError
from avpipe.io.tables import read_rows, write_rows
from avpipe.sources.local import SourceClip, listing_digest

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("class_name", pa.string()),
        ("path", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("size_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
    ]
)


def index_shard(
    clips: list[SourceClip], planned_digest: str | None, target: str | os.PathLike[str], digest: str | None = None
) -> None:
    """Write the inventory of one shard.

    Args:
        clips: the shard's clips as listed now.
        planned_digest: of the shard when the run was planned; None: not known then.
        target: the Parquet file to write.
        digest: of the shard as listed now; None: `listing_digest` of the clips.

    Raises:
        AvpipeError: the source changed since the run was planned.
    """
    if planned_digest not in (None, digest or listing_digest(clips)):
        raise AvpipeError(
            f"The source changed while the run was starting: shard {target} has other clips or files than planned. "
            "Wait until copying has ended, then run the same command again."
        )
    write_rows(target, SCHEMA, (asdict(clip) for clip in clips))


def read_inventory(source: str | os.PathLike[str]) -> list[SourceClip]:
    """The clips that `index_shard` wrote."""
    return [SourceClip(**row) for row in read_rows(source)]
