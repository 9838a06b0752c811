"""Whether all pictures of a file come out of its decoder: packets against pictures, and FFmpeg's own complaints.

One rule for all containers. Every packet of a video stream should give a picture, apart from those that

- are empty: the picture before stays on the screen (Theora, dropped frames in AVI);
- are decoded and never shown: cut away by an edit list, or references of VP8 and VP9 that are marked so;
- hold the second field of an interlaced picture;
- come after the first key frame and are shown before it: an open group of pictures, whose other half is not there;
- are as good as empty, in codecs that repeat a picture so.

What FFmpeg complains of is damage, even if a picture comes out, unless it concerns what is not shown anyway. Pictures
before the first key frame rest on what is not there: they count as lost.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decoded import now_watched
from avpipe.media.ffmpeg_log import harmful, listening
from avpipe.media.source import (
    LatestEnd,
    announced_file_seconds,
    announced_seconds,
    dropped_at_end,
    is_end_mark,
    origin_seconds,
    read_packets,
)
from avpipe.media.wholeness import HoleWatch, has_too_few, is_short

# In these a packet is a picture, however small it is; in others a few bytes may say that nothing has changed.
_ALWAYS_PICTURES = {"h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "vp8", "vp9", "av1", "mjpeg", "ffv1", "prores"}
_AS_GOOD_AS_EMPTY_BYTES = 16

# H.264 keeps at most so many fields. A file cut at an open group of pictures asks to forget some that it never held.
_MOST_REFERENCES = 32


class Tally:
    """What was read and decoded of a file's video, to tell a whole file from one that was cut off or is damaged."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._origin = origin_seconds(container)
        self._holes = HoleWatch(path, container, stream)
        self._codec = stream.codec_context.name
        stream.thread_count = 1  # so that FFmpeg's complaints come from the packet at hand
        self.restart()

    def restart(self) -> None:
        """Forget what was read, after a seek."""
        self._due = 0  # pictures, by the packets
        self._found = 0
        self._before_key = 0
        self._as_good_as_empty = 0
        self._interlaced = 0
        self._cut_off = 0  # pictures, by what the header announces
        self._key: int | None = None  # when the first key frame is shown, in ticks
        self._has_key = False
        self._holes.restart()
        self._end = LatestEnd(self._container)
        self._shown_until = Fraction(0)  # the end of the last empty packet: the picture before stays until then

    def check_start(self) -> None:
        """Read from the start up to the first key frame, and to the end where pictures come before it.

        Raises:
            ClipFailure: DECODE_ERROR when more pictures come before it than may lack.
        """
        before = after = 0
        for packet in read_packets(self._container, self._stream):
            if packet.is_keyframe and not before:
                return
            has_key = packet.is_keyframe or after
            before, after = before + (packet.size > 0 and not has_key), after + bool(has_key)
        lost = find_late_key(before, before + after)
        if lost is not None:
            raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: {lost}")

    def add_packet(self, packet: Packet) -> None:
        """Look at a packet of any stream.

        Raises:
            ClipFailure: DECODE_ERROR when it is a cut-off packet of the video stream, or the first one after a
                part that is damaged.
        """
        if packet.stream.index == self._stream.index:
            self._holes.check_packet(packet)
            self._holes.add(packet.dts, packet.duration)
        self._end.add(packet)

    def decode(self, packet: Packet) -> list[VideoFrame]:
        """Decode a packet of the video stream.

        Raises:
            ClipFailure: DECODE_ERROR when FFmpeg complains of a picture that is shown.
        """
        if packet.size == 0 and not is_end_mark(packet):
            ticks = packet.pts if packet.pts is not None else packet.dts
            if ticks is not None:
                self._shown_until = self._seconds(ticks + (packet.duration or 0))
            return []
        is_shown = self._count(packet)
        frames: list[VideoFrame] = []
        with listening() as said:
            try:
                frames = self._stream.decode(packet)
            except FFmpegError as error:
                said.append(error.strerror or str(error))
        if self._due <= _MOST_REFERENCES:
            said = [message for message in said if not message.startswith("mmco:")]
        if is_shown and harmful(said):
            ticks = packet.pts if packet.pts is not None else packet.dts
            place = "at its end" if ticks is None else f"at {float(self._seconds(ticks)):.3f} s"
            raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: damaged picture {place} (FFmpeg says: {said[0]})")
        self._add(frames)
        return frames

    def finish(self) -> None:
        """Take the pictures that the decoder still holds, when nothing more is wanted of the file.

        Raises:
            ClipFailure: DECODE_ERROR when too many pictures did not come out.
        """
        with listening(), suppress(EOFError):  # near the end of a file the decoder has already given all
            self._add(self._stream.decode(None))
        lost = self.find_lost()
        if lost is not None:
            raise ClipFailure(Reason.DECODE_ERROR, f"{self._path}: {lost}; fetch it again")

    def _count(self, packet: Packet) -> bool:
        """Count a packet; give whether what it holds is shown."""
        if packet.is_keyframe and not self._has_key:
            self._has_key, self._key = True, packet.pts
        if is_end_mark(packet) or packet.is_discard or _is_hidden(self._codec, packet):
            return True
        if not self._has_key:
            self._before_key += 1
            return False
        if self._is_leading(packet.pts):
            return False
        self._due += 1
        self._as_good_as_empty += packet.size <= _AS_GOOD_AS_EMPTY_BYTES and self._codec not in _ALWAYS_PICTURES
        return True

    def _is_leading(self, ticks: int | None) -> bool:
        return ticks is not None and self._key is not None and ticks < self._key

    def _add(self, frames: list[VideoFrame]) -> None:
        if frames and not self._has_key:  # not all containers mark them
            self._has_key, self._due, self._before_key = True, self._before_key, 0
        for frame in frames:
            self._found += not self._is_leading(frame.pts)
            self._interlaced += frame.interlaced_frame

    def find_lost(self) -> str | None:
        """Say how many pictures did not come out of the decoder, where these are more than may lack; or None."""
        lost = max(0, self._due - self._found - self._as_good_as_empty)
        if self._interlaced == self._found:  # both fields of a picture may have a packet
            lost = min(lost, abs(self._due - 2 * self._found))
        lost += self._before_key
        due = self._due + self._before_key
        watched = now_watched()
        if watched is not None:
            watched.pictures_due, watched.pictures = due + self._cut_off, due - lost
        if not has_too_few(due, due - lost):
            return None
        return find_late_key(self._before_key, due) or f"only {due - lost} of {due} frames could be decoded"

    def _seconds(self, ticks: int) -> Fraction:
        assert self._stream.time_base is not None
        return ticks * self._stream.time_base - self._origin

    def last_shown_until(self, last_end: Fraction) -> Fraction:
        """Give the end of the last picture, which is due at `last_end`, with the empty ones after it, in seconds."""
        dropped = dropped_at_end(self._path, self._container, self._stream)
        rate = self._stream.average_rate
        return max(last_end + (dropped / Fraction(rate) if dropped and rate else 0), self._shown_until)

    def find_missing(self, last_end: Fraction) -> str | None:
        """Say what is missing after the file was read to its end, `last_end` seconds; or None."""
        stream, container = self._stream, self._container
        announced, found = announced_seconds(container, stream), float(max(self._end.seconds, last_end))
        if announced is None:
            announced = announced_file_seconds(container) or 0.0
        else:
            assert stream.time_base is not None
            start = (stream.start_time or 0) * stream.time_base - self._origin
            found = float(last_end - start)
        rate = stream.average_rate
        self._cut_off = max(0, int((announced - found) * rate)) if rate else 0
        if is_short(announced, found):
            return f"truncated: the header announces {announced:.2f} s, the file holds {found:.2f} s"
        return self.find_lost()


def find_late_key(before: int, pictures: int) -> str | None:
    """Say that a video does not begin with a key frame, where more pictures come before it than may lack; or None."""
    if before == pictures or not has_too_few(pictures, pictures - before):  # not all containers mark key frames
        return None
    return f"the video does not begin with a key frame: {before} of {pictures} pictures come before the first one"


def _is_hidden(codec: str, packet: Packet) -> bool:
    """Whether a packet of VP8 or VP9 says that its picture is not to be shown."""
    if codec == "vp8":
        return not memoryview(packet)[0] & 0x10
    if codec != "vp9":
        return False
    data = memoryview(packet)
    holds_several, is_profile_3 = data[-1] & 0xE0 == 0xC0, data[0] & 0x30 == 0x30
    return not (holds_several or is_profile_3 or data[0] & 0x0A)  # one of before, or this one, is shown
