"""The metric alone, given the embeddings: CPU time of all calibration constants at once against one after the other.

The plain metric is without what the published one spends on reading class files again for every constant. Each runs
in a process of its own, ours with the setting of the allocator that training makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from new_process import in_new_process
from plain_avca import plain_metric

from avpipe.gzsl.evaluation import beta_grid, calibrated_stacking, exact_calibration
from avpipe.gzsl.tensors import EvaluationSet
from avpipe.training.runtime import keep_freed_memory

SIZES = {
    "UCF, test clips": (1822, 42, 9, 101),
    "ActivityNet, test clips": (5814, 150, 50, 200),
    "VGGSound, test clips": (12482, 207, 69, 309),
}
"""Clips, seen classes, unseen classes, classes of the source dataset (docs/methods.md, Split counts)."""

_DIMENSIONS = 64  # of AVCA's embeddings


def compare_metric(name: str, *, rounds: int) -> None:
    """Print CPU times on one thread for one of `SIZES`, the fastest of some rounds; stop if the two disagree."""
    plain_s, plain = in_new_process(_measure, name, rounds, "plain")
    our_s, ours = in_new_process(_measure, name, rounds, "grid")
    exact_s, exact = in_new_process(_measure, name, rounds, "exact")
    # Both divide the same counts in float64; the order of the means may differ.
    apart = max(abs(ours[key] - plain[key]) for key in ours)
    if apart > 1e-12:
        raise SystemExit(f"{name}: the two metrics differ by {apart:g}: {ours} and {plain}")
    print(
        f"  {name:24} plain {1e3 * plain_s:7.1f} ms, avpipe {1e3 * our_s:6.2f} ms, ratio {plain_s / our_s:5.1f}x; "
        f"both find HM {100 * ours['hm']:.2f} % at beta {ours['beta']:.1f}; "
        f"all betas {1e3 * exact_s:6.2f} ms, HM {100 * exact['hm']:.2f} % at {exact['beta']:.3f}"
    )


def _measure(name: str, rounds: int, metric: str) -> tuple[float, dict[str, float]]:
    """CPU seconds of one call and what it finds."""
    torch.set_num_threads(1)
    clips, n_seen, n_unseen, n_source = SIZES[name]
    embeddings, classes, data = _made(clips, n_seen, n_unseen)

    def figures() -> dict[str, float]:
        if metric == "plain":
            return plain_metric(embeddings, classes, data, n_classes=n_source)
        distances = torch.cdist(embeddings, classes)
        if metric == "exact":
            return exact_calibration(distances, data.labels, data.seen).figures()
        return calibrated_stacking(distances, data.labels, data.seen, beta_grid()).figures()

    if metric != "plain":
        keep_freed_memory()
    return min(_cpu_seconds(figures) for _ in range(rounds)), figures()


def _cpu_seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def _made(clips: int, n_seen: int, n_unseen: int) -> tuple[torch.Tensor, torch.Tensor, EvaluationSet]:
    """Embeddings around their class's, those of unseen classes nearer to a seen one: so the constant matters."""
    generator = torch.Generator().manual_seed(0)
    n_classes = n_seen + n_unseen
    classes = torch.randn(n_classes, _DIMENSIONS, generator=generator)
    seen = torch.randperm(n_classes, generator=generator) < n_seen
    labels = torch.arange(clips) % n_classes
    misled = seen.nonzero()[torch.randint(n_seen, (clips,), generator=generator), 0]
    weight = torch.where(seen[labels], 0.0, 0.55)[:, None]
    centres = (1 - weight) * classes[labels] + weight * classes[misled]
    embeddings = centres + torch.randn(clips, _DIMENSIONS, generator=generator)
    nothing = torch.empty(clips, 0)
    return embeddings, classes, EvaluationSet(nothing, nothing, labels, classes, np.arange(n_classes), seen)
