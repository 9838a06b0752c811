"""From a media file to RGB frames at a fixed rate, as a stream (the sound: `audio`)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.audio import AudioReader, audio_blocks, read_audio
from avpipe.media.cut import Cut, make_cut
from avpipe.media.ffmpeg_log import explain
from avpipe.media.framerate import FrameRateConverter, Seconds, frame_rate
from avpipe.media.frames import ChooseSize, Orientation, RgbConverter, RgbFrame, TimedFrame, timed_frames
from avpipe.media.source import (
    NO_VIDEO_STREAM,
    SEEK_MARGIN,
    check_gap,
    find_video,
    has_exact_index,
    open_media,
    origin_ticks,
    require_decoder,
)
from avpipe.media.tally import Tally

__all__ = ["AudioReader", "audio_blocks", "check_frame", "decode_video", "read_audio", "shown_frames"]


def decode_video(
    path: str | os.PathLike[str],
    *,
    rate_hz: Seconds | None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    size: ChooseSize | None = None,
    orientation: Orientation = "coded",
    threads: int = 1,
) -> Iterator[RgbFrame]:
    """Decode a file, or a segment of it, to RGB frames at a fixed rate, holding a few frames at a time.

    Frame k shows the time k / rate_hz from `start_seconds`; which input frame that is follows ffmpeg's `fps`
    filter (`framerate`, docs/networks.md, Frames at a fixed rate). Frame choice and pixels are those of
    `ffmpeg -i path -vf fps=R,scale=W:H -f rawvideo -pix_fmt rgb24`, except that a rotation tag is followed
    only if asked for: by default a portrait video of a telephone comes out as coded.

    A segment begins with the frame that is on the screen at its start. Start and end are taken to the
    millisecond (`cut`). `trim.trim_clip` followed by `convert.convert_to_rate` gives the same frames, upright.

    Args:
        path: the media file.
        rate_hz: output frames a second; None gives every frame once, at the file's own times.
        start_seconds, end_seconds: the segment, from the container's first time stamp, which may be before
            the first frame; None: from its start, to its end.
        size: from a picture's width and height to those of the frames, resized bicubically in the same step;
            None: the picture's own.
        orientation: what to do about a rotation tag.
        threads: of the conversion; the frames do not depend on it.

    Yields:
        uint8 [H, W, 3], RGB. A frame that is shown several times is the same array object
        each time: copy it before writing to it. Nothing when the segment is shorter than half an output
            frame.

    Raises:
        ValueError: a segment or rate that makes no sense.
        ClipFailure: while iterating; MISSING, NO_VIDEO (no video stream or no frame), DECODE_ERROR (with the
            time of the fault; truncated), TOO_SHORT (the video ends before the segment begins).
    """
    cut = make_cut(start_seconds, end_seconds)
    if rate_hz is not None:
        frame_rate(rate_hz)
    return _decode(Path(path), cut, rate_hz, RgbConverter(threads, size, orientation))


def _decode(path: Path, cut: Cut, rate_hz: Seconds | None, to_rgb: RgbConverter) -> Iterator[RgbFrame]:
    held: tuple[TimedFrame, RgbFrame] | None = None
    with closing(chosen_frames(path, cut, rate_hz)) as frames:
        for shown in frames:
            if held is None or held[0] is not shown:
                held = shown, to_rgb.convert(shown.frame)
            yield held[1]


def chosen_frames(path: Path, cut: Cut, rate_hz: Seconds | None) -> Generator[TimedFrame]:
    """Decode a segment and choose its frames as `decode_video` does; what is shown several times is the same object.

    Raises:
        ClipFailure: while iterating, as `decode_video`.
    """
    with closing(shown_frames(path, cut)) as frames:
        for shown, copies in _once_each(frames, cut) if rate_hz is None else _at_rate(frames, cut, rate_hz):
            if copies:
                check_frame(shown, path)
                yield from itertools.repeat(shown, copies)


def _once_each(frames: Iterator[TimedFrame], cut: Cut) -> Iterator[tuple[TimedFrame, int]]:
    """Show every frame once, but of those up to the start of the segment only the last."""
    held: TimedFrame | None = None
    has_begun = False
    for shown in frames:
        has_begun |= shown.time > cut.start
        if held is not None:
            yield held, int(has_begun)
        held = shown
    if held is not None:
        yield held, 1


def _at_rate(frames: Iterator[TimedFrame], cut: Cut, rate_hz: Seconds) -> Iterator[tuple[TimedFrame, int]]:
    converter = FrameRateConverter(rate_hz)
    held: TimedFrame | None = None
    for shown in frames:
        is_first = held is None and not cut.is_whole  # a segment begins with a picture, see `cut`
        copies = converter.push(Fraction(0) if is_first else cut.shift(shown.time))
        if held is not None:
            yield held, copies
        held = shown
    if held is not None:
        start, end = cut.shift(held.time), cut.shift(held.end)
        yield held, converter.finish(start, end - start)


def check_frame(shown: TimedFrame, path: Path) -> None:
    """Raise ClipFailure DECODE_ERROR for a frame that the decoder marked as damaged."""
    if shown.frame.is_corrupt:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: damaged frame at {float(shown.time):.3f} s")


def shown_frames(path: Path, cut: Cut) -> Generator[TimedFrame]:
    """Decode the frames of a segment, with some before it; the last one ends where the segment does.

    Raises:
        ClipFailure: while iterating, as `decode_video`.
    """
    with open_media(path) as container:
        video = find_video(container)
        if video is None:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: {NO_VIDEO_STREAM}")
        require_decoder(video, path)
        tally = Tally(path, container, video)
        held: TimedFrame | None = None
        try:
            for shown in _from(container, video, tally, cut.start):
                if cut.end is not None and shown.time >= cut.end:
                    tally.finish()
                    if held is None:
                        raise ClipFailure(Reason.NO_VIDEO, f"{path}: first frame at {float(shown.time):.3f} s")
                    yield held.until(cut.end)
                    return
                if held is not None:
                    check_gap(path, "the video", held.time, shown.time)
                    yield held
                elif cut.is_whole:
                    check_gap(path, "the video", Fraction(0), shown.time)
                held = shown
        except FFmpegError as error:
            place = "before the first picture" if held is None else f"after {float(held.end):.3f} s"
            raise ClipFailure(Reason.DECODE_ERROR, f"{path}: unreadable {place} ({explain(error, [])})") from error
        if held is not None:
            held = held.until(tally.last_shown_until(held.end))
        _check_whole(path, tally, held, cut)
        assert held is not None
        yield held if cut.end is None else held.until(min(held.end, cut.end))


def _from(container: InputContainer, video: VideoStream, tally: Tally, start: Fraction) -> Iterator[TimedFrame]:
    """Decode from the last key frame before `start`, or from the beginning where that cannot be found."""
    if start > SEEK_MARGIN and has_exact_index(container):
        tally.check_start()
        assert video.time_base is not None
        container.seek(origin_ticks(container, video) + int((start - SEEK_MARGIN) / video.time_base), stream=video)
        tally.restart()
        frames = timed_frames(container, video, tally)
        first = next(frames, None)
        if first is not None and first.time <= start:
            yield first
            yield from frames
            return
        container.seek(container.start_time or 0)
        tally.restart()
    yield from timed_frames(container, video, tally)


def _check_whole(path: Path, tally: Tally, last: TimedFrame | None, cut: Cut) -> None:
    """Raise when the file ended before it should have, or before the segment began."""
    missing = tally.find_missing(last.end if last else Fraction(0))
    if missing is not None:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {missing}; fetch it again")
    if last is None:
        raise ClipFailure(Reason.NO_VIDEO, f"{path}: the video stream holds no frame")
    if last.end <= cut.start:
        raise ClipFailure(
            Reason.TOO_SHORT,
            f"{path}: the segment begins at {float(cut.start):.3f} s, the video ends at {float(last.end):.3f} s",
        )
