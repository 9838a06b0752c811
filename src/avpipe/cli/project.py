"""The project that a command works on: a checkout, or another folder with the workflow of the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        AvpipeError: it is no checkout and the package has no workflow, it is of another workflow and no --configfile is
            given, or the configuration is not in order.
    """
    from avpipe.config.load import merge, read_yaml
    from avpipe.plan import Paths, Project
    from avpipe.plan.places import CONFIG_FILE, config_file, is_root, root_here, snakefile_here
    from avpipe.settings import expand_home

    root, other = root_here(), snakefile_here()
    values: dict[str, Any] = {}
    if other is None or is_root(Path()):
        values = read_yaml(config_file(root))
    elif chosen.configfile is None:
        raise AvpipeError(
            f"{other} here is of another workflow than avpipe's, so that {CONFIG_FILE} here is not avpipe's settings. "
            "Give a file that has them, as the workflow hands them to the module avpipe, with --configfile."
        )
    if chosen.configfile is not None:
        values = merge(values, read_yaml(chosen.configfile))
    folders = values.get("pathvars") or {}
    roots = {name: expand_home(folders[name]) for name in ("results", "resources") if folders.get(name)}
    return Project.read(values, root, Paths(**roots))


def root_to_run() -> Path:
    """The folder of the Snakefile that a run goes by.

    Raises:
        AvpipeError: another workflow lives here, or there is no Snakefile at all.
    """
    from avpipe.plan.places import is_root, root_here, snakefile_here

    other = snakefile_here()
    if other is not None and not is_root(Path()):
        raise AvpipeError(
            f"{other} here is of another workflow than avpipe's. If it imports avpipe as a module, run it: "
            "snakemake --cores all. If not, run avpipe in a folder of its own."
        )
    return root_here()
