"""A whole epoch: avpipe's loop through a real stage beside a plain one of the published procedure.

Each runs in a process of its own, since avpipe's loop sets the allocator and the published program does not.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import torch
from made_tree import KINDS
from new_process import in_new_process
from plain_avca import WORKERS, EpochSeconds, PlainEpochs
from ucf_settings import avca_on_ucf

from avpipe.gzsl import models, tensors
from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.training import train_stage
from avpipe.gzsl.tree_reading import read_tree
from avpipe.training.seed_files import EPOCHS

_EPOCHS, _BATCHES = 50, 500  # of a published stage
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # or waiting threads spin, against 8 workers and whatever else runs


def compare_epoch(
    tree: Path, features: str, *, our_batches: int, plain_batches: int, rounds: int, threads: int
) -> None:
    """Print seconds of an epoch and of a stage, ours and plain; rounds of the two alternate, the fastest counts.

    Args:
        tree: the dataset's folder.
        features: "main" or "cls".
        our_batches: in an epoch of ours; with fewer than 500 the BatchNorm statistics weigh more than they should.
        plain_batches: in an epoch of the plain procedure, scaled to 500.
        rounds: epochs of each.
        threads: CPU threads of both.
    """
    ours, published = [], []
    for _ in range(rounds):
        epoch = in_new_process(_plain_epoch, tree, features, plain_batches, threads, environment=_PASSIVE)
        published.append(_scaled(epoch, plain_batches))
        seconds = in_new_process(_our_epoch, tree, features, our_batches, threads, environment=_PASSIVE)
        ours.append(seconds * _BATCHES / our_batches)
    _report(min(ours), min(published, key=lambda epoch: epoch.training + epoch.monitoring), our_batches, plain_batches)


def _our_epoch(tree: Path, features: str, batches: int, threads: int) -> float:
    """Seconds of one epoch with its evaluation, as epochs.csv has them."""
    hyperparameters, training, _ = avca_on_ucf(features)
    short = training.model_copy(update={"epochs": 1, "batches_per_epoch": batches})
    benchmark = read_tree(tree, KINDS[features].name, KINDS[features].split)
    with tempfile.TemporaryDirectory() as folder:
        train_stage(
            benchmark, "avca", hyperparameters, short, seed=0, device="cpu", folder=Path(folder), threads=threads
        )
        with (Path(folder) / EPOCHS).open(newline="") as stream:
            return float(next(csv.DictReader(stream))["seconds"])


def _plain_epoch(tree: Path, features: str, batches: int, threads: int) -> EpochSeconds:
    torch.set_num_threads(threads)
    hyperparameters, training, _ = avca_on_ucf(features)
    benchmark, cpu = read_tree(tree, KINDS[features].name, KINDS[features].split), torch.device("cpu")
    train = tensors.training_set(benchmark, tensors.STAGE1_TRAINING, cpu)
    validation = tensors.evaluation_set(benchmark, *tensors.VALIDATION, cpu)
    torch.manual_seed(0)
    model = models.make("avca", hyperparameters, train)
    assert isinstance(model, AVCA)
    return PlainEpochs(
        model, train, validation, batches=batches, batch_size=training.batch_size, n_classes=len(benchmark.class_names)
    ).run()


def _scaled(epoch: EpochSeconds, batches: int) -> EpochSeconds:
    """An epoch of the published length; the workers start and the metric is computed once, however long it is."""
    factor = _BATCHES / batches
    return EpochSeconds(epoch.starting, factor * epoch.training, factor * epoch.monitoring, epoch.evaluation)


def _report(ours: float, plain: EpochSeconds, our_batches: int, plain_batches: int) -> None:
    without = plain.starting / 2 + plain.training + plain.evaluation
    whole = plain.starting + plain.training + plain.monitoring + plain.evaluation
    ms = 1e3 / _BATCHES
    print(
        f"  plain epoch     {whole:7.1f} s, from {plain_batches} batches: training {ms * plain.training:.1f} ms a batch"
    )
    print(f"    monitored loss {ms * plain.monitoring:.1f} ms a batch, evaluation {1e3 * plain.evaluation:.0f} ms,")
    print(f"    starting {WORKERS} workers twice {plain.starting:.1f} s")
    print(
        f"  avpipe epoch    {ours:7.1f} s, from {our_batches} batches: {ms * ours:.1f} ms a batch, evaluation included"
    )
    print(f"  ratio           {whole / ours:7.2f}x, without the monitored loss {without / ours:.2f}x")
    stages = [_EPOCHS * seconds / 60 for seconds in (whole, without, ours)]
    print(
        "  a stage of 50 x 500: plain {:.0f} min, without the monitored loss {:.0f} min, avpipe {:.1f} min".format(
            *stages
        )
    )
