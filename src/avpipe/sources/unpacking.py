"""Writing what archives of strangers hold: inside a folder, within limits, and no file in part."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from avpipe.sources.names import Refused, check_name

BLOCK_BYTES = 1 << 20
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)
"""What a damaged archive raises."""

_SPARE_MEMBERS = 1.05


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        unpacked_bytes: the most that all its files may have together.
        members: how many files it should have; None: not known.
    """

    unpacked_bytes: int
    members: int | None = None


@dataclass
class Writer:
    """Writes members below a folder, and refuses what the rules say."""

    folder: Path
    limits: Limits
    strip_components: int
    pick: tuple[str, ...] = ()
    written: int = 0
    n_bytes: int = 0
    damage: str = ""
    _found: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _declared: int = 0
    _seen: int = 0

    def announce(self, name: str, size: int) -> None:
        """Check a file's name and declared size."""
        check_name(name)
        self._seen += 1
        self._declared += size
        if size < 0 or self._declared > self.limits.unpacked_bytes:
            raise Refused(f"its files have more than {self.limits.unpacked_bytes:,} bytes together")
        most = self.limits.members
        if most is not None and self._seen > max(most * _SPARE_MEMBERS, most + 1):
            raise Refused(f"it has more than the {most:,} files expected")
        key = unicodedata.normalize("NFC", name).casefold()
        if key in self._taken:
            raise Refused(f"{name!r} is in it twice, or differs from another name by capitals alone")
        self._taken.add(key)

    @contextmanager
    def member(self, name: str, size: int) -> Iterator[Callable[[bytes], None]]:
        """Write a file that was announced; yields what takes its bytes.

        Raises:
            EOFError: it ends before its declared size; nothing of it stays.
        """
        place = self._place(name)
        if not place:
            yield lambda block: None
            return
        path = self.folder / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:

                def put(block: bytes) -> None:
                    if out.tell() + len(block) > size:
                        raise Refused(f"{name!r} has more bytes than it declares")
                    out.write(block)

                yield put
                if out.tell() < size:
                    raise EOFError(f"{name} has {out.tell():,} of {size:,} bytes")
        except (FileExistsError, NotADirectoryError) as error:
            raise Refused(f"{name!r} is a file and a folder in it") from error
        except DAMAGE:
            path.unlink(missing_ok=True)
            raise
        self.written += 1
        self.n_bytes += size

    def write(self, name: str, size: int, stream: IO[bytes]) -> None:
        """Write a file that was announced from a stream."""
        if not self._place(name):
            return
        with self.member(name, size) as put:
            while block := stream.read(BLOCK_BYTES):
                put(block)

    def _place(self, name: str) -> str:
        """Where below the folder a file is written, "" where it is not wanted."""
        if not self.pick:
            return "/".join(name.split("/")[self.strip_components :])
        if name.startswith("__MACOSX/"):  # what macOS packs beside each file, under the same name
            return ""
        for pick in self.pick:
            before, found, _ = f"/{name}/".partition(f"/{pick}/")
            if not found:
                continue
            if self._found.setdefault(pick, before) != before:
                raise Refused(f"{pick!r} is in it twice, below {self._found[pick] or '/'} and {before or '/'}")
            return name[len(before) :]
        return ""

    def check_picks(self) -> None:
        """Refuse an archive that was read to its end and lacks something that is wanted of it."""
        if absent := [pick for pick in self.pick if pick not in self._found]:
            there = f"{self._seen:,} files, such as {', '.join(sorted(self._taken)[:5])}"
            raise Refused(f"{', '.join(absent)} is not in it, but {there}")

    def check_count(self) -> None:
        """An archive that is cut between two members may read without an error: only the count tells."""
        if self.limits.members is not None and self.written < self.limits.members:
            self.damage = f"{self.damage or 'whole'}, {self.written:,} files, expected {self.limits.members:,}"
        if not self.written:
            raise Refused("there is no file in it")
