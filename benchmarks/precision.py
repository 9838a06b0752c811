"""How far half precision moves the features: each network in each precision on the same windows.

Prints, for every stream, the mean and the smallest cosine between a window's features in float32 and in another
precision, and the relative L2 difference. The weights are random, unless --weights gives the published file.

    python benchmarks/precision.py --video clip.avi --only resnet152 --device cuda
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.features.build import build_extractor
from avpipe.features.engine import prepare_network
from avpipe.features.types import Window
from avpipe.media.clip import Clip
from avpipe.registry import EXTRACTORS
from avpipe.training.precision import arithmetic
from avpipe.weights import load_weights

PRECISIONS = ("tf32", "bfloat16", "float16")


def compare(name: str, video: Path, chosen: argparse.Namespace) -> None:
    """Print one line per stream and precision."""
    extractor = build_extractor(name, {"postprocess": False} if name == "vggish" else {})
    network = extractor.build_network()
    load_weights(network, chosen.weights)
    network = prepare_network(network, chosen.device)
    windows = [each for each in extractor.windows(Clip("clip", video)) if isinstance(each, Window)]
    device = torch.device(chosen.device)
    for stream in extractor.streams:
        tensors = [each.tensor for each in itertools.islice((w for w in windows if w.stream == stream), chosen.windows)]
        batch = torch.stack(tensors).to(device)
        rows = {}
        for precision in ("float32", *chosen.precisions):
            began = time.perf_counter()
            with torch.inference_mode(), arithmetic(device, precision):
                rows[precision] = extractor.forward(network, stream, batch).double().cpu().numpy()
            seconds = time.perf_counter() - began
            ours, exact = rows[precision], rows["float32"]
            norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
            cosine = (ours * exact).sum(axis=1) / norms
            difference = np.linalg.norm(ours - exact) / np.linalg.norm(exact)
            print(
                f"| {name} {stream} | {precision} | {cosine.mean():.7f} | {cosine.min():.7f} | {difference:.1e} | "
                f"{seconds:.2f} s for {len(batch)} |",
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a video with sound; default: a generated clip of about 1.2 s")
    parser.add_argument("--windows", type=int, default=2, help="windows per stream (default: %(default)s)")
    parser.add_argument("--weights", default="random:0", help="weights; with --only (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the network runs")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS, help="what to compare")
    parser.add_argument("--only", help="one extractor")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = chosen.video
        if video is None:
            video = Path(folder) / "clip.avi"
            render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
        print("| | precision | mean cosine | smallest cosine | relative difference | time |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, known in EXTRACTORS.items():
            if known.has_weights and chosen.only in (None, name):
                compare(name, video, chosen)


if __name__ == "__main__":
    main()
