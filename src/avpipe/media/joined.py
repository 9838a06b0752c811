"""Streams joined by `cat`, whose time stamps jump back: one clock for all parts, as the ffmpeg program gives them.

Recorders and broadcasters start their clocks anew, and MPEG streams, Matroska and Ogg may simply be put one behind the
other. The first stream that jumps back says by how much the part is late: it goes on where it ended. The others are
moved by as much, so that sound and pictures of a part keep together. Of FLV, ASF, MP4 and AVI FFmpeg reads the first
file alone, of Matroska two: there a further one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet

from avpipe.errors import ClipFailure, Reason
from avpipe.media.structure import unread_from

_MAY_BE_JOINED = {"mpeg", "mpegts", "matroska", "webm", "ogg"}

# Jitter is less. Pictures are decoded in another order than they are shown in, up to 16 of them in H.264 and HEVC, but
# a key frame is shown after all that were decoded before it.
_SMALLEST_JUMP = Fraction(1, 10)
_SMALLEST_JUMP_OF_PICTURES = Fraction(1)
_LONGEST_REORDERING = 16  # pictures

# What may lie on the old clock behind the first packet of a new part: multiplexers interleave less.
_LONGEST_OVERLAP = Fraction(1)


@dataclass
class _Stream:
    """Where a stream is, in ticks of its own clock; `smallest_jump` in seconds, of packets that are no key frames."""

    time_base: Fraction
    smallest_jump: Fraction
    part: int = 0
    latest: int | None = None
    end: int = 0
    moved: int = 0
    since_jump: int = 0

    def jumps_back(self, ticks: int, *, is_key: bool) -> bool:
        """Whether a packet of this time belongs to another part."""
        if self.latest is None or ticks >= self.latest:
            return False
        smallest = _SMALLEST_JUMP if is_key else self.smallest_jump
        return (self.latest - ticks) * self.time_base > smallest


class CommonClock:
    """Moves the packets of a container's later parts behind those of the earlier ones.

    All packets of a container must be given, in the order of the file: which stream jumps first decides.
    """

    def __init__(self, container: InputContainer) -> None:
        self._name = container.name.removeprefix("file:")
        self._offsets = [Fraction(0)]  # of the parts, in seconds
        self._streams: dict[int, _Stream] = {}

    def place(self, packet: Packet) -> None:
        """Put a packet on the common clock.

        Raises:
            ClipFailure: DECODE_ERROR when another stream goes on as if there were no jump.
        """
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None or packet.stream.type not in ("video", "audio"):
            return
        stream = self._streams.get(packet.stream.index)
        if stream is None:
            stream = self._streams[packet.stream.index] = _Stream(packet.time_base, _smallest_jump(packet))
        if stream.jumps_back(ticks, is_key=packet.is_keyframe):
            self._begin_part(stream, ticks)
        elif stream.part < len(self._offsets) - 1:
            stream.since_jump += packet.duration or 0
            if stream.since_jump * stream.time_base > _LONGEST_OVERLAP:
                found = f"time stamps jump back, those of the {packet.stream.type} do not"
                raise ClipFailure(Reason.DECODE_ERROR, f"{self._name}: {found}: damaged time stamps; fetch it again")
        stream.latest = ticks if stream.latest is None else max(stream.latest, ticks)
        stream.end = max(stream.end, ticks + (packet.duration or 0))
        if stream.moved:
            packet.pts = None if packet.pts is None else packet.pts + stream.moved
            packet.dts = None if packet.dts is None else packet.dts + stream.moved

    def _begin_part(self, stream: _Stream, ticks: int) -> None:
        if stream.part == len(self._offsets) - 1:
            self._offsets.append((stream.end + stream.moved - ticks) * stream.time_base)
        stream.part = len(self._offsets) - 1
        stream.moved = round(self._offsets[-1] / stream.time_base)
        stream.latest, stream.end, stream.since_jump = None, ticks, 0


def _smallest_jump(packet: Packet) -> Fraction:
    """Seconds that no order of decoding explains, in the stream of a packet."""
    if packet.stream.type != "video":
        return _SMALLEST_JUMP
    rate = packet.stream.average_rate
    return max(_SMALLEST_JUMP_OF_PICTURES, _LONGEST_REORDERING / rate if rate else Fraction(0))


def may_be_joined(container: InputContainer) -> bool:
    """Whether FFmpeg reads several streams of this kind that were put one behind the other."""
    return bool(_MAY_BE_JOINED & set(container.format.name.split(",")))


def check_one_file(path: Path, container: InputContainer) -> None:
    """Raise ClipFailure DECODE_ERROR where another file follows that FFmpeg does not read."""
    at = unread_from(path, set(container.format.name.split(",")))
    if at is not None:
        found = f"several files put one behind the other: another one begins at byte {at:,}, which FFmpeg does not read"
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {found}; separate them")
