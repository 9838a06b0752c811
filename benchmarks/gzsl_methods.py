"""Every zero-shot method through the workflow, from folders in the published layout: times per stage and results.

The class splits and class vectors are the published ones; the features are generated (benchmarks/made_tree.py), so
accuracies say that training works, not how good a method is. Every figure is read from what the workflow wrote:
epochs.csv, evaluation.json, and Snakemake's own benchmark tables.

With two numbers of batches the workflow runs twice, and the two lengths of an epoch tell a batch's time from that of
the evaluation after each epoch; with one, the evaluation counts as part of the batches. The published length is 50
epochs of 500 batches in each stage; stage 2 ends at the epoch that stage 1 chose, so "both" is the most it can be.
f-VAEGAN-D2 in its published form has one batch an epoch, whatever is asked for; its evaluation trains a classifier
and takes minutes an epoch on ActivityNet with cls features.

example: python benchmarks/gzsl_methods.py path/to/gzsl --datasets UCF --epochs 2 --batches 20 100
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gzsl_runs import Choice, Experiment, Measured, collect, make_project, run_workflow
from made_tree import KINDS, WORDS, make_tree

from avpipe.registry import METHODS

_EPOCHS, _BATCHES = 50, 500  # of a published stage
_COLUMNS = (
    "dataset", "features", "method", "form", "stage 1 s", "stage 2 s", "ms a batch", "evaluation s an epoch",
    "test job s", "best epoch", "HM %", "ZSL %", "chance ZSL %", "training job MB", "50 x 500, stage 1 min",
    "both at most min",
)  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gzsl", type=Path, help="the folder with the published split files and class vectors")
    parser.add_argument("--datasets", nargs="+", choices=list(WORDS), default=list(WORDS), help="default: all")
    parser.add_argument("--features", nargs="+", choices=list(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="default: all")
    parser.add_argument(
        "--forms", nargs="+", choices=["corrected", "published"], default=["corrected"], help="default: %(default)s"
    )
    parser.add_argument("--epochs", type=int, default=2, help="of each stage (default: %(default)s)")
    parser.add_argument(
        "--batches",
        type=int,
        nargs="+",
        default=[20, 100],
        help="in an epoch, one number or two (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="jobs side by side; above 1 they slow each other down")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a training job (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to keep the trees and runs; default: a temporary folder")
    chosen = parser.parse_args()
    if len(chosen.batches) > 2 or len(set(chosen.batches)) < len(chosen.batches):
        parser.error(f"--batches takes one number or two different ones, found {chosen.batches}")
    if chosen.folder is not None and chosen.folder.exists() and any(chosen.folder.iterdir()):
        parser.error(f"{chosen.folder} is not empty; give a new folder")
    if chosen.threads > chosen.cores:
        parser.error(f"--threads {chosen.threads} needs --cores {chosen.threads} or more, found {chosen.cores}")
    return chosen


def main() -> None:
    """Make trees, run, report."""
    chosen = parse_arguments()
    if chosen.folder is not None:
        report(chosen, chosen.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(chosen, Path(folder))


def report(chosen: argparse.Namespace, folder: Path) -> None:
    """Run everything below `folder` and print the tables."""
    for dataset in chosen.datasets:
        for features in chosen.features:
            began = time.perf_counter()
            make_tree(chosen.gzsl, folder / "trees", dataset, features)
            print(f"{dataset}, {features}: features generated in {time.perf_counter() - began:.1f} s", flush=True)
    runs: list[dict[Experiment, Measured]] = []
    for batches in sorted(chosen.batches):
        choice = Choice(
            tuple(chosen.datasets), tuple(chosen.features), tuple(chosen.methods), tuple(chosen.forms),
            chosen.epochs, batches, chosen.seeds,
        )  # fmt: skip
        project = make_project(folder / f"run_{batches}", folder / "trees", choice)
        seconds = run_workflow(project, choice, cores=chosen.cores, threads=chosen.threads)
        measured, peak = collect(project, choice)
        runs.append(measured)
        print(
            f"{chosen.epochs} epochs of {batches} batches, {chosen.seeds} seeds, {len(measured)} experiments: "
            f"{seconds:.0f} s in all on {chosen.cores} cores, largest job {peak:.0f} MB",
            flush=True,
        )
    print("Features are GENERATED: accuracies say nothing about a method or a benchmark.\n")
    print(f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}")
    for key, longest in runs[-1].items():
        print(f"| {' | '.join([*key, *row(runs[0][key], longest)])} |")


def row(shortest: Measured, longest: Measured) -> list[str]:
    """The cells of an experiment after its names, from its two runs, or from one twice."""
    batch, evaluation = batch_and_evaluation(shortest, longest)
    # A method that sets its own number of batches keeps it at the published length too.
    epoch = (longest.batches if longest.has_own_batches else _BATCHES) * batch + (evaluation or 0.0)
    return [
        f"{longest.stage_seconds[0]:.1f}",
        f"{longest.stage_seconds[1]:.1f}",
        f"{1e3 * batch:.1f}",
        "in the batches" if evaluation is None else f"{evaluation:.2f}",
        f"{longest.test_seconds:.1f}",
        ", ".join(map(str, longest.best_epochs)),
        f"{longest.hm:.2f}",
        f"{longest.zsl:.2f}",
        f"{longest.chance_zsl:.2f}",
        f"{longest.peak_mb:.0f}",
        f"{_EPOCHS * epoch / 60:.1f}",
        f"{2 * _EPOCHS * epoch / 60:.1f}",
    ]


def batch_and_evaluation(shortest: Measured, longest: Measured) -> tuple[float, float | None]:
    """Seconds of a batch and of an epoch's evaluation; None: not told apart, the batch has its part of it."""
    more = longest.batches - shortest.batches
    if more <= 0:
        return longest.epoch_seconds / longest.batches, None
    batch = max(longest.epoch_seconds - shortest.epoch_seconds, 0.0) / more
    return batch, max(longest.epoch_seconds - longest.batches * batch, 0.0)


if __name__ == "__main__":
    main()
