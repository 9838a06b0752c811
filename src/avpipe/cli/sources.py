"""avpipe sources: what a dataset needs of published files, and fetching it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.cli.options import add_parser, print_table, say
from avpipe.cli.project import add_dataset, read_project
from avpipe.cli.videos import add_video_actions, say_videos
from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.plan.downloads import Need

_PLAN_HELP = """\
Nothing is fetched, and the network is not used.

examples:
  avpipe sources plan ucf_gzsl
  avpipe sources plan youcook2 --configfile mine.yaml
"""
_FETCH_HELP = """\
Each file is checked by its length and hash before it gets its name; what was interrupted goes on where it was.

examples:
  avpipe sources fetch ucf_gzsl
  avpipe sources fetch ucf_gzsl --only avca_ucf
"""


def add(commands: Any) -> None:
    """Add the command: list and fetch published files."""
    parser = commands.add_parser("sources", help="list and fetch the published files that a dataset needs")
    actions = parser.add_subparsers(dest="action", required=True)
    plan = add_parser(actions, "plan", "what a dataset needs of published files, and what of it is there", _PLAN_HELP)
    fetch = add_parser(actions, "fetch", "fetch what a dataset needs of published files", _FETCH_HELP)
    plan.set_defaults(run=_run_plan)
    fetch.set_defaults(run=_run_fetch)
    for action in (plan, fetch, *add_video_actions(actions)):
        add_dataset(action)
    actions.choices["import"].add_argument("folder", type=Path, help="the folder with the files")
    fetch.add_argument("--only", metavar="NAME", help="of the list that `plan` prints")


def _run_plan(chosen: argparse.Namespace) -> int:
    found = _needs(chosen)
    if found:
        _print_needs(found, chosen.dataset)
    if not say_videos(read_project(chosen), chosen.dataset) and not found:
        say(
            f"{chosen.dataset} needs nothing of config/files.yaml and config/weights.yaml. What else it lacks is "
            f"named by: snakemake -n results/{chosen.dataset}/eval.json"
        )
    return 0


def _print_needs(found: list[Need], dataset: str) -> None:
    print_table(
        ("name", "files", "to fetch", "state", "place", "licence"),
        [(need.name, need.title, _size(need), _state(need), need.place, need.licence) for need in found],
    )
    for need in found:
        if need.missing and need.files is None:
            say(f"{need.name}: put it to {need.place} by hand; to be had from {need.by_hand}")
    if any(need.missing and need.files for need in found):
        to_fetch = sum(need.n_bytes() for need in found)
        say(f"{to_fetch / 1e6:,.1f} MB to fetch, as far as lengths are known: avpipe sources fetch {dataset}")


def _run_fetch(chosen: argparse.Namespace) -> int:
    from avpipe.sources.file_sets import fetch_set

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = _needs(chosen)
    if chosen.only is not None and chosen.only not in [need.name for need in found]:
        raise AvpipeError(f"--only {chosen.only}: {chosen.dataset} needs {', '.join(need.name for need in found)}.")
    wanted = [need for need in found if chosen.only in (None, need.name)]
    faults = []
    for need in wanted:
        if need.files is None:
            if need.missing:
                faults.append(f"{need.name}: put it to {need.place} by hand; to be had from {need.by_hand}")
            continue
        try:
            fetched = fetch_set(need.files)
        except AvpipeError as error:  # the others are fetched all the same
            faults.append(str(error))
        else:
            say(f"{need.name}: {f'{len(fetched)} files fetched' if fetched else 'all there'}, {need.place}")
    if faults:
        raise AvpipeError(
            f"{len(faults)} of {len(wanted)} are not there:\n" + "\n".join(f"  - {each}" for each in faults)
        )
    return 0


def _needs(chosen: argparse.Namespace) -> list[Need]:
    from avpipe.plan.downloads import needs

    return needs(read_project(chosen), chosen.dataset)


def _size(need: Need) -> str:
    known = need.n_bytes()
    if not need.missing:
        return "-"
    return f"{known / 1e6:,.1f} MB" if known else "unknown"


def _state(need: Need) -> str:
    if not need.missing:
        return "there"
    return "by hand" if need.files is None else f"{len(need.missing)} missing"
