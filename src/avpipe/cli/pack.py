"""avpipe pack: convert and show packs of clips for retrieval."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.cli.options import add_parser, add_window, check_output, print_table, say
from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.retrieval.packs import Pack

_CONVERT_HELP = """\
Published clip pickles are read without running anything that is in them.

examples:
  avpipe pack convert youcook_val_audio.pkl youcook_val.h5
  avpipe pack convert test.h5 test.pkl --layout youcook
"""


def add(commands: Any) -> None:
    """Add the command: convert and show packs."""
    parser = commands.add_parser("pack", help="convert and show packs of clips for retrieval")
    actions = parser.add_subparsers(dest="action", required=True)
    convert = add_parser(actions, "convert", "clip pickle to pack (.h5), or pack to clip pickle (.pkl)", _CONVERT_HELP)
    convert.add_argument("source", type=Path, help="a published clip pickle, or a pack (.h5)")
    convert.add_argument("output", type=Path, help="the .h5 or .pkl to write")
    convert.add_argument("--layout", choices=["youcook", "msrvtt"], help="of a pickle: which published loader reads it")
    convert.set_defaults(run=_run_convert)
    show = actions.add_parser("show", help="print what a pack holds")
    show.add_argument("path", type=Path, help="the pack (.h5)")
    add_window(show)
    show.set_defaults(run=_run_show)


def _run_convert(chosen: argparse.Namespace) -> int:
    import h5py

    from avpipe.retrieval.packs import read_pack, write_pack
    from avpipe.retrieval.packs.published import read_clip_pickle, write_clip_pickle

    if not chosen.source.is_file():
        raise AvpipeError(f"{chosen.source} does not exist. Expected a clip pickle or a pack.")
    if h5py.is_hdf5(chosen.source):
        if chosen.layout is None:
            raise AvpipeError(
                "--layout is needed to write a pickle: youcook, or msrvtt, whichever loader shall read it."
            )
        check_output(chosen.output, ".pkl", chosen.source)
        pack = read_pack(chosen.source)
        write_clip_pickle(pack, chosen.output, layout=chosen.layout)
    else:
        if chosen.layout is not None:
            raise AvpipeError(
                f"--layout is for writing pickles, and {chosen.source} is none of avpipe's packs. Leave it out."
            )
        check_output(chosen.output, ".h5", chosen.source)
        pack = read_clip_pickle(chosen.source)
        write_pack(chosen.output, pack)
    say(f"{chosen.output}: {len(pack)} clips{_untrained(pack)}")
    for warning in pack.info.warnings:
        print(f"avpipe: {warning}", file=sys.stderr)  # noqa: T201
    return 0


def _untrained(pack: Pack) -> str:
    from avpipe.retrieval.packs.pack import random_extractors

    untrained = ", ".join(random_extractors(pack.info.provenance))
    return f"\nRANDOM WEIGHTS: {untrained}: features are not the published ones" if untrained else ""


def _run_show(chosen: argparse.Namespace) -> int:
    from avpipe.retrieval.packs import FRAMES_PER_SECOND, read_pack
    from avpipe.retrieval.packs.build import summarise_pack

    pack = read_pack(chosen.path)
    known = summarise_pack(pack, window=chosen.window)
    reasons = ", ".join(f"{why} {n}" for why, n in {**known.missing, "unlisted": known.unlisted}.items() if n) or "none"
    longer = f"{known.longer_than_window.clips} longer than {chosen.window / FRAMES_PER_SECOND:g} s"
    longest = f"longest {known.longest.clip_id}, {known.longest.seconds:g} s"
    rows = [
        ("from", f"{known.origin}, sha256 {known.sha256 or 'unknown'}"),
        ("clips", f"{known.used} of {known.expected}; missing: {reasons}"),
        ("sound", f"{known.total_seconds / 3600:.2f} h; {longest}; {longer}; {len(known.silent_clips)} silent"),
        ("captions", f"{known.captions.total}; {known.captions.clips_without} clips have none"),
        ("digest", known.digest),
        *(("warning", warning) for warning in known.warnings),
    ]
    rows += [("features", f"{name}, weights {weights.label}") for name, weights in known.weights()]
    print_table((str(chosen.path), ""), rows)
    if untrained := _untrained(pack):
        say(untrained.strip())
    return 0
