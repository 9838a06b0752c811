"""The command line of retrieval: packs, indexes, and searching them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError

_PUBLISHED_DIM = {"avlnet_text_tri": 6144}  # the other models: 4096
_DEVICE_HELP = "where the network runs; default: a GPU if any"
_INDEX_HELP = """\
A pack is what retrieval runs make of every subset (docs/datasets.md), or a converted clip pickle (avpipe pack convert).
Sizes are those of the published weights unless they are given.

examples:
  avpipe index test.h5 test.index.h5 --model avlnet --weights AVLnet_release.pth
  avpipe index demo.h5 demo.index.h5 --model avlnet --weights random:0 --embedding-dim 64 --audio-channels 8
"""
_SEARCH_HELP = """\
avlnet is searched with sound, avlnet_text_tri with a text, avlnet_text_fused with both.

examples:
  avpipe search test.index.h5 question.wav
  avpipe search test.index.h5 film.mkv --start 61.5 --end 72 --top 5 --json
  avpipe search tri.index.h5 --text "whisk the eggs" --words GoogleNews-vectors-negative300.bin
"""
_CONVERT_HELP = """\
Published clip pickles are read without running anything that is in them.

examples:
  avpipe pack convert youcook_val_audio.pkl youcook_val.h5
  avpipe pack convert test.h5 test.pkl --layout youcook
"""


def add_retrieval_commands(commands: Any) -> None:
    """Register the commands index, search and pack."""
    _add_index(commands)
    _add_search(commands)
    _add_pack(commands)


def _add_index(commands: Any) -> None:
    from avpipe.retrieval.models import names

    parser = _add(commands, "index", "embed the clips of a pack, to be searched", _INDEX_HELP)
    parser.add_argument("pack", type=Path, help="the pack (.h5)")
    parser.add_argument("output", type=Path, help="the index to write (.h5)")
    parser.add_argument("--model", required=True, choices=names(), help="the model")
    parser.add_argument("--weights", required=True, help="path of its weights, or random:<seed>, which is untrained")
    parser.add_argument("--embedding-dim", type=int, help="default: as published, 4096, or 6144 for avlnet_text_tri")
    parser.add_argument("--audio-channels", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--word-dim", type=int, default=300, help="length of word vectors (default: %(default)s)")
    parser.add_argument("--max-words", type=int, default=20, help="known words read of a text (default: %(default)s)")
    _add_window(parser)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=_DEVICE_HELP)
    parser.set_defaults(run=_run_index)


def _run_index(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device

    _check_output(chosen.output, ".h5", chosen.pack)
    embedding_dim = chosen.embedding_dim
    if embedding_dim is None:
        embedding_dim = _PUBLISHED_DIM.get(chosen.model, 4096)
    with leased_device(chosen.device) as device:
        from avpipe.retrieval.index import build_index

        info = build_index(
            chosen.pack,
            model=chosen.model,
            weights=chosen.weights,
            target=chosen.output,
            embedding_dim=embedding_dim,
            audio_channels=chosen.audio_channels,
            word_dim=chosen.word_dim,
            max_words=chosen.max_words,
            window=chosen.window,
            device=device,
        )
    untrained = " (untrained: hits mean nothing)" if info.weights_label.startswith("random:") else ""
    _say(f"{chosen.output}: {info.model}, {embedding_dim} numbers for each clip; weights {chosen.weights}{untrained}")
    return 0


def _add_search(commands: Any) -> None:
    parser = _add(commands, "search", "find the clips of an index that fit a sound or a text", _SEARCH_HELP)
    parser.add_argument("index", type=Path, help="made by avpipe index")
    parser.add_argument("media", type=Path, nargs="?", help="a file with sound")
    parser.add_argument("--text", help="a sentence, for the text models")
    parser.add_argument("--words", type=Path, help="word-vector file for the text (word2vec, GloVe, fastText)")
    parser.add_argument("--start", type=float, help="start of the stretch in seconds")
    parser.add_argument("--end", type=float, help="end of the stretch in seconds")
    parser.add_argument("--top", type=int, default=10, help="how many clips (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="where the index's weights are now, if they were moved")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=_DEVICE_HELP)
    parser.set_defaults(run=_run_search)


def _run_search(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device

    with leased_device(chosen.device) as device:
        from avpipe.retrieval.search import search

        hits = search(
            chosen.index,
            media=chosen.media,
            start=chosen.start,
            end=chosen.end,
            text=chosen.text,
            words=chosen.words,
            top=chosen.top,
            weights=chosen.weights,
            device=device,
        )
    if chosen.json:
        _say(json.dumps([asdict(hit) for hit in hits], indent=2, ensure_ascii=False))
    else:
        _print_table(("rank", "score", "clip", "file", "caption"), [_hit_row(hit) for hit in hits], n_numbers=2)
    return 0


def _hit_row(hit: Any) -> tuple[str, ...]:
    start, end = (None if each is None else f"{each:g}" for each in (hit.start, hit.end))
    stretch = f" {start or 0}–{end or 'end'} s" if start or end else ""
    return str(hit.rank), f"{hit.score:.5g}", hit.clip_id, hit.path + stretch, hit.caption


def _add_pack(commands: Any) -> None:
    parser = commands.add_parser("pack", help="convert and show packs of clips for retrieval")
    actions = parser.add_subparsers(dest="action", required=True)
    convert = _add(actions, "convert", "clip pickle to pack (.h5), or pack to clip pickle (.pkl)", _CONVERT_HELP)
    convert.add_argument("source", type=Path, help="a published clip pickle, or a pack (.h5)")
    convert.add_argument("output", type=Path, help="the .h5 or .pkl to write")
    convert.add_argument("--layout", choices=["youcook", "msrvtt"], help="of a pickle: which published loader reads it")
    convert.set_defaults(run=_run_convert)
    show = actions.add_parser("show", help="print what a pack holds")
    show.add_argument("path", type=Path, help="the pack (.h5)")
    _add_window(show)
    show.set_defaults(run=_run_show)


def _run_convert(chosen: argparse.Namespace) -> int:
    import h5py

    from avpipe.retrieval.packs import read_pack, write_pack
    from avpipe.retrieval.published_packs import read_clip_pickle, write_clip_pickle

    if not chosen.source.is_file():
        raise AvpipeError(f"{chosen.source} does not exist. Expected a clip pickle or a pack.")
    if h5py.is_hdf5(chosen.source):
        if chosen.layout is None:
            raise AvpipeError(
                "--layout is needed to write a pickle: youcook, or msrvtt, whichever loader shall read it."
            )
        _check_output(chosen.output, ".pkl", chosen.source)
        pack = read_pack(chosen.source)
        write_clip_pickle(pack, chosen.output, layout=chosen.layout)
    else:
        if chosen.layout is not None:
            raise AvpipeError(
                f"--layout is for writing pickles, and {chosen.source} is none of avpipe's packs. Leave it out."
            )
        _check_output(chosen.output, ".h5", chosen.source)
        pack = read_clip_pickle(chosen.source)
        write_pack(chosen.output, pack)
    _say(f"{chosen.output}: {len(pack)} clips")
    for warning in pack.info.warnings:
        print(f"avpipe: {warning}", file=sys.stderr)  # noqa: T201
    return 0


def _run_show(chosen: argparse.Namespace) -> int:
    from avpipe.retrieval.pack_summary import summarise_pack
    from avpipe.retrieval.packs import FRAMES_PER_SECOND, read_pack

    pack = read_pack(chosen.path)
    known = summarise_pack(pack, window=chosen.window)
    missing = {**known["missing"], "unlisted": known["unlisted"]}
    reasons = ", ".join(f"{reason} {n}" for reason, n in missing.items() if n) or "none"
    longer = f"{known['longer_than_window']['clips']} longer than {chosen.window / FRAMES_PER_SECOND:g} s"
    longest = f"longest {known['longest']['clip_id']}, {known['longest']['seconds']:g} s"
    captions = known["captions"]
    rows = [
        ("from", f"{known['origin']}, sha256 {known['sha256'] or 'unknown'}"),
        ("clips", f"{known['used']} of {known['expected']}; missing: {reasons}"),
        ("sound", f"{known['total_seconds'] / 3600:.2f} h; {longest}; {longer}; {len(known['silent_clips'])} silent"),
        ("captions", f"{captions['total']}; {captions['clips_without']} clips have none"),
        ("digest", known["digest"]),
        *(("warning", warning) for warning in known["warnings"]),
    ]
    _print_table((str(chosen.path), ""), rows)
    return 0


def _add(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )


def _add_window(parser: argparse.ArgumentParser) -> None:
    text = "spectrogram frames of 10 ms that are read of a sound (default: %(default)s)"
    parser.add_argument("--window", type=int, default=5120, help=text)


def _check_output(output: Path, suffix: str, source: Path) -> None:
    if output.suffix != suffix:
        raise AvpipeError(f"The output must end in {suffix}, found {output}.")
    if not output.parent.is_dir():
        raise AvpipeError(f"The folder of {output} does not exist. Make it, or give another place.")
    if output.resolve() == source.resolve():
        raise AvpipeError(f"The output {output} is the input. Give another place.")


def _print_table(header: tuple[str, ...], rows: Sequence[Sequence[str]], *, n_numbers: int = 0) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place < n_numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this module talks to a person
