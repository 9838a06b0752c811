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
    from avpipe.sources.lock_file import Pins

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
    from avpipe.plan.downloads import listed, needs, pins
    from avpipe.plan.requirements import missing_elsewhere

    project, name = read_project(chosen), chosen.dataset
    found = needs(project, name)
    if found:
        print_table(
            ("name", "files", "to fetch", "state", "place", "licence"),
            [(need.name, need.files.title, _size(need), _state(need), need.files.folder, need.files.licence)
             for need in found],
        )  # fmt: skip
    for need in found:
        if need.is_by_hand:
            say(f"{need.name}: {need.files.by_hand()}")
    unverified = [
        f"{need.name}{_pinned(pins(project, need.name), need)}" for need in found if need.files.without_hash()
    ]
    if unverified:
        say(
            f"unverified origin: {', '.join(unverified)}. Nobody publishes the hash of these files; what the first "
            f"download gives is pinned in {pins(project, name).path} (docs/sources.md)."
        )
    for problem in missing_elsewhere(project, name):
        say(f"not in the table: {problem}")
    others = set(project.dataset(name).files) - {need.name for need in found}
    for other in [each for each in listed(project, name) if each in others]:
        say(f"not used by these settings: {other} ({project.catalogue[other].title}); --only {other} gets it")
    to_fetch = [need for need in found if need.missing and not need.is_by_hand]
    if to_fetch:
        unknown = [need.name for need in to_fetch if not need.n_bytes()]
        total = sum(need.n_bytes() for need in to_fetch)
        sizes = [f"{total / 1e6:,.1f} MB"] * bool(total) + unknown
        say(f"{' + '.join(sizes)} to fetch: avpipe sources fetch {name}, or a run with allow_download: true")
    elif not any(need.missing for need in found):
        say(f"{name} {'lacks' if found else 'needs'} nothing of config/files.yaml.")
    say_videos(project, name)
    return 0


def _run_fetch(chosen: argparse.Namespace) -> int:
    from avpipe.plan.downloads import Need, listed, needs, pins
    from avpipe.sources.file_sets import fetch_set

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    project = read_project(chosen)
    wanted = needs(project, chosen.dataset)
    if chosen.only is not None:
        known = listed(project, chosen.dataset)
        if chosen.only not in known:
            raise AvpipeError(f"--only {chosen.only}: for {chosen.dataset} there are {', '.join(known)}.")
        wanted = [Need(chosen.only, known[chosen.only], known[chosen.only].missing())]
    faults = []
    for need in wanted:
        try:
            fetched = fetch_set(need.files, pins=pins(project, need.name), products=need.missing)
        except AvpipeError as error:  # the others are fetched all the same
            faults.append(str(error))
        else:
            say(f"{need.name}: {f'{len(fetched)} files fetched' if fetched else 'all there'}, {need.files.folder}")
    if faults:
        raise AvpipeError(
            f"{len(faults)} of {len(wanted)} are not there:\n" + "\n".join(f"  - {each}" for each in faults)
        )
    return 0


def _size(need: Need) -> str:
    known = need.n_bytes()
    if not need.missing:
        return "-"
    return f"{known / 1e6:,.1f} MB" if known else "not published"


def _pinned(known: Pins, need: Need) -> str:
    """Since when a set's files are pinned, and from where, in brackets; "" where they are not."""
    found = [pin for file in need.files.without_hash() if (pin := known.of(file)) is not None]
    return "".join(f" (pinned since {pin.date}{f', from {pin.host}' if pin.host else ''})" for pin in found[:1])


def _state(need: Need) -> str:
    if not need.missing:
        return "there"
    return "by hand" if need.is_by_hand else f"{len(need.missing)} missing"
