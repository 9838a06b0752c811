"""Members of zip archives, where torch and zipfile trust what a damaged or hostile archive says of itself."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from typing import BinaryIO

ZIP_START = b"PK\x03\x04"
"""Of a member, which comes first where nothing is in front of the archive."""

_FOLDER = 0x10  # in a member's external attributes, as in MS-DOS
_ENCRYPTED = 1
_LOCAL_HEADER_BYTES = 30


def check_archive(stream: BinaryIO) -> None:
    """Read an archive through and compare its members with their checksums; leaves the stream at its start.

    torch can be told to write no checksums (`torch.serialization.set_crc32_options`): all of them are 0 then, and
    there is nothing to compare.

    Raises:
        zipfile.BadZipFile: no archive, or a member whose checksum is wrong, or that is compressed or marked as a
            folder. Other exceptions of `zipfile` are possible, such as NotImplementedError: a damaged archive may
            look like a rare kind.
    """
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            # torch reads nothing of what is marked as a folder, and takes whatever its memory holds for the numbers.
            folders = [each.filename for each in members if each.file_size and each.external_attr & _FOLDER]
            packed = [each.filename for each in members if each.compress_type != zipfile.ZIP_STORED]
            has_checksums = any(each.CRC for each in members)
            damaged = archive.testzip() if has_checksums and not packed else None
    finally:
        stream.seek(0)
    if folders:
        raise zipfile.BadZipFile(f"{folders[0]} has {_FOLDER:#x} among its attributes, the mark of a folder")
    if packed:  # what torch writes is not, and what is may unpack to a thousand times its size
        raise zipfile.BadZipFile(f"{packed[0]} is compressed")
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def stored_members(data: bytes) -> dict[str, memoryview]:
    """Name without its first folder -> the bytes, of an archive in which nothing is packed, as torch writes them.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: no archive, a wrong checksum, members that overlap or are packed.
    """
    view, stream = memoryview(data), io.BytesIO(data)
    infos = zipfile.ZipFile(stream).infolist()
    plain = all(info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED for info in infos)
    if not plain or sum(info.file_size for info in infos) > len(data):
        raise zipfile.BadZipFile("a zip archive with compressed, encrypted or overlapping members")
    has_checksums = any(info.CRC for info in infos)
    members = {}
    for info in infos:
        begin = member_offset(stream, info)
        members[info.filename.partition("/")[2]] = member = view[begin : begin + info.file_size]
        if has_checksums and zlib.crc32(member) != info.CRC:
            raise zipfile.BadZipFile(f"the checksum of {info.filename} is wrong")
    return members


def member_offset(stream: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: behind its local header, whose last fields may differ from the directory's.

    Raises:
        zipfile.BadZipFile: the member is encrypted, or its bytes are not all there.
    """
    if member.flag_bits & _ENCRYPTED:
        raise zipfile.BadZipFile(f"{member.filename} is encrypted")
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL_HEADER_BYTES)
    name_bytes, extra_bytes = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    offset = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    if not header.startswith(ZIP_START) or offset + member.file_size > stream.seek(0, os.SEEK_END):
        raise zipfile.BadZipFile(f"{member.filename} was cut short or is not where the archive says")
    return offset
