"""Damage to zip archives that torch, whose files are such archives, does not see: it takes other numbers instead."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

ZIP_START = b"PK\x03\x04"
"""Of a member, which comes first where nothing is in front of the archive."""

_FOLDER = 0x10  # in a member's external attributes, as in MS-DOS


def starts_as_zip(stream: BinaryIO) -> bool:
    """Whether a file begins as an archive does, which is how torch tells; leaves the stream at its start."""
    stream.seek(0)
    first = stream.read(len(ZIP_START))
    stream.seek(0)
    return first == ZIP_START


def check_archive(stream: BinaryIO) -> None:
    """Read an archive through and compare its members with their checksums; leaves the stream at its start.

    torch can be told to write no checksums (`torch.serialization.set_crc32_options`): all of them are 0 then, and
    there is nothing to compare.

    Raises:
        zipfile.BadZipFile: no archive, or a member whose checksum is wrong or that is marked as a folder. Other
            exceptions of `zipfile` are possible, such as NotImplementedError: a damaged archive may look like a rare
            kind.
    """
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            # torch reads nothing of what is marked as a folder, and takes whatever its memory holds for the numbers.
            folders = [each.filename for each in members if each.file_size and each.external_attr & _FOLDER]
            has_checksums = any(each.CRC for each in members)
            damaged = archive.testzip() if has_checksums else None
    finally:
        stream.seek(0)
    if folders:
        raise zipfile.BadZipFile(f"{folders[0]} has {_FOLDER:#x} among its attributes, the mark of a folder")
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
