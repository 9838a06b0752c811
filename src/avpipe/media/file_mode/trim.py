"""A segment of a file cut out without loss, at any frame and any sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from avpipe.errors import ClipFailure, Reason
from avpipe.io.atomic import atomic_path
from avpipe.media.clip import Clip
from avpipe.media.cut import Cut, make_cut
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.file_mode.ffmpeg_graph import job, keeps_in_h264, on_cut_clock, open_inputs
from avpipe.media.timeline import AudioPlan, Timeline, VideoPlan, plan_audio, plan_video, read_timeline

# libx264 is lossless at quantiser 0 for 8-bit pictures only; FFV1 is for all, but larger and slower.
_EIGHT_BIT = 8
_FFV1_SUBSTITUTES = {"rgb24": "bgr0", "bgr24": "bgr0", "pal8": "bgra", "rgb0": "bgr0", "rgba": "bgra"}


def trim_clip(source: Clip, target: Path, *, timeout_seconds: float | None, threads: int = 1) -> int:
    """Cut a segment out of a file: same pixels, same spacing of time stamps, sound as 16-bit samples.

    A picture with a rotation tag is written turned upright, without the tag: the pixels are those of
    `decode.decode_video` with `orientation="upright"`.

    The first frame is the one on the screen when the segment begins; it gets time stamp 0, and the others
    keep their distance from the segment's start to the tick, which QuickTime can store and Matroska (1 ms)
    cannot. Sample 0 of the sound is the start of the segment. The file appears whole or not at all.

    Args:
        source: the clip.
        target: a path ending in .mov.
        timeout_seconds: after which ffmpeg is killed; None: never.
        threads: decoder and encoder threads.

    Returns:
        number of frames in the file written.

    Raises:
        ValueError: the target does not end in .mov, or the segment makes no sense.
        ClipFailure: MISSING, NO_VIDEO, TIMEOUT, TOO_SHORT (the video ends before the segment begins),
            DECODE_ERROR (also when the file written does not hold the frames and times expected).
        AvpipeError: the disk is full.
    """
    if target.suffix != ".mov":
        raise ValueError(f"{target}: expected a target that ends in .mov")
    cut = make_cut(source.start_seconds, source.end_seconds)
    timeline = read_timeline(source.path, decode=True)
    audio = plan_audio(source.path, timeline, cut)
    # Without sound from 0 on, a file cannot say that its video begins late.
    plan = plan_video(timeline, cut, source.path, begins_at_zero=audio is None or not cut.is_whole)
    with atomic_path(target) as temporary:
        output = _build_job(source.path, temporary, timeline, cut, plan, audio, threads)
        run_ffmpeg(output, source.path, timeout_seconds=timeout_seconds, threads=threads)
        _check_written(source.path, read_timeline(temporary), plan)
    return len(plan.times)


def _check_written(path: Path, written: Timeline, plan: VideoPlan) -> None:
    if written.times != plan.times or written.end != plan.end:
        found = f"{len(written.times)} frames that end at {float(written.end):.6f} s"
        expected = f"{len(plan.times)} frames that end at {float(plan.end):.6f} s"
        detail = f"{path}: ffmpeg wrote {found}, the source's time stamps ask for {expected}; fetch it again"
        raise ClipFailure(Reason.DECODE_ERROR, detail)


def _build_job(
    path: Path,
    target: Path,
    timeline: Timeline,
    cut: Cut,
    plan: VideoPlan,
    audio: AudioPlan | None,
    threads: int,
) -> Any:
    video, sound = open_inputs(path, timeline, cut, audio=audio, threads=threads)
    video = _select_frames(video, timeline, plan)
    video, clock = on_cut_clock(video, timeline, cut, begins_at_zero=plan.times[0] == 0)
    # A file's last frame lasts as long as its packet says, and the filters above do not say.
    last, last_ticks = round(plan.times[-1] * clock), round((plan.end - plan.times[-1]) * clock)
    options: dict[str, Any] = {
        **_lossless_codec(timeline),
        "bsf:v": f"setts=duration=if(gte(PTS\\,{last})\\,{last_ticks}\\,DURATION)",
        "fps_mode": "passthrough",
        "enc_time_base:v": f"1:{clock}",
        "video_track_timescale": clock,
        "threads": threads,
    }
    if audio is not None:
        options["c:a"] = "pcm_s16le"
    return job(target, "mov", video, sound, audio, options)


def _select_frames(video: Any, timeline: Timeline, plan: VideoPlan) -> Any:
    """Keep the planned frames, told by their time stamps in the file's own clock."""
    first = round(plan.first / timeline.time_base) + timeline.origin
    video = video.filter("select", f"gte(pts,{first})")
    return video.filter("trim", end_frame=len(plan.times))


def _lossless_codec(timeline: Timeline) -> dict[str, Any]:
    pixel_format = timeline.pixel_format
    deepest = max(component.bits for component in av.VideoFormat(pixel_format).components)
    if deepest == _EIGHT_BIT and keeps_in_h264(pixel_format, timeline.width, timeline.height):
        return {"c:v": "libx264", "qp": 0, "preset": "ultrafast", "pix_fmt": pixel_format}
    return {"c:v": "ffv1", "pix_fmt": _FFV1_SUBSTITUTES.get(pixel_format, pixel_format)}
