"""Published figures, to be shown beside ours: a CSV table for each task in config/."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.schema.stored import PublishedFigure

COLUMNS = ("metric", "value", "source", "confirmed")
"""The last columns of a table; those before them say whose figure it is, the dataset first."""
_WORDS = {"yes": True, "no": False}

Figures = dict[str, PublishedFigure]
"""metric -> figure; a metric that was not published is absent."""
PublishedTable = dict[tuple[str, ...], Figures]
"""Whose figures, by the names of the CSV's first columns -> figures, in the order of the CSV."""


def read_published(
    path: str | os.PathLike[str], keys: Sequence[str], ranges: Mapping[str, tuple[float, float]]
) -> PublishedTable:
    """Read a table of published figures.

    Args:
        path: of the CSV.
        keys: its first columns, the dataset first.
        ranges: metric -> smallest and largest value.

    Raises:
        AvpipeError: it is unreadable, its columns are others, or a row does not fit or occurs twice.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AvpipeError(f"The published figures in {path} were not read: {error}. Expected a CSV table.") from None
    columns = (*keys, *COLUMNS)
    if tuple(reader.fieldnames or ()) != columns:
        raise AvpipeError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(columns)}. Mend its head.")
    table: PublishedTable = {}
    for number, row in enumerate(rows, start=2):
        figure = _figure(row, keys, ranges, f"{path}, row {number}")
        figures = table.setdefault(tuple(row[key] for key in keys), {})
        if row["metric"] in figures:
            names = ", ".join(row[key] for key in keys)
            raise AvpipeError(f"{path}, row {number} repeats {row['metric']} of {names}. Remove one of them.")
        figures[row["metric"]] = figure
    return table


def find_dataset(table: Iterable[tuple[str, ...]], name: str, title: str = "") -> str | None:
    """The published dataset that a dataset is: its name or title begins with the published name, or None.

    "ucf_gzsl", "ucf_gzsl_selavi" and the title "UCF-GZSL, C3D/VGGish features" are ucf_gzsl; "ucf_gzsl2" is not.
    """
    for published in dict.fromkeys(key[0] for key in table):
        if any(f"{_slug(each)}_".startswith(f"{_slug(published)}_") for each in (name, title)):
            return published
    return None


def _figure(
    row: Mapping[str, str], keys: Sequence[str], ranges: Mapping[str, tuple[float, float]], place: str
) -> PublishedFigure:
    try:
        value = float(row["value"])
    except (TypeError, ValueError):
        value = math.nan
    low, high = ranges.get(row["metric"], (math.inf, -math.inf))
    if not (low <= value <= high and row["confirmed"] in _WORDS and all(row[key] for key in (*keys, "source"))):
        expected = ", ".join(f"{metric} ({least:g} to {most:g})" for metric, (least, most) in ranges.items())
        raise AvpipeError(
            f"{place}: found {dict(row)}; expected names, a metric of {expected} within its range, a source, and yes "
            "or no under confirmed. Mend the row."
        )
    return PublishedFigure(value=value, source=row["source"], confirmed=_WORDS[row["confirmed"]])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
