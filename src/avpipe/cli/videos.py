"""avpipe sources status, retry, import and card: the videos that a dataset's annotation names, and its card."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.cli.options import add_parser, print_table, say
from avpipe.cli.project import read_project

if TYPE_CHECKING:
    from avpipe.plan import Project

_STATUS_HELP = """\
Nobody is asked. While a run fetches, the figures go on.

example:
  avpipe sources status vggsound_gzsl
"""
_RETRY_HELP = """\
What became of these videos is forgotten, and the next run with allow_download: true asks for them again.

example:
  avpipe sources retry vggsound_gzsl --cause unavailable --cause region
"""
_IMPORT_HELP = """\
Files named after a video's or a clip's id, in the folder or one below, are looked into and linked or copied.

example:
  avpipe sources import vggsound_gzsl /data/from_a_colleague
"""
_CARD_HELP = """\
Facts as data.json and as a page (README.md) with the metadata that dataset hubs read, beside the features.

example:
  avpipe sources card ucf_gzsl
"""
_NAMED = 5


def add_video_actions(actions: Any) -> list[argparse.ArgumentParser]:
    """Add the actions; returns their parsers, which take a dataset."""
    status = add_parser(actions, "status", "what became of a dataset's videos so far", _STATUS_HELP)
    status.set_defaults(run=_run_status)
    retry = add_parser(actions, "retry", "ask again for videos that were not to be had", _RETRY_HELP)
    retry.add_argument("--cause", action="append", required=True, help="of the list that `status` prints; repeatable")
    retry.set_defaults(run=_run_retry)
    take = add_parser(actions, "import", "take videos that somebody else has got", _IMPORT_HELP)
    take.set_defaults(run=_run_import)
    card = add_parser(actions, "card", "write a dataset card of a finished dataset's clips and features", _CARD_HELP)
    card.set_defaults(run=_run_card)
    return [status, retry, take, card]


def _run_status(chosen: argparse.Namespace) -> int:
    from avpipe.plan import videos
    from avpipe.plan.video_state import known_records
    from avpipe.sources.records import OK

    project = read_project(chosen)
    records = known_records(project, chosen.dataset)
    counts = Counter((record.outcome, record.cause) for record in records)
    sizes = Counter(dict.fromkeys(counts, 0))
    for record in records:
        sizes[record.outcome, record.cause] += record.bytes or 0
    rows = [
        (f"{count:,}", f"{sizes[key] / 1e6:,.1f} MB" if sizes[key] else "", *key)
        for key, count in sorted(counts.items(), key=lambda each: (each[0][0] != OK, -each[1]))
    ]
    print_table(("videos", "size", "outcome", "cause"), rows, n_numbers=2)
    there = {record.video_id for record in records if record.outcome == OK}
    annotated = videos.annotated(project, chosen.dataset)
    clips = annotated.clips if annotated else ()
    for subset in sorted({clip.subset for clip in clips}):
        own = [clip for clip in clips if clip.subset == subset]
        share = sum(clip.fetched_as in there for clip in own)
        say(f"clips{f' of {subset}' if subset else ''}: {share:,} of {len(own):,} ({share / len(own):.1%}) can be cut")
    _say_left(project, chosen.dataset)
    return 0


def say_videos(project: Project, dataset: str) -> bool:
    """Say how many videos a dataset needs and how long fetching them takes; False where it names none."""
    from avpipe.plan import videos
    from avpipe.sources.listing import has_video_folder
    from avpipe.sources.settings import Annotation

    source = project.dataset(dataset).source
    if isinstance(source, Annotation) and not all(Path(path).exists() for path in source.paths.values()):
        say(f"How many videos {dataset} needs is known once its annotation is there.")
    elif has_video_folder(source):
        wanted, absent = videos.videos(project, dataset), videos.left(project, dataset)
        hours = sum(video.seconds or 0.0 for video in absent) / 3600
        length = f" ({hours:,.0f} hours as annotated)" if hours else ""
        say(
            f"{len(absent):,} of {len(wanted):,} videos are left to fetch{length}; at the present pauses those of "
            f"YouTube take {videos.days(project, absent):.1f} days or more. Their licences are their uploaders'."
        )
    else:
        return False
    return True


def _say_left(project: Project, dataset: str) -> None:
    from avpipe.plan import videos
    from avpipe.sources.hosts import stops

    left = videos.left(project, dataset)
    if left:
        say(
            f"{len(left):,} videos are left to ask for; at the present pauses that takes "
            f"{videos.days(project, left):.1f} days or more for those of YouTube."
        )
    if tried := videos.describe_tried(project, dataset):
        say(tried)
    for line in stops(Path(project.paths.hosts())):
        say(line)


def _run_retry(chosen: argparse.Namespace) -> int:
    from avpipe.plan.video_state import ask_again

    forgotten = ask_again(read_project(chosen), chosen.dataset, set(chosen.cause))
    say(f"{len(forgotten):,} videos are asked for again by the next run with allow_download: true.")
    return 0


def _run_card(chosen: argparse.Namespace) -> int:
    from avpipe.io.manifest import write_json, write_text
    from avpipe.plan.card import collect_card
    from avpipe.report.dataset_card import card_page

    project = read_project(chosen)
    card, folder = collect_card(project, chosen.dataset), Path(project.paths.results) / chosen.dataset
    write_json(folder / "data.json", card.to_json())
    write_text(folder / "README.md", card_page(card))
    say(f"{folder / 'README.md'} and data.json beside it: {card.ok:,} of {card.requested:,} clips.")
    return 0


def _run_import(chosen: argparse.Namespace) -> int:
    from avpipe.plan.video_state import import_videos

    done = import_videos(read_project(chosen), chosen.dataset, chosen.folder)
    for name, reason in done.refused.items():
        say(f"{name} was not taken: {reason}")
    named = ", ".join(done.taken[:_NAMED]) + (", …" if len(done.taken) > _NAMED else "")
    say(f"{len(done.taken):,} files taken{f': {named}' if named else ''}; {len(done.refused):,} refused.")
    return 1 if done.refused else 0
