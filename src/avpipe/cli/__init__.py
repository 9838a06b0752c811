"""The command line, one module for each command."""

from __future__ import annotations

import argparse
import os
import sys

from avpipe.cli import adopt, demo, evaluate_released, extract, index, pack, run, search, show, sources, verify
from avpipe.cli.version import ShowVersion
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.settings import expand_home

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. Where nobody reads on, as after `| head`, it ends silently."""
    try:
        try:
            return _main(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="avpipe", description="Raw videos to audio-visual research results.")
    parser.add_argument("--version", action=ShowVersion, help="show the versions of avpipe and of what it rests on")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (run, demo, show, extract, evaluate_released, index, search, pack, sources, verify, adopt):
        command.add(commands)
    given = [*map(_at_home, sys.argv[1:] if arguments is None else arguments)]
    chosen, further = parser.parse_known_args(given)
    chosen.further = further
    if further and not hasattr(chosen, "takes_any"):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    try:
        return chosen.run(chosen)
    except KeyboardInterrupt:
        print("avpipe: stopped", file=sys.stderr)  # noqa: T201
        return 130  # as shells have it
    except (AvpipeError, ClipFailure) as error:
        print(f"avpipe: {error}", file=sys.stderr)  # noqa: T201 - this module talks to a person
        return 1


def _at_home(argument: str) -> str:
    """An argument with `~` expanded; a shell leaves it within quotes and after --option=."""
    option, equals, value = argument.partition("=")
    return option + equals + expand_home(value) if argument.startswith("--") else expand_home(argument)
