"""The project that a command works on: the checkout that it is run in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.plan import Project


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add what `read_project` reads, and the dataset's name."""
    parser.add_argument("dataset", help="a dataset of the configuration")
    parser.add_argument("--configfile", type=Path, help="a file of yours over config/config.yaml")


def read_project(chosen: argparse.Namespace) -> Project:
    """The project of the folder that the command is run in.

    Raises:
        AvpipeError: it is no checkout, or its configuration is not in order.
    """
    from avpipe.config.load import merge, read_yaml
    from avpipe.plan import Paths, Project
    from avpipe.settings import expand_home

    if not Path("Snakefile").is_file():
        raise AvpipeError("There is no Snakefile here. Run the command in the folder of your checkout.")
    values = read_yaml(Path("config") / "config.yaml")
    if chosen.configfile is not None:
        values = merge(values, read_yaml(chosen.configfile))
    folders = values.get("pathvars") or {}
    roots = {name: expand_home(folders[name]) for name in ("results", "resources") if folders.get(name)}
    return Project.read(values, Path(), Paths(**roots))
