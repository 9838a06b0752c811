"""Decoding and feature extraction beside the bare network, in one run.

For each extractor, in a process of its own: windows a second of the network alone on ready tensors (the same batch
size and memory format), of the engine from files to features, and their ratio; the time to decode and cut a clip on
one thread; peak memory; and which of the two, network or decoding, holds the other up. The clips are copies of one
video, so that every clip costs the same.

    python benchmarks/extraction.py --video clip.avi --clips 16
    python benchmarks/extraction.py --video clip.avi --only resnet152 --device cuda --decode-workers 8 --precision tf32
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.features import names
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.types import Extractor, Window
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video
from avpipe.registry import EXTRACTORS
from avpipe.training.precision import arithmetic
from avpipe.weights import load_weights

SETTINGS = {"vggish": {"postprocess": False}}
CLIPS_FACTOR = {"vggish": 8, "spectrogram": 8}  # these take a fraction of a second a clip; short runs measure noise


def decode_rate(video: Path) -> tuple[int, float]:
    """Frames of a video at 25 fps, and seconds to decode them."""
    began = time.perf_counter()
    frames = sum(1 for _ in decode_video(video, rate_hz=25))
    return frames, time.perf_counter() - began


def front_end_seconds(extractor: Extractor, video: Path) -> float:
    """Seconds of processor time to decode a video and cut it into windows."""
    list(extractor.windows(Clip("warm", video)))
    began = time.process_time()
    list(extractor.windows(Clip("front end", video)))
    return time.process_time() - began


def bare_seconds(extractor: Extractor, network: torch.nn.Module, clip: Clip, clips: int, device: str) -> float:
    """Seconds of the network for the windows of some clips, in full batches of ready tensors."""
    windows = [each for each in extractor.windows(clip) if isinstance(each, Window)]
    counts = Counter(window.stream for window in windows)
    total = 0.0
    for stream, count in counts.items():
        tensors = [window.tensor for window in windows if window.stream == stream]
        ready = torch.stack([tensors[index % len(tensors)] for index in range(extractor.batch_size)])
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        ready = ready.contiguous(memory_format=formats.get(ready.dim(), torch.contiguous_format)).to(device)
        batches = max(1, round(clips * count / extractor.batch_size))
        with torch.inference_mode(), arithmetic(torch.device(device), extractor.precision):
            extractor.forward(network, stream, ready).float().cpu()
            began = time.perf_counter()
            for _ in range(batches):
                extractor.forward(network, stream, ready).float().cpu()
            seconds = time.perf_counter() - began
        total += seconds * clips * count / (batches * extractor.batch_size)
    return total


def engine_seconds(
    extractor: Extractor, network: torch.nn.Module, video: Path, clips: int, chosen: argparse.Namespace
) -> tuple[int, float]:
    """Rows of the first stream, and seconds, from files to features."""
    began = time.perf_counter()
    rows = 0
    inputs = [Clip(str(index), video) for index in range(clips)]
    workers = chosen.decode_workers
    for _, outcome in extract_clips(extractor, network, inputs, device=chosen.device, decode_workers=workers):
        if isinstance(outcome, Exception):
            raise outcome
        rows += len(next(iter(outcome.values())).values)
    return rows, time.perf_counter() - began


def measure(name: str, video: Path, chosen: argparse.Namespace) -> None:
    """Print one line for an extractor."""
    settings = SETTINGS.get(name, {}) | ({"precision": chosen.precision} if EXTRACTORS[name].has_weights else {})
    extractor = build_extractor(name, settings)
    network = extractor.build_network()
    load_weights(network, "random:0")
    network = prepare_network(network, chosen.device)
    clips = chosen.clips * CLIPS_FACTOR.get(name, 1)
    front_end = min(front_end_seconds(extractor, video) for _ in range(chosen.rounds))
    bare, engine, rows = float("inf"), float("inf"), 0
    for _ in range(chosen.rounds):
        rows, seconds = engine_seconds(extractor, network, video, clips, chosen)
        engine = min(engine, seconds)
        bare = min(bare, bare_seconds(extractor, network, Clip("bare", video), clips, chosen.device))
    decoding = front_end * clips / chosen.decode_workers
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    alone = f"{rows / bare:.2f} windows/s" if bare else "none"
    share = f"{100 * bare / engine:.0f} %" if bare else "-"
    bottleneck = "network" if bare > decoding else "decoding"
    print(
        f"| {name} | {alone} | {rows / engine:.2f} windows/s | {share} | {clips / engine:.2f} clips/s | "
        f"{1000 * front_end:.0f} ms | {bottleneck} | {peak:.0f} MB |",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a video with sound; default: a generated clip of about 1.2 s")
    parser.add_argument("--clips", type=int, default=16, help="clips for the engine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network (default: %(default)s)")
    parser.add_argument("--decode-workers", type=int, default=1, help="decoding threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the network runs")
    parser.add_argument("--precision", default="float32", help="arithmetic of the network (default: %(default)s)")
    parser.add_argument("--only", choices=names(), help="one extractor, in this process")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        video = chosen.video
        if video is None:
            video = Path(folder) / "clip.avi"
            render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
        if chosen.only:
            measure(chosen.only, video, chosen)
            return
        device = torch.cuda.get_device_name() if chosen.device == "cuda" else platform.machine()
        print(f"{device}, torch {torch.__version__}, {chosen.threads} threads, {chosen.precision}")
        frames, seconds = min((decode_rate(video) for _ in range(chosen.rounds)), key=lambda each: each[1])
        print(f"decoding {video.name}: {frames} frames at 25 fps, {frames / seconds:.0f} frames/s on one thread\n")
        print("| | bare network | engine | share | | decoding, one thread | held up by | peak memory |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for name in names():
            arguments = [*sys.argv[1:], "--video", str(video), "--only", name]
            subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
