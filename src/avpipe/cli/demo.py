"""avpipe demo: the whole chain on the embedded dataset."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from avpipe.cli.show import show_result
from avpipe.errors import AvpipeError


def add(commands: Any) -> None:
    """Add the command: run the whole chain on an embedded dataset."""
    parser = commands.add_parser(
        "demo",
        help="run the whole chain on the embedded dataset",
        description="Make a small dataset, extract the features of all extractors with random weights, train and "
        "evaluate eight zero-shot methods with five seeds on two feature sets, and print the result.",
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="CPU cores to use (default: all)")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    target = Path("results/demo_gzsl/eval.json")
    if not Path("Snakefile").exists():
        raise AvpipeError("There is no Snakefile here. Run the demo in the folder that avpipe was cloned into.")
    command = [sys.executable, "-m", "snakemake", "--cores", str(chosen.cores), str(target)]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        show_result(target)
    return done.returncode
