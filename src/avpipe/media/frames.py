"""Decoded frames of a video stream with dependable times, and their conversion to RGB."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpipe.media.source import origin_ticks, read_packets
from avpipe.media.tally import Tally

_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: a bare H.264 or MPEG stream, for example

RgbFrame = npt.NDArray[np.uint8]
ChooseSize = Callable[[int, int], tuple[int, int]]
Orientation = Literal["coded", "upright", "squeezed"]
"""What to do about a rotation tag: leave the picture as coded, turn it, or turn it and give it the size that was
chosen for the picture as coded, as the published ResNet features have it (docs/networks.md, Frame size)."""

Steps = tuple[tuple[str, str | None], ...]
"""libavfilter's filters and their arguments."""


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame.

    Attributes:
        frame: still in the codec's own pixel format.
        time: when it is shown, in seconds from the container's first time stamp.
        duration: how long, in seconds; an estimate where the container does not say.
    """

    frame: VideoFrame
    time: Fraction
    duration: Fraction

    @property
    def end(self) -> Fraction:
        """When the next frame is due, in seconds."""
        return self.time + self.duration

    def until(self, end: Fraction) -> TimedFrame:
        """Give the same frame, shown until `end` seconds."""
        return TimedFrame(self.frame, self.time, end - self.time)


def timed_frames(container: InputContainer, stream: VideoStream, tally: Tally) -> Generator[TimedFrame]:
    """Decode from the container's present position on, one frame at a time.

    Times and durations are those of the ffmpeg program, so that a frame lands in the same output slot.
    One frame is held back: a packed-bitstream AVI (DivX, XviD) gives the time stamps of neighbours in the wrong order.
    """
    assert stream.time_base is not None
    origin = origin_ticks(container, stream)
    durations = _DurationEstimate(container, stream)
    for ticks, frame in _in_order(_with_ticks(_decoded(container, stream, tally), stream)):
        duration = durations.of(ticks, frame)
        yield TimedFrame(frame, (ticks - origin) * stream.time_base, duration * stream.time_base)


def _decoded(container: InputContainer, stream: VideoStream, tally: Tally) -> Iterator[VideoFrame]:
    for packet in read_packets(container):
        tally.add_packet(packet)
        if packet.stream.index == stream.index:
            yield from tally.decode(packet)


def _with_ticks(frames: Iterable[VideoFrame], stream: VideoStream) -> Iterator[tuple[int, VideoFrame]]:
    """Give every frame a time stamp in ticks, extrapolating where the container has none."""
    following = 0
    for frame in frames:
        ticks = frame.pts if frame.pts is not None else frame.dts
        ticks = following if ticks is None else ticks
        following = ticks + (frame.duration or _nominal_ticks(stream) or 1)
        yield ticks, frame


def _in_order(frames: Iterable[tuple[int, VideoFrame]]) -> Iterator[tuple[int, VideoFrame]]:
    """Exchange time stamps of neighbours that are the wrong way round; the frames are in order."""
    held: tuple[int, VideoFrame] | None = None
    for ticks, frame in frames:
        if held is not None:
            yield min(held[0], ticks), held[1]
            ticks = max(held[0], ticks)
        held = ticks, frame
    if held is not None:
        yield held


def _nominal_ticks(stream: VideoStream) -> int:
    """Give one frame's duration in ticks by the stream's frame rate; 0 when unknown."""
    rate = stream.codec_context.framerate or stream.average_rate
    return round(1 / (rate * stream.time_base)) if rate and stream.time_base else 0


class _DurationEstimate:
    """How long each frame is shown, as in ffmpeg's `video_duration_estimate` (fftools/ffmpeg_dec.c)."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._stream = stream
        self._unreliable = bool(container.format.flags & _NO_TIMESTAMPS)
        self._last_ticks: int | None = None
        self._last = 1

    def of(self, ticks: int, frame: VideoFrame) -> int:
        self._last = self._estimate(ticks, frame.duration or 0)
        self._last_ticks = ticks
        return self._last

    def _estimate(self, ticks: int, announced: int) -> int:
        guessed = announced == 1 and self._last > 2  # libavformat makes up a duration of 1 where there is none
        if announced > 0 and not self._unreliable and not guessed:
            return announced
        if self._last_ticks is not None and ticks > self._last_ticks:
            return ticks - self._last_ticks
        return announced or _nominal_ticks(self._stream) or self._last


class PictureConverter:
    """Conversion of frames by the libavfilter steps of the ffmpeg program, resizing in the same step.

    Args:
        pixel_format: FFmpeg's name of the one wanted.
        threads: threads for the conversion.
        size: from a picture's width and height to those wanted, bicubic; None: the picture's own.
        orientation: what to do about a rotation tag (`Orientation`).
    """

    def __init__(
        self, pixel_format: str, threads: int = 1, size: ChooseSize | None = None, orientation: Orientation = "coded"
    ) -> None:
        self._pixel_format = pixel_format
        self._threads = threads
        self._choose_size = size
        self._orientation = orientation
        self._size: tuple[int, int] | None = None
        self._layout: tuple[int, int, str, Steps] | None = None
        self._graph: Graph | None = None

    def filtered(self, frame: VideoFrame) -> VideoFrame:
        """Convert a frame; a later one of another size is scaled to that of the first, as ffmpeg does."""
        steps = () if self._orientation == "coded" else upright_steps(frame)
        layout = (frame.width, frame.height, frame.format.name, steps)
        if self._graph is None or layout != self._layout:
            self._size = self._size or self._wanted_size(frame, steps)
            self._graph, self._layout = self._build(frame, steps, self._size), layout
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame)
        return converted

    def _wanted_size(self, frame: VideoFrame, steps: Steps) -> tuple[int, int]:
        width, height = frame.width, frame.height
        if turns_sideways(steps) and self._orientation == "upright":
            width, height = height, width
        return self._choose_size(width, height) if self._choose_size else (width, height)

    def _build(self, frame: VideoFrame, steps: Steps, size: tuple[int, int]) -> Graph:
        graph = Graph()
        graph.threads = self._threads
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        turns = [graph.add(*step) for step in steps]
        scale = graph.add("scale", f"{size[0]}:{size[1]}:flags=bicubic")
        target = graph.add("format", f"pix_fmts={self._pixel_format}")
        graph.link_nodes(source, *turns, scale, target, graph.add("buffersink")).configure()
        return graph


class RgbConverter(PictureConverter):
    """Conversion to RGB; the arguments are those of `PictureConverter` but the pixel format.

    `VideoFrame.to_ndarray` differs from the program for 10-bit and 4:2:2 pictures (by 3 grey levels on
    average on a test pattern); the filter graph is identical bit for bit.
    """

    def __init__(self, threads: int = 1, size: ChooseSize | None = None, orientation: Orientation = "coded") -> None:
        super().__init__("rgb24", threads, size, orientation)

    def convert(self, frame: VideoFrame) -> RgbFrame:
        """Give uint8 [H, W, 3] in RGB order."""
        return np.ascontiguousarray(self.filtered(frame).to_ndarray(), dtype=np.uint8)


def upright_steps(frame: VideoFrame) -> Steps:
    """The filters that show a frame as its rotation tag says, turned or mirrored; those of the ffmpeg program.

    Only turns by a right angle are followed; the program follows others, too, which would add black corners.
    """
    tag: Any = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if tag is None:
        return ()
    matrix = struct.unpack("=9i", bytes(tag))
    turn = round(math.degrees(math.atan2(matrix[1], matrix[0]))) % 360
    if turn in (90, 270):
        is_mirrored = (matrix[3] > 0) == (turn == 90)
        direction = "clock" if (turn == 90) != is_mirrored else "cclock"
        return (("transpose", f"{direction}_flip" if is_mirrored else direction),)
    if turn not in (0, 180):
        return ()
    flips = {"hflip": matrix[0] < 0, "vflip": matrix[4] < 0}
    return tuple((name, None) for name, is_wanted in flips.items() if is_wanted)


def turns_sideways(steps: Steps) -> bool:
    """Whether width and height change places."""
    return any(name == "transpose" for name, _ in steps)
