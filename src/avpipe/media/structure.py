"""What the bytes of a file show that FFmpeg keeps to itself: damage that it skips, and files behind the first one."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

_SEGMENT, _CLUSTER, _INFO, _DURATION = 0x18538067, 0x1F43B675, 0x1549A966, 0x4489
_IN_FILE = {0x1A45DFA3, _SEGMENT, 0xEC, 0xBF}
_IN_SEGMENT = {0x114D9B74, _INFO, 0x1654AE6B, 0x1043A770, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1254C367}
_IN_CLUSTER = {0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF}
_ELEMENTS = _IN_FILE | _IN_SEGMENT | _IN_CLUSTER
_LONGEST_ELEMENT_HEADER = 12

_SYNC, _TS_PACKET, _TS_PACKETS_AT_ONCE = 0x47, 188, 100_000
_FLV_TAGS = {8, 9, 18}


def damaged_from(path: Path, kinds: set[str], stream_id: int) -> int | None:
    """The byte from which a file is damaged, as far as a container of these kinds shows it; None: nowhere.

    Args:
        path: the file.
        kinds: what FFmpeg calls its container, such as {"matroska", "webm"}.
        stream_id: in a transport stream, the number on the packets of the stream that is looked at.
    """
    with mapped(path) as data:
        if "matroska" in kinds:
            return _damage_in_matroska(data)
        if "flv" in kinds:
            return _damage_in_flv(data)
        return _damage_in_ts(data, stream_id) if "mpegts" in kinds else None


def announces_duration(path: Path) -> bool:
    """Whether the header of a Matroska file says how long it is; that of a stream that was written live does not."""
    with mapped(path) as data:
        for element in _elements(data, 0, len(data), {_SEGMENT}):
            if element.id == _INFO:
                return any(child.id == _DURATION for child in _elements(data, element.body, element.end, set()))
            if element.id == _CLUSTER:
                return False
    return False


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


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
    """Where packets do not begin as they should, or the counter of a stream's jumps inside a picture or a sound."""
    time_code = next((length for length in (0, 4) if data[length : length + 1] == bytes([_SYNC])), None)
    if time_code is None:
        return None
    packet = _TS_PACKET + time_code  # cameras write a time code before each packet
    last: int | None = None
    size = packet * _TS_PACKETS_AT_ONCE
    for begin in range(0, len(data) // packet * packet, size):
        chunk = np.frombuffer(data[begin : begin + size], np.uint8)
        packets = chunk[: len(chunk) // packet * packet].reshape(-1, packet)[:, time_code:]
        strayed = np.flatnonzero(packets[:, 0] != _SYNC)
        if strayed.size:
            return begin + int(strayed[0]) * packet
        ids = (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]
        own = np.flatnonzero((ids == stream_id) & (packets[:, 3] & 0x10 > 0))
        # The counter of packets with a payload goes round from 0 to 15; a packet may be sent twice. Where a new picture
        # begins it may start anew: streams were joined there.
        counters = (packets[own, 3] & 0x0F).astype(np.int64)
        before = np.concatenate([[counters[0] if last is None else last], counters])[: own.size] if own.size else own
        begins = packets[own, 1] & 0x40 > 0
        jumped = np.flatnonzero(~np.isin((counters - before) % 16, (0, 1)) & ~begins)
        if jumped.size:
            return begin + int(own[jumped[0]]) * packet
        last = int(counters[-1]) if own.size else last
    return None


def unread_from(path: Path, kinds: set[str]) -> int | None:
    """The byte at which another file begins that FFmpeg does not read, in a container of these kinds; None: nowhere."""
    find = next((_FINDERS[kind] for kind in kinds if kind in _FINDERS), None)
    if find is None:
        return None
    with mapped(path) as data:
        return find(data)


def _second_head(head: re.Pattern[bytes], data: mmap.mmap) -> int | None:
    found = head.search(data, 1)
    return None if found is None else found.start()


def _second_moov(data: mmap.mmap) -> int | None:
    """Boxes of MP4 say how long they are; there is one of each kind that describes the file."""
    at, seen, last_begin = 0, False, 0
    while at + 16 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if kind == b"ftyp":
            last_begin = at
        if kind == b"moov" and seen:
            return last_begin or at
        seen |= kind == b"moov"
        if size < 8:  # up to the end of the file
            return None
        at += size
    return None


def _second_riff(data: mmap.mmap) -> int | None:
    """Long AVIs go on in further lists, of the kind AVIX."""
    at = 0
    while data[at : at + 4] == b"RIFF":
        if at and data[at + 8 : at + 12] == b"AVI ":
            return at
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return None


def _third_segment(data: mmap.mmap) -> int | None:
    """Of Matroska FFmpeg reads two segments, or all where none says how long it is."""
    segments = [element.start for element in _elements(data, 0, len(data), set()) if element.id == _SEGMENT]
    return segments[2] if len(segments) > 2 else None


_FLV_HEAD = re.compile(rb"FLV\x01[\0\1\4\5]\0\0\0\x09\0\0\0\0")
_ASF_HEAD = re.compile(re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")))
_FINDERS: dict[str, Callable[[mmap.mmap], int | None]] = {
    "flv": partial(_second_head, _FLV_HEAD),
    "asf": partial(_second_head, _ASF_HEAD),
    "mov": _second_moov,
    "avi": _second_riff,
    "matroska": _third_segment,
}
