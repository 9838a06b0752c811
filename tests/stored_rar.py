"""Writes RAR archives byte by byte, with names and sizes that no honest program writes; nothing is compressed."""

import struct
import zlib
from dataclasses import dataclass

RAR4, RAR5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"


@dataclass
class Member:
    """A file of an archive.

    Attributes:
        name: as bytes, whatever they are.
        data: its content.
        size: that it declares; None: the right one.
        mode: Unix file type and permissions.
        before, after: whether it comes from an earlier volume or goes on in the next.
    """

    name: bytes
    data: bytes = b"evil"
    size: int | None = None
    mode: int = 0o100644
    before: bool = False
    after: bool = False


def rar5(*members: Member) -> bytes:
    """A RAR 5 archive."""
    blocks = [_block5(b"\x01\x00" + b"\x00")]
    for each in members:
        flags = 0x02 | 0x08 * each.before | 0x10 * each.after
        size = len(each.data) if each.size is None else each.size
        head = b"\x02" + _vint(flags) + _vint(len(each.data)) + _vint(0x04) + _vint(size) + _vint(each.mode)
        head += struct.pack("<I", zlib.crc32(each.data)) + _vint(0) + _vint(1) + _vint(len(each.name)) + each.name
        blocks.append(_block5(head) + each.data)
    return RAR5 + b"".join(blocks) + _block5(b"\x05\x00\x00")


def rar4(*members: Member) -> bytes:
    """A RAR 4 archive."""
    blocks = [_block4(0x73, 0, bytes(6))]
    for each in members:
        size = len(each.data) if each.size is None else each.size
        head = struct.pack(
            "<IIBIIBBHI",
            len(each.data),
            size,
            3,
            zlib.crc32(each.data),
            0x5A210000,
            20,
            0x30,
            len(each.name),
            each.mode,
        )
        flags = 0x8000 | 0x01 * each.before | 0x02 * each.after
        blocks.append(_block4(0x74, flags, head + each.name) + each.data)
    return RAR4 + b"".join(blocks) + _block4(0x7B, 0x4000, b"")


def _block5(head: bytes) -> bytes:
    sized = _vint(len(head)) + head
    return struct.pack("<I", zlib.crc32(sized)) + sized


def _block4(kind: int, flags: int, head: bytes) -> bytes:
    block = struct.pack("<BHH", kind, flags, len(head) + 7) + head
    return struct.pack("<H", zlib.crc32(block) & 0xFFFF) + block


def _vint(number: int) -> bytes:
    found = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        found.append(low | 0x80 * bool(number))
        if not number:
            return bytes(found)
