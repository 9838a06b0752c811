"""Unpacking archives of strangers: whole, within limits and inside their folder, or not at all.

What is refused, and why the standard library's own unpacking is not used: docs/sources.md, Archives.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from avpipe.errors import AvpipeError
from avpipe.io.atomic import atomic_directory
from avpipe.io.reading import reading
from avpipe.io.space import require_space
from avpipe.sources.names import Refused, check_name
from avpipe.sources.rar import is_rar, unpack_rar
from avpipe.sources.unpacking import BLOCK_BYTES, DAMAGE, Limits, Writer


@dataclass(frozen=True)
class Unpacked:
    """What came out: number of files, their bytes, and what broke off the archive, empty where it is whole."""

    members: int
    n_bytes: int
    damage: str = ""


def unpack(
    archive: Sequence[Path], target: Path, limits: Limits, *, strip_components: int = 0, pick: Sequence[str] = ()
) -> Unpacked:
    """Unpack a zip, RAR or tar archive (plain, gzip, bzip2 or xz) as the folder `target`.

    A damaged member ends the archive: the members before it are kept and the result says so.

    Args:
        archive: its file, or its parts in order, which are read as one stream.
        target: the folder to make; it appears whole.
        limits: what the archive may hold.
        strip_components: how many leading folders of each name are left out.
        pick: files or folders that are wanted, wherever in the archive they lie, each in one place; the others are
            looked at and not written. Empty: everything.

    Raises:
        AvpipeError: it is no such archive, holds what is refused, or is a RAR and the extra `rar` is not installed;
            nothing is left of it.
        OSError: the disk is full; nothing is left of it.
    """
    name = ", ".join(str(path) for path in archive)
    with reading(name, "a zip, RAR or tar archive"):
        kind = _kind_of(archive)
    try:
        with atomic_directory(target) as folder:
            writer = Writer(folder, limits, strip_components, tuple(pick))
            try:
                kind(archive, writer)
            except DAMAGE as error:
                if not writer.written:
                    raise Refused(f"no file of it can be read ({error})") from error
                writer.damage = f"damaged after {writer.written:,} files ({str(error) or type(error).__name__})"
            writer.check_count()
    except Refused as error:
        raise AvpipeError(
            f"{name} was not unpacked: {error}. Nothing of it is kept. Get the archive from where it is published."
        ) from error
    return Unpacked(writer.written, writer.n_bytes, writer.damage)


def _kind_of(archive: Sequence[Path]) -> Callable[[Sequence[Path], Writer], None]:
    if is_rar(archive[0]):
        return unpack_rar
    return _unpack_zip if len(archive) == 1 and zipfile.is_zipfile(archive[0]) else _unpack_tar


def _unpack_zip(archive: Sequence[Path], writer: Writer) -> None:
    with zipfile.ZipFile(archive[0]) as file:
        members = [each for each in file.infolist() if not _is_zip_folder(each)]
        for member in members:
            writer.announce(member.orig_filename, member.file_size)
        require_space(writer.folder, sum(member.file_size for member in members), "unpacked files")
        for member in members:
            try:
                stream = file.open(member)
            except (NotImplementedError, RuntimeError) as error:
                raise Refused(f"{member.filename!r} cannot be read ({error})") from error
            with stream:
                writer.write(member.orig_filename, member.file_size, stream)
        writer.check_picks()


def _is_zip_folder(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder; refuses what is neither folder nor file."""
    if member.flag_bits & 0x1:
        raise Refused(f"{member.filename!r} is encrypted")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{member.filename!r} is a link or a device")
    if not member.orig_filename.endswith("/"):
        return False
    check_name(member.orig_filename.rstrip("/"))
    return True


def _unpack_tar(archive: Sequence[Path], writer: Writer) -> None:
    class Checked(tarfile.TarInfo):
        """Remembers a header that is not one, which tarfile takes for the end of the archive."""

        fault = ""

        @classmethod
        def frombuf(cls, buf: bytes, encoding: str, errors: str) -> Any:  # type: ignore[override]
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                raise
            except tarfile.HeaderError as error:
                Checked.fault = str(error)
                raise

    require_space(writer.folder, sum(path.stat().st_size for path in archive), "unpacked files")
    with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=Checked) as file:
        for member in file:
            name = member.name.removeprefix("./")
            if member.isdir():
                if name not in ("", "."):
                    check_name(name.rstrip("/"))
                continue
            if not member.isreg() or member.issparse():
                raise Refused(f"{name!r} is a link, a device or a file with holes")
            writer.announce(name, member.size)
            content = file.extractfile(member)
            if content is None:
                raise Refused(f"{name!r} is no file")
            writer.write(name, member.size, content)
        if Checked.fault:
            raise tarfile.ReadError(f"{Checked.fault} where the next file should begin")
        # tarfile stops at the archive's end; what follows has the checksum of everything before it.
        while stream.read(BLOCK_BYTES):
            pass
    writer.check_picks()


def _decompressed(archive: Sequence[Path]) -> BinaryIO:
    """The bytes of a tar archive that lies in one or more files."""
    stream = io.BufferedReader(_Joined(archive), BLOCK_BYTES)
    beginning = stream.peek(6)
    if beginning.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if beginning.startswith(b"BZh"):
        return bz2.BZ2File(stream)  # type: ignore[return-value]
    if beginning.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(stream)  # type: ignore[return-value]
    return stream


class _Joined(io.RawIOBase):
    """Files one after the other, as one stream."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._streams = self._open(paths)
        self._stream = next(self._streams, None)

    @staticmethod
    def _open(paths: Sequence[Path]) -> Iterator[BinaryIO]:
        for path in paths:
            with path.open("rb") as stream:
                yield stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the file at hand, or from the next where it has ended."""
        while self._stream is not None:
            if count := self._stream.readinto(buffer):  # type: ignore[attr-defined]
                return count
            self._stream = next(self._streams, None)
        return 0
