"""A report on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe.report.document import Document, Heading, Items, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

WIDTH = 100
"""Columns that the tables need at most."""


def print_document(document: Document, console: Console) -> None:
    """Print the notices and every block that is for a terminal."""
    from rich.text import Text

    for notice in document.notices:
        console.print(Text(notice, style="bold yellow"))
    console.print(Text(document.title))
    for block in document.blocks:
        if block.on == "page":
            continue
        if isinstance(block, Heading):
            text = f"{block.text}: {block.detail}" if block.detail else block.text
            console.print(Text(f"\n{text}", style="bold"))
        elif isinstance(block, Items):
            for line in block.lines:
                console.print(Text(f"  {line}"))
        elif isinstance(block, Table):
            console.print(_table(block))
        else:
            console.print(Text(block.text))


def _table(block: Table) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, pad_edge=False)
    columns = [column for column in block.columns if column.on != "page"]
    for column in columns:
        if column.is_text:
            table.add_column(Text(column.name), overflow="fold")
        else:
            table.add_column(Text(_compact(column.name)), justify="right", no_wrap=True)
    for row in block.rows:
        cells = ((column, column.cell(row)) for column in columns)
        table.add_row(*(Text(cell if column.is_text else _compact(cell)) for column, cell in cells))
    return table


def _compact(text: str) -> str:
    return text.replace(" ± ", "±").replace(" / ", "/")
