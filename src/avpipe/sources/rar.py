"""Unpacking RAR archives, in a process of its own: what the library does with a hostile one ends with the process.

`python -m avpipe.sources.rar` is that process. What was measured of the library: docs/sources.md, RAR.
"""

from __future__ import annotations

import importlib.util
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.io.space import require_space
from avpipe.sources.names import Refused, check_name
from avpipe.sources.unpacking import DAMAGE, Limits, Writer

_SIGNATURES = (b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00")  # RAR 1.5 to 4, and 5 on
_FREE_SECONDS, _BYTES_PER_SECOND = 600, 1 << 20  # UnRAR unpacks a hundred times as fast
_MEMORY_BYTES = 4 << 30  # a dictionary has up to 1 GiB
_SPLIT, _ENCRYPTED, _FOLDER = 0x03, 0x04, 0x20  # a member's flags
_END, _PASSWORD_MISSING, _PASSWORD_WRONG = 10, 22, 24  # UnRAR's codes
_UNIX = 3
_LONGEST_NAME = 1022  # UnRAR cuts what is longer
_NOT_UTF8 = "\ufffe"  # UnRAR puts it before bytes that are none


def is_rar(path: Path) -> bool:
    """Whether a file begins as a RAR archive does."""
    with path.open("rb") as stream:
        return stream.read(8).startswith(_SIGNATURES)


def unpack_rar(archive: Sequence[Path], writer: Writer) -> None:
    """Write the files of an archive.

    Raises:
        AvpipeError: the extra `rar` is not installed.
        Refused: it holds what is not written, or takes too long.
        EOFError: it is damaged; what came before is written.
        OSError: the disk is full.
    """
    if not all(importlib.util.find_spec(name) for name in ("unrar", "unrar.cffi")):
        raise AvpipeError(
            f"{archive[0]} is a RAR archive, and what reads it is not installed: `pip install 'avpipe[rar]'`. UCF-101 "
            "comes as a ZIP as well, which needs nothing: `avpipe sources fetch ucf_gzsl --only ucf101_videos`."
        )
    if len(archive) > 1:
        raise Refused("it is a RAR archive in several volumes, which is not read: unpack it by hand")
    said = _ask(archive[0], writer)
    if said["refused"]:
        raise Refused(said["refused"])
    if said["os_error"]:
        raise OSError(*said["os_error"])
    writer.written, writer.n_bytes = said["written"], said["n_bytes"]
    if said["damage"]:
        raise EOFError(said["damage"])


def _ask(archive: Path, writer: Writer) -> dict[str, Any]:
    asked = {
        "archive": str(archive), "folder": str(writer.folder), "strip_components": writer.strip_components,
        "limits": asdict(writer.limits), "pick": writer.pick,
    }  # fmt: skip
    seconds = _FREE_SECONDS + writer.limits.unpacked_bytes / _BYTES_PER_SECOND
    command = [sys.executable, "-m", "avpipe.sources.rar"]
    try:
        done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Refused(f"unpacking it takes more than {seconds:,.0f} seconds") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Refused(
            f"the process that reads it ended with status {done.returncode}: {done.stderr[-500:].strip()}"
        ) from None


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Unpack an archive in this process, and say what came of it."""
    from unrar.cffi.unrarlib import BadRarFile

    writer = Writer(Path(asked["folder"]), Limits(**asked["limits"]), asked["strip_components"], tuple(asked["pick"]))
    said: dict[str, Any] = {"refused": "", "os_error": None, "damage": ""}
    try:
        _unpack(asked["archive"], writer)
    except Refused as error:
        said["refused"] = str(error)
    except BadRarFile as error:
        is_secret = error.code in (_PASSWORD_MISSING, _PASSWORD_WRONG)
        said |= {"refused": "it is encrypted"} if is_secret else {"damage": f"UnRAR's error {error.code}"}
    except OSError as error:
        said["os_error"] = [error.errno, error.strerror, error.filename]
    except DAMAGE as error:
        said["damage"] = str(error) or type(error).__name__
    return said | {"written": writer.written, "n_bytes": writer.n_bytes}


def _unpack(archive: str, writer: Writer) -> None:
    from unrar.cffi.unrarlib import BadRarFile, RarArchive

    listed = []
    with RarArchive.open_for_metadata(archive) as file:
        try:
            for header in _headers(file):
                if not _is_folder(header):
                    listed.append((header.FileNameW, _size(header)))
                    writer.announce(*listed[-1])
                header.skip()
        except BadRarFile as error:
            if error.code in (_PASSWORD_MISSING, _PASSWORD_WRONG):
                raise
    require_space(writer.folder, sum(size for _, size in listed), "unpacked files")
    expected = iter(listed)
    with RarArchive.open_for_processing(archive) as file:
        for header in _headers(file):
            if _is_folder(header):
                header.skip()
            elif (member := (header.FileNameW, _size(header))) != next(expected, None):
                raise Refused(f"{member[0]!r} is not what its list says")
            else:
                with writer.member(*member) as put:
                    _read(header, put)
    writer.check_picks()


def _headers(file: Any) -> Iterator[Any]:
    """The library's iteration, which ends at damage and where a password is asked for as it does at the end."""
    from unrar.cffi import unrarlib

    yield from file.iterate_headers()
    if (code := unrarlib.RARReadHeaderEx(file.handle, unrarlib.RARHeaderDataEx())) != _END:
        raise unrarlib.BadRarFile(code, f"error {code} in a header")


def _is_folder(header: Any) -> bool:
    """Whether a member is a folder; refuses what is neither folder nor file, or cannot be told to be one."""
    name, found = header.FileNameW, header.headerDataEx
    if found.Flags & _SPLIT:
        raise Refused(f"{name!r} lies in several volumes, which are not read: unpack it by hand")
    if found.Flags & _ENCRYPTED:
        raise Refused(f"{name!r} is encrypted")
    if len(name) > _LONGEST_NAME or _NOT_UTF8 in name:
        raise Refused(f"{name[:200]!r} is cut or not UTF-8, and cannot be the name of a file")
    if found.Flags & _FOLDER:
        check_name(name.rstrip("/"))
        return True
    kind = stat.S_IFMT(found.FileAttr) if found.HostOS == _UNIX else 0
    if found.RedirType or kind not in (0, stat.S_IFREG):
        raise Refused(f"{name!r} is a link or a device")
    return False


def _size(header: Any) -> int:
    return header.UnpSize + (header.UnpSizeHigh << 32)


def _read(header: Any, put: Callable[[bytes], None]) -> None:
    """Give a member's bytes to `put`. The library swallows what its callback raises: it is raised afterwards."""
    from unrar.cffi.unrarlib import BadRarFile

    name, size, n_bytes = header.FileNameW, _size(header), 0
    faults: list[Exception] = []

    def take(block: bytes) -> None:
        nonlocal n_bytes
        n_bytes += len(block)
        if not faults:
            try:
                put(block)
            except Exception as error:
                faults.append(error)

    try:
        header.test(take)
    except BadRarFile as error:
        faults.append(EOFError(f"{name}: UnRAR's error {error.code}"))
    if faults:
        raise faults[0]
    if not n_bytes and size:
        raise Refused(f"{name!r} is a link: it has none of its {size:,} bytes")


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(json.dumps(_answer(json.load(sys.stdin))))  # noqa: T201 - the answer to the process that asked
