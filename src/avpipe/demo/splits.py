"""Keeps config/splits/demo_gzsl and config/splits/demo in step with the plans of the embedded datasets.

    python -m avpipe.demo.splits --write

Without --write it only compares, and exits with 1 if a file differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from avpipe.demo.datasets import FULL, ZERO_SHOT, ZeroShotDataset
from avpipe.demo.zero_shot import write_demo_split

FOLDER = Path("config/splits")


def differing_files(folder: Path, dataset: ZeroShotDataset = FULL) -> list[str]:
    """Files under `folder`/class-split that are absent, surplus or not what `write_demo_split` writes, sorted."""
    with tempfile.TemporaryDirectory() as temporary:
        write_demo_split(temporary, dataset)
        wanted, found = _contents(Path(temporary)), _contents(folder)
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def _contents(root: Path) -> dict[str, bytes]:
    files = (path for path in (root / "class-split").rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def main(arguments: list[str] | None = None) -> int:
    """Compare or, with --write, write; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the datasets' folders are (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    status = 0
    for name, dataset in ZERO_SHOT.items():
        folder = options.folder / name
        if options.write:
            write_demo_split(folder, dataset)
        differing = differing_files(folder, dataset)
        if differing:
            sys.stderr.write(f"{folder} is out of step: {', '.join(differing)}; run with --write.\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
