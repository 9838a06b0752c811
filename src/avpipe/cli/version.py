"""avpipe --version: the versions of avpipe and of what its results rest on; torch is not imported for that."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from avpipe import __version__
from avpipe.cli.options import say
from avpipe.errors import AvpipeError

_LIBRARIES = {"torch": "torch", "PyAV": "av", "numpy": "numpy", "h5py": "h5py", "snakemake": "snakemake"}


class ShowVersion(argparse.Action):
    """Prints the versions and ends the process."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print them, a line each."""
        versions = {"avpipe": __version__, "Python": platform.python_version()}
        versions |= {title: _version(name) for title, name in _LIBRARIES.items()} | {"ffmpeg": _ffmpeg()}
        for title, found in versions.items():
            say(f"{title} {found}")
        parser.exit()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def _ffmpeg() -> str:
    """Of the program that file mode runs; what stream mode decodes with is part of PyAV."""
    from avpipe.media.ffmpeg import ffmpeg_version

    try:
        return ffmpeg_version()
    except AvpipeError as error:
        return f"cannot be run: {error}"
