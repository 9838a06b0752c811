"""Markdown tables and figures as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NOT_LITERAL = re.compile(r"[\\|<*`]")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _NOT_LITERAL.sub(lambda found: "&lt;" if found[0] == "<" else f"\\{found[0]}", " ".join(text.splitlines()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, n_text: int = 1) -> list[str]:
    """The lines of a table; the columns after the first `n_text` are set to the right."""
    marks = ["---" if place < n_text else "---:" for place in range(len(header))]
    return [_line(escape(cell) for cell in header), _line(marks), *(_line(map(escape, row)) for row in rows)]


def figure(mean: float | None, deviation: float | None, *, separator: str = " ± ", mark: str = "") -> str:
    """A mean with its deviation, where there is one, and a mark; a dash where there is no figure."""
    if mean is None:
        return "–"
    return (f"{mean:.2f}" if deviation is None else f"{mean:.2f}{separator}{deviation:.2f}") + mark


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
