"""The only way avpipe writes a file: to a temporary sibling, flushed to disk, then renamed over the target."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it becomes `target`, on any error it is removed.

    The temporary name keeps the target's suffix (ffmpeg and h5py look at it), starts with a dot and names the
    process, so that concurrent writers never share a file and the debris of a killed one can be told and removed.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_debris(target.parent, _short_stem(target), target.suffix)
    temporary = _temporary_name(target)
    try:
        yield temporary
        publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, target: Path) -> None:
    """Give a finished file its name: flushed to disk first, then renamed."""
    flush(temporary)
    temporary.replace(target)
    flush(target.parent)


@contextmanager
def atomic_directory(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Like `atomic_path` for a folder: yields an empty temporary folder that replaces `target` on success."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_debris(target.parent, _short_stem(target), target.suffix)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            outgoing = _temporary_name(target)
            target.replace(outgoing)
            temporary.replace(target)
            shutil.rmtree(outgoing)
        else:
            temporary.replace(target)
        flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch_directory(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that is removed afterwards, or by the next one if this is killed."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_debris(target.parent, _short_stem(target), target.suffix)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `target`, whole or not at all."""
    write_bytes(target, text.encode("utf-8"))


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON to `target`; NaN and infinity are refused, since they are not JSON."""
    write_text(target, to_json(value))


def to_json(value: Any) -> str:
    """Indented JSON; NaN and infinity are refused."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _temporary_name(target: Path) -> Path:
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{_short_stem(target)}~{owner}~{target.suffix}")


def _short_stem(target: Path) -> str:
    """At most 100 bytes of the stem: a file system takes 255 for the whole name."""
    return os.fsencode(target.stem)[:100].decode("utf-8", errors="ignore")


def remove_debris(folder: Path, stem: str = "*", suffix: str = "*") -> None:
    """Remove temporaries whose writer ran on this machine and is gone (killed before it could).

    Args:
        folder: where they lie.
        stem, suffix: of the file that they were to become, as text; "*": any.
    """
    host = socket.gethostname()
    stem, suffix = (text if text == "*" else _glob_escape(text) for text in (stem, suffix))
    for path in folder.glob(f".{stem}~{_glob_escape(host)}-*~{suffix}"):
        pid = path.name.split("~")[-2].removeprefix(f"{host}-").split("-")[0]
        if re.fullmatch(r"[1-9][0-9]{0,9}", pid) and not _is_alive(int(pid)):  # any other name is not one of ours
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _glob_escape(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
