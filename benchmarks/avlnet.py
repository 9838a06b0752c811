"""AVLnet beside a plain implementation of the published procedure: a fine-tuning step, and evaluation.

Clips have lengths as YouCook2's (log-normal, about 20 s on average, 5 to 60 s) and random content; the model is
AVLnet at the published size, the window 5120 frames. The published batch of 256 does not fit into the memory of most
machines in its plain form; --clips gives the batch of both.

Parts:
  step    forward, backward and Adam with frozen BatchNorm statistics; differences of loss and gradients
  eval    embeddings, similarities and metrics of a gallery; differences of the similarities
  memory  peak memory of avpipe's evaluation of a gallery of --gallery clips, of one with twice as many clips, and of
          one with clips twice as long, in new processes

Rounds of the two implementations alternate and the fastest of each counts, so that other load on the machine does
not decide.

example: python benchmarks/avlnet.py --threads 2
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plain_avlnet import PlainAudioNetwork, padded, pool
from torch import Tensor

from avpipe.retrieval import models
from avpipe.retrieval.embedding import Reading, embed_pack
from avpipe.retrieval.metrics import retrieval_metrics
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.packs import ClipSource, Pack, PackInfo
from avpipe.training.runtime import keep_freed_memory

PARTS = ("step", "eval", "memory")
WINDOW = 5120


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--clips", type=int, default=24, help="in a batch and in the gallery (default: %(default)s)")
    parser.add_argument("--gallery", type=int, default=100, help="for memory (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads torch may use (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="alternations of the two (default: %(default)s)")
    parser.add_argument("--measure-memory", type=int, nargs=2, metavar=("CLIPS", "TIMES"), help=argparse.SUPPRESS)
    return parser.parse_args()


def make_clips(n_clips: int, times: int = 1) -> tuple[list[Tensor], Tensor]:
    """Spectrograms [n_i, 40] of some times YouCook2's lengths, and visual vectors [n_clips, 4096]."""
    generator = np.random.default_rng(0)
    # At the quantiles instead of drawn, so that a few clips are spread like many.
    quantiles = torch.distributions.Normal(np.log(17.2), 0.55).icdf((torch.arange(n_clips) + 0.5) / n_clips)
    seconds = quantiles.exp().clip(5, 60).numpy()
    lengths = (100 * times * generator.permutation(seconds)).astype(int)
    torch.manual_seed(0)
    return [torch.rand(length, 40) * -80 for length in lengths], torch.randn(n_clips, 4096)


def make_model() -> RetrievalModel:
    """AVLnet as published, in eval mode; variances that keep activations of the size that trained weights give."""
    torch.manual_seed(1)
    model = models.build("avlnet", embedding_dim=4096).eval()
    with torch.no_grad():
        model.DAVEnet.bn1.running_var.fill_(50.0)
        model.DAVEnet.bn1.running_mean.normal_()
        for block in (each for name, each in model.named_modules() if name.endswith(("bn2", "downsample.1"))):
            block.running_var.fill_(2.0)
    return model


class Pair:
    """The two implementations with the same weights, on the same clips."""

    def __init__(self, clips: list[Tensor], video: Tensor) -> None:
        self.clips, self.video = clips, video
        self.model = make_model()
        self.plain = copy.deepcopy(self.model)
        network = PlainAudioNetwork().eval()
        network.load_state_dict(self.model.DAVEnet.state_dict(), strict=True)
        self.plain.DAVEnet = network

    def ours(self) -> dict[str, Tensor]:
        """Embeddings as avpipe computes them."""
        pooled = pool_ragged(self.model.DAVEnet, self.clips, window=WINDOW)
        return self.model.embed_pooled(pooled, self.video)

    def published(self) -> dict[str, Tensor]:
        """Embeddings as the published code computes them: the whole set at once."""
        audio = padded(self.clips, WINDOW)
        return self.plain.embed_pooled(pool(self.plain.DAVEnet, audio, [len(each) for each in self.clips]), self.video)


def fastest(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each, least over alternating rounds."""
    times = {name: (float("inf"), float("inf")) for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            times[name] = tuple(map(min, times[name], taken))
    return times


def report(what: str, times: dict[str, tuple[float, float]], n_clips: int) -> None:
    """Times and their ratios."""
    for name, (wall, cpu) in times.items():
        print(f"  {name:10} {wall:7.2f} s wall, {cpu:7.2f} s CPU, {cpu / n_clips:.3f} s CPU for a clip")
    (wall, cpu), (plain_wall, plain_cpu) = times["avpipe"], times["published"]
    print(f"  {what}: {plain_wall / wall:.2f} times as fast (wall), {plain_cpu / cpu:.2f} (CPU)", flush=True)


def relative(ours: Tensor, published: Tensor) -> float:
    """Norm of the difference over that of the value."""
    return float((ours - published).norm() / published.norm())


def compare_step(pair: Pair, rounds: int) -> None:
    """A fine-tuning step with frozen statistics."""

    def step(model: RetrievalModel, optimizer: torch.optim.Optimizer, embed: Callable[[], dict[str, Tensor]]) -> None:
        optimizer.zero_grad()
        model.loss(embed()).backward()
        optimizer.step()

    gradients = []
    losses = []
    for model, embed in ((pair.model, pair.ours), (pair.plain, pair.published)):
        loss = model.loss(embed())
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})
        model.zero_grad()
    worst = max((relative(gradients[0][name], each), name) for name, each in gradients[1].items())
    print(
        f"step: loss {losses[0]:.6f}, published {losses[1]:.6f}; "
        f"gradients differ by at most {worst[0]:.1e} ({worst[1]}, relative)"
    )
    ours = torch.optim.Adam(pair.model.parameters(), lr=1e-6, fused=True)  # as training does
    published = torch.optim.Adam(pair.plain.parameters(), lr=1e-6)
    runs = {
        "avpipe": lambda: step(pair.model, ours, pair.ours),
        "published": lambda: step(pair.plain, published, pair.published),
    }
    report("step", fastest(runs, rounds), len(pair.clips))


def compare_evaluation(pair: Pair, rounds: int) -> None:
    """Embedding and scoring a gallery."""
    with torch.no_grad():
        ours, published = pair.model.similarity(pair.ours()), pair.plain.similarity(pair.published())
        print(f"eval: similarities differ by {relative(ours, published):.1e} (relative)")
        runs = {
            "avpipe": lambda: retrieval_metrics(pair.model.similarity(pair.ours())),
            "published": lambda: retrieval_metrics(pair.plain.similarity(pair.published())),
        }
        report("eval", fastest(runs, rounds), len(pair.clips))


def report_memory(n_clips: int, threads: int) -> None:
    """Peak memory of evaluations in processes of their own."""
    for size, times in ((n_clips, 1), (2 * n_clips, 1), (n_clips, 2)):
        command = [sys.executable, __file__, "--measure-memory", str(size), str(times), "--threads", str(threads)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def measure_memory(n_clips: int, times: int) -> None:
    """What an evaluation adds to the memory of this process; the clips are in it already."""
    pack = make_pack(*make_clips(n_clips, times))
    model = make_model()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_kib()
    embed_pack(model, pack, None, Reading(WINDOW, max_words=20, long_clips="cut"))
    added = peak_kib() - before
    print(
        f"memory: evaluation of {n_clips} clips, {len(pack.audio) / 100 / n_clips:.0f} s on average, "
        f"adds {added / 1024:.0f} MiB to {before / 1024:.0f}"
    )


def make_pack(clips: list[Tensor], video: Tensor) -> Pack:
    """A pack of these clips."""
    lengths = np.array([len(each) for each in clips])
    return Pack(
        ids=[str(index) for index in range(len(clips))],
        video_2d=video[:, :2048].numpy(),
        video_3d=video[:, 2048:].numpy(),
        audio=torch.cat(clips).numpy(),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        n_frames=lengths,
        captions=[()] * len(clips),
        eval_captions=[""] * len(clips),
        sources=[ClipSource()] * len(clips),
        info=PackInfo(origin="extracted", expected=len(clips)),
    )


def peak_kib() -> int:
    """Largest resident memory of this process since the peak was cleared (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    """Run the chosen parts."""
    chosen = parse_arguments()
    torch.set_num_threads(chosen.threads)
    if chosen.measure_memory:
        measure_memory(*chosen.measure_memory)
        return
    keep_freed_memory()  # as training does; it helps both
    print(
        f"torch {torch.__version__}, {chosen.threads} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )
    if {"step", "eval"} & set(chosen.parts):
        clips, video = make_clips(chosen.clips)
        pair = Pair(clips, video)
        print(f"{len(clips)} clips, {np.mean([len(each) for each in clips]) / 100:.1f} s on average", flush=True)
        if "step" in chosen.parts:
            compare_step(pair, chosen.rounds)
        if "eval" in chosen.parts:
            compare_evaluation(pair, chosen.rounds)
    if "memory" in chosen.parts:
        report_memory(chosen.gallery, chosen.threads)


if __name__ == "__main__":
    main()
