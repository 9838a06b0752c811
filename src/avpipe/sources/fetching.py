"""The videos of a shard: those that are there, those that were asked for before, and fetching the others."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avpipe.errors import AvpipeError, Reason
from avpipe.io.atomic import remove_debris
from avpipe.logs import Progress
from avpipe.sources.annotated import WantedVideo
from avpipe.sources.folders import VIDEO_SUFFIXES
from avpipe.sources.hosts import Hosts, HostStoppedError, host_of
from avpipe.sources.records import NOT_TRIED, OK, VideoRecord, read_record, today, write_record
from avpipe.sources.settings import Downloads
from avpipe.sources.video_files import VideoFile, fetched_stem, find_videos
from avpipe.sources.youtube.messages import Again
from avpipe.sources.youtube.video import VideoOutcome, VideoRequest, fetch_video, require_yt_dlp

_LINES_TOLD = 10
LOCAL, NO_ADDRESS, NOT_ALLOWED, LOST = "local", "no_address", "not_allowed", "lost"
_WHAT_TO_DO = (
    "What has come stays. Wait some hours, or set downloads.cookies or HTTPS_PROXY, or take an archive of the videos "
    "(docs/sources.md, Videos), then run the same command again."
)
_NEXT_STEP = {
    "tool_outdated": "Update yt-dlp (pip install -U 'yt-dlp[default]'), then run the same command again.",
    "tls": "If your network has certificates of its own, set SSL_CERT_FILE to them, then run the same command again.",
    "disk_full": "Make room, then run the same command again: what has come stays.",
}


@dataclass
class Fetcher:
    """Fetches the videos of a dataset.

    Attributes:
        folder: of its videos.
        hosts: whose turn it is.
        settings: how patiently.
        needs_sound: whether a video without sound is incomplete.
        sleep: waits.
    """

    folder: Path
    hosts: Hosts
    settings: Downloads
    needs_sound: bool = True
    sleep: Callable[[float], None] = time.sleep

    def bring_up_to_date(self, videos: Sequence[WantedVideo], *, may_fetch: bool) -> list[VideoRecord]:
        """A record for each video; those that may still be had are fetched.

        Raises:
            AvpipeError: some could not be tried (their host is left alone, or yt-dlp said what is not known), after all
                others; records of what was tried are kept.
        """
        names = {name for video in videos for name in (video.video_id, *video.clip_ids)}
        files, _ = find_videos(self.folder, names)
        records = {video.video_id: self._known(video, files) for video in videos}
        day = today()
        left = [video for video in videos if may_fetch and video.url and not records[video.video_id].is_settled(day)]
        if not left:
            return list(records.values())
        require_yt_dlp()
        for folder in {fetched_stem(self.folder, video.video_id).parent for video in videos}:
            remove_debris(folder)
        progress = Progress(len(left), "videos")
        faults: dict[str, str] = {}
        for video in left:
            self._try(video, records, faults)
            self._count(records, video, progress)
        for video in left:  # a wall that was met alone
            if records[video.video_id].outcome == NOT_TRIED and video.video_id not in faults:
                self._try(video, records, faults)
        progress.close()
        _refuse(left, records, faults)
        return list(records.values())

    def _known(self, video: WantedVideo, files: Mapping[str, VideoFile]) -> VideoRecord:
        """What is known of a video without asking anybody."""
        name, stem = video.video_id, fetched_stem(self.folder, video.video_id)
        file, record = files.get(name), read_record(stem)
        if file is not None and Path(file.path).parent != stem.parent:
            return VideoRecord(name, OK, LOCAL, bytes=file.size_bytes, origin=LOCAL, path=file.path)
        if file is not None and (record is None or record.outcome != OK):  # who fetched it was killed before noting so
            return _found(video, Path(file.path))
        if file is not None and record is not None and record.bytes == file.size_bytes:
            return replace(record, path=file.path)
        if file is None and all(clip in files for clip in video.clip_ids):
            return VideoRecord(name, OK, LOCAL, "its clips are there", origin=LOCAL, path=files[video.clip_ids[0]].path)
        if record is not None and record.outcome != OK:
            return replace(record, path=str(stem))
        if not video.url:
            return VideoRecord(name, Reason.MISSING.value, NO_ADDRESS, "no file of this name", path=str(stem))
        cause, detail = NOT_ALLOWED, "no file, and allow_download is false"
        if record is not None:
            cause, detail = LOST, "what was fetched is gone or changed"
        before = VideoRecord(name, NOT_TRIED, cause) if record is None else record
        return replace(before, outcome=NOT_TRIED, cause=cause, detail=detail, again=Again.NOW.value, path=str(stem))

    def _try(self, video: WantedVideo, records: dict[str, VideoRecord], faults: dict[str, str]) -> None:
        """Ask for a video once, unless its host is left alone."""
        stem = fetched_stem(self.folder, video.video_id)
        try:
            with self.hosts.turn(video.url) as turn:
                _remove_files(stem)
                outcome = fetch_video(self._request(video), stem, sleep=self.sleep)
                is_wall = outcome.again in (Again.STOP_HOST, Again.STOP_RUN)
                if is_wall:
                    turn.walled(outcome.cause, outcome.detail, is_final=outcome.again is Again.STOP_RUN)
        except AvpipeError as error:
            faults[video.video_id] = str(error)
            records[video.video_id] = replace(
                records[video.video_id],
                outcome=NOT_TRIED,
                cause="stopped" if isinstance(error, HostStoppedError) else "unknown",
            )
            return
        records[video.video_id] = record = _record(video, stem, outcome, records[video.video_id])
        if not is_wall:  # which says nothing of the video
            write_record(stem, record)

    def _request(self, video: WantedVideo) -> VideoRequest:
        return VideoRequest(
            video.url,
            needs_sound=self.needs_sound,
            seconds=video.seconds,
            max_height=self.settings.max_height,
            timeout_seconds=self.settings.timeout_seconds + (video.seconds or 0.0),
            tries=self.settings.tries,
            cookies=self.settings.cookies,
            segment=video.segment,
        )

    def _count(self, records: Mapping[str, VideoRecord], video: WantedVideo, progress: Progress) -> None:
        """A line now and then: how many, by outcome, and how much."""
        outcomes = Counter(record.outcome for record in records.values())
        fetched = sum(record.bytes or 0 for record in records.values() if record.origin not in ("", LOCAL))
        progress.note = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        progress.note += f", {fetched / 1e6:,.1f} MB"
        record = records[video.video_id]
        if record.outcome == OK:
            progress.succeeded()
        else:
            progress.fell_out(video.video_id, record.outcome, f"{record.cause}: {record.detail}")


def _record(video: WantedVideo, stem: Path, outcome: VideoOutcome, before: VideoRecord) -> VideoRecord:
    """What became of a video that was asked for."""
    day, path = today().isoformat(), outcome.path
    reason = NOT_TRIED if outcome.reason is None else outcome.reason.value
    return VideoRecord(
        video.video_id,
        OK if path else reason,
        outcome.cause,
        outcome.detail,
        outcome.again.value,
        before.tries + outcome.tries,
        before.first_tried or day,
        day,
        path.stat().st_size if path else None,
        _sha256(path) if path else None,
        outcome.seconds,
        outcome.format,
        outcome.version,
        host_of(video.url),
        str(path or stem),
    )


def _found(video: WantedVideo, path: Path) -> VideoRecord:
    return VideoRecord(
        video.video_id, OK, OK, bytes=path.stat().st_size, sha256=_sha256(path), origin=host_of(video.url),
        path=str(path),
    )  # fmt: skip


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove_files(stem: Path) -> None:
    """Remove what an earlier run fetched of a video and what is no longer what came."""
    if stem.parent.is_dir():
        for path in stem.parent.iterdir():
            if path.stem == stem.name and path.suffix.lower() in VIDEO_SUFFIXES:
                path.unlink()


def _refuse(videos: Sequence[WantedVideo], records: Mapping[str, VideoRecord], faults: Mapping[str, str]) -> None:
    """Raise AvpipeError if a video was not really tried."""
    untried = [records[video.video_id] for video in videos if records[video.video_id].outcome == NOT_TRIED]
    if not untried:
        return
    told = list(dict.fromkeys(faults.values())) or [f"{untried[0].video_id}: {untried[0].cause} {untried[0].detail}"]
    causes = {cause for cause in _NEXT_STEP if any(f" {cause} " in f" {line} " for line in told)}
    steps = " ".join(_NEXT_STEP[cause] for cause in sorted(causes)) or _WHAT_TO_DO
    raise AvpipeError(
        f"{len(untried)} of {len(videos)} videos could not be asked for:\n"
        + "\n".join(f"  - {line}" for line in told[:_LINES_TOLD])
        + ("\n  - …" if len(told) > _LINES_TOLD else "")
        + f"\n{steps}"
    )
