"""avpipe run: Snakemake with the workflow of this checkout, or of the installed package."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from avpipe.cli.options import add_parser
from avpipe.cli.project import root_to_run

_HELP = """\
All arguments are Snakemake's own, which has the last word on them: targets first, then options.

The workflow is that of the checkout that the command is run in, elsewhere that of the installed package. Results and
downloads lie below the present folder, and so do paths in the settings, which are read from config/config.yaml here, if
there is one, and from --configfile.

examples:
  avpipe run results/demo/eval.json
  avpipe run results/ucf_gzsl/eval.json --cores 8 --configfile mine.yaml
  avpipe run -n results/ucf_gzsl/eval.json
"""


def add(commands: Any) -> None:
    """Add the command: run the workflow."""
    parser = add_parser(commands, "run", "run the workflow: Snakemake with avpipe's Snakefile", _HELP)
    parser.usage = "avpipe run TARGET ... [options of Snakemake]"
    parser.set_defaults(run=_run, takes_any=True)


def _run(chosen: argparse.Namespace) -> int:
    # Snakemake takes the place of this process: a signal reaches it, and nothing else waits for it.
    os.execv(sys.executable, snakemake_command(chosen.further))


def snakemake_command(arguments: list[str]) -> list[str]:
    """Snakemake's command line for the workflow of the present folder.

    Raises:
        AvpipeError: here is the Snakefile of another workflow, or none can be found.
    """
    return [sys.executable, "-m", "snakemake", "--snakefile", str(root_to_run() / "Snakefile"), *arguments]
