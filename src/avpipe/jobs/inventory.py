"""What the jobs of rules/inventory.smk do: making the embedded datasets, listing and probing clips."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from avpipe.demo.retrieval import make_retrieval_demo
from avpipe.demo.zero_shot import make_demo
from avpipe.inventory.probing import Requirements, probe_shard
from avpipe.inventory.shards import index_shard, read_inventory
from avpipe.sources.listing import list_source, split_into_shards
from avpipe.sources.settings import validate_source

__all__ = ["index_source", "make_demo", "make_retrieval_demo", "probe_clips"]

StrPath = str | os.PathLike[str]


def index_source(
    source: Mapping[str, Any], made_folder: str, n_shards: int, shard: str, listing: str | None, target: StrPath
) -> None:
    """List a source and write the inventory of one shard.

    Args:
        source: the dataset's source as plain values.
        made_folder: where an embedded dataset lies.
        n_shards: of the dataset.
        shard: which one, such as "0003".
        listing: digest of the shard's clips and files when the run was planned; None: not known then.
        target: the Parquet file to write.

    Raises:
        AvpipeError: the source is not in order, or changed since the run was planned.
    """
    clips = list_source(validate_source(dict(source)), made_folder).clips
    index_shard(split_into_shards(clips, n_shards)[int(shard)], listing, target)


def probe_clips(
    inventory: StrPath, target: StrPath, *, require_audio: bool, min_seconds: float, max_seconds: float | None
) -> None:
    """Probe the files of a shard.

    Args:
        inventory: the shard's inventory.
        target: the probe table to bring up to date.
        require_audio, min_seconds, max_seconds: what a clip must have (docs/config.md).
    """
    probe_shard(read_inventory(inventory), Requirements(require_audio, min_seconds, max_seconds), target)
