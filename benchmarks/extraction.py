"""Decoding and feature extraction beside the bare network, in one run.

For each extractor: windows a second of the network alone on ready tensors (the same batch size and memory format),
of the engine from files to features, and their ratio; for the decoder: frames a second at 25 fps. The clips are
copies of one video, so that every clip costs the same.

    python benchmarks/extraction.py --video clip.avi --clips 16
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import torch

from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.registry import build_extractor, names
from avpipe.features.types import Clip, Extractor
from avpipe.media.decode import decode_video
from avpipe.sources.synthetic import plan_demo, render_clip
from avpipe.weights import load_weights

SETTINGS = {"c3d": {}, "vggish": {"postprocess": False}}
CLIPS_FACTOR = {"c3d": 1, "vggish": 8}  # a VGGish clip takes a fraction of a second; short runs measure noise


def decode_rate(video: Path) -> tuple[int, float]:
    """Frames of a video at 25 fps, and seconds to decode them."""
    began = time.perf_counter()
    frames = sum(1 for _ in decode_video(video, rate_hz=25))
    return frames, time.perf_counter() - began


def front_end_seconds(extractor: Extractor, video: Path) -> float:
    """Seconds to decode a video and cut it into windows."""
    list(extractor.windows(Clip("warm", video)))
    began = time.perf_counter()
    list(extractor.windows(Clip("front end", video)))
    return time.perf_counter() - began


def bare_rate(extractor: Extractor, network: torch.nn.Module, clip: Clip, batches: int, device: str) -> float:
    """Windows a second of the network on ready tensors."""
    tensors = [window.tensor for window in extractor.windows(clip)]
    ready = torch.stack([tensors[index % len(tensors)] for index in range(extractor.batch_size)])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    ready = ready.contiguous(memory_format=formats.get(ready.dim(), torch.contiguous_format)).to(device)
    with torch.inference_mode():
        network(ready)
        began = time.perf_counter()
        for _ in range(batches):
            network(ready).float().cpu()
        return batches * extractor.batch_size / (time.perf_counter() - began)


def engine_rate(
    extractor: Extractor, network: torch.nn.Module, video: Path, clips: int, device: str
) -> tuple[int, float]:
    """Windows and seconds from files to features."""
    began = time.perf_counter()
    windows = 0
    inputs = [Clip(str(index), video) for index in range(clips)]
    for _, outcome in extract_clips(extractor, network, inputs, device=device):
        if isinstance(outcome, Exception):
            raise outcome
        windows += sum(len(features.values) for features in outcome.values())
    return windows, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a video with sound; default: a generated clip of about 1.2 s")
    parser.add_argument("--clips", type=int, default=16, help="clips for the engine (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where the network runs")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        video = chosen.video
        if video is None:
            video = Path(folder) / "clip.avi"
            render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
        measure(video, chosen)


def measure(video: Path, chosen: argparse.Namespace) -> None:
    """Print one line per extractor."""
    print(f"{platform.machine()}, torch {torch.__version__}, {chosen.threads} threads, {chosen.device}")
    frames, seconds = min((decode_rate(video) for _ in range(chosen.rounds)), key=lambda each: each[1])
    print(f"decoding {video.name}: {frames} frames at 25 fps, {frames / seconds:.0f} frames/s on one thread")
    for name in names():
        extractor = build_extractor(name, SETTINGS[name])
        network = extractor.build_network()
        load_weights(network, "random:0")
        network = prepare_network(network, chosen.device)
        bare, engine = 0.0, 0.0
        front_end = front_end_seconds(extractor, video)
        for _ in range(chosen.rounds):
            clips = chosen.clips * CLIPS_FACTOR[name]
            windows, seconds = engine_rate(extractor, network, video, clips, chosen.device)
            batches = max(1, round(windows / extractor.batch_size))
            bare = max(bare, bare_rate(extractor, network, Clip("bare", video), batches, chosen.device))
            engine = max(engine, windows / seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: bare network {bare:.2f} windows/s, engine {engine:.2f} windows/s = {100 * engine / bare:.0f} %; "
            f"decoding and cutting: {1000 * front_end:.0f} ms a clip on one thread; peak memory so far {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
