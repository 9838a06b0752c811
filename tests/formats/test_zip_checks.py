"""Damage to archives that torch reads over."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

import pytest
import torch

from avpipe.formats.zip_checks import check_archive

VALUES = torch.arange(7, dtype=torch.float32) + 0.5
NUMBERS = VALUES.numpy().tobytes()


def saved() -> bytes:
    stream = io.BytesIO()
    torch.save({"w": VALUES}, stream)
    return stream.getvalue()


def check(content: bytes) -> BinaryIO:
    stream = io.BytesIO(content)
    stream.seek(5)
    try:
        check_archive(stream)
    finally:
        assert stream.tell() == 0
    return stream


def test_a_whole_archive() -> None:
    assert torch.equal(torch.load(check(saved()), weights_only=True)["w"], VALUES)


def test_a_wrong_checksum() -> None:
    damaged = saved().replace(NUMBERS, NUMBERS[:-1] + b"\x41")
    assert not torch.equal(torch.load(io.BytesIO(damaged), weights_only=True)["w"], VALUES)  # torch does not mind
    with pytest.raises(zipfile.BadZipFile, match="the checksum of archive/data/0 is wrong"):
        check(damaged)


def test_numbers_that_are_marked_as_a_folder() -> None:
    """torch would leave the memory of the tensor as it was allocated."""
    damaged = bytearray(saved())
    name = damaged.rindex(b"archive/data/0")  # in the list at the end, 8 bytes after the attributes
    damaged[name - 8] |= 0x10
    with pytest.raises(zipfile.BadZipFile, match="archive/data/0 has 0x10 among its attributes"):
        check(bytes(damaged))


def test_without_checksums_there_is_nothing_to_compare() -> None:
    torch.serialization.set_crc32_options(False)
    try:
        content = saved()
    finally:
        torch.serialization.set_crc32_options(True)
    check(content)


def test_what_is_no_archive() -> None:
    with pytest.raises(zipfile.BadZipFile):
        check(b"numbers")


def test_members_that_are_compressed() -> None:
    whole = zipfile.ZipFile(io.BytesIO(saved()))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(zipfile.BadZipFile, match=r"archive/data\.pkl is compressed"):
        check(stream.getvalue())
