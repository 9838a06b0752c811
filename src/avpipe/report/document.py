"""A report as data: what a task says, before it is rendered as a page or on a terminal.

Within a cell " ± " and " / " stand with spaces; a terminal, which is narrow, leaves the spaces out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """The head of a column; numbers are set to the right."""

    name: str
    is_text: bool
    on: Medium = "both"


@dataclass(frozen=True)
class Table:
    """Rows of cells, and where they are shown; a page folds it under `summary` where that is not empty."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    on: Medium = "both"
    summary: str = ""


Block = Heading | Paragraph | Items | Table


@dataclass(frozen=True)
class Document:
    """A title, what must be read first, and the blocks in order."""

    title: str
    notices: Sequence[str]
    blocks: Sequence[Block]


def text_columns(*names: str, on: Medium = "both") -> list[Column]:
    """Columns of text."""
    return [Column(name, is_text=True, on=on) for name in names]


def number_columns(*names: str, on: Medium = "both") -> list[Column]:
    """Columns of numbers."""
    return [Column(name, is_text=False, on=on) for name in names]


def figure(mean: float | None, deviation: float | None = None, *, mark: str = "") -> str:
    """A mean with its deviation, where there is one, and a mark; a dash where there is no figure."""
    if mean is None:
        return "–"
    return (f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}") + mark


def counts(numbers: dict[str, int]) -> str:
    """Counts such as "no_audio 2, missing 1"; "none" for none."""
    return ", ".join(f"{name} {n}" for name, n in numbers.items() if n) or "none"
