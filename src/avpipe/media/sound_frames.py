"""Decoded frames of a file's sound with their times; packets that do not decode, and holes, are noticed here."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from avpipe.errors import ClipFailure, Reason
from avpipe.media.ffmpeg_log import explain, listening
from avpipe.media.source import (
    LatestEnd,
    check_gap,
    find_audio,
    is_end_mark,
    open_media,
    origin_seconds,
    read_only,
    read_packets,
)
from avpipe.media.wholeness import HoleWatch, find_missing_sound, is_hole, is_short, keeps_time

# Windows Media puts several frames of sound into a packet, which says when one of them begins.
_TOLERANCE_OF_COARSE_SECONDS = Fraction(1, 10)


def decoded_sound(path: Path) -> Generator[tuple[Fraction, AudioFrame]]:
    """Decode the audio stream: frames and their times in seconds from the container's first time stamp.

    Where the times jump, there is a pause (`_with_pauses`). The whole is judged once it was read to its end.
    """
    with open_media(path) as container:
        stream = find_audio(container)
        if stream is None:
            raise ClipFailure(Reason.NO_AUDIO, f"{path}: no audio stream")
        read_only(container, stream, path)
        clock = _SoundClock(path, container, stream)
        packets_end, due = LatestEnd(container), None
        skipped = _Skipped(path)
        try:
            for packet in read_packets(container, stream):
                frames = skipped.decode(stream, packet)
                if frames is None:
                    continue
                packets_end.add(packet)
                for time, frame in clock.timed(packet, frames):
                    skipped.check_followed(time)
                    yield time, frame
                    due = clock.due
        except FFmpegError as error:
            detail = f"{path}: sound after {float(due or 0):.3f} s: {explain(error, [])}"
            raise ClipFailure(Reason.DECODE_ERROR, detail) from error
        if due is not None:
            skipped.check_end(due)
            missing = find_missing_sound(path, container, stream, max(due, packets_end.seconds))
            if missing is not None:
                raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {missing}")


class _SoundClock:
    """Times of decoded frames in seconds from the container's first time stamp; looks for damage between them."""

    def __init__(self, path: Path, container: InputContainer, stream: AudioStream) -> None:
        self._path = path
        self._origin = origin_seconds(container)
        self._holes = HoleWatch(path, container, stream)
        self._keeps_time = keeps_time(container)
        self._is_coarse = container.format.name == "asf"
        self.due: Fraction | None = None
        """When the next frame is due; None before the first one."""

    def timed(self, packet: Packet, frames: list[AudioFrame]) -> Iterator[tuple[Fraction, AudioFrame]]:
        """Give the frames of a packet that hold sound, with their times."""
        self._holes.check_packet(packet)
        for frame in frames:
            time = self._time(frame)
            if frame.is_corrupt:
                raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: damaged sound at {float(time):.3f} s")
            if not frame.samples:
                continue
            length = Fraction(frame.samples, frame.sample_rate)
            if self.due is not None and time != self.due and is_hole(time - self.due, length):
                check_gap(self._path, "the sound", self.due, time)
                self._holes.check(self.due, time)
            self.due = time + length
            yield time, frame

    def _time(self, frame: AudioFrame) -> Fraction:
        due = self.due
        if frame.pts is None or frame.time_base is None or (due is not None and not self._keeps_time):
            return due or Fraction(0)
        time = frame.pts * frame.time_base - self._origin
        is_close = self._is_coarse and due is not None and abs(time - due) <= _TOLERANCE_OF_COARSE_SECONDS
        return due if due is not None and is_close else time


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

    def check_followed(self, time: Fraction) -> None:
        """Raise ClipFailure DECODE_ERROR when sound comes after packets that did not decode, unless it is the first."""
        if self._said and (self._has_sound or is_short(self._seconds, 0.0)):
            detail = f"{self._path}: damaged sound before {float(time):.3f} s ({self._said}); fetch it again"
            raise ClipFailure(Reason.DECODE_ERROR, detail)
        self._said, self._seconds, self._has_sound = "", 0.0, True

    def check_end(self, end: Fraction) -> None:
        """Raise ClipFailure DECODE_ERROR when more of the end did not decode than a few bytes behind the sound."""
        if self._said and is_short(float(end) + self._seconds, float(end)):
            lost = f"{self._seconds:.2f} s of sound after {float(end):.3f} s cannot be decoded"
            raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: {lost} ({self._said}); fetch it again")
