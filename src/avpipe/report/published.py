"""Published figures, to be shown beside ours; config/published_gzsl.csv, specs/avca.md §7."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.report.summary import METRICS

COLUMNS = ("dataset", "split", "features", "method", "metric", "value", "source", "confirmed")
_WORDS = {"yes": True, "no": False}


@dataclass(frozen=True)
class PublishedFigure:
    """One published number.

    Attributes:
        value: accuracy in %.
        source: where it was read.
        confirmed: False where no source was found and the number only fits those that have one.
    """

    value: float
    source: str
    confirmed: bool

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.confirmed else f"{self.value:.2f} (unconfirmed)"


Benchmark = tuple[str, str, str]
"""(dataset, split, feature set), by the names that the published tables' rows have in the CSV."""
Figures = dict[str, PublishedFigure]
"""metric ("seen", "unseen", "hm", "zsl") -> figure; a metric that was not published is absent."""
PublishedTable = dict[Benchmark, dict[str, Figures]]
"""benchmark -> method -> figures, in the order of the CSV."""


def read_published(path: str | os.PathLike[str]) -> PublishedTable:
    """Read a table of published figures.

    Raises:
        AvpipeError: it is unreadable, its columns are others, or a row does not fit or occurs twice.
    """
    table: PublishedTable = {}
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AvpipeError(f"The published figures in {path} were not read: {error}. Expected a CSV table.") from None
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise AvpipeError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(COLUMNS)}. Mend its head.")
    for number, row in enumerate(rows, start=2):
        figure = _figure(row, f"{path}, row {number}")
        methods = table.setdefault((row["dataset"], row["split"], row["features"]), {})
        figures = methods.setdefault(row["method"], {})
        if row["metric"] in figures:
            raise AvpipeError(f"{path}, row {number} repeats {row['metric']} of {row['method']}. Remove one of them.")
        figures[row["metric"]] = figure
    return table


def find_dataset(table: PublishedTable, name: str, title: str = "") -> str | None:
    """The published dataset that a dataset is: its name or title begins with the published name, or None.

    "ucf_gzsl", "ucf_gzsl_selavi" and the title "UCF-GZSL, C3D/VGGish features" are ucf_gzsl; "ucf_gzsl2" is not.
    """
    for published in dict.fromkeys(benchmark[0] for benchmark in table):
        if any(f"{_slug(each)}_".startswith(f"{_slug(published)}_") for each in (name, title)):
            return published
    return None


def as_records(figures: Mapping[str, PublishedFigure]) -> dict[str, dict[str, float | str | bool]]:
    """Figures as plain JSON."""
    return {metric: dict(vars(figure)) for metric, figure in figures.items()}


def _figure(row: Mapping[str, str], place: str) -> PublishedFigure:
    try:
        value = float(row["value"])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 100 or row["metric"] not in METRICS or row["confirmed"] not in _WORDS or not row["source"]:
        raise AvpipeError(
            f"{place}: found {dict(row)}; expected a metric of {', '.join(METRICS)}, a value from 0 to 100, a source, "
            "and yes or no under confirmed. Mend the row."
        )
    return PublishedFigure(value, row["source"], _WORDS[row["confirmed"]])


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
