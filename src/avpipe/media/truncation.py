"""Whether the sound of a file was cut off: what its header announces, where that can be relied on.

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
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer

from avpipe.media.damage import announces_duration
from avpipe.media.slack import is_short
from avpipe.media.source import (
    announced_file_seconds,
    announced_seconds,
    find_video,
    open_media,
    origin_seconds,
    read_packets,
    wav_bytes,
)

_STREAM_ANNOUNCES = {"mov", "flac", "aiff", "au", "caf", "tta", "wv", "ape"}
_FILE_ANNOUNCES = {"matroska", "flv"}

_ID3_HEADER = 10
_LONGEST_PAGE = 65_307
_PAGE_HEADER = 27


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
        announced, found = _announced_by_file(path, container), float(end)
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
    end = Fraction(0)
    with open_media(path) as container:
        origin = origin_seconds(container)
        for packet in read_packets(container):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base - origin)
    return end


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


def _announced_by_file(path: Path, container: InputContainer) -> float | None:
    if "matroska" in _kinds(container) and not announces_duration(path):
        return None
    return announced_file_seconds(container)


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
