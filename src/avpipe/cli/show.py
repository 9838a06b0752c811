"""avpipe show: the result table of an eval.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError


def add(commands: Any) -> None:
    """Add the command: print a result."""
    parser = commands.add_parser("show", help="print the result table of an eval.json")
    parser.add_argument("path", type=Path, help="a dataset's eval.json")
    parser.set_defaults(run=lambda chosen: show_result(chosen.path))


def show_result(path: Path) -> int:
    """Print notices, result tables and account of clips of an eval.json."""
    from rich.console import Console

    from avpipe.plan.places import command_to_make
    from avpipe.report.tasks import to_document
    from avpipe.report.terminal import WIDTH, print_document
    from avpipe.schema.reading import read_any_record

    if not path.exists():
        raise AvpipeError(f"{path} does not exist. Make it with: {command_to_make(path)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    print_document(to_document(read_any_record(path)), console)
    console.print(f"The result and all it rests on: {path}", highlight=False)
    page = path.with_name("report.html")
    if page.is_file():
        console.print(f"The same as a page, with curves: open {page} in a browser.", highlight=False)
    return 0
