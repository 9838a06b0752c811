"""The project that a command works on: a checkout, or another folder with the workflow of the package."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.plan import Project

_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add what `read_project` reads, and the dataset's name."""
    parser.add_argument("dataset", help="a dataset of the configuration")
    parser.add_argument("--configfile", type=Path, help="a file of yours over config/config.yaml")


def read_project(chosen: argparse.Namespace) -> Project:
    """The project of the folder that the command is run in.

    Raises:
        AvpipeError: it is no checkout and the package has no workflow, or the configuration is not in order.
    """
    from avpipe.config.load import merge, read_yaml
    from avpipe.plan import Paths, Project
    from avpipe.plan.places import config_file, root_here
    from avpipe.settings import expand_home

    root = root_here()
    values = read_yaml(config_file(root))
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
    from avpipe.plan.places import is_root, root_here

    other = _snakefile_here()
    if other is not None and not is_root(Path()):
        raise AvpipeError(
            f"{other} here is of another workflow than avpipe's. If it imports avpipe as a module, run it: "
            "snakemake --cores all. If not, run avpipe in a folder of its own."
        )
    return root_here()


def command_to_make(target: Path) -> str:
    """What to type to have a file made, as the present folder is."""
    command = "avpipe run" if _snakefile_here() is None else "snakemake --cores all"
    return f"{command} {shlex.quote(str(target))}"


def _snakefile_here() -> Path | None:
    """The Snakefile that Snakemake would take."""
    return next((path for path in map(Path, _SNAKEFILES) if path.is_file()), None)
