"""From a tree on disk to tensors ready to train: seconds, and memory beside the features themselves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import torch
from made_tree import KINDS
from new_process import in_new_process

from avpipe.gzsl import tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.tree_files import MODALITIES
from avpipe.gzsl.tree_reading import read_tree
from avpipe.training import checkpoint


class StartUp(NamedTuple):
    """Seconds of each step, and memory in MB."""

    interpreter: float
    reading: float
    tensors: float
    digest: float
    features_mb: float
    peak_mb: float | None
    is_one_copy: bool


def report_startup(tree: Path, features: str, *, rounds: int) -> None:
    """Print start-up seconds and memory of a process of its own; the fastest of some rounds counts.

    The files were written just before, so they come from the page cache: what is measured is the work.
    """
    found = [in_new_process(_start, time.time(), tree, features) for _ in range(rounds)]
    best = min(found, key=lambda each: each.reading + each.tensors + each.digest)
    print(
        f"  start-up        {best.reading + best.tensors + best.digest:7.2f} s: reading {best.reading:.2f}, tensors of "
        f"both stages, validation and test {best.tensors:.2f}, digest for resuming {best.digest:.2f};"
    )
    print(f"    before that, interpreter and imports {best.interpreter:.2f} s")
    above = "not known on this system" if best.peak_mb is None else f"{best.peak_mb - best.features_mb:.1f} MB"
    print(f"  features        {best.features_mb:7.1f} MB; peak memory above them {above}")
    print(f"    all sets are views of one copy: {'yes' if best.is_one_copy else 'NO'}")


def _start(called_at: float, tree: Path, features: str) -> StartUp:
    interpreter = time.time() - called_at
    before = _reset_peak_mb()
    began = time.perf_counter()
    benchmark = read_tree(tree, KINDS[features].name, KINDS[features].split)
    was_read = time.perf_counter()
    cpu = torch.device("cpu")
    sets = [
        tensors.training_set(benchmark, tensors.STAGE1_TRAINING, cpu),
        tensors.training_set(benchmark, tensors.STAGE2_TRAINING, cpu),
        tensors.evaluation_set(benchmark, *tensors.VALIDATION, cpu),
        tensors.evaluation_set(benchmark, *tensors.TEST, cpu),
    ]
    were_made = time.perf_counter()
    checkpoint.digest_tensors({f"{modality}{i}": getattr(sets[i], modality) for i in (0, 2) for modality in MODALITIES})
    ended = time.perf_counter()
    peak = _status_mb("VmHWM")
    return StartUp(
        interpreter,
        was_read - began,
        were_made - was_read,
        ended - were_made,
        _features_mb(benchmark),
        None if peak is None or before is None else peak - before,
        all(_is_view(getattr(each, modality), benchmark, modality) for each in sets for modality in MODALITIES),
    )


def _features_mb(benchmark: Benchmark) -> float:
    stored = [subset for name, subset in benchmark.subsets.items() if name != "stage_2_train"]
    return sum(subset.audio.nbytes + subset.video.nbytes for subset in stored) / 1e6


def _is_view(values: torch.Tensor, benchmark: Benchmark, modality: str) -> bool:
    """Whether a set's features lie in the memory of the subsets that were read."""
    lie = [getattr(subset, modality) for name, subset in benchmark.subsets.items() if name != "stage_2_train"]
    first = min(array.ctypes.data for array in lie)
    last = max(array.ctypes.data + array.nbytes for array in lie)
    size = sum(array.nbytes for array in lie)
    return last - first == size and first <= values.data_ptr() and values.data_ptr() + values.nbytes <= last


def _reset_peak_mb() -> float | None:
    """Let the peak begin anew and return the memory in use; getrusage's peak would be the parent's or the imports'."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float | None:
    """A figure of the process's memory in MB; None where the system has no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) * 1.024e-3 for line in lines if line.startswith(f"{name}:"))
