"""avpipe index: embed the clips of a pack, to be searched."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from avpipe.cli.options import DEVICE_HELP, add_parser, add_window, check_output, positive, say
from avpipe.registry import MODELS

_HELP = """\
A pack is what retrieval runs make of every subset (docs/datasets.md), or a converted clip pickle (avpipe pack convert).
Sizes are those of the published weights unless they are given.

examples:
  avpipe index test.h5 test.index.h5 --model avlnet --weights AVLnet_release.pth
  avpipe index demo.h5 demo.index.h5 --model avlnet --weights random:0 --embedding-dim 64 --audio-channels 8
"""


def add(commands: Any) -> None:
    """Add the command: embed the clips of a pack."""
    parser = add_parser(commands, "index", "embed the clips of a pack, to be searched", _HELP)
    parser.add_argument("pack", type=Path, help="the pack (.h5)")
    parser.add_argument("output", type=Path, help="the index to write (.h5)")
    parser.add_argument("--model", required=True, choices=list(MODELS), help="the model")
    parser.add_argument("--weights", required=True, help="path of its weights, or random:<seed>, which is untrained")
    published = ", ".join(f"{entry.published_dim} ({name})" for name, entry in MODELS.items())
    parser.add_argument("--embedding-dim", type=positive, help=f"default: as published, {published}")
    parser.add_argument("--audio-channels", type=positive, default=128, help="default: %(default)s")
    parser.add_argument("--word-dim", type=positive, default=300, help="length of word vectors (default: %(default)s)")
    parser.add_argument(
        "--max-words", type=positive, default=20, help="known words read of a text (default: %(default)s)"
    )
    add_window(parser)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=DEVICE_HELP)
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    from avpipe.devices import leased_device

    check_output(chosen.output, ".h5", chosen.pack)
    embedding_dim = chosen.embedding_dim
    if embedding_dim is None:
        embedding_dim = MODELS[chosen.model].published_dim
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
    say(f"{chosen.output}: {embedding_dim} numbers for each clip; {info.describe()}")
    return 0
