"""Every clip of a source, and the shard of each."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.sources.folders import Listing, list_class_folders
from avpipe.sources.local import Described, SourceClip, describe_table, list_table, shard_of
from avpipe.sources.settings import ClassFolders, ClipTable, Source, Synthetic

SYNTHETIC_TABLES = {"retrieval_clips": "clips.csv", "retrieval_films": "films.csv"}


def source_table(source: Source, synthetic_folder: str | os.PathLike[str]) -> Path | None:
    """The table that lists a source's clips; None where a folder does."""
    if isinstance(source, ClipTable):
        return Path(source.path or "")
    if isinstance(source, Synthetic) and source.dataset in SYNTHETIC_TABLES:
        return Path(synthetic_folder) / SYNTHETIC_TABLES[source.dataset]
    return None


def list_source(source: Source, synthetic_folder: str | os.PathLike[str]) -> Listing:
    """List every clip of a source, and what it holds besides.

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
        return Listing(list_table(table))
    return list_class_folders(source_folder(source, synthetic_folder))


def source_folder(source: Source, synthetic_folder: str | os.PathLike[str]) -> Path:
    """What the paths of a source's clips are relative to: the folder of the classes, or that of the table."""
    table = source_table(source, synthetic_folder)
    if table is not None:
        return table.parent
    return Path(source.path or "" if isinstance(source, ClassFolders) else synthetic_folder)


def split_into_shards(clips: list[SourceClip], n_shards: int) -> list[list[SourceClip]]:
    """The clips of each shard."""
    shards: list[list[SourceClip]] = [[] for _ in range(n_shards)]
    for clip in clips:
        shards[shard_of(clip.clip_id, n_shards)].append(clip)
    return shards


def describe_clips(source: Source, synthetic_folder: str | os.PathLike[str]) -> list[Described]:
    """Subset and captions of every clip of a source; a source that is no table has neither."""
    table = source_table(source, synthetic_folder)
    if table is not None:
        return describe_table(table)
    return [Described(clip.clip_id, None, ()) for clip in list_source(source, synthetic_folder).clips]


def clips_of(source: Source, subset: str, synthetic_folder: str | os.PathLike[str]) -> list[Described]:
    """The clips of a subset that is made of the source's clips.

    Raises:
        AvpipeError: there are none.
    """
    described = describe_clips(source, synthetic_folder)
    chosen = [clip for clip in described if clip.subset in (None, subset)]
    if not chosen:
        names = sorted({str(clip.subset) for clip in described})
        raise AvpipeError(
            f"No clip of the table is in the subset {subset!r}; its column `subset` has {', '.join(names)}. "
            f"Correct the table, or set datasets.<name>.retrieval.subsets.{subset}.path."
        )
    return chosen


def digest_of(clips: list[Described]) -> str:
    """A digest of a subset: changes when a clip comes, goes or gets another caption."""
    text = json.dumps([(clip.clip_id, clip.captions) for clip in clips], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
