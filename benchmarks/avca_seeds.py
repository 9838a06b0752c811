"""Several seeds: side by side on a GPU, in one process on a CPU."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from made_tree import KINDS
from new_process import in_new_process
from torch.utils.flop_counter import FlopCounterMode
from ucf_settings import avca_on_ucf

from avpipe.gzsl import models, side_by_side, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.sampler import PairSampler
from avpipe.gzsl.stage_files import stage_folder
from avpipe.gzsl.training import train_seeds
from avpipe.gzsl.tree_reading import read_tree
from avpipe.training.seed_files import EPOCHS

_ON_CPU = 4
_ON_GPU = {True: (1, 2, 4, 8), False: (1, 4)}  # by whether steps are recorded; call by call they are slow
_EPOCHS_ON_GPU = 3  # steps are recorded in the first
_MATRIX = 8192  # rows and columns of the product that stands for the GPU's peak


def report_seeds_on_cpu(tree: Path, features: str, *, epochs: int, batches: int, threads: int) -> None:
    """Print the time of four seeds in one process and of one seed in a process, both stages of a short run."""
    seconds = {}
    for n_seeds in (1, _ON_CPU):
        began = time.perf_counter()
        in_new_process(_train, tree, features, n_seeds, epochs, batches, "cpu", threads)
        seconds[n_seeds] = time.perf_counter() - began
    one_by_one = _ON_CPU * seconds[1]
    print(
        f"  {_ON_CPU} seeds on a CPU   one process {seconds[_ON_CPU]:.1f} s, as many processes one after the other "
        f"{one_by_one:.1f} s: {one_by_one - seconds[_ON_CPU]:.1f} s of start-up saved"
    )
    print(f"    ({epochs} x {batches} batches, then stage 2; a process with one seed takes {seconds[1]:.1f} s)")


def report_seeds_on_gpu(tree: Path, features: str, *, batches: int) -> None:
    """Print the time of an epoch with several seeds side by side, recorded and call by call, or that it was skipped.

    The share of the peak counts the matrix products of the steps against a large float32 product on the same GPU,
    both as torch is set here.
    """
    if not torch.cuda.is_available():
        print("  seeds on a GPU  skipped: torch finds no CUDA device")
        return
    benchmark = read_tree(tree, KINDS[features].name, KINDS[features].split)
    operations = _step_operations(benchmark, features, batches, torch.device("cuda"))
    peak = _peak_operations_per_second()
    print(f"  {torch.cuda.get_device_name()}: {peak / 1e12:.1f} TFLOP/s in a product of {_MATRIX} x {_MATRIX} float32;")
    print(f"    a step has {operations / 1e9:.2f} GFLOP in matrix products")
    for is_captured, numbers in _ON_GPU.items():
        alone = None
        for n_seeds in numbers:
            with _steps(is_captured):
                epoch = _epoch_on_gpu(tree, features, n_seeds, batches)
            alone = alone or epoch
            share = n_seeds * batches * operations / epoch / peak
            print(
                f"    {'recorded' if is_captured else 'call by call':12} {n_seeds} seeds: {epoch:6.2f} s an epoch of "
                f"{batches}, {1e3 * epoch / batches:.2f} ms a batch of all, {epoch / alone:.2f} times one seed, "
                f"{100 * share:.1f} % of the peak"
            )


@contextmanager
def _steps(is_captured: bool) -> Iterator[None]:
    """Recorded steps, or the loop's own steps in their place."""
    if is_captured:
        yield
        return
    with mock.patch.object(side_by_side, "RecordedSteps", lambda run_step, *_: run_step):
        yield


def _train(tree: Path, features: str, n_seeds: int, epochs: int, batches: int, device: str, threads: int) -> float:
    """Train and return the median seconds of a stage-1 epoch after the first, which does more than the others."""
    benchmark = read_tree(tree, KINDS[features].name, KINDS[features].split)
    hyperparameters, training, _ = avca_on_ucf(features)
    short = training.model_copy(update={"epochs": epochs, "batches_per_epoch": batches})
    with tempfile.TemporaryDirectory() as folder:
        seeds, target = range(n_seeds), Path(folder)
        train_seeds(
            benchmark, "avca", hyperparameters, short, seeds=seeds, device=device, folder=target, threads=threads
        )
        rows = [_epoch_seconds(stage_folder(target, seed, 1) / EPOCHS) for seed in seeds]
    return statistics.median(seconds for row in rows for seconds in row[1:] or row)


def _epoch_on_gpu(tree: Path, features: str, n_seeds: int, batches: int) -> float:
    """Seconds of an epoch of all seeds: they take turns batch by batch, so that each one's epoch lasts as long."""
    return _train(tree, features, n_seeds, _EPOCHS_ON_GPU, batches, "cuda", torch.get_num_threads())


def _epoch_seconds(path: Path) -> list[float]:
    with path.open(newline="") as stream:
        return [float(row["seconds"]) for row in csv.DictReader(stream)]


def _step_operations(benchmark: Benchmark, features: str, batches: int, device: torch.device) -> float:
    """Floating-point operations in the matrix products of a step, the mean over an epoch.

    On a CPU there is nothing to count: products go through an operator of oneDNN that torch's counter does not know.
    """
    hyperparameters, training, _ = avca_on_ucf(features)
    train = tensors.training_set(benchmark, tensors.STAGE1_TRAINING, device)
    model = models.make("avca", hyperparameters, train).to(device).train()
    optimizers = model.optimizers(training)
    positive, negative = PairSampler(train.labels).draw(1, training.batch_size, torch.Generator(device))
    batch = train.batch(positive[0], negative[0])
    counts = []
    for track in (True, False):
        with FlopCounterMode(display=False) as counter:
            model.training_step(batch, optimizers, index=0, track_statistics=track)
        counts.append(counter.get_total_flops())
    tracked = min(model.statistics_horizon() or batches, batches) / batches
    return tracked * counts[0] + (1 - tracked) * counts[1]


def _peak_operations_per_second() -> float:
    matrix = torch.randn(_MATRIX, _MATRIX, device="cuda")
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        matrix @ matrix
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * _MATRIX**3 / min(seconds)
