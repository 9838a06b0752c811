"""What became of a dataset's videos so far, asking for some again, and taking videos that somebody else has got."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from avpipe.errors import AvpipeError, ClipFailure
from avpipe.io import manifest
from avpipe.io.atomic import atomic_path
from avpipe.plan import videos
from avpipe.plan.inventory import shards, source_folder
from avpipe.plan.project import Project
from avpipe.sources.annotated import WantedVideo
from avpipe.sources.fetching import Fetcher
from avpipe.sources.hosts import Hosts
from avpipe.sources.local import shard_of
from avpipe.sources.records import OK, VideoRecord, record_path, write_record
from avpipe.sources.video_files import fetched_stem, find_videos
from avpipe.sources.youtube.video import check_video


def known_records(project: Project, dataset: str) -> list[VideoRecord]:
    """A record for each video as it is now; nobody is asked.

    Raises:
        AvpipeError: the dataset's source names no videos.
    """
    wanted = _wanted(project, dataset)
    fetcher = Fetcher(
        Path(source_folder(project, dataset)),
        Hosts(Path(project.paths.hosts()), project.config.downloads.pause_seconds),
        project.config.downloads,
    )
    return fetcher.bring_up_to_date(wanted, may_fetch=False)


def ask_again(project: Project, dataset: str, causes: Collection[str]) -> list[VideoRecord]:
    """Forget what became of the videos with some causes, so that the next run asks for them.

    Raises:
        AvpipeError: no video has such a cause.
    """
    records = known_records(project, dataset)
    chosen = [record for record in records if record.cause in causes and record.outcome != OK]
    if not chosen:
        known = sorted({record.cause for record in records if record.outcome != OK})
        raise AvpipeError(
            f"{dataset}: no video has the cause {' or '.join(sorted(causes))}; there is "
            f"{', '.join(known) or 'no video that lacks'}."
        )
    folder = Path(source_folder(project, dataset))
    for record in chosen:
        record_path(fetched_stem(folder, record.video_id)).unlink(missing_ok=True)
    names = {record.video_id for record in chosen}
    _forget_tables(project, dataset, (video for video in _wanted(project, dataset) if video.video_id in names))
    return chosen


@dataclass(frozen=True)
class Imported:
    """What `import_videos` did: names of files that were taken, and of others with the reason."""

    taken: list[str]
    refused: dict[str, str]


def import_videos(project: Project, dataset: str, folder: Path) -> Imported:
    """Take the videos and clips of a folder that are named after those that a dataset lacks.

    Files are linked where that is possible, else copied; each is looked into first.

    Raises:
        AvpipeError: the folder cannot be read, or has two files of one name.
    """
    if not folder.is_dir():
        raise AvpipeError(f"{folder} is no folder. Give the one with the videos.")
    wanted, target = _wanted(project, dataset), Path(source_folder(project, dataset))
    video_of = {name: video for video in wanted for name in (*video.clip_ids, video.video_id)}
    there, _ = find_videos(target, video_of.keys())
    found, _ = find_videos(folder, video_of.keys() - there.keys())
    needs_sound = project.dataset(dataset).require_audio
    taken, refused = [], {}
    for name, file in sorted(found.items()):
        source, is_video = Path(file.path), name == video_of[name].video_id
        try:
            seconds = check_video(source, needs_sound, video_of[name].seconds if is_video else None)
        except ClipFailure as failure:
            refused[name] = f"{failure.reason.value}: {failure.detail}"
            continue
        stem = fetched_stem(target, name)
        _take(source, stem.with_name(stem.name + source.suffix))
        if is_video:
            _note(stem, name, source, seconds)
        taken.append(name)
    _forget_tables(project, dataset, (video_of[name] for name in taken))
    return Imported(taken, refused)


def _take(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)


def _note(stem: Path, name: str, source: Path, seconds: float) -> None:
    record = VideoRecord(name, OK, "import", origin="import", seconds=seconds, bytes=source.stat().st_size)
    write_record(stem, replace(record, path=str(stem.with_name(stem.name + source.suffix))))


def _forget_tables(project: Project, dataset: str, chosen: Iterable[WantedVideo]) -> None:
    """Remove the tables of the shards of some videos, which the next run makes again."""
    n_shards, names = project.dataset(dataset).n_shards, shards(project, dataset)
    for shard in {shard_of(video.shard_key, n_shards) for video in chosen}:
        manifest.remove(Path(project.paths.availability(dataset, names[shard])))


def _wanted(project: Project, dataset: str) -> list[WantedVideo]:
    found = videos.videos(project, dataset)
    if not found:
        raise AvpipeError(
            f"{dataset} names no videos: its source is neither an annotation nor a table with the column url."
        )
    return found
