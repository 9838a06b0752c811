"""Every clip of a source, and the shard of each."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.io.reading import reading
from avpipe.sources.annotated import describe_annotated, list_annotated
from avpipe.sources.annotations.clips import Annotations
from avpipe.sources.annotations.reading import read_annotations
from avpipe.sources.folders import Listing, list_class_folders
from avpipe.sources.local import Described, SourceClip, describe_table, list_table, listing_digest, shard_of
from avpipe.sources.settings import Annotation, ClassFolders, ClipTable, Source, Synthetic
from avpipe.sources.url_table import has_addresses, read_url_table
from avpipe.sources.video_files import FETCHED

SYNTHETIC_TABLES = {"retrieval_clips": "clips.csv", "retrieval_films": "films.csv"}


def source_table(source: Source, made_folder: str | os.PathLike[str]) -> Path | None:
    """The table that lists a source's clips; None where a folder does."""
    if isinstance(source, ClipTable):
        return Path(source.path or "")
    if isinstance(source, Synthetic) and source.dataset in SYNTHETIC_TABLES:
        return Path(made_folder) / SYNTHETIC_TABLES[source.dataset]
    return None


def has_video_folder(source: Source) -> bool:
    """Whether the clips' videos are named by an annotation or by addresses, and lie in a folder of videos."""
    if isinstance(source, ClipTable):
        return source.path is not None and Path(source.path).exists() and has_addresses(Path(source.path))
    return isinstance(source, Annotation)


def annotations_of(source: Source) -> Annotations | None:
    """What an annotation, or a table of addresses, says of a source's clips; None for a source of other kinds.

    Raises:
        AvpipeError: it is not there or not in order, or none of its clips is in the subsets asked for.
    """
    if not isinstance(source, Annotation | ClipTable) or not has_video_folder(source):
        return None
    found = _annotation(source) if isinstance(source, Annotation) else read_url_table(Path(source.path or ""))
    if source.fetch == "videos":
        return found
    return replace(found, clips=tuple(replace(clip, is_fetched_alone=True) for clip in found.clips))


def _annotation(source: Annotation) -> Annotations:
    """The clips of an annotation that are asked for."""
    found = read_annotations(source.format, {name: Path(path) for name, path in source.paths.items()})
    named = None if source.only_in is None else _clips_named_in(Path(source.only_in))
    clips = tuple(
        clip
        for clip in found.clips
        if (not source.subsets or clip.subset in source.subsets) and (named is None or clip.clip_id in named)
    )
    if not clips:
        known = ", ".join(sorted({clip.subset for clip in found.clips}))
        raise AvpipeError(
            f"No clip of {source.paths['annotation']} is asked for: it has the subsets {known}, and "
            f"{len(found.clips):,} clips such as {found.clips[0].clip_id}. Correct subsets or only_in of "
            "datasets.<name>.source."
        )
    return replace(found, clips=clips)


def _clips_named_in(folder: Path) -> set[str]:
    """The clips that the csv files of a class-split folder name."""
    names = set()
    for path in sorted(folder.glob("*/*.csv")):
        with reading(path, "a list of clips of a class split"), path.open(encoding="utf-8-sig", newline="") as stream:
            names |= {row["filename"] for row in csv.DictReader(stream)}
    return names


def list_source(source: Source, made_folder: str | os.PathLike[str]) -> Listing:
    """List every clip of a source, and what it holds besides.

    Args:
        source: the dataset's source.
        made_folder: where an embedded dataset lies (its table, or the folders of its classes), and where videos of
            an annotation are fetched to.

    Raises:
        AvpipeError: the source is not set or does not exist, or its listing is not in order.
    """
    if isinstance(source, ClassFolders | ClipTable) and (source.path is None or not Path(source.path).exists()):
        raise AvpipeError(f"the source {source.path} does not exist")
    if (annotations := annotations_of(source)) is not None:
        return list_annotated(annotations, source_folder(source, made_folder))
    table = source_table(source, made_folder)
    if table is not None:
        return Listing(list_table(table))
    return list_class_folders(source_folder(source, made_folder))


def source_folder(source: Source, made_folder: str | os.PathLike[str]) -> Path:
    """What the paths of a source's clips are relative to: the folder of the classes, of the table or of the videos."""
    if isinstance(source, Annotation | ClipTable) and has_video_folder(source):
        return Path(source.videos or made_folder)
    table = source_table(source, made_folder)
    if table is not None:
        return table.parent
    return Path(source.path or "" if isinstance(source, ClassFolders) else made_folder)


def split_into_shards(listing: Listing, n_shards: int) -> list[list[SourceClip]]:
    """The clips of each shard; those of one video of an annotation share one."""
    shards: list[list[SourceClip]] = [[] for _ in range(n_shards)]
    for clip in listing.clips:
        shards[shard_of(listing.video_ids.get(clip.clip_id, clip.clip_id), n_shards)].append(clip)
    return shards


def shard_digest(listing: Listing, clips: list[SourceClip]) -> str:
    """A digest of a shard's clips and files; fetching a video does not change it."""
    if listing.videos is None:
        return listing_digest(clips)
    fetched = f"{listing.videos / FETCHED}{os.sep}"
    return listing_digest(
        [
            replace(clip, path="", size_bytes=-1, modified_ns=-1)
            if clip.size_bytes < 0 or clip.path.startswith(fetched)
            else clip
            for clip in clips
        ]
    )


def describe_clips(source: Source, made_folder: str | os.PathLike[str]) -> list[Described]:
    """Subset and captions of every clip of a source; a source that is no table has neither."""
    if (annotations := annotations_of(source)) is not None:
        return describe_annotated(annotations)
    table = source_table(source, made_folder)
    if table is not None:
        return describe_table(table)
    return [Described(clip.clip_id, None, ()) for clip in list_source(source, made_folder).clips]


def clips_of(source: Source, subset: str, made_folder: str | os.PathLike[str]) -> list[Described]:
    """The clips of a subset that is made of the source's clips.

    Raises:
        AvpipeError: there are none.
    """
    described = describe_clips(source, made_folder)
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
