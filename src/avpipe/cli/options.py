"""What several commands share: options, checks of paths, tables on the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError

DEVICE_HELP = "where the network runs; default: a GPU if any"


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """Settings from KEY=VALUE; values are read as in the configuration."""
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise AvpipeError(f"--set {pair}: expected KEY=VALUE, such as --set stride_frames=8.")
        settings[key] = yaml.safe_load(value)
    return settings


def positive(text: str) -> int:
    """A whole number from 1, as an option's type."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def add_parser(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    """A parser for a command whose help ends in examples."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )


def add_window(parser: argparse.ArgumentParser) -> None:
    """Add --window, how much of a sound is read."""
    text = "spectrogram frames of 10 ms that are read of a sound (default: %(default)s)"
    parser.add_argument("--window", type=positive, default=5120, help=text)


def check_folder(output: Path) -> None:
    """Refuse an output in a folder that is not there."""
    if not output.parent.is_dir():
        raise AvpipeError(f"The folder of {output} does not exist. Make it, or give another place.")


def check_output(output: Path, suffix: str, source: Path) -> None:
    """Refuse an output of another kind, in a folder that is not there, or that is the input."""
    if output.suffix != suffix:
        raise AvpipeError(f"The output must end in {suffix}, found {output}.")
    check_folder(output)
    if output.resolve() == source.resolve():
        raise AvpipeError(f"The output {output} is the input. Give another place.")


def print_table(header: tuple[str, ...], rows: Sequence[Sequence[str]], *, n_numbers: int = 0) -> None:
    """Print a table, numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place < n_numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    print(text)  # noqa: T201 - this module talks to a person
