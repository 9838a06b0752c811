"""File names for clips: any clip id becomes one safe name in one folder."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

_LONGEST = 200


def clip_file_name(clip_id: str, suffix: str = ".mkv") -> str:
    """The name of a clip's prepared file: percent-encoded, so that no id can leave the folder or meet another.

    Ids whose encoding is longer than a file system takes are represented by their sha256.
    """
    encoded = quote(clip_id, safe=" ()[]+,=@")
    if len(encoded) > _LONGEST:
        encoded = "sha256-" + hashlib.sha256(clip_id.encode("utf-8")).hexdigest()
    return encoded + suffix
