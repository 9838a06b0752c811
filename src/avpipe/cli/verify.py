"""avpipe verify: whether a dataset's results are whole, and what to delete so that they are made again."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.cli.options import add_parser, say

if TYPE_CHECKING:
    from avpipe.report.verification import Verification

_EXAMPLES = """\
example:
  avpipe verify results/demo

checked are every file against the manifest beside it, every result against what it was made from, the sums of the
account, figures against the accuracies of the classes, and eval.json against all of these. The exit status is 1 where
anything is wrong.
"""
_SHOWN = 5


def add(commands: Any) -> None:
    """Add the command: check a dataset's results."""
    parser = add_parser(commands, "verify", "check that a dataset's results are whole", _EXAMPLES)
    parser.add_argument("folder", type=Path, help="results/<dataset>")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from avpipe.report.verification import verify_results

    found = verify_results(chosen.folder)
    if tell_faults(found, chosen.folder):
        return 1
    say(
        f"{chosen.folder} is whole: {found.checked} results are as they were written and made from what is there "
        "now, and the account, the figures and eval.json agree."
    )
    return 0


def tell_faults(found: Verification, folder: Path) -> bool:
    """Print what is wrong with results and what to delete; returns whether anything is."""
    from avpipe.io.manifest import manifest_path
    from avpipe.plan.places import command_to_make

    for each in found.findings:
        say(f"{each.result}: {each.fault}")
    if found.unchecked:
        shown = ", ".join(map(str, found.unchecked[:_SHOWN])) + (" …" if len(found.unchecked) > _SHOWN else "")
        say(f"{len(found.unchecked)} files have no manifest and were not checked: {shown}")
    if not found.findings:
        return False
    paths = [path for each in found.to_delete for path in (each, manifest_path(each))]
    say("To have it made again, delete what is wrong and what was made from it, then run the workflow:")
    say(f"  rm -rf {shlex.join(map(str, paths))}")
    say(f"  {command_to_make(folder / 'eval.json')}")
    return True
