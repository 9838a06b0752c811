"""avpipe demo: the whole chain on the embedded datasets."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from avpipe.cli.options import positive
from avpipe.cli.project import root_to_run
from avpipe.cli.run import snakemake_command
from avpipe.cli.show import show_result
from avpipe.config.yaml_files import read_yaml
from avpipe.plan.paths import DEFAULT_PATHS
from avpipe.plan.places import config_file
from avpipe.settings import expand_home

QUICK = ("demo",)
ALL = ("demo_gzsl", "demo_retrieval")


def add(commands: Any) -> None:
    """Add the command: run the whole chain on an embedded dataset, or on all of them."""
    parser = commands.add_parser(
        "demo",
        help="run the whole chain on an embedded dataset",
        description="Make a small dataset, extract C3D and VGGish features with random weights, train and evaluate "
        "AVCA, its permuted control and two baselines with three seeds, and print the result and how long it took: "
        "two to three minutes on two cores.",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="run the two full embedded datasets instead, with all six extractors: eight zero-shot methods with five "
        "seeds on two feature sets, and the three retrieval models; takes about 20 minutes on two cores",
    )
    parser.add_argument("--cores", type=positive, default=os.cpu_count() or 1, help="CPU cores to use (default: all)")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    config = config_file(root_to_run())
    results = (read_yaml(config).get("pathvars") or {}).get("results") or DEFAULT_PATHS.results
    targets = [f"{expand_home(results)}/{dataset}/eval.json" for dataset in (ALL if chosen.all else QUICK)]
    start = time.monotonic()
    done = subprocess.run(snakemake_command(["--cores", str(chosen.cores), *targets]), check=False)
    if done.returncode == 0:
        for target in targets:
            show_result(Path(target))
        sys.stdout.write(f"The demo took {time.monotonic() - start:.0f} seconds.\n")
    return done.returncode
