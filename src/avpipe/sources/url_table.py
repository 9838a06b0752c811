"""A table of clips whose videos are named by addresses: the columns url and, optionally, video_id in place of path."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from avpipe.errors import AvpipeError, listed
from avpipe.sources.annotations.clips import YOUTUBE_ID, AnnotatedClip, Annotations
from avpipe.sources.local import (
    CLASS,
    CLIP_ID,
    SUBSET,
    URL,
    VIDEO_ID,
    captions_of,
    id_of,
    segment_of,
    table_header,
    table_rows,
)

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def has_addresses(path: Path) -> bool:
    """Whether a table names its videos by addresses."""
    return URL in table_header(path)


def read_url_table(path: Path) -> Annotations:
    """The clips of a table with addresses.

    Raises:
        AvpipeError: as `avpipe.sources.local.list_table`, or an address is none, a video has no id that can be a
            file's name, or two videos have one.
    """
    clips, urls = [], defaultdict(set)
    for row, place in table_rows(path):
        url = row[URL].strip()
        name = (row.get(VIDEO_ID) or "").strip() or _id_in(url)
        _check(url, name, place)
        urls[name].add(url)
        start, end = segment_of(row, place)
        clips.append(
            AnnotatedClip(
                row.get(CLIP_ID) or id_of(name, start, end),
                name,
                class_name=row.get(CLASS, ""),
                subset=row.get(SUBSET, "").strip(),
                captions=captions_of(row),
                start_seconds=start,
                end_seconds=end,
                url=url,
            )
        )
    if twice := sorted(name for name, each in urls.items() if len(each) > 1):
        raise AvpipeError(
            f"{path}: video ids stand for several addresses, such as {twice[0]} ({listed(sorted(urls[twice[0]]))}). "
            "Give each address a video_id of its own."
        )
    return Annotations(tuple(clips))


def _check(url: str, name: str, place: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x20\x7f]", url):
        raise AvpipeError(f"{place}: {url!r} is no address; expected http:// or https://. Correct it.")
    if not _VIDEO_ID.fullmatch(name):
        raise AvpipeError(
            f"{place}: {name[:80]!r} cannot name a video; expected letters, digits, '_', '-' and '.'. Give the column "
            "video_id."
        )


def _id_in(url: str) -> str:
    """The id in an address of YouTube, or the name of the file that another address ends with, without suffix."""
    parts = urlsplit(url)
    last = unquote(parts.path).rstrip("/").rpartition("/")[2]
    asked = parse_qs(parts.query).get("v", [""])[0]
    if YOUTUBE_ID.fullmatch(asked):
        return asked
    return Path(last).stem if last else ""
