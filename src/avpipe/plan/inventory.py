"""What rules/inventory.smk asks: the shards of a dataset and the clips in them."""

from __future__ import annotations

import functools
from pathlib import Path
from urllib.parse import quote

from avpipe.errors import AvpipeError
from avpipe.inventory.kept import keep, read_digest
from avpipe.plan.features import extracted
from avpipe.plan.project import Project
from avpipe.sources.folders import Listing, PassedOver, describe
from avpipe.sources.listing import has_video_folder, list_source, shard_digest, split_into_shards
from avpipe.sources.listing import source_folder as listing_folder
from avpipe.sources.local import SourceClip


def shards(project: Project, dataset: str) -> list[str]:
    """Names of a dataset's shards."""
    return [f"{shard:04d}" for shard in range(project.dataset(dataset).n_shards)]


@functools.cache
def look_through(project: Project, dataset: str) -> Listing:
    """What the source holds now; what of it is no clip is told in a line."""
    found = list_source(project.dataset(dataset).source, project.made_folder(dataset))
    if found.ignored and project.tell:
        project.tell(f"{dataset}: passed over in the source: {describe(found.passed_over())}.")
    return found


def passed_over(project: Project, dataset: str) -> PassedOver:
    """What of the source is no clip; nothing for data that the pipeline makes, or that another run has listed."""
    is_listed = not project.is_synthetic(dataset) and project.dataset(dataset).features_from is None
    return look_through(project, dataset).passed_over() if is_listed else {}


def source_folder(project: Project, dataset: str) -> str:
    """What paths are told relative to in results."""
    return str(listing_folder(project.dataset(dataset).source, project.made_folder(dataset)))


@functools.cache
def shard_listings(project: Project, dataset: str) -> list[list[SourceClip]]:
    """The clips of every shard, as the source lists them now."""
    return split_into_shards(look_through(project, dataset), project.dataset(dataset).n_shards)


def kept_listing(project: Project, dataset: str, shard: str) -> str | None:
    """Where the clips of a shard are kept for the job that writes its inventory; None where it lists them itself.

    Data that the pipeline makes, and videos that it fetches, are not there yet while it plans.
    """
    if project.is_synthetic(dataset) or has_video_folder(project.dataset(dataset).source):
        return None
    # Two modules of one workflow may have a dataset of one name.
    return f".snakemake/avpipe_listing/{quote(project.paths.results, safe='')}/{dataset}/{shard}.json"


@functools.cache
def keep_listing(project: Project, dataset: str) -> None:
    """Keep the clips of every shard, so that jobs need not list the source again."""
    if not extracted(project, dataset):
        return
    for shard in shards(project, dataset):
        if (kept := kept_listing(project, dataset, shard)) is not None:
            clips = shard_listings(project, dataset)[int(shard)]
            keep(clips, shard_digest(look_through(project, dataset), clips), Path(kept))


def listing(project: Project, dataset: str, shard: str) -> str | None:
    """A digest of a shard's clips and files; None for data that the pipeline makes itself.

    As a param it makes a shard run again when, and only when, one of its clips comes, goes or changes. In a job it is
    that of what planning has kept, whatever the source holds by then.

    Raises:
        AvpipeError: there is no such shard, or the source is not in order.
    """
    names = shards(project, dataset)
    if shard not in names:
        raise AvpipeError(f"{dataset} has the shards {names[0]} to {names[-1]} (n_shards), not {shard}.")
    if project.is_synthetic(dataset):
        return None
    kept = kept_listing(project, dataset, shard)
    if project.tell is None and kept is not None and (digest := read_digest(kept)) is not None:
        return digest
    return shard_digest(look_through(project, dataset), shard_listings(project, dataset)[int(shard)])
