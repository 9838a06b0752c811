"""Names in archives and tables of files: such as cannot lead out of the folder that they belong to."""

from __future__ import annotations

import os

_LONGEST_NAME_BYTES = 255  # of Linux file systems
_LONGEST_PATH_BYTES = 2048


class Refused(Exception):  # noqa: N818 - becomes the one message of an archive
    """Something in an archive or a table that is not written to disk."""


def check_name(name: str) -> None:
    """Refuse a name that could lead out of its folder or cannot be a file's.

    Raises:
        Refused: it is absolute, has `..`, an empty part, a backslash, a drive letter or a control character, is not
            UTF-8, or is too long.
    """
    parts = name.split("/")
    bad = (
        any(part in ("", ".", "..") for part in parts)
        or any(ord(c) < 32 or ord(c) == 127 or c == "\\" or 0xD800 <= ord(c) <= 0xDFFF for c in name)
        or (len(name) > 1 and name[1] == ":")
    )
    if bad or len(os.fsencode(name)) > _LONGEST_PATH_BYTES:
        raise Refused(f"{name[:200]!r} cannot be the name of a file below a folder")
    if any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in parts):
        raise Refused(f"{name[:80]!r}… is longer than a file's name can be")
