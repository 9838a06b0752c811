"""When the frames of a file are shown, and which of them a segment shows."""

from __future__ import annotations

import bisect
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.cut import Cut
from avpipe.media.frames import timed_frames
from avpipe.media.source import (
    NO_VIDEO_STREAM,
    check_gap,
    dropped_at_end,
    find_video,
    has_exact_index,
    open_media,
    origin_ticks,
    read_only,
    read_packets,
)
from avpipe.media.tally import Tally


@dataclass(frozen=True)
class Timeline:
    """The frames of a file's video stream.

    Attributes:
        times: when they are shown, in seconds from the container's first time stamp, in order.
        last_duration: how long the last one is shown, in seconds.
        time_base: seconds in one tick of the stream's clock.
    """

    times: list[Fraction]
    last_duration: Fraction
    time_base: Fraction

    @property
    def end(self) -> Fraction:
        """When the last frame ends, in seconds."""
        return self.times[-1] + self.last_duration


@dataclass(frozen=True)
class VideoPlan:
    """The frames of a segment, on its own clock.

    Attributes:
        times: in seconds from the start of the segment; the first frame is the one on the screen then.
        end: when the last one ends, in seconds from the start of the segment.
    """

    times: list[Fraction]
    end: Fraction


def read_timeline(path: Path, *, decode: bool = False) -> Timeline:
    """Read the time stamps of a file's video from its packets.

    Args:
        path: the media file.
        decode: take them from decoded frames where the packets' are not dependable (AVI, MPEG).

    Raises:
        ClipFailure: MISSING, NO_VIDEO, DECODE_ERROR.
    """
    with open_media(path) as container:
        video = find_video(container)
        if video is None:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: {NO_VIDEO_STREAM}")
        read_only(container, video, path)
        assert video.time_base is not None
        if decode and not has_exact_index(container):
            times, last_duration = _decoded_times(path, container, video)
        else:
            times, last_duration = _packet_times(path, container, video)
        if not times:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: the video stream holds no frame")
        for before, after in pairwise([Fraction(0), *times]):
            check_gap(path, "the video", before, after)
        return Timeline(times, last_duration, video.time_base)


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
    return VideoPlan(shifted, cut.shift(end))


def _packet_times(path: Path, container: InputContainer, video: VideoStream) -> tuple[list[Fraction], Fraction]:
    origin, time_base = origin_ticks(container, video), video.time_base
    assert time_base is not None
    stamps: list[tuple[int, int]] = []
    shown_until = 0
    for packet in read_packets(container, video):
        ticks = packet.dts if packet.pts is None else packet.pts
        if packet.is_discard or ticks is None:
            continue
        if not packet.size:  # the picture before stays on the screen
            shown_until = ticks + (packet.duration or 0)
            continue
        stamps.append((ticks, packet.duration or 0))
    stamps.sort()
    last_duration = _last_duration(stamps, video)
    if stamps:
        last_duration *= 1 + dropped_at_end(path, container, video)
        last_duration = max(last_duration, shown_until - stamps[-1][0])
    times = [(ticks - origin) * time_base for ticks, _ in stamps]
    return times, last_duration * time_base


def _last_duration(stamps: list[tuple[int, int]], video: VideoStream) -> int:
    """Give the last frame's duration in ticks, as `frames` estimates it."""
    if not stamps or stamps[-1][1] > 0:
        return stamps[-1][1] if stamps else 0
    if len(stamps) > 1:
        return stamps[-1][0] - stamps[-2][0]
    return round(1 / (video.average_rate * video.time_base)) if video.average_rate and video.time_base else 1


def _decoded_times(path: Path, container: InputContainer, video: VideoStream) -> tuple[list[Fraction], Fraction]:
    times: list[Fraction] = []
    end = Fraction(0)
    tally = Tally(path, container, video)
    with closing(timed_frames(container, video, tally)) as frames:
        for frame in frames:
            times.append(frame.time)
            end = frame.end
    return times, tally.last_shown_until(end) - times[-1] if times else Fraction(0)
