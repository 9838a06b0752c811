"""What the jobs of rules/files.smk do: fetching published files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from avpipe.sources.file_sets import FileSet, fetch_set
from avpipe.sources.lock_file import Pins

__all__ = ["fetch_files"]


def fetch_files(name: str, files: Mapping[str, Any], pins: str, outputs: Iterable[str]) -> None:
    """Fetch files of a set, and unpack an archive.

    Args:
        name: of the set.
        files: the set as plain values.
        pins: the lock file.
        outputs: those of its products that are wanted.

    Raises:
        AvpipeError: one could not be had, or is not what it should be.
    """
    fetch_set(FileSet.model_validate(dict(files)), pins=Pins(Path(pins), name), products=[*map(Path, outputs)])
