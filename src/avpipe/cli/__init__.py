"""The command line, one module for each command."""

from __future__ import annotations

import argparse
import sys

from avpipe.cli import demo, evaluate_released, extract, index, pack, search, show
from avpipe.errors import AvpipeError, ClipFailure

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="avpipe", description="Raw videos to audio-visual research results.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (demo, show, extract, evaluate_released, index, search, pack):
        command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen)
    except (AvpipeError, ClipFailure) as error:
        print(f"avpipe: {error}", file=sys.stderr)  # noqa: T201 - this module talks to a person
        return 1
