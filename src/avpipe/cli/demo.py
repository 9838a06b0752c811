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
from avpipe.cli.show import show_result
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.plan.paths import DEFAULT_PATHS
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
    if not Path("Snakefile").exists():
        raise AvpipeError("There is no Snakefile here. Run the demo in the folder that avpipe was cloned into.")
    results = (read_yaml(Path("config/config.yaml")).get("pathvars") or {}).get("results") or DEFAULT_PATHS.results
    targets = [f"{expand_home(results)}/{dataset}/eval.json" for dataset in (ALL if chosen.all else QUICK)]
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "snakemake", "--cores", str(chosen.cores), *targets], check=False)
    if done.returncode == 0:
        for target in targets:
            show_result(Path(target))
        sys.stdout.write(f"The demo took {time.monotonic() - start:.0f} seconds.\n")
    return done.returncode
