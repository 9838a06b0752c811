"""Decoded frames of a file's sound with their times; packets that do not decode, and holes, are noticed here."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from avpipe.errors import ClipFailure, Reason
from avpipe.media.ffmpeg_log import explain, listening
from avpipe.media.source import (
    LatestEnd,
    announced_seconds,
    check_gap,
    find_audio,
    is_end_mark,
    open_media,
    origin_seconds,
    read_only,
    read_packets,
)
from avpipe.media.wholeness import HoleWatch, find_missing_sound, is_hole, is_short, keeps_time

# Parts of a second. Windows Media puts several frames of sound into a packet, which says when one of them begins.
_TOLERANCE_OF_COARSE = 10
# Half a picture at 25 a second. Clocks of milliseconds and encoders' delays are below; a packet of AAC is above.
_TOLERANCE = 50


PlacedFrames = Generator[tuple[int, AudioFrame]]
"""Frames, and the samples of silence that belong before each (see `audio`); below 0: as many are left out of it."""


class SoundStart(NamedTuple):
    """How a file's sound begins.

    Attributes:
        time: of the first frame, in seconds from the container's first time stamp.
        frame: the first one that holds samples.
        announced_seconds: the sound's length by the header where an encoder's padding may follow it (compressed, in
            MP4), else None.
    """

    time: Fraction
    frame: AudioFrame
    announced_seconds: float | None


def open_sound(path: Path) -> tuple[SoundStart, PlacedFrames] | None:
    """Decode the first frame of the sound; None: the audio stream holds no sample.

    Returns:
        how the sound begins, and all its frames, the first one included. The whole is judged once they were read to
        their end. The file stays open until then, or until they are closed.
    """
    frames = _timed_sound(path)
    first = next(frames, None)
    if first is None:
        return None
    clock, frame = first
    start = SoundStart(clock.seconds(clock.begin), frame, clock.announced_seconds)
    return start, _placed(clock, frame, frames)


def _placed(clock: _SoundClock, frame: AudioFrame, following: _TimedFrames) -> PlacedFrames:
    with closing(following):
        yield clock.pause(frame), frame
        for _, frame in following:
            yield clock.pause(frame), frame


def _timed_sound(path: Path) -> _TimedFrames:
    """Decode the audio stream: frames, and the clock that says when each begins."""
    with open_media(path) as container:
        stream = find_audio(container)
        if stream is None:
            raise ClipFailure(Reason.NO_AUDIO, f"{path}: no audio stream")
        read_only(container, stream, path)
        clock = _SoundClock(path, container, stream)
        packets_end, skipped = LatestEnd(container), _Skipped(path)
        try:
            for packet in read_packets(container, stream):
                frames = skipped.decode(stream, packet)
                if frames is None:
                    continue
                packets_end.add(packet)
                for frame in clock.timed(packet, frames):
                    skipped.check_followed(clock)
                    yield clock, frame
        except FFmpegError as error:
            detail = f"{path}: sound after {float(clock.seconds(clock.due or 0)):.3f} s: {explain(error, [])}"
            raise ClipFailure(Reason.DECODE_ERROR, detail) from error
        if clock.due is not None:
            due = clock.seconds(clock.due)
            skipped.check_end(due)
            missing = find_missing_sound(path, container, stream, max(due, packets_end.seconds))
            if missing is not None:
                raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {missing}")


class _SoundClock:
    """Times of decoded frames from the container's first time stamp; looks for damage between them.

    Times are whole ticks, so short that all time stamps and samples fall on one: exact as fractions are, which take
    longer for a frame than decoding it.

    Attributes:
        begin: of the frame given last.
        due: when the next frame is due; None before the first one.
        announced_seconds: as in `SoundStart`.
    """

    def __init__(self, path: Path, container: InputContainer, stream: AudioStream) -> None:
        self._path = path
        self._origin, self._hz = origin_seconds(container).as_integer_ratio()
        self._holes = HoleWatch(path, container, stream)
        self._keeps_time = keeps_time(container)
        self._is_coarse = container.format.name == "asf"
        is_padded = "mov" in container.format.name and not stream.codec_context.name.startswith("pcm")
        self.announced_seconds = announced_seconds(container, stream) if is_padded else None
        self.begin = 0
        self.due: int | None = None
        self._heard: int | None = None  # the end of what was heard: jumps within the tolerance do not move it

    def seconds(self, ticks: int) -> Fraction:
        """Give a time in seconds."""
        return Fraction(ticks, self._hz)

    def timed(self, packet: Packet, frames: list[AudioFrame]) -> Iterator[AudioFrame]:
        """Give the frames of a packet that hold sound, and set the clock to each."""
        self._holes.check_packet(packet)
        for frame in frames:
            self.begin = self._time(frame)
            if frame.is_corrupt:
                raise ClipFailure(
                    Reason.DECODE_ERROR, f"{self._path}: damaged sound at {float(self.seconds(self.begin)):.3f} s"
                )
            if not frame.samples:
                continue
            length = frame.samples * self._ticks_each(frame.sample_rate)
            if self.due is not None and self.begin - self.due > length:
                before, after = self.seconds(self.due), self.seconds(self.begin)
                if is_hole(after - before, self.seconds(length)):
                    check_gap(self._path, "the sound", before, after)
                    self._holes.check(before, after)
            self.due = self.begin + length
            yield frame

    def pause(self, frame: AudioFrame) -> int:
        """Give the samples of silence before the frame that the clock is set to; below 0: as many are left out."""
        late = 0 if self._heard is None else self.begin - self._heard
        pause = 0
        if abs(late) * _TOLERANCE > self._hz:
            pause = max(round(self.seconds(late) * frame.sample_rate), -frame.samples)
        heard = self.begin if self._heard is None else self._heard
        self._heard = heard + (pause + frame.samples) * self._ticks_each(frame.sample_rate)
        return pause

    def _time(self, frame: AudioFrame) -> int:
        due, pts = self.due, frame.pts
        if pts is None or (due is not None and not self._keeps_time):
            return due or 0
        base = frame.time_base
        if base is None:
            return due or 0
        ticks = pts * base.numerator * self._ticks_each(base.denominator) - self._origin
        due = self.due
        is_close = self._is_coarse and due is not None and abs(ticks - due) * _TOLERANCE_OF_COARSE <= self._hz
        return due if due is not None and is_close else ticks

    def _ticks_each(self, rate_hz: int) -> int:
        """Ticks of one of so many a second; the clock is made finer where that is no whole number."""
        if self._hz % rate_hz:
            finer = math.lcm(self._hz, rate_hz) // self._hz
            self._hz, self._origin, self.begin = self._hz * finer, self._origin * finer, self.begin * finer
            self.due = None if self.due is None else self.due * finer
            self._heard = None if self._heard is None else self._heard * finer
        return self._hz // rate_hz


_TimedFrames = Generator[tuple[_SoundClock, AudioFrame]]


class _Skipped:
    """Packets that do not decode: tags and cut packets before and behind the sound, or damage inside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said = ""
        self._seconds = 0.0
        self._has_sound = False

    def decode(self, stream: AudioStream, packet: Packet) -> list[AudioFrame] | None:
        """Decode a packet; None: FFmpeg cannot."""
        if packet.size == 0 and not is_end_mark(packet):
            return []
        with listening() as said:
            try:
                return stream.decode(packet)
            except FFmpegError as error:
                said.append(error.strerror or str(error))
        self._said = self._said or f"FFmpeg says: {said[0]}"
        self._seconds += float((packet.duration or 0) * packet.time_base)
        return None

    def check_followed(self, clock: _SoundClock) -> None:
        """Raise ClipFailure DECODE_ERROR when sound comes after packets that did not decode, unless it is the first."""
        if self._said and (self._has_sound or is_short(self._seconds, 0.0)):
            time = float(clock.seconds(clock.begin))
            detail = f"{self._path}: damaged sound before {time:.3f} s ({self._said}); fetch it again"
            raise ClipFailure(Reason.DECODE_ERROR, detail)
        self._said, self._seconds, self._has_sound = "", 0.0, True

    def check_end(self, end: Fraction) -> None:
        """Raise ClipFailure DECODE_ERROR when more of the end did not decode than a few bytes behind the sound."""
        if self._said and is_short(float(end) + self._seconds, float(end)):
            lost = f"{self._seconds:.2f} s of sound after {float(end):.3f} s cannot be decoded"
            raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: {lost} ({self._said}); fetch it again")
