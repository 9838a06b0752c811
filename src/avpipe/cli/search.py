"""avpipe search: find the clips of an index that fit a sound or a text."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avpipe.cli.options import DEVICE_HELP, add_parser, positive, print_table, say
from avpipe.registry import MODELS

_EXAMPLES = """\
what each model is searched with:
{queries}

examples:
  avpipe search test.index.h5 question.wav
  avpipe search test.index.h5 film.mkv --start 61.5 --end 72 --top 5 --json
  avpipe search tri.index.h5 --text "whisk the eggs" --words GoogleNews-vectors-negative300.bin
"""


def _queries() -> str:
    kinds = {"audio": "sound", "text": "a text"}
    width = max(map(len, MODELS))
    return "\n".join(
        f"  {name:{width}}  {' and '.join(kinds[kind] for kind in entry.query.split('+'))}"
        for name, entry in MODELS.items()
    )


def add(commands: Any) -> None:
    """Add the command: search an index."""
    parser = add_parser(
        commands,
        "search",
        "find the clips of an index that fit a sound or a text",
        _EXAMPLES.format(queries=_queries()),
    )
    parser.add_argument("index", type=Path, help="made by avpipe index")
    parser.add_argument("media", type=Path, nargs="?", help="a file with sound")
    parser.add_argument("--text", help="a sentence, for the text models")
    parser.add_argument("--words", type=Path, help="word-vector file for the text (word2vec, GloVe, fastText)")
    parser.add_argument("--start", type=float, help="start of the segment in seconds")
    parser.add_argument("--end", type=float, help="end of the segment in seconds")
    parser.add_argument("--top", type=positive, default=10, help="how many clips (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="where the index's weights are now, if they were moved")
    parser.add_argument("--json", action="store_true", help="print JSON: index, what it rests on; random_weights; hits")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=DEVICE_HELP)
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device

    with leased_device(chosen.device) as device:
        from avpipe.retrieval.index import open_index
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
        with open_index(chosen.index) as opened:
            info = opened.info
    if chosen.json:
        left_out = {"weights", "pack"}  # places on this machine, which say nothing elsewhere
        index = {name: value for name, value in asdict(info).items() if name not in left_out}
        found = {"index": index, "random_weights": info.random_weights, "hits": [asdict(hit) for hit in hits]}
        say(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        say(f"{chosen.index}: {info.describe()}")
        print_table(("rank", "score", "clip", "file", "caption"), [_hit_row(hit) for hit in hits], n_numbers=2)
    return 0


def _hit_row(hit: Any) -> tuple[str, ...]:
    start, end = (None if each is None else f"{each:g}" for each in (hit.start, hit.end))
    segment = f" {start or 0}–{end or 'end'} s" if start or end else ""
    return str(hit.rank), f"{hit.score:.5g}", hit.clip_id, hit.path + segment, hit.caption
