"""YouCook-Japanese: the form of its annotation is not known. What is: docs/sources.md, YouCook-Japanese."""

from __future__ import annotations

from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.sources.annotations.clips import Annotations


def parse(path: Path) -> Annotations:
    """Refuse the file: a guessed reader might give other clips than the authors', and nobody would notice.

    Raises:
        AvpipeError: always.
    """
    raise AvpipeError(
        f"{path} was not read: the form of YouCook-Japanese's list of videos is not known, and it is not guessed. Use "
        "the published clips with their features (`source: {kind: packs}`, as config/datasets/youcook_japanese.yaml "
        "does), or write a table of clips (`source: {kind: table}`)."
    )
