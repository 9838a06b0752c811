"""What the jobs of rules/media.smk do: file mode, the clips of a shard cut and brought to one frame rate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from avpipe.errors import ClipFailure
from avpipe.features.shard import clips_to_convert
from avpipe.inventory.probing import ProbedClip, read_probed
from avpipe.inventory.status import OK, ClipStatus, close_shard, read_statuses
from avpipe.io.manifest import result_directory
from avpipe.logs import Progress
from avpipe.media.clip import Clip
from avpipe.media.file_mode.convert import convert_to_rate
from avpipe.media.file_mode.trim import trim_clip
from avpipe.media.names import clip_file_name

StrPath = str | os.PathLike[str]
TRIMMED_SUFFIX = ".mov"


def trim_shard(probe: StrPath, folder: StrPath, status: StrPath, *, workers: int, timeout_seconds: float) -> None:
    """Cut every clip that has a start or an end out of its file; the others stay where they are.

    Args:
        probe: the probe table of the shard.
        folder: to be filled with the cut clips, named by `clip_file_name`.
        status: the status table to write.
        workers: clips cut at a time.
        timeout_seconds: longest time for one clip.
    """
    clips = read_probed(probe)

    def cut(clip: ProbedClip, target: Path) -> None:
        if clip.start_seconds is not None or clip.end_seconds is not None:
            source = Clip(clip.clip_id, clip.path, clip.start_seconds, clip.end_seconds)
            trim_clip(source, target / clip_file_name(clip.clip_id, TRIMMED_SUFFIX), timeout_seconds=timeout_seconds)

    with result_directory(folder) as temporary:
        statuses = _each(clips, lambda clip: cut(clip, temporary), workers, "clips cut")
    close_shard(status, (clip.clip_id for clip in clips), statuses)


def convert_fps(
    probe: StrPath,
    folder: StrPath,
    status: StrPath,
    *,
    consumers: Mapping[str, Mapping[str, Any]],
    weights_checks: Sequence[str],
    **options: Any,
) -> None:
    """Convert the clips of a shard that an extractor has yet to read.

    Args:
        probe, folder, status: as in `convert_shard`.
        consumers, weights_checks: as in `avpipe.features.shard.clips_to_convert`.
        **options: the other arguments of `convert_shard`.
    """
    wanted = clips_to_convert(str(probe), consumers, weights_checks)
    convert_shard(probe, folder, status, wanted=wanted, **options)


def convert_shard(
    probe: StrPath,
    folder: StrPath,
    status: StrPath,
    *,
    wanted: set[str],
    trimmed: Sequence[str] | None,
    rate_hz: float,
    crf: int,
    workers: int,
    timeout_seconds: float,
) -> None:
    """Bring the clips of a shard that someone has yet to read to a frame rate.

    Args:
        probe: the probe table of the shard.
        folder: to be filled with the converted clips, named by `clip_file_name`.
        status: the status table to write; a clip that is not wanted is ok.
        wanted: clip ids to convert.
        trimmed: folder and status table of the cut clips, where clips were cut before.
        rate_hz: the frame rate in Hz.
        crf: quality of the written clips.
        workers: clips converted at a time.
        timeout_seconds: longest time for one clip.
    """
    clips = read_probed(probe)
    failed = {row.clip_id: row for row in read_statuses(trimmed[1]) if row.status != OK} if trimmed else {}
    cut_clips = Path(trimmed[0]) if trimmed else None

    def convert(clip: ProbedClip, target: Path) -> None:
        convert_to_rate(
            _source(clip, cut_clips),
            target / clip_file_name(clip.clip_id),
            rate_hz=rate_hz,
            crf=crf,
            timeout_seconds=timeout_seconds,
        )

    todo = [clip for clip in clips if clip.clip_id in wanted and clip.clip_id not in failed]
    rest = [ClipStatus(clip.clip_id, OK) for clip in clips if clip.clip_id not in wanted | failed.keys()]
    with result_directory(folder) as temporary:
        statuses = _each(todo, lambda clip: convert(clip, temporary), workers, "clips converted")
    close_shard(status, (clip.clip_id for clip in clips), [*statuses, *rest, *failed.values()])


def _source(clip: ProbedClip, cut_clips: Path | None) -> Clip:
    if cut_clips is not None and (clip.start_seconds is not None or clip.end_seconds is not None):
        return Clip(clip.clip_id, cut_clips / clip_file_name(clip.clip_id, TRIMMED_SUFFIX))
    return Clip(clip.clip_id, clip.path, clip.start_seconds, clip.end_seconds)


def _each(clips: Iterable[ProbedClip], work: Callable[[ProbedClip], None], workers: int, what: str) -> list[ClipStatus]:
    """Do the work for every clip, some at a time (ffmpeg runs in processes of its own), and collect statuses."""
    clips = list(clips)
    progress = Progress(len(clips), what)

    def attempt(clip: ProbedClip) -> ClipStatus:
        try:
            work(clip)
        except ClipFailure as failure:
            return ClipStatus(clip.clip_id, failure.reason.value, failure.detail)
        return ClipStatus(clip.clip_id, OK)

    statuses = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for status in pool.map(attempt, clips):
            statuses.append(status)
            if status.status == OK:
                progress.succeeded()
            else:
                progress.fell_out(status.clip_id, status.status, status.detail)
    progress.close()
    return statuses
