"""A report as data: what a task says, before it is rendered as a page or on a terminal.

Within a cell " ± " and " / " stand with spaces; a terminal, which is narrow, leaves the spaces out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

Medium = Literal["both", "page", "terminal"]


@dataclass(frozen=True)
class Heading:
    """The title of a section.

    Attributes:
        text: the title.
        detail: what a terminal adds to it.
        level: 2 for a section, 3 for a part of one.
        on: where it is shown.
    """

    text: str
    detail: str = ""
    level: int = 2
    on: Medium = "both"


@dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    text: str
    on: Medium = "both"


@dataclass(frozen=True)
class Items:
    """A list of lines."""

    lines: Sequence[str]
    on: Medium = "both"


@dataclass(frozen=True)
class Column:
    """A column: its head and what it says of a row; numbers are set to the right."""

    name: str
    cell: Callable[[Any], str]
    is_text: bool = False
    on: Medium = "both"


@dataclass(frozen=True)
class Table:
    """A table, and where it is shown; a page folds it under `summary` where that is not empty."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    on: Medium = "both"
    summary: str = ""


Block = Heading | Paragraph | Items | Table


@dataclass(frozen=True)
class Document:
    """A title, what must be read first, and the blocks in order."""

    title: str
    notices: Sequence[str]
    blocks: Sequence[Block]


def plain_columns(*names: str, n_text: int = 1) -> list[Column]:
    """Columns of rows that are cells already; those after the first `n_text` are numbers."""
    return [Column(name, itemgetter(place), is_text=place < n_text) for place, name in enumerate(names)]


def figure(mean: float | None, deviation: float | None = None, *, mark: str = "") -> str:
    """A mean with its deviation, where there is one, and a mark; a dash where there is no figure."""
    if mean is None:
        return "–"
    return (f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}") + mark


def counts(numbers: dict[str, int]) -> str:
    """Counts such as "no_audio 2, missing 1"; "none" for none."""
    return ", ".join(f"{name} {n}" for name, n in numbers.items() if n) or "none"
