"""Decoded frames of a video stream with dependable times, and their conversion to RGB."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpipe.media.source import (
    announced_file_seconds,
    announced_seconds,
    check_packet,
    later_end,
    origin_seconds,
    origin_ticks,
    read_packets,
)
from avpipe.media.wholeness import HoleWatch, has_too_few, is_short

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


class Tally:
    """What was read of a file, to tell a whole file from one that was cut off or did not decode."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._origin = origin_seconds(container)
        self._holes = HoleWatch(path, container, stream)
        self.restart(from_start=True)

    def restart(self, *, from_start: bool) -> None:
        """Forget what was read; the file is read from its start, or from a key frame on."""
        self.packets = 0
        self.frames = 0
        self._from_start = from_start
        self._holes.restart()
        self._end = Fraction(0)  # of the last packet of any stream

    def add_packet(self, packet: Packet) -> None:
        """Count a packet of any stream.

        Raises:
            ClipFailure: DECODE_ERROR when it is a cut-off packet of the video stream, or the first one after a
                part that is damaged.
        """
        if packet.stream.index == self._stream.index:
            check_packet(packet, self._path)
            self._holes.add(packet.dts, packet.duration)
            self.packets += packet.size > 0 and not packet.is_discard
        self._end = later_end(self._end, packet, self._origin)

    def find_missing(self, last_end: Fraction) -> str | None:
        """Say what is missing after the file was read to its end, `last_end` seconds; or None."""
        stream, container = self._stream, self._container
        announced, found = announced_seconds(container, stream), float(max(self._end, last_end))
        if announced is None:
            announced = announced_file_seconds(container) or 0.0
        else:
            assert stream.time_base is not None
            start = (stream.start_time or 0) * stream.time_base - self._origin
            found = float(last_end - start)
        if is_short(announced, found):
            return f"truncated: the header announces {announced:.2f} s, the file holds {found:.2f} s"
        # Where the container counts frames, a packet is a frame; in WebM some packets are never shown. After a seek
        # the decoder rightly drops frames that rest on what came before.
        if self._from_start and stream.frames and has_too_few(self.packets, self.frames):
            return f"only {self.frames} of {self.packets} frames could be decoded"
        return None


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
            for frame in stream.decode(packet):
                tally.frames += 1
                yield frame


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


class RgbConverter:
    """Conversion to RGB by the libavfilter steps of the ffmpeg program, resizing in the same step.

    `VideoFrame.to_ndarray` differs from the program for 10-bit and 4:2:2 pictures (by 3 grey levels on
    average on a test pattern); the filter graph is identical bit for bit.

    Args:
        threads: threads for the conversion.
        size: from a picture's width and height to those wanted, bicubic; None: the picture's own.
        orientation: what to do about a rotation tag (`Orientation`).
    """

    def __init__(self, threads: int = 1, size: ChooseSize | None = None, orientation: Orientation = "coded") -> None:
        self._threads = threads
        self._choose_size = size
        self._orientation = orientation
        self._size: tuple[int, int] | None = None
        self._layout: tuple[int, int, str, Steps] | None = None
        self._graph: Graph | None = None

    def convert(self, frame: VideoFrame) -> RgbFrame:
        """Give uint8 [H, W, 3] in RGB order; a later frame of another size is scaled, as ffmpeg does."""
        steps = () if self._orientation == "coded" else upright_steps(frame)
        layout = (frame.width, frame.height, frame.format.name, steps)
        if self._graph is None or layout != self._layout:
            self._size = self._size or self._wanted_size(frame, steps)
            self._graph, self._layout = self._build(frame, steps, self._size), layout
        self._graph.push(frame)
        rgb = self._graph.pull()
        assert isinstance(rgb, VideoFrame)
        return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)

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
        target = graph.add("format", "pix_fmts=rgb24")
        graph.link_nodes(source, *turns, scale, target, graph.add("buffersink")).configure()
        return graph


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
