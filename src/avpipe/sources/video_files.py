"""Where the videos of an annotation lie: files named after a video or a clip; fetched ones lie in a folder apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.sources.folders import VIDEO_SUFFIXES

FETCHED = "fetched"
_NOT_ASKED_FOR = "named after no video or clip of the annotation"


@dataclass(frozen=True)
class VideoFile:
    """A file of a folder of videos, with what tells that it was replaced."""

    path: str
    size_bytes: int
    modified_ns: int


def fetched_stem(folder: Path, video_id: str) -> Path:
    """Where a fetched video lies, without the suffix of its container; 256 folders share them."""
    return folder / FETCHED / hashlib.sha256(video_id.encode()).hexdigest()[:2] / video_id


def find_videos(folder: Path, names: Collection[str]) -> tuple[dict[str, VideoFile], dict[str, list[str]]]:
    """The files of a folder and of the folders in it that are named after videos or clips; none is opened.

    Returns:
        name -> its file; a file that lies outside `fetched` comes first. And why others are none of them -> their
        names relative to the folder.

    Raises:
        AvpipeError: two files outside `fetched` have one name.
    """
    found: dict[str, VideoFile] = {}
    ignored: dict[str, list[str]] = {}
    for entry in sorted(_files(folder, 1), key=lambda each: each.path):
        name, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - Path is slow for 10^5 files
        if suffix.lower() not in VIDEO_SUFFIXES or name not in names:
            ignored.setdefault(_NOT_ASKED_FOR, []).append(os.path.relpath(entry.path, folder))
            continue
        if name in found:
            raise AvpipeError(
                f"{found[name].path} and {entry.path} are both named after {name}. Remove or rename one of them."
            )
        found[name] = _described(entry)
    for entry in sorted(_files(folder / FETCHED, 1), key=lambda each: each.path):
        name, suffix = os.path.splitext(entry.name)  # noqa: PTH122
        if suffix.lower() in VIDEO_SUFFIXES and name in names and name not in found:
            found[name] = _described(entry)
    return found, ignored


def _files(folder: Path | str, depth: int) -> Iterator[os.DirEntry[str]]:
    """Files of a folder, and of the folders in it; `fetched` is a folder apart."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == FETCHED:
                    continue
                if depth and entry.is_dir():
                    yield from _files(entry.path, depth - 1)
                elif entry.is_file():
                    yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise AvpipeError(f"{folder} cannot be read: {error.strerror}. Change its permissions.") from None


def _described(entry: os.DirEntry[str]) -> VideoFile:
    status = entry.stat()
    return VideoFile(entry.path, status.st_size, status.st_mtime_ns)
