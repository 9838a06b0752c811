"""A report as a page in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from avpipe.report.document import Block, Document, Heading, Items, Table

_NOT_LITERAL = re.compile(r"[\\|<*`]")


def to_markdown(document: Document) -> str:
    """The page."""
    parts = [f"# {escape(document.title)}", *(f"> **{escape(notice)}**" for notice in document.notices)]
    parts += [_block(block) for block in document.blocks if block.on != "terminal"]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _NOT_LITERAL.sub(lambda found: "&lt;" if found[0] == "<" else f"\\{found[0]}", " ".join(text.splitlines()))


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escape(block.text)}"
    if isinstance(block, Items):
        return "\n".join(f"- {escape(line)}" for line in block.lines)
    if isinstance(block, Table):
        table = "\n".join(table_lines(block))
        fold = f"<details>\n<summary>{escape(block.summary)}</summary>\n\n{table}\n\n</details>"
        return fold if block.summary else table
    return escape(block.text)


def table_lines(table: Table) -> list[str]:
    """The lines of a table."""
    columns = [column for column in table.columns if column.on != "terminal"]
    marks = ["---" if column.is_text else "---:" for column in columns]
    rows = [_line(escape(column.cell(row)) for column in columns) for row in table.rows]
    return [_line(escape(column.name) for column in columns), _line(marks), *rows]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
