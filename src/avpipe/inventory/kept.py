"""The clips of a shard as planning has listed them, kept for the job that writes its inventory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from avpipe.io.atomic import write_text
from avpipe.sources.local import SourceClip, fields_of, listing_digest

_DIGEST = re.compile(r'\{"digest": "([0-9a-f]{64})"')
_BEGINNING = 100


def keep(clips: list[SourceClip], digest: str, target: Path) -> None:
    """Keep the clips of a shard for the job that writes its inventory; a file that has them stays as it is."""
    if read_digest(target) != digest:
        write_text(target, json.dumps({"digest": digest, "clips": [fields_of(clip) for clip in clips]}))


def read_digest(kept: str | os.PathLike[str]) -> str | None:
    """The digest of the clips that are kept; None: there are none."""
    try:
        with open(kept, encoding="utf-8") as stream:  # noqa: PTH123
            found = _DIGEST.match(stream.read(_BEGINNING))
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def read_kept(kept: str | os.PathLike[str], digest: str) -> list[SourceClip] | None:
    """The clips that are kept; None where there are none of this digest."""
    if read_digest(kept) != digest:
        return None
    try:
        rows = json.loads(Path(kept).read_bytes())["clips"]
        clips = [SourceClip(*row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return clips if listing_digest(clips) == digest else None
