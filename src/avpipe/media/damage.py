"""Holes in the time of a stream: whether something was lost there, or there never was anything.

Demuxers pass over damage in silence: the time stamps jump. They jump as well where a recording paused, which is no
damage. What the file itself looks like tells the two apart, in the containers where that can be seen:

- Matroska, WebM: something that is no element stands between the blocks;
- FLV: something that is no tag stands between the tags;
- MPEG transport stream: a packet does not begin as packets do, or the stream's own counter of packets jumps;
- sound in Ogg and FLAC: nothing may be missing there, so that any hole is damage.

Nothing tells in ASF and MPEG program streams. In MP4 the time stamps stand apart, so that damage moves none of them. In
AVI, WAV, MP3 and raw streams FFmpeg counts time by what it has read: a loss there leaves no hole.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.stream import Stream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.source import origin_seconds

# Jitter of clocks, an encoder's delay and a lone packet of most codecs are less.
_SMALLEST_HOLE_SECONDS = Fraction(1, 10)
_SMALLEST_HOLE_PACKETS = Fraction(3, 2)

_KEEP_TIME = {"matroska", "webm", "mov", "mpegts", "mpeg", "flv", "asf", "ogg", "flac"}
_WITHOUT_HOLES = {"ogg", "flac"}

_SEGMENT, _CLUSTER, _INFO, _DURATION = 0x18538067, 0x1F43B675, 0x1549A966, 0x4489
_IN_FILE = {0x1A45DFA3, _SEGMENT, 0xEC, 0xBF}
_IN_SEGMENT = {0x114D9B74, _INFO, 0x1654AE6B, 0x1043A770, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1254C367}
_IN_CLUSTER = {0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF}
_ELEMENTS = _IN_FILE | _IN_SEGMENT | _IN_CLUSTER
_LONGEST_ELEMENT_HEADER = 12

_SYNC, _TS_PACKET, _TS_PACKETS_AT_ONCE = 0x47, 188, 100_000
_FLV_TAGS = {8, 9, 18}


def is_hole(jump: Fraction, packet_seconds: Fraction) -> bool:
    """Tell whether time stamps jump by more than a whole file's may for no reason.

    Args:
        jump: from where the next packet or frame was due to where it is, in seconds.
        packet_seconds: length of one.
    """
    return jump > max(_SMALLEST_HOLE_SECONDS, _SMALLEST_HOLE_PACKETS * packet_seconds)


def keeps_time(container: InputContainer) -> bool:
    """Tell whether a container has time stamps of its own, so that they show a hole."""
    return bool(_KEEP_TIME & set(container.format.name.split(",")))


def check_hole(path: Path, container: InputContainer, stream: Stream, before: Fraction, after: Fraction) -> None:
    """Raise ClipFailure DECODE_ERROR when a hole in a stream's time is where something was lost.

    Args:
        path: the file.
        container: the same, open.
        stream: which has the hole.
        before, after: end and start of what is there, in seconds from the container's first time stamp.
    """
    kinds = set(container.format.name.split(","))
    damage: str | None = None
    if kinds & _WITHOUT_HOLES and stream.type == "audio":
        damage = "whole files of this kind have no holes"
    elif "matroska" in kinds:
        damage = _found_at(path, _damage_in_matroska)
    elif "flv" in kinds:
        damage = _found_at(path, _damage_in_flv)
    elif "mpegts" in kinds:
        damage = _found_at(path, lambda data: _damage_in_ts(data, stream.id))
    if damage is not None:
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
        self._due: Fraction | None = None

    def restart(self) -> None:
        """Forget what came before, after a seek."""
        self._due = None

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
        seconds = time * self._stream.time_base - self._origin
        length = self._picture_seconds or (duration or 0) * self._stream.time_base
        if self._due is not None and is_hole(seconds - self._due, length):
            self.check(self._due, seconds)
        self._due = seconds + length


def announces_duration(path: Path) -> bool:
    """Whether the header of a Matroska file says how long it is; that of a stream that was written live does not."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for element in _elements(data, 0, len(data), {_SEGMENT}):
            if element.id == _INFO:
                return any(child.id == _DURATION for child in _elements(data, element.body, element.end, set()))
            if element.id == _CLUSTER:
                return False
    return False


def _found_at(path: Path, find: Callable[[mmap.mmap], int | None]) -> str | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position = find(data)
    return None if position is None else f"the file is damaged from byte {position:,}"


class _Element(NamedTuple):
    """An element of Matroska: its kind, and where it, its body and the next one begin."""

    id: int
    start: int
    body: int
    end: int


def _elements(data: mmap.mmap, position: int, end: int, entered: set[int]) -> Iterator[_Element]:
    """The elements one after another, and those inside elements of the kinds `entered`, up to the file's end.

    A live stream's segment and clusters have no known size; since they are entered, none is needed. An element that
    is of no kind that has its place there is the last one.
    """
    while position < end and position + _LONGEST_ELEMENT_HEADER <= len(data):
        kind, body = _read_number(data, position, keep_marker=True)
        size, body = _read_number(data, body, keep_marker=False)
        following = body if kind in entered else body + size
        yield _Element(kind, position, body, following)
        position = following


def _read_number(data: mmap.mmap, position: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number whose first byte's leading zeros say how many bytes it has; and the place after it."""
    length = 9 - data[position].bit_length()
    number = int.from_bytes(data[position : position + min(length, 8)], "big")
    return (number if keep_marker else number & ((1 << 7 * length) - 1)), position + length


def _damage_in_matroska(data: mmap.mmap) -> int | None:
    for element in _elements(data, 0, len(data), {_SEGMENT, _CLUSTER}):
        if element.id not in _ELEMENTS:
            return element.start
    return None


def _damage_in_flv(data: mmap.mmap) -> int | None:
    position = int.from_bytes(data[5:9], "big") + 4
    while position + 11 < len(data):
        if data[position] & 0x1F not in _FLV_TAGS or data[position + 8 : position + 11] != b"\0\0\0":
            return position
        position += 11 + int.from_bytes(data[position + 1 : position + 4], "big") + 4
    return None


def _damage_in_ts(data: mmap.mmap, stream_id: int) -> int | None:
    if data[0] != _SYNC:  # packets with a time code before each, as cameras write them: not looked into
        return None
    last: int | None = None
    size = _TS_PACKET * _TS_PACKETS_AT_ONCE
    for begin in range(0, len(data) // _TS_PACKET * _TS_PACKET, size):
        chunk = np.frombuffer(data[begin : begin + size], np.uint8)
        packets = chunk[: len(chunk) // _TS_PACKET * _TS_PACKET].reshape(-1, _TS_PACKET)
        strayed = np.flatnonzero(packets[:, 0] != _SYNC)
        if strayed.size:
            return begin + int(strayed[0]) * _TS_PACKET
        ids = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
        own = np.flatnonzero((ids == stream_id) & (packets[:, 3] & 0x10 > 0))
        # The counter of packets with a payload goes round from 0 to 15; a packet may be sent twice.
        counters = (packets[own, 3] & 0x0F).astype(np.int64)
        before = np.concatenate([[counters[0] if last is None else last], counters])[: own.size] if own.size else own
        jumped = np.flatnonzero(~np.isin((counters - before) % 16, (0, 1)))
        if jumped.size:
            return begin + int(own[jumped[0]]) * _TS_PACKET
        last = int(counters[-1]) if own.size else last
    return None
