"""What rules/videos.smk asks: the videos of an annotation, which of them are fetched, and how many are left."""

from __future__ import annotations

import functools

from avpipe.io.manifest import digest_json
from avpipe.plan import inventory
from avpipe.plan.inventory import look_through
from avpipe.plan.project import Project
from avpipe.sources.annotated import WantedVideo, wanted_videos, without_files
from avpipe.sources.annotations.clips import Annotations
from avpipe.sources.fetching import NOT_ALLOWED
from avpipe.sources.hosts import host_of
from avpipe.sources.listing import annotations_of, source_folder
from avpipe.sources.local import shard_of
from avpipe.sources.records import OK, VideoRecord, read_record, today
from avpipe.sources.video_files import fetched_stem

_YOUTUBE_SECONDS = 15.0  # for a video itself, beside the pause


@functools.cache
def annotated(project: Project, dataset: str) -> Annotations | None:
    """What an annotation says of a dataset's clips; None for a source of another kind.

    Raises:
        AvpipeError: it is not in order.
    """
    return annotations_of(project.dataset(dataset).source)


@functools.cache
def videos(project: Project, dataset: str) -> list[WantedVideo]:
    """The videos of a dataset's annotation; none for a source of another kind."""
    found = annotated(project, dataset)
    return [] if found is None else wanted_videos(found)


def are_fetched(project: Project, dataset: str) -> bool:
    """Whether some of the videos have an address, so that what became of each is kept in a table."""
    return any(video.url for video in videos(project, dataset))


def of_shard(project: Project, dataset: str, shard: str) -> list[WantedVideo]:
    """The videos of a shard."""
    n_shards = project.dataset(dataset).n_shards
    return [video for video in videos(project, dataset) if shard_of(video.shard_key, n_shards) == int(shard)]


def digest(project: Project, dataset: str, shard: str) -> str:
    """A digest of a shard's videos and addresses; what is left to fetch is told once."""
    _tell_left(project, dataset)
    return digest_json([(video.video_id, video.url, video.clip_ids) for video in of_shard(project, dataset, shard)])


def mode(project: Project, dataset: str, shard: str) -> str:
    """`fetched` or `local`: how the shard's table was made, or is to be made where it leaves videos untried.

    As a param it makes a shard run again when, and only when, a download is allowed now and would change something.
    """
    known = _mode_of(project, project.paths.availability(dataset, shard))
    if project.config.allow_download and (known is None or known[1]):
        return "fetched"
    return "local" if known is None else known[0]


@functools.cache
def left(project: Project, dataset: str) -> list[WantedVideo]:
    """The videos that lie nowhere, that have an address, and that a run would ask for, if it may."""
    return [video for video in _unsettled(project, dataset) if not _is_done(project, dataset, video)]


@functools.cache
def _unsettled(project: Project, dataset: str) -> dict[WantedVideo, VideoRecord | None]:
    """The videos that lie nowhere and that another try may bring -> what became of each."""
    absent = _absent(project, dataset).items()
    return {video: record for video, record in absent if record is None or not record.is_settled(today())}


def _is_done(project: Project, dataset: str, video: WantedVideo) -> bool:
    """Whether every video of its shard was tried or is there: no run asks again by itself."""
    shard = inventory.shards(project, dataset)[shard_of(video.shard_key, project.dataset(dataset).n_shards)]
    known = _mode_of(project, project.paths.availability(dataset, shard))
    return known is not None and not known[1]


@functools.cache
def _mode_of(project: Project, table: str) -> tuple[str, int] | None:
    from avpipe.sources.availability import read_mode

    return read_mode(table)


@functools.cache
def _absent(project: Project, dataset: str) -> dict[WantedVideo, VideoRecord | None]:
    """The videos that lie nowhere and that have an address -> what became of each."""
    folder = source_folder(project.dataset(dataset).source, project.made_folder(dataset))
    absent = without_files(videos(project, dataset), look_through(project, dataset))
    return {video: read_record(fetched_stem(folder, video.video_id)) for video in absent if video.url}


def days(project: Project, wanted: list[WantedVideo]) -> float:
    """How long fetching takes at the present pauses, at least; hosts other than YouTube's are not counted."""
    from_youtube = sum(host_of(video.url) == "youtube" for video in wanted)
    return from_youtube * (sum(project.config.downloads.pause_seconds) / 2 + _YOUTUBE_SECONDS) / 86_400


def describe_left(project: Project, dataset: str) -> str:
    """How many videos are left to fetch, did not come, or were fetched and are gone, in sentences; "" where none is."""
    parts = (_describe_left, describe_tried, _describe_lost)
    return " ".join(filter(None, (part(project, dataset) for part in parts)))


def describe_tried(project: Project, dataset: str) -> str:
    """How many videos no run asks for by itself though they may be had now, and what does; "" where none is."""
    tried = [
        NOT_ALLOWED if record is None else record.cause
        for video, record in _unsettled(project, dataset).items()
        if _is_done(project, dataset, video)
    ]
    if not tried:
        return ""
    causes = " ".join(f"--cause {cause}" for cause in sorted(set(tried)))
    return (
        f"{dataset}: {len(tried):,} videos are not there and no run asks for them by itself: "
        f"`avpipe sources retry {dataset} {causes}` has one try again."
    )


def _describe_lost(project: Project, dataset: str) -> str:
    lost = sum(record is not None and record.outcome == OK for record in _absent(project, dataset).values())
    if not lost:
        return ""
    return (
        f"{dataset}: {lost:,} videos were fetched and are gone from the disk: where features have to be made again, "
        f"their clips count as missing. `avpipe sources retry {dataset} --cause lost` has a run fetch them again."
    )


def _describe_left(project: Project, dataset: str) -> str:
    wanted = left(project, dataset)
    if not wanted:
        return ""
    text = f"{dataset}: {len(wanted):,} of {len(videos(project, dataset)):,} videos are not there"
    if not project.config.allow_download:
        return f"{text} and are not fetched, since allow_download is false: their clips count as missing."
    took = days(project, wanted)
    slow = f"; at the present pauses YouTube's take {took:.1f} days or more" if took else ""
    return f"{text} and are fetched shard by shard{slow}."


@functools.cache
def _tell_left(project: Project, dataset: str) -> None:
    text = describe_left(project, dataset)
    if text and project.tell is not None:
        project.tell(text)
