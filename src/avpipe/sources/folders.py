"""Videos in folders that are their classes, and what in those folders is no clip."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError, one_line
from avpipe.sources.local import SourceClip, checked

VIDEO_SUFFIXES = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mkv",
    ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
    ".vob", ".webm", ".wmv",
)  # fmt: skip
HIDDEN, BESIDE, NESTED = "hidden", "not in a class folder", "folder in a class folder"
NO_SUFFIX, EMPTY = "no suffix of a video", "class folder without videos"
SPECIAL, CIRCLE, UNREADABLE = "no regular file", "link in a circle", "not readable"
_NAMED = 5

PassedOver = dict[str, dict[str, Any]]
"""Why something is no clip -> {"count", "names"}: how often, and the first names in code-point order."""


@dataclass
class Listing:
    """What a source holds.

    Attributes:
        clips: sorted by clip id.
        ignored: why something is no clip -> names relative to the source, in no order.
        video_ids: clip id -> the video that it is cut from, where an annotation says so.
        videos: the folder of those videos.
    """

    clips: list[SourceClip]
    ignored: dict[str, list[str]] = field(default_factory=dict)
    video_ids: Mapping[str, str] = field(default_factory=dict)
    videos: Path | None = None

    def ignore(self, reason: str, name: str) -> None:
        """Note a file or folder that is no clip."""
        self.ignored.setdefault(reason, []).append(one_line(name))

    def passed_over(self) -> PassedOver:
        """What is no clip, within bounds whatever the source holds."""
        return {
            reason: {"count": len(names), "names": sorted(names)[:_NAMED]}
            for reason, names in sorted(self.ignored.items())
        }


def describe(passed_over: Mapping[str, Mapping[str, Any]]) -> str:
    """In one line; "" where nothing was passed over."""
    return "; ".join(
        f"{reason} {each['count']} ({', '.join(each['names'])}{', …' if each['count'] > len(each['names']) else ''})"
        for reason, each in passed_over.items()
    )


def list_class_folders(folder: Path) -> Listing:
    """Every video in the folders of `folder`; nothing is opened, and each video is asked once for size and time.

    Raises:
        AvpipeError: the folder cannot be read or has no video, two clips have one id, or a name is not UTF-8.
    """
    listing = Listing([])
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    listing.ignore(HIDDEN, entry.name)
                elif _is_folder(entry):
                    _list_class(entry, listing)
                else:
                    listing.ignore(BESIDE, entry.name)
    except OSError as error:
        raise AvpipeError(
            f"{folder} is not a folder that can be read ({error.strerror}); set datasets.<name>.source.path to the "
            "folder whose folders are the classes."
        ) from None
    if not listing.clips:
        found = describe(listing.passed_over())
        raise AvpipeError(
            f"{folder} holds no folder with videos in it{f', but {found}' if found else ''}; expected <class>/<clip>"
            f".avi (or another of {', '.join(VIDEO_SUFFIXES)}). Set datasets.<name>.source.path to the folder of the "
            "classes."
        )
    listing.clips = checked(listing.clips, str(folder))
    return listing


def _list_class(folder: os.DirEntry[str], listing: Listing) -> None:
    """Add the videos of a class."""
    before = len(listing.clips)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found = _clip_or_reason(entry, folder.name)
                if isinstance(found, SourceClip):
                    listing.clips.append(found)
                else:
                    listing.ignore(found, f"{folder.name}/{entry.name}")
    except OSError:
        listing.ignore(UNREADABLE, folder.name)
    else:
        if len(listing.clips) == before:
            listing.ignore(EMPTY, folder.name)


def _clip_or_reason(entry: os.DirEntry[str], label: str) -> SourceClip | str:
    """A clip, with size -1 where a link leads nowhere, or why it is none."""
    if entry.name.startswith("."):
        return HIDDEN
    if not entry.name.lower().endswith(VIDEO_SUFFIXES):
        return NESTED if _is_folder(entry) else NO_SUFFIX
    clip_id = os.path.splitext(entry.name)[0]  # noqa: PTH122 - Path is slow for 10^5 files
    try:
        status = entry.stat()
    except FileNotFoundError:
        return SourceClip(clip_id, label, entry.path)
    except OSError as error:
        return CIRCLE if error.errno == errno.ELOOP else UNREADABLE
    if not stat.S_ISREG(status.st_mode):
        return NESTED if stat.S_ISDIR(status.st_mode) else SPECIAL
    return SourceClip(clip_id, label, entry.path, None, None, status.st_size, status.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into what this user may not see
        return False
