"""A clip rewritten at a fixed frame rate, near-lossless, for programs that cannot stream its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avpipe.errors import ClipFailure, Reason
from avpipe.io.atomic import atomic_path
from avpipe.media.clip import Clip
from avpipe.media.cut import Cut, make_cut
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.file_mode.ffmpeg_graph import as_ratio, h264_format, job, on_cut_clock, open_inputs
from avpipe.media.framerate import Seconds, frame_rate, slot_of
from avpipe.media.timeline import (
    AudioPlan,
    Timeline,
    VideoPlan,
    plan_audio,
    plan_frame_count,
    plan_video,
    read_timeline,
)

_FLAC_CHANNELS = 2  # FLAC knows few layouts beyond stereo; those are rare and stay PCM


def convert_to_rate(
    source: Clip,
    target: Path,
    *,
    rate_hz: Seconds,
    crf: int,
    timeout_seconds: float | None,
    threads: int = 1,
) -> int:
    """Write a clip as H.264 at a fixed frame rate with lossless sound at its own rate, in Matroska.

    Frame k is the frame that `decode.decode_video` gives as its k-th with `orientation="upright"`, but for the
    compression; there is no rotation tag. Sample 0 of the sound is the start of the clip. The file appears whole
    or not at all.

    Args:
        source: the clip; its segment is cut as `decode.decode_video` cuts it.
        target: a path ending in .mkv.
        rate_hz: frames a second.
        crf: libx264's constant rate factor, 0 (lossless) to 51; below 18 the loss is hard to see.
        timeout_seconds: after which ffmpeg is killed; None: never.
        threads: decoder and encoder threads.

    Returns:
        number of frames in the file written, which is the one that follows from the source's time stamps (`framerate`).

    Raises:
        ValueError: the target does not end in .mkv, or the segment makes no sense.
        ClipFailure: MISSING, NO_VIDEO, TIMEOUT, TOO_SHORT (less than half an output frame), DECODE_ERROR
            (also when the file written does not hold the frames expected).
        AvpipeError: the disk is full.
    """
    if target.suffix != ".mkv":
        raise ValueError(f"{target}: expected a target that ends in .mkv")
    cut = make_cut(source.start_seconds, source.end_seconds)
    timeline = read_timeline(source.path, decode=not cut.is_whole)
    plan = plan_video(timeline, cut, source.path, begins_at_zero=not cut.is_whole)
    expected = plan_frame_count(plan, rate_hz)
    if expected == 0:
        raise ClipFailure(Reason.TOO_SHORT, f"{source.path}: no frame at {float(rate_hz):g} frames a second")
    audio = plan_audio(source.path, timeline, cut)
    with atomic_path(target) as temporary:
        output = _build_job(source.path, temporary, timeline, cut, plan, audio, rate_hz, crf, threads)
        run_ffmpeg(output, source.path, timeout_seconds=timeout_seconds, threads=threads)
        frames = len(read_timeline(temporary).times)
        if frames != expected:
            found = f"ffmpeg wrote {frames} frames, its time stamps ask for {expected}"
            raise ClipFailure(Reason.DECODE_ERROR, f"{source.path}: {found}; fetch it again")
    return frames


def _build_job(
    path: Path,
    target: Path,
    timeline: Timeline,
    cut: Cut,
    plan: VideoPlan,
    audio: AudioPlan | None,
    rate_hz: Seconds,
    crf: int,
    threads: int,
) -> Any:
    video, sound = open_inputs(path, timeline, cut, audio=audio, threads=threads)
    video, _ = on_cut_clock(video, timeline, cut, begins_at_zero=not cut.is_whole)
    video = video.filter("fps", fps=as_ratio(frame_rate(rate_hz)))
    late = slot_of(plan.times[0], rate_hz)
    if late:  # rule 4 of `framerate`; the filter's own start_time would repeat a frame that it then drops
        video = video.filter("tpad", start=late, start_mode="clone").filter("setpts", "N")
    if cut.end is not None:
        # Exact, since no frame from after the end is due before it. (The option -frames:v would cut the sound, too.)
        video = video.filter("trim", end_frame=plan_frame_count(plan, rate_hz))
    options: dict[str, Any] = {
        "c:v": "libx264",
        "crf": crf,
        "preset": "veryfast",
        "pix_fmt": h264_format(timeline.pixel_format, timeline.width, timeline.height),
        "threads": threads,
    }
    if audio is not None:
        options["c:a"] = "flac" if audio.channels <= _FLAC_CHANNELS else "pcm_s16le"
    return job(target, "matroska", video, sound, audio, options)
