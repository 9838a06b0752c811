"""avpipe adopt: take over results that were copied without their time stamps."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from avpipe.cli.options import add_parser, say
from avpipe.cli.verify import tell_faults

_EXAMPLES = """\
example:
  avpipe adopt results/demo

Every file is compared with the manifest beside it, and every result with what it was made from, as avpipe verify does.
Only if all is well, all files get one time stamp, the newest of them, so that Snakemake takes none for older than what
it was made from. A finished eval.json is not needed.
"""


def add(commands: Any) -> None:
    """Add the command: take over copied results."""
    parser = add_parser(commands, "adopt", "take over results that were copied without their time stamps", _EXAMPLES)
    parser.add_argument("folder", type=Path, help="results/<dataset>")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from avpipe.io.manifest import set_time
    from avpipe.report.verification import verify_results

    folder = chosen.folder
    found = verify_results(folder, is_finished=False)
    if tell_faults(found, folder):
        return 1
    # Snakemake also asks how old a job's timings are.
    timings = folder.parent / "benchmarks"
    for place in (folder, *timings.glob(f"*/{folder.name}"), *timings.glob(f"*/{folder.name}.tsv")):
        set_time(place, found.modified_ns)
    say(
        f"{folder} is adopted: {found.checked} results are as they were written, and none is older than what it was "
        "made from. What settings and files of now ask for beyond them:"
    )
    say(f"  snakemake -n {shlex.quote(str(folder / 'eval.json'))}")
    return 0
