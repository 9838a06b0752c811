"""Published figures of retrieval, to be shown beside ours; config/published_retrieval.csv, specs/avlnet.md §7."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.report.published import find_dataset
from avpipe.report.retrieval_summary import RECALLS, Result

COLUMNS = ("dataset", "model", "regime", "query", "candidates", *RECALLS, "median_rank", "source")
_NAMES = COLUMNS[:5]


@dataclass(frozen=True)
class PublishedRecalls:
    """What was published of one model on one dataset.

    Attributes:
        dataset, model, regime: whose figures they are, by avpipe's names.
        query, candidates: what was asked with and what was found.
        figures: R@1, R@5, R@10 in % and the median rank; one that was not published is absent.
        source: where they were read.
    """

    dataset: str
    model: str
    regime: str
    query: str
    candidates: str
    figures: dict[str, float]
    source: str


def read_published_recalls(path: str | os.PathLike[str]) -> list[PublishedRecalls]:
    """Read a table of published figures.

    Raises:
        AvpipeError: it is unreadable, its columns are others, or a row does not fit or occurs twice.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AvpipeError(f"The published figures in {path} were not read: {error}. Expected a CSV table.") from None
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise AvpipeError(f"{path} has the columns {reader.fieldnames}; expected {', '.join(COLUMNS)}. Mend its head.")
    rows: list[PublishedRecalls] = []
    for number, line in enumerate(lines, start=2):
        row = _row(line, f"{path}, row {number}")
        if any(all(getattr(row, name) == getattr(each, name) for name in _NAMES) for each in rows):
            raise AvpipeError(f"{path}, row {number} repeats {row.model} on {row.dataset}. Remove one of them.")
        rows.append(row)
    return rows


def find_published(rows: Sequence[PublishedRecalls], result: Result, dataset: str, title: str) -> dict[str, Any]:
    """The published figures of a result's direction from language to video, with their `source`; empty for none.

    Controls and diagnostic subsets have none. A subset of another dataset goes by that dataset's name.

    Args:
        rows: the published table.
        result: as `avpipe.report.retrieval_summary.summarise_retrieval` returns it.
        dataset, title: of the dataset that the run belongs to.
    """
    if result["control"] or result["diagnostic"]:
        return {}
    other, slash, _ = result["subset"].rpartition("/")
    name = find_dataset({(row.dataset, "", ""): {} for row in rows}, *((other,) if slash else (dataset, title)))
    wanted = (name, *(result[key] for key in _NAMES[1:]))
    for row in rows:
        if tuple(getattr(row, key) for key in _NAMES) == wanted:
            return {**row.figures, "source": row.source}
    return {}


def _row(line: dict[str, str], place: str) -> PublishedRecalls:
    try:
        figures = {key: float(line[key]) for key in (*RECALLS, "median_rank") if line[key]}
    except (TypeError, ValueError):
        figures = {}
    in_range = all(0 <= figures.get(key, 0) <= 100 for key in RECALLS) and figures.get("median_rank", 1) >= 1
    if not figures or not in_range or not all(line[key] for key in (*_NAMES, "source")):
        raise AvpipeError(
            f"{place}: found {line}; expected names, recalls from 0 to 100, a median rank from 1 or nothing, and a "
            "source. Mend the row."
        )
    return PublishedRecalls(**{key: line[key] for key in _NAMES}, figures=figures, source=line["source"])
