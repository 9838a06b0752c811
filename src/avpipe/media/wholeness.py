"""Whether a file is whole: what its header announces and FFmpeg's time stamps say, against what was found.

**Cut off at the end.** What announces the length of the sound, where that can be relied on:

| container | what announces the length of the sound |
| --- | --- |
| MP4, QuickTime, FLAC, AIFF, AU, CAF, TTA, WavPack, Monkey's Audio | the sound's own duration or number of samples |
| AVI | the sound's own number of frames, unless it lasts longer than the pictures by it |
| MP3 | the number of frames in its first one (Xing, Info, VBRI), else nothing |
| WAV | the size of the file, unless it was written as a stream |
| Matroska with a duration, FLV | the length of the file; other streams may last longer than the sound |
| Ogg | nothing, but a file that ends inside a page was cut off |

Elsewhere (MPEG streams, raw ADTS, AC-3, AMR, ASF) FFmpeg guesses from the bit rate or looks for the last time stamp;
a file cut between two packets is then a shorter file.

**Damaged inside.** Demuxers pass over damage in silence: the time stamps jump. They jump as well where a recording
paused, which is no damage. What the file itself looks like tells the two apart, where that can be seen:

- Matroska, WebM: something that is no element stands between the blocks;
- FLV: something that is no tag stands between the tags;
- MPEG transport stream: a packet does not begin as packets do, or the stream's own counter of packets jumps;
- sound in Ogg and FLAC: nothing may be missing there, so that any hole is damage.

Nothing tells in ASF and MPEG program streams. In MP4 the time stamps stand apart, so that damage moves none of them. In
AVI, WAV, MP3 and raw streams FFmpeg counts time by what it has read: a loss there leaves no hole.
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.source import (
    LatestEnd,
    announced_file_seconds,
    announced_seconds,
    check_packet,
    find_video,
    open_media,
    origin_seconds,
    read_packets,
    wav_bytes,
)
from avpipe.media.structure import announces_duration, damaged_from

# An XviD AVI announces a frame more for each frame its encoder held back (82 announced, 81 there: docs/networks.md,
# C3D), and containers round their durations.
_FRAMES_THAT_MAY_LACK = 2
_SECONDS_THAT_MAY_LACK = 0.5
_SHARE_THAT_MAY_LACK = 0.02
_SHARE_OF_A_SHORT_ONE = 0.1  # of less than 5 s, but never less than a packet and an encoder's delay:
_LEAST_SECONDS_THAT_MAY_LACK = 0.15

_STREAM_ANNOUNCES = {"mov", "flac", "aiff", "au", "caf", "tta", "wv", "ape"}
_FILE_ANNOUNCES = {"matroska", "flv"}
_ID3_HEADER = 10
_LONGEST_PAGE = 65_307
_PAGE_HEADER = 27

# Jitter of clocks, an encoder's delay and a lone packet of most codecs are less.
_SMALLEST_HOLE_SECONDS = Fraction(1, 10)
_SMALLEST_HOLE_PACKETS = Fraction(3, 2)

_KEEP_TIME = {"matroska", "webm", "mov", "mpegts", "mpeg", "flv", "asf", "ogg", "flac"}
_WITHOUT_HOLES = {"ogg", "flac"}


def is_short(announced_seconds: float, found_seconds: float) -> bool:
    """Tell whether so much is missing that the file must have been cut off."""
    short = max(_LEAST_SECONDS_THAT_MAY_LACK, _SHARE_OF_A_SHORT_ONE * announced_seconds)
    may_lack = max(min(_SECONDS_THAT_MAY_LACK, short), _SHARE_THAT_MAY_LACK * announced_seconds)
    return announced_seconds - found_seconds > may_lack


def has_too_few(expected_frames: int, found_frames: int) -> bool:
    """Tell whether more frames are missing than a whole file may lack."""
    return expected_frames - found_frames > _FRAMES_THAT_MAY_LACK + _SHARE_THAT_MAY_LACK * expected_frames


def find_missing_sound(path: Path, container: InputContainer, stream: AudioStream, end: Fraction) -> str | None:
    """Say in one line what is missing of a sound that was read to its end, or None when it is whole.

    Args:
        path: the file.
        container: the same, open.
        stream: its sound.
        end: of the last packet or sample found, in seconds from the container's first time stamp.
    """
    assert stream.time_base is not None, "a demuxed stream has a time base"
    start = (stream.start_time or 0) * stream.time_base - origin_seconds(container)
    announced, found = _announced_seconds(path, container, stream, float(end - start)), float(end - start)
    if announced is None and _kinds(container) & _FILE_ANNOUNCES:
        is_said = "matroska" not in _kinds(container) or announces_duration(path)
        announced, found = announced_file_seconds(container) if is_said else None, float(end)
        if announced is not None and is_short(announced, found):
            found = max(found, float(file_end(path)))
    if announced is not None and is_short(announced, found):
        ends = f"the header announces {announced:.2f} s, the sound ends at {float(end):.2f} s"
        return f"truncated: {ends}; fetch it again"
    if "ogg" in _kinds(container) and _ends_inside_page(path):
        return f"truncated: the file ends inside a page of Ogg after {float(end):.2f} s of sound; fetch it again"
    return None


def file_end(path: Path) -> Fraction:
    """Give the end of the last packet of any stream, in seconds from the container's first time stamp."""
    with open_media(path) as container:
        end = LatestEnd(container)
        for packet in read_packets(container):
            end.add(packet)
    return end.seconds


def _kinds(container: InputContainer) -> set[str]:
    return set(container.format.name.split(","))


def _announced_seconds(path: Path, container: InputContainer, stream: AudioStream, found: float) -> float | None:
    """What the header says of this stream alone, where it can be relied on."""
    assert stream.time_base is not None
    kinds = _kinds(container)
    if "avi" in kinds:  # FFmpeg shortens the durations of an AVI to what the file's size allows
        announced = float(stream.frames * stream.time_base)
        video = find_video(container)
        shown = None if video is None else announced_seconds(container, video)
        # Careless writers put a number of another unit there.
        return announced if stream.frames and (shown is None or not is_short(announced, shown)) else None
    if "wav" in kinds:
        missing, bits_per_second = (wav_bytes(path) or 0) - path.stat().st_size, stream.codec_context.bit_rate
        return found + missing * 8 / bits_per_second if missing > 0 and bits_per_second else None
    if kinds & _STREAM_ANNOUNCES or ("mp3" in kinds and _counts_frames(path)):
        return float(stream.duration * stream.time_base) if stream.duration else None
    return None


def _counts_frames(path: Path) -> bool:
    """Whether the first frame of an MP3 says how many there are."""
    with path.open("rb") as file:
        head = file.read(_ID3_HEADER)
        if head[:3] == b"ID3":
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(_ID3_HEADER + size)
        else:
            file.seek(0)
        first = file.read(4096)
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if at >= 0 and len(first) >= at + 8:
        return bool(first[at + 7] & 1)
    return b"VBRI" in first


def _ends_inside_page(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 2 * _LONGEST_PAGE), os.SEEK_SET)
        tail = file.read()
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return False
    page = tail[at:]
    if len(page) < _PAGE_HEADER:
        return True
    (segments,) = struct.unpack_from("B", page, _PAGE_HEADER - 1)
    lengths = page[_PAGE_HEADER : _PAGE_HEADER + segments]
    return len(lengths) < segments or len(page) < _PAGE_HEADER + segments + sum(lengths)


def is_hole(jump: Fraction, packet_seconds: Fraction) -> bool:
    """Tell whether time stamps jump by more than a whole file's may for no reason.

    Args:
        jump: from where the next packet or frame was due to where it is, in seconds.
        packet_seconds: length of one.
    """
    return jump > max(_SMALLEST_HOLE_SECONDS, _SMALLEST_HOLE_PACKETS * packet_seconds)


def keeps_time(container: InputContainer) -> bool:
    """Tell whether a container has time stamps of its own, so that they show a hole."""
    return bool(_KEEP_TIME & _kinds(container))


def check_hole(path: Path, container: InputContainer, stream: Stream, before: Fraction, after: Fraction) -> None:
    """Raise ClipFailure DECODE_ERROR when a hole in a stream's time is where something was lost.

    Args:
        path: the file.
        container: the same, open.
        stream: which has the hole.
        before, after: end and start of what is there, in seconds from the container's first time stamp.
    """
    if _kinds(container) & _WITHOUT_HOLES and stream.type == "audio":
        damage = "whole files of this kind have no holes"
    else:
        position = damaged_from(path, _kinds(container), stream.id)
        if position is None:
            return
        damage = f"the file is damaged from byte {position:,}"
    hole = f"{stream.type} is missing from {float(before):.3f} s to {float(after):.3f} s"
    raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {hole} ({damage}); fetch it again")


class HoleWatch:
    """Looks for holes in the time of a stream by its packets, in the order of decoding.

    Each kind of packet is judged by what is exact: sound by when it is due, pictures, whose order is not that of the
    screen, by when they are decoded, compared with the average rate.
    """

    def __init__(self, path: Path, container: InputContainer, stream: Stream) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._origin = origin_seconds(container)
        rate = getattr(stream, "average_rate", None) if stream.type == "video" else None
        self._picture_seconds = 1 / Fraction(rate) if rate else Fraction(0)
        self._is_blind = not keeps_time(container) or (stream.type == "video" and not rate)
        self._is_in_order = False
        # A jump by less than the smallest hole is none, which saves fractions for most packets.
        self._smallest_ticks = int(_SMALLEST_HOLE_SECONDS / (stream.time_base or 1))
        self._last: int | None = None
        self._duration = 0

    def restart(self) -> None:
        """Forget what came before, after a seek."""
        self._last = None

    def check_packet(self, packet: Packet) -> None:
        """Judge a packet that FFmpeg calls cut off.

        Where transport streams are joined, their counters of packets jump between two pictures: FFmpeg then calls the
        one before cut off, which it is not.

        Raises:
            ClipFailure: DECODE_ERROR when the file ends, or has a hole, in the middle of it.
        """
        if not packet.is_corrupt:
            return
        kinds = _kinds(self._container)
        if "mpegts" in kinds and self._stream.type == "video":
            self._is_in_order = self._is_in_order or damaged_from(self._path, kinds, self._stream.id) is None
            if self._is_in_order:
                return
        check_packet(packet, self._path)

    def check(self, before: Fraction, after: Fraction) -> None:
        """Judge a hole, in seconds; a file that was looked at and found in order is not looked at again.

        Raises:
            ClipFailure: as `check_hole`.
        """
        if not self._is_in_order:
            check_hole(self._path, self._container, self._stream, before, after)
            self._is_in_order = True

    def add(self, time: int | None, duration: int | None) -> None:
        """Take a packet's time (presentation of sound, decoding of pictures) and duration, in the stream's ticks.

        Raises:
            ClipFailure: DECODE_ERROR for a hole that is damage.
        """
        if time is None or self._is_blind or self._stream.time_base is None:
            return
        if self._last is not None and time - self._last > self._smallest_ticks:
            seconds = time * self._stream.time_base - self._origin
            length = self._picture_seconds or self._duration * self._stream.time_base
            due = self._last * self._stream.time_base - self._origin + length
            following = self._picture_seconds or (duration or 0) * self._stream.time_base
            if is_hole(seconds - due, following):
                self.check(due, seconds)
        self._last, self._duration = time, duration or 0
