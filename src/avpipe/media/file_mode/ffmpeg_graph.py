"""The parts that the two ffmpeg jobs, `trim` and `convert`, share."""

from __future__ import annotations

import bisect
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg

from avpipe.media.cut import Cut, exact_clock
from avpipe.media.source import SEEK_MARGIN, media_url
from avpipe.media.timeline import AudioPlan, Timeline

# What libx264 takes and an H.264 decoder gives back under the same name. (Grey comes back as yuvj420p.)
_H264_FORMATS = frozenset(
    f"yuv{kind}" for kind in ("420p", "422p", "444p", "j420p", "j422p", "j444p", "420p10le", "422p10le", "444p10le")
)


def keeps_in_h264(pixel_format: str, width: int, height: int) -> bool:
    """Tell whether libx264 can keep pictures of this format and size as they are.

    With subsampled colour it refuses odd sizes.
    """
    if pixel_format not in _H264_FORMATS:
        return False
    return ("422" in pixel_format or "444" in pixel_format or height % 2 == 0) and (
        "444" in pixel_format or width % 2 == 0
    )


def h264_format(pixel_format: str, width: int, height: int) -> str:
    """Choose the pixel format for H.264: the source's own, or one with full colour resolution."""
    if keeps_in_h264(pixel_format, width, height):
        return pixel_format
    deep = any(component.bits > 8 for component in av.VideoFormat(pixel_format).components)
    if pixel_format.startswith("yuvj"):
        return "yuvj444p"
    return "yuv444p10le" if deep else "yuv444p"


def open_inputs(
    path: Path, timeline: Timeline, cut: Cut, *, audio: AudioPlan | None, threads: int
) -> tuple[Any, Any | None]:
    """Give ffmpeg-python's video and audio streams of the source, to be run with `-copyts`.

    The video is read from the last key frame before the segment where the container's index is exact; the
    sound always from the beginning, so that its samples can be counted. A rotation tag is followed and left out
    of what is written, so that the pictures are those of `decode` upright, whoever shows them.
    """
    # The program would follow tags of odd angles, too, which are ignored here.
    options: dict[str, Any] = {"threads": threads} | ({} if timeline.steps else {"noautorotate": None})
    keys_before = bisect.bisect_right(timeline.keys, cut.start - SEEK_MARGIN)
    if keys_before:
        options |= {"noaccurate_seek": None, "ss": f"{float(timeline.keys[keys_before - 1]):.6f}"}
    source = ffmpeg.input(media_url(path), **options)
    video = source[str(timeline.video_index)]
    if audio is None:
        return video, None
    listened = ffmpeg.input(media_url(path), threads=threads) if keys_before else source
    return video, listened[str(timeline.audio_index)]


def on_cut_clock(video: Any, timeline: Timeline, cut: Cut, *, begins_at_zero: bool) -> tuple[Any, int]:
    """Put a video stream on a clock on which the segment's start is 0 and every time stamp exact.

    Args:
        video: ffmpeg-python's video stream.
        timeline, cut: the file's and the segment.
        begins_at_zero: whether the first frame is moved to 0 where the video begins after the segment does.

    Returns:
        the stream, and its clock's ticks per second. Frames from before the segment have time stamp 0.
    """
    clock = exact_clock(timeline.time_base)
    zero = zero_ticks(timeline, cut, clock)
    shifted = f"max(PTS-{zero},0)"
    if begins_at_zero:
        shifted = f"if(eq(N,0),0,{shifted})"
    return video.filter("settb", f"1/{clock}").filter("setpts", shifted), clock


def zero_ticks(timeline: Timeline, cut: Cut, clock: int) -> int:
    """Give the start of a segment in ticks of `clock`, counted as the file's own time stamps are."""
    return round((timeline.origin * timeline.time_base + cut.start) * clock)


def cut_audio(audio: Any, plan: AudioPlan) -> Any:
    """Cut a sound stream at the sample, as 16-bit samples that begin with the segment."""
    bounds = {"start_sample": plan.first} | ({} if plan.end is None else {"end_sample": plan.end})
    audio = _with_pauses(audio.filter("aformat", sample_fmts="s16"), plan.pauses).filter("atrim", **bounds)
    if plan.silence:
        audio = audio.filter("adelay", f"{plan.silence}S", all=1)
    return audio.filter("asetpts", "N/SR/TB")


def _with_pauses(audio: Any, pauses: list[tuple[int, int]]) -> Any:
    """Put silence where a sound stream pauses, which the program would join."""
    if not pauses:
        return audio
    branches = audio.filter_multi_output("asplit", len(pauses) + 1)
    parts, begin = [], 0
    for number, (end, silence) in enumerate(pauses):
        part = branches[number].filter("atrim", start_sample=begin, end_sample=end).filter("asetpts", "N/SR/TB")
        parts.append(part.filter("apad", pad_len=silence) if silence > 0 else part)
        begin = end - min(silence, 0)
    parts.append(branches[len(pauses)].filter("atrim", start_sample=begin).filter("asetpts", "N/SR/TB"))
    return ffmpeg.concat(*parts, v=0, a=1)


def job(target: Path, form: str, video: Any, sound: Any, audio: AudioPlan | None, options: dict[str, Any]) -> Any:
    """Give ffmpeg-python's output of the two streams to a file, which has the same bytes every time.

    Args:
        target: the file.
        form: FFmpeg's name of its container.
        video, sound: streams of `open_inputs`; the sound is cut here.
        audio: how; None: no sound.
        options: codecs and their settings.
    """
    streams = [video] if audio is None else [video, cut_audio(sound, audio)]
    options = options | {"fflags": "+bitexact", "map_metadata": -1}
    return ffmpeg.output(*streams, media_url(target), f=form, **options).global_args("-copyts")


def as_ratio(rate: Fraction) -> str:
    """Write a rate the way ffmpeg reads it."""
    return f"{rate.numerator}/{rate.denominator}"
