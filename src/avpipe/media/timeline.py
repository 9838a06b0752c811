"""When the frames of a file are shown and how a segment is cut: what ffmpeg jobs are planned from."""

from __future__ import annotations

import bisect
import re
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.audio import AudioReader
from avpipe.media.cut import Cut
from avpipe.media.framerate import Seconds, expected_frame_count
from avpipe.media.frames import Steps, timed_frames, turns_sideways, upright_steps
from avpipe.media.source import (
    NO_VIDEO_STREAM,
    check_gap,
    dropped_at_end,
    find_audio,
    find_video,
    first_picture,
    has_exact_index,
    open_media,
    origin_ticks,
    read_only,
    read_packets,
)
from avpipe.media.tally import Tally

_SOME_PIXELS = 64  # any number that subsampling divides evenly


@dataclass(frozen=True)
class Timeline:
    """The frames of a file's video stream.

    Attributes:
        times: when they are shown, in seconds from the container's first time stamp, in order.
        last_duration: how long the last one is shown, in seconds.
        time_base: seconds in one tick of the stream's clock.
        origin: the container's first time stamp, in those ticks.
        keys: times of the key frames to which a seek leads exactly, in order; none where seeking is not exact.
        video_index, audio_index: numbers of the streams; None: no audio stream.
        steps: the filters with which a rotation tag says to turn the picture.
        width, height: in pixels, of the picture turned upright.
        pixel_format: FFmpeg's name, of the picture turned upright (`turned_format`).
    """

    times: list[Fraction]
    last_duration: Fraction
    time_base: Fraction
    origin: int
    keys: list[Fraction]
    video_index: int
    audio_index: int | None
    steps: Steps
    width: int
    height: int
    pixel_format: str

    @property
    def end(self) -> Fraction:
        """When the last frame ends, in seconds."""
        return self.times[-1] + self.last_duration


@dataclass(frozen=True)
class VideoPlan:
    """The frames of a segment, on its own clock.

    Attributes:
        first: time in the file of the first frame: the one on the screen when the segment begins.
        times: in seconds from the start of the segment.
        end: when the last one ends, in seconds from the start of the segment.
    """

    first: Fraction
    times: list[Fraction]
    end: Fraction


@dataclass(frozen=True)
class AudioPlan:
    """The samples of a segment.

    Attributes:
        silence: samples of silence to put first.
        first, end: sample numbers in the decoded stream, its pauses included; `end` None: to the last one.
        channels: number of channels.
        pauses: samples decoded before each pause, without those of earlier pauses, and samples of silence in it.
    """

    silence: int
    first: int
    end: int | None
    channels: int
    pauses: list[tuple[int, int]]


def read_timeline(path: Path, *, decode: bool = False) -> Timeline:
    """Read the time stamps of a file's video from its packets; the first frame alone is decoded.

    Args:
        path: the media file.
        decode: take them from decoded frames where the packets' are not dependable (AVI, MPEG).

    Raises:
        ClipFailure: MISSING, NO_VIDEO, DECODE_ERROR.
    """
    with open_media(path) as container:
        video, audio = find_video(container), find_audio(container)
        if video is None:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: {NO_VIDEO_STREAM}")
        read_only(container, video, path)
        assert video.time_base is not None
        exact = has_exact_index(container)
        if decode and not exact:
            times, last_duration, keys = _decoded_times(path, container, video)
        else:
            times, last_duration, keys = _packet_times(path, container, video)
        if not times:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: the video stream holds no frame")
        for before, after in pairwise([Fraction(0), *times]):
            check_gap(path, "the video", before, after)
        picture = first_picture(path)
        steps = () if picture is None else upright_steps(picture)
        width, height = video.codec_context.width, video.codec_context.height
        pixel_format = video.codec_context.pix_fmt or "yuv420p"
        if turns_sideways(steps):
            width, height, pixel_format = height, width, turned_format(pixel_format)
        return Timeline(
            times=times,
            last_duration=last_duration,
            time_base=video.time_base,
            origin=origin_ticks(container, video),
            keys=keys if exact else [],
            video_index=video.index,
            audio_index=None if audio is None else audio.index,
            steps=steps,
            width=width,
            height=height,
            pixel_format=pixel_format,
        )


def turned_format(pixel_format: str) -> str:
    """Choose the pixel format that keeps a picture whole when it is turned by 90 degrees.

    Colour that is coarser in one direction than in the other has no format of its own once it is turned.
    """
    layout = av.VideoFormat(pixel_format)
    if layout.chroma_width(_SOME_PIXELS) == layout.chroma_height(_SOME_PIXELS):
        return pixel_format
    full, found = re.subn(r"4(22|40|11)p", "444p", pixel_format)
    if found:
        return full
    return "yuv444p10le" if any(component.bits > 8 for component in layout.components) else "yuv444p"


def plan_video(timeline: Timeline, cut: Cut, path: Path, *, begins_at_zero: bool) -> VideoPlan:
    """Decide which frames of a file a segment shows, and when.

    Args:
        timeline: the file's.
        cut: the segment.
        path: the file to name in messages.
        begins_at_zero: whether the first frame is moved to 0 where the video begins after the segment does.

    Raises:
        ClipFailure: TOO_SHORT when the video ends before the segment begins, NO_VIDEO when it begins after
            its end.
    """
    times = timeline.times
    if timeline.end <= cut.start:
        found = f"the segment begins at {float(cut.start):.3f} s, the video ends at {float(timeline.end):.3f} s"
        raise ClipFailure(Reason.TOO_SHORT, f"{path}: {found}")
    begin = max(0, bisect.bisect_right(times, cut.start) - 1)
    stop = len(times) if cut.end is None else bisect.bisect_left(times, cut.end)
    if stop <= begin:
        raise ClipFailure(Reason.NO_VIDEO, f"{path}: first frame at {float(times[0]):.3f} s")
    end = timeline.end
    if cut.end is not None:
        end = cut.end if stop < len(times) else min(end, cut.end)
    shifted = [cut.shift(time) for time in times[begin:stop]]
    if begins_at_zero:
        shifted[0] = Fraction(0)
    return VideoPlan(times[begin], shifted, cut.shift(end))


def plan_frame_count(plan: VideoPlan, rate_hz: Seconds) -> int:
    """Give the number of frames of a segment at a fixed rate."""
    return expected_frame_count(plan.end, 0, rate_hz)


def plan_audio(path: Path, timeline: Timeline, cut: Cut) -> AudioPlan | None:
    """Decide which samples of a file a segment sounds; None: none.

    Raises:
        ClipFailure: DECODE_ERROR.
    """
    if timeline.audio_index is None:
        return None
    try:
        reader = AudioReader(path, cut, 1.0)
        pauses = reader.pauses()
    except ClipFailure as failure:
        if failure.reason is Reason.NO_AUDIO:  # a stream without a sample: the same as no stream
            return None
        raise
    (first, end), lead = reader.sample_range, reader.lead_samples
    if end is not None and end <= lead:
        return None
    silence = max(0, lead - first)
    return AudioPlan(silence, max(0, first - lead), None if end is None else end - lead, reader.channels, pauses)


def _packet_times(
    path: Path, container: InputContainer, video: VideoStream
) -> tuple[list[Fraction], Fraction, list[Fraction]]:
    origin, time_base = origin_ticks(container, video), video.time_base
    assert time_base is not None
    stamps: list[tuple[int, int]] = []
    keys: list[int] = []
    shown_until = 0
    for packet in read_packets(container, video):
        ticks = packet.dts if packet.pts is None else packet.pts
        if packet.is_discard or ticks is None:
            continue
        if not packet.size:  # the picture before stays on the screen
            shown_until = ticks + (packet.duration or 0)
            continue
        stamps.append((ticks, packet.duration or 0))
        if packet.is_keyframe:
            keys.append(ticks)
    stamps.sort()
    last_duration = _last_duration(stamps, video)
    if stamps:
        last_duration *= 1 + dropped_at_end(path, container, video)
        last_duration = max(last_duration, shown_until - stamps[-1][0])
    times = [(ticks - origin) * time_base for ticks, _ in stamps]
    key_times = [(ticks - origin) * time_base for ticks in sorted(keys)]
    return times, last_duration * time_base, key_times


def _last_duration(stamps: list[tuple[int, int]], video: VideoStream) -> int:
    """Give the last frame's duration in ticks, as `frames` estimates it."""
    if not stamps or stamps[-1][1] > 0:
        return stamps[-1][1] if stamps else 0
    if len(stamps) > 1:
        return stamps[-1][0] - stamps[-2][0]
    return round(1 / (video.average_rate * video.time_base)) if video.average_rate and video.time_base else 1


def _decoded_times(
    path: Path, container: InputContainer, video: VideoStream
) -> tuple[list[Fraction], Fraction, list[Fraction]]:
    times: list[Fraction] = []
    end = Fraction(0)
    tally = Tally(path, container, video)
    with closing(timed_frames(container, video, tally)) as frames:
        for frame in frames:
            times.append(frame.time)
            end = frame.end
    return times, tally.last_shown_until(end) - times[-1] if times else Fraction(0), []
