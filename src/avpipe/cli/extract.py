"""avpipe extract: features of one file, without a workflow."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from avpipe.cli.options import check_output, read_settings, say
from avpipe.errors import AvpipeError
from avpipe.registry import EXTRACTORS

_FIDELITY_HELP = "what is right, or what was published, where the two differ (default: %(default)s)"
_EXAMPLES = """\
extractors and what their rows are:
{extractors}

the file written:
  values [T, d], pooled [d], times [T, 2] in seconds from the start of the segment;
  for selavi video_values, audio_values and so on;
  provenance, JSON: extractor, stage, settings, weights, source file and versions of libraries

examples:
  avpipe extract clip.mp4 resnet152 clip.npz --weights resnet152-394f9c45.pth
  avpipe extract clip.mp4 vggish clip.npz --weights pytorch_vggish.pth --pca vggish_pca_params.npz
  avpipe extract film.mkv c3d part.npz --weights c3d.pickle --start 61.5 --end 72 --set stride_frames=8
  avpipe extract clip.mp4 spectrogram clip.npz
where the weights can be had: config/files.yaml
"""


def _extractors() -> str:
    return "\n".join(f"  {name:<12} {entry.rows}" for name, entry in EXTRACTORS.items())


def add(commands: Any) -> None:
    """Add the command: features of one file."""
    parser = commands.add_parser(
        "extract",
        help="features of one video, without a workflow",
        description="Extract features of one file, or of a segment of it, and write them as .npz.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES.format(extractors=_extractors()),
    )
    parser.add_argument("path", type=Path, help="a video or sound file")
    parser.add_argument("name", help=f"the extractor: {', '.join(EXTRACTORS)}")
    parser.add_argument("output", type=Path, help="the .npz file to write")
    parser.add_argument("--weights", help="path of the published weights, or random:<seed>; none for spectrogram")
    parser.add_argument("--fidelity", default="corrected", choices=["corrected", "published"], help=_FIDELITY_HELP)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the extractor (docs/config.md)"
    )
    parser.add_argument("--pca", type=Path, help="VGGish's PCA file: applies the published PCA and quantisation")
    parser.add_argument("--start", type=float, help="start of the segment in seconds")
    parser.add_argument("--end", type=float, help="end of the segment in seconds")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the network runs")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    import numpy as np

    from avpipe.features.shard import library_versions
    from avpipe.features.single import extract_file
    from avpipe.formats.digests import file_sha256
    from avpipe.formats.weights import random_seed
    from avpipe.io.atomic import atomic_path

    check_output(chosen.output, ".npz", chosen.path)
    start = chosen.start or 0.0
    if not 0 <= start < (math.inf if chosen.end is None else chosen.end):
        raise AvpipeError(f"--start {chosen.start} and --end {chosen.end} are no segment; expected 0 <= start < end.")
    streams, provenance = extract_file(
        chosen.path,
        chosen.name,
        chosen.weights,
        device=chosen.device,
        start=chosen.start,
        end=chosen.end,
        pca=chosen.pca,
        fidelity=chosen.fidelity,
        settings=read_settings(chosen.set),
    )
    arrays = {
        (f"{stream}_" if len(streams) > 1 else "") + key: value
        for stream, features in streams.items()
        for key, value in vars(features).items()
    }
    segment = {"start_seconds": chosen.start, "end_seconds": chosen.end}
    provenance["source"] = {"file": chosen.path.name, "sha256": file_sha256(chosen.path)} | segment
    provenance["libraries"] = library_versions()
    with atomic_path(chosen.output) as temporary:
        np.savez(temporary, **arrays, provenance=json.dumps(provenance, sort_keys=True))
    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items())
    weights = f"weights {chosen.weights}"
    if provenance["weights"]["label"] == "none":
        weights = f"no weights: {chosen.name} has no network" + (chosen.weights is not None) * ", so none were drawn"
    elif random_seed(chosen.weights) is not None:
        weights += " (RANDOM WEIGHTS, untrained: these are not the published features)"
    say(f"{chosen.output}: {shapes}; {weights}")
    return 0
