"""AVCA's training beside a plain implementation of the published procedure, at UCF-GZSL's sizes.

Parts:
  step     training step and evaluation alone, on random features, without data loading
  metric   the metric given the embeddings, CPU time on one thread, both ways checked to give the same
  epoch    a whole epoch: avpipe's loop against the published procedure with its data loading and monitored loss
  startup  from a tree on disk to tensors, and memory beside the features
  seeds    several seeds: in one process on a CPU, side by side on a GPU where there is one

The last three need the published split files: a folder with UCF/class-split and
w2v_features/word_embeddings_ucf_normed.npy. Features are generated (benchmarks/made_tree.py) in a temporary folder.

Rounds of the two implementations alternate and the fastest of each counts, so that other load on the machine does
not decide.

example: python benchmarks/avca.py path/to/gzsl
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch
from avca_epoch import compare_epoch
from avca_metric import SIZES, compare_metric
from avca_seeds import report_seeds_on_cpu, report_seeds_on_gpu
from avca_startup import report_startup
from avca_step import compare_evaluation, compare_step
from made_tree import KINDS, make_tree

from avpipe.training.runtime import keep_freed_memory

PARTS = ("step", "metric", "epoch", "startup", "seeds")
_NEED_TREE = ("epoch", "startup", "seeds")


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gzsl", type=Path, nargs="?", help="the folder with the published split files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument(
        "--inputs", choices=[*KINDS, "both"], default="both",
        help="main: SeLaVi, 512 audio and 512 video; cls: VGGish 128 and C3D 4096 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="CPU threads torch may use (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="alternations of step and metric (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=8, help="steps of each in a round (default: %(default)s)")
    parser.add_argument("--epoch-rounds", type=int, default=2, help="epochs of each (default: %(default)s)")
    parser.add_argument("--our-batches", type=int, default=500, help="in an epoch of avpipe's (default: %(default)s)")
    parser.add_argument("--plain-batches", type=int, default=60, help="in a plain epoch (default: %(default)s)")
    parser.add_argument(
        "--seed-batches", type=int, default=50, help="in an epoch of the CPU's seeds; a GPU's have four times as many "
        "(default: %(default)s)",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Run the chosen parts."""
    chosen = parse_arguments()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()  # as training does; it helps both
    print(
        f"torch {torch.__version__}, {chosen.threads} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"{os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    parts = [part for part in PARTS if part in chosen.parts]
    if chosen.gzsl is None and set(parts) & set(_NEED_TREE):
        print(f"skipped, since no folder with the split files was given: {', '.join(set(parts) & set(_NEED_TREE))}")
        parts = [part for part in parts if part not in _NEED_TREE]
    if "metric" in parts:
        report_metric(chosen)
    with tempfile.TemporaryDirectory() as folder:
        for features in KINDS if chosen.inputs == "both" else [chosen.inputs]:
            widths = KINDS[features].widths
            print(f"inputs {widths['audio']} / {widths['video']}", flush=True)
            if set(parts) & set(_NEED_TREE):
                make_tree(chosen.gzsl, Path(folder), "UCF", features)
            report(chosen, parts, Path(folder) / "UCF", features)


def report_metric(chosen: argparse.Namespace) -> None:
    """The metric at three sizes."""
    torch.set_num_threads(1)
    print("metric, given the embeddings, CPU time on one thread")
    for name in SIZES:
        compare_metric(name, rounds=4 * chosen.rounds)
    torch.set_num_threads(chosen.threads)


def report(chosen: argparse.Namespace, parts: list[str], tree: Path, features: str) -> None:
    """The parts that depend on the feature set."""
    if "step" in parts:
        compare_step(features, rounds=chosen.rounds, batches=chosen.batches)
        compare_evaluation(features, rounds=2 * chosen.rounds)
    if "startup" in parts:
        report_startup(tree, features, rounds=3)
    if "epoch" in parts:
        compare_epoch(
            tree, features, our_batches=chosen.our_batches, plain_batches=chosen.plain_batches,
            rounds=chosen.epoch_rounds, threads=chosen.threads,
        )  # fmt: skip
    if "seeds" in parts:
        report_seeds_on_cpu(tree, features, epochs=2, batches=chosen.seed_batches, threads=chosen.threads)
        report_seeds_on_gpu(tree, features, batches=4 * chosen.seed_batches)


if __name__ == "__main__":
    main()
