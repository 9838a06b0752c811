"""The inventory of a shard: one row per clip, written from a listing of the source."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from avpipe.config.models import ClassFolders, ClipTable, Source, Synthetic
from avpipe.errors import AvpipeError
from avpipe.io.tables import read_rows, write_rows
from avpipe.sources.local import SourceClip, list_class_folders, list_table, listing_digest, shard_of

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


SYNTHETIC_TABLES = {"retrieval_clips": "clips.csv", "retrieval_films": "films.csv"}


def source_table(source: Source, synthetic_folder: str | os.PathLike[str]) -> Path | None:
    """The table that lists a source's clips; None where a folder does."""
    if isinstance(source, ClipTable):
        return Path(source.path or "")
    if isinstance(source, Synthetic) and source.dataset in SYNTHETIC_TABLES:
        return Path(synthetic_folder) / SYNTHETIC_TABLES[source.dataset]
    return None


def list_source(source: Source, synthetic_folder: str | os.PathLike[str]) -> list[SourceClip]:
    """List every clip of a source, sorted by clip id.

    Args:
        source: the dataset's source.
        synthetic_folder: where an embedded dataset lies: its table, or the folders of its classes.

    Raises:
        AvpipeError: the source is not set or does not exist, or its listing is not in order.
    """
    if isinstance(source, ClassFolders | ClipTable) and (source.path is None or not Path(source.path).exists()):
        raise AvpipeError(f"the source {source.path} does not exist")
    table = source_table(source, synthetic_folder)
    if table is not None:
        return list_table(table)
    return list_class_folders(Path(source.path or "" if isinstance(source, ClassFolders) else synthetic_folder))


def split_into_shards(clips: list[SourceClip], n_shards: int) -> list[list[SourceClip]]:
    """The clips of each shard."""
    shards: list[list[SourceClip]] = [[] for _ in range(n_shards)]
    for clip in clips:
        shards[shard_of(clip.clip_id, n_shards)].append(clip)
    return shards


def index_shard(clips: list[SourceClip], planned_digest: str | None, target: str | os.PathLike[str]) -> None:
    """Write the inventory of one shard.

    Args:
        clips: the shard's clips as listed now.
        planned_digest: `listing_digest` of the shard when the run was planned; None: not known then.
        target: the Parquet file to write.

    Raises:
        AvpipeError: the source changed since the run was planned.
    """
    if planned_digest is not None and listing_digest(clips) != planned_digest:
        raise AvpipeError(
            f"The source changed while the run was starting: shard {target} has other clips or files than planned. "
            "Wait until copying has ended, then run the same command again."
        )
    write_rows(target, SCHEMA, (asdict(clip) for clip in clips))


def read_inventory(source: str | os.PathLike[str]) -> list[SourceClip]:
    """The clips that `index_shard` wrote."""
    return [SourceClip(**row) for row in read_rows(source)]
