"""Where the workflow's own files lie: in a checkout, in an installed package, and seen from another folder."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import avpipe
from avpipe.errors import AvpipeError

CONFIG_FILE = Path("config") / "config.yaml"
_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")


def is_root(folder: Path) -> bool:
    """Whether a folder has the Snakefile of avpipe and what belongs to it."""
    return (folder / "Snakefile").is_file() and (folder / "config" / "datasets").is_dir()


def package_root() -> Path:
    """The folder of the Snakefile that belongs to this package: in a wheel (setup.py), or the checkout it lies in.

    Raises:
        AvpipeError: it came without one.
    """
    package = Path(avpipe.__file__).resolve().parent
    found = next(filter(is_root, (package / "workflow_data", package.parents[1])), None)
    if found is None:
        raise AvpipeError(
            f"There is no Snakefile here, and the package in {package} came without one: expected it in its folder "
            "workflow_data, or two folders up. Run the command in a checkout of avpipe, or install its wheel."
        )
    return found


def root_here() -> Path:
    """The folder of the Snakefile that a command goes by: that of the checkout that it is run in, or the package's own.

    Raises:
        AvpipeError: as `package_root`.
    """
    return Path() if is_root(Path()) else package_root()


def config_file(root: Path) -> Path:
    """The settings of whoever runs the workflow of `root`: those of the present folder, or the ones beside it."""
    return CONFIG_FILE if CONFIG_FILE.exists() else root / CONFIG_FILE


def config_folder(root: Path) -> str:
    """Where the datasets' splits and the published figures lie.

    Relative to the present folder, so that a project may be moved together with its checkout and has nothing to do.
    """
    return os.path.relpath(root / "config")


def command_to_make(target: Path) -> str:
    """What to type to have a file made, as the present folder is."""
    command = "avpipe run" if snakefile_here() is None else "snakemake --cores all"
    return f"{command} {shlex.quote(str(target))}"


def snakefile_here() -> Path | None:
    """The Snakefile that Snakemake would take."""
    return next((path for path in map(Path, _SNAKEFILES) if path.is_file()), None)
