"""What the jobs of rules/inventory.smk and videos.smk do: embedded datasets, fetching videos, listing and probing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.demo.retrieval import make_retrieval_demo
from avpipe.demo.zero_shot import make_demo
from avpipe.inventory.kept import read_kept
from avpipe.inventory.probing import Requirements, probe_shard
from avpipe.inventory.shards import index_shard, read_inventory
from avpipe.io.manifest import write_json
from avpipe.sources.annotated import wanted_videos
from avpipe.sources.availability import sum_up, unavailable, write_table
from avpipe.sources.fetching import Fetcher
from avpipe.sources.hosts import Hosts
from avpipe.sources.listing import annotations_of, list_source, shard_digest, source_folder, split_into_shards
from avpipe.sources.local import shard_of
from avpipe.sources.settings import Downloads, validate_source

__all__ = ["fetch_videos", "index_source", "make_demo", "make_retrieval_demo", "probe_clips", "sum_up_videos"]

StrPath = str | os.PathLike[str]


def index_source(
    source: Mapping[str, Any],
    made_folder: str,
    n_shards: int,
    shard: str,
    listing: str | None,
    target: StrPath,
    kept: StrPath | None = None,
) -> None:
    """List a source and write the inventory of one shard.

    Args:
        source: the dataset's source as plain values.
        made_folder: where an embedded dataset lies.
        n_shards: of the dataset.
        shard: which one, such as "0003".
        listing: digest of the shard's clips and files when the run was planned; None: not known then.
        target: the Parquet file to write.
        kept: where planning has kept the shard's clips, so that not every shard lists the whole source; a file that is
            not there or that another plan has left is not used.

    Raises:
        AvpipeError: the source is not in order, or changed since the run was planned.
    """
    if kept is not None and listing is not None and (clips := read_kept(kept, listing)) is not None:
        return index_shard(clips, None, target)
    found = list_source(validate_source(dict(source)), made_folder)
    clips = split_into_shards(found, n_shards)[int(shard)]
    index_shard(clips, listing, target, shard_digest(found, clips))


def fetch_videos(
    source: Mapping[str, Any],
    made_folder: str,
    n_shards: int,
    shard: str,
    target: StrPath,
    *,
    mode: str,
    require_audio: bool,
    downloads: Mapping[str, Any],
    hosts: str,
) -> None:
    """Fetch the videos of one shard that are not there, and write what became of each.

    Args:
        source, made_folder, n_shards, shard: as of `index_source`.
        target: the Parquet file to write.
        mode: `fetched`, or `local`: nothing is fetched.
        require_audio: whether a video without sound is incomplete.
        downloads: settings as plain values.
        hosts: the folder with the state of hosts.

    Raises:
        AvpipeError: some could not be asked for; what came before is kept.
    """
    origin = validate_source(dict(source))
    annotations = annotations_of(origin)
    assert annotations is not None
    videos = [each for each in wanted_videos(annotations) if shard_of(each.shard_key, n_shards) == int(shard)]
    settings = Downloads.model_validate(downloads)
    folder = source_folder(origin, made_folder)
    fetcher = Fetcher(folder, Hosts(Path(hosts), settings.pause_seconds), settings, needs_sound=require_audio)
    write_table(target, fetcher.bring_up_to_date(videos, may_fetch=mode == "fetched"), mode)


def sum_up_videos(source: Mapping[str, Any], tables: Sequence[str], target: StrPath) -> None:
    """Count the videos and clips of a dataset that are to be had.

    Args:
        source: as of `index_source`.
        tables: what `fetch_videos` wrote, of every shard.
        target: the JSON file to write.
    """
    annotations = annotations_of(validate_source(dict(source)))
    assert annotations is not None
    write_json(target, sum_up(tables, annotations))


def probe_clips(
    inventory: StrPath,
    target: StrPath,
    *,
    require_audio: bool,
    min_seconds: float,
    max_seconds: float | None,
    sources: StrPath | None = None,
) -> None:
    """Probe the files of a shard.

    Args:
        inventory: the shard's inventory.
        target: the probe table to bring up to date.
        require_audio, min_seconds, max_seconds: what a clip must have (docs/config.md).
        sources: what `fetch_videos` wrote; None: no video has an address.
    """
    reasons = {} if sources is None else unavailable(sources)
    probe_shard(read_inventory(inventory), Requirements(require_audio, min_seconds, max_seconds), target, reasons)
