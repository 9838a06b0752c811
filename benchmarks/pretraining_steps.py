"""Pre-training steps of full-size AVLnet on windows of long videos: seconds, steps a second, bytes read, memory.

The videos are made up (`pretraining_windows.py`) and read from feature stores. Each way trains in a process of its own:

  float32, bfloat16   the arithmetic
  +checkpointing      the audio network's layers are computed a second time going back instead of kept
  frozen              stored BatchNorm statistics in place of the batch's

"reading" is the time that a step's batch takes to read; it is read while the step before it runs.

example: python benchmarks/pretraining_steps.py --videos 4 --per-video 8 --steps 3
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from pretraining_windows import make_videos

from avpipe.retrieval import models
from avpipe.retrieval.settings import Run, Windows
from avpipe.retrieval.store_corpus import STREAMS, StoreCorpus
from avpipe.retrieval.trainer import RetrievalTrainer, steps_per_epoch
from avpipe.retrieval.window_source import WindowSource
from avpipe.training.distributed import ProcessGroup
from avpipe.training.loop import LoopSettings, train_stepwise
from avpipe.training.runtime import Interrupt

WAYS = {
    "float32": {},
    "float32+checkpointing": {"gradient_checkpointing": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16+checkpointing": {"precision": "bfloat16", "gradient_checkpointing": True},
    "float32 frozen": {"batch_norm": "frozen"},
}


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4, help="in a batch (published 128; default: %(default)s)")
    parser.add_argument("--per-video", type=int, default=8, help="windows (published 32; default: %(default)s)")
    parser.add_argument("--audio-frames", type=int, default=1000, help="of a window (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of which the first is not counted (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--stores", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the videos and train each way in a new process."""
    chosen = parse_arguments()
    if chosen.stores is not None:
        print(json.dumps(train(chosen, chosen.ways[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_videos(Path(folder), chosen.videos * chosen.steps, 390)
        for way in chosen.ways:
            options = [sys.executable, __file__, "--stores", f"{folder}/stores", *sys.argv[1:], "--ways", way]
            done = subprocess.run(options, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            n_windows = chosen.videos * chosen.per_video
            print(
                f"{way:24} {found['step']:6.2f} s a step of {n_windows} windows ({1 / found['step']:.3f} steps/s), "
                f"reading {found['reading']:.2f} s and {found['bytes'] / 1e6:.1f} MB, "
                f"{found['peak'] / 2**30:.2f} GiB above {found['before'] / 2**30:.2f}, loss {found['loss']:.4f}",
                flush=True,
            )


def train(chosen: argparse.Namespace, way: str) -> dict[str, float]:
    """Some steps; seconds of those after the first."""
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    windows = Windows(per_video=chosen.per_video, audio_frames=chosen.audio_frames).resolved("corrected")
    corpus = StoreCorpus({kind: sorted(chosen.stores.glob(f"{kind}_*.h5")) for kind in STREAMS})
    source = WindowSource(corpus, windows, threads=1)
    run = Run(epochs=1, batch_size=chosen.videos, learning_rate=1e-3, **({"batch_norm": "batch"} | WAYS[way]))
    torch.manual_seed(0)
    model = models.build("avlnet", embedding_dim=4096)
    began = time.perf_counter()
    source.batch(seed=1, epoch=0, items=range(chosen.videos))
    reading, n_bytes = time.perf_counter() - began, source.bytes_read
    before = peak_bytes(device)
    n_steps = steps_per_epoch(source.n_items, run.batch_size)
    loop = LoopSettings(1, run.epochs, n_steps, {}, chosen.stores / "unused", 1e9)
    trainer = RetrievalTrainer(model, source, run.resolved("corrected"), loop, ProcessGroup(device=device))
    # Each step waits for the device to read the loss.
    stamps = [time.perf_counter() for _ in train_stepwise(trainer, Interrupt())]
    return {
        "step": (stamps[-1] - stamps[0]) / (len(stamps) - 1),
        "reading": reading,
        "bytes": n_bytes,
        "before": before,
        "peak": peak_bytes(device) - before,
        "loss": trainer.history[-1]["loss"],
    }


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held so far: on a GPU the device's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
