"""The folders of features that AVLnet publishes for HowTo100M: their list of videos, and each video's three files."""

from __future__ import annotations

import csv
import os
from pathlib import Path, PurePosixPath
from typing import Literal

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.io.reading import reading


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """The videos of a list such as HowTo100M_1166_videopaths.txt: a table with a column `path`.

    Returns:
        Each row's path without `None/`, as published.

    Raises:
        AvpipeError: the file is absent, has no such column or no row, or a path is no relative one.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; expected the list of videos, a text file with the header `path`.")
    with reading(path, "a table with a column `path`"), path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        if "path" not in (table.fieldnames or []):
            raise AvpipeError(f"{path} has the columns {table.fieldnames}, expected one called `path`.")
        rows = [(row["path"] or "").replace("None/", "").strip() for row in table]
    for number, row in enumerate(rows, start=2):
        if not row or PurePosixPath(row).is_absolute() or ".." in PurePosixPath(row).parts or row.endswith("/"):
            raise AvpipeError(f"{path}, line {number}: {row!r}; expected category/subfolder/video_id.")
    if not rows:
        raise AvpipeError(f"{path} lists no video.")
    return rows


def find_file(folder: Path, row: str, kind: Literal["2d", "3d", "spec"]) -> Path:
    """One of a video's files: in the video's folder, as published, or beside it, where the publication's text puts it.

    Args:
        folder: of the features.
        row: category/subfolder/video_id.
        kind: 2-D features, 3-D features or the spectrogram.

    Raises:
        ClipFailure: MISSING, neither is there.
    """
    inside = folder / row / f"{row.rsplit('/', 1)[-1]}_{kind}.npz"
    beside = inside.parent.with_name(inside.name)
    for path in (inside, beside):
        if path.is_file():
            return path
    raise ClipFailure(Reason.MISSING, f"neither {inside} nor {beside}")
