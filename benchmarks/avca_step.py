"""AVCA's training step and evaluation beside plain ones, on random features of UCF-GZSL's sizes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from made_tree import KINDS
from plain_avca import PlainAVCA, plain_adam, plain_metric, plain_step
from ucf_settings import avca_on_ucf

from avpipe.gzsl import models
from avpipe.gzsl.evaluation import beta_grid
from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.models.base import evaluate
from avpipe.gzsl.models.layers import draws_from
from avpipe.gzsl.sampler import PairSampler
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

_CLASSES_OF_SOURCE = 101  # of UCF-101, most of them not in the split


def compare_step(features: str, *, rounds: int, batches: int) -> None:
    """Print the training step's time, ours and plain, without data loading; rounds alternate, the fastest counts."""
    torch.manual_seed(0)
    hyperparameters, training, _ = avca_on_ucf(features)
    train = _training_set(features)
    sampler, pairs, dropout = PairSampler(train.labels), torch.Generator(), torch.Generator()
    ours, shared = (models.make("avca", hyperparameters, train).train() for _ in range(2))
    assert isinstance(shared, AVCA)
    optimizers, plain, adam = ours.optimizers(training), PlainAVCA(shared), plain_adam(shared)

    def our_step(track: bool) -> None:
        positive, negative = sampler.draw(1, training.batch_size, pairs)
        with draws_from(dropout):
            batch = train.batch(positive[0], negative[0])
            ours.training_step(batch, optimizers, index=0, track_statistics=track)

    def step() -> None:
        positive, negative = sampler.draw(1, training.batch_size, pairs)
        plain_step(plain, adam, dict(train.batch(positive[0], negative[0])))

    times: dict[str, list[float]] = {"plain": [], "tracked": [], "untracked": []}
    for _ in range(rounds):
        times["plain"] += [timed(step) for _ in range(batches)]
        for _ in range(batches):
            times["tracked"].append(timed(lambda: our_step(True)))
            times["untracked"].append(timed(lambda: our_step(False)))
    plain_s, tracked, untracked = (min(times[name]) for name in ("plain", "tracked", "untracked"))
    horizon = min(ours.statistics_horizon() or 500, 500)
    mean = (horizon * tracked + (500 - horizon) * untracked) / 500
    print(f"  plain step      {1e3 * plain_s:7.1f} ms   {1 / plain_s:6.1f} steps/s")
    print(f"  avpipe step     {1e3 * mean:7.1f} ms   {1 / mean:6.1f} steps/s, mean over an epoch of 500:")
    print(f"    {500 - horizon} steps of {1e3 * untracked:.1f} ms, then")
    print(f"    {horizon} steps of {1e3 * tracked:.1f} ms with BatchNorm's side effects, which the others leave out")
    print(f"  ratio           {plain_s / mean:7.2f}x")


def compare_evaluation(features: str, *, rounds: int) -> None:
    """Print the time of embedding and scoring the validation clips, ours and plain."""
    torch.manual_seed(0)
    data = _validation_set(features)
    model = models.make("avca", avca_on_ucf(features).hyperparameters, data).eval()
    assert isinstance(model, AVCA)
    plain = PlainAVCA(model)

    @torch.no_grad()
    def plain_evaluation() -> None:
        theta_v, theta_w = plain.leftover({"audio": data.audio, "video": data.video, "text": data.words})
        plain_metric(theta_v, theta_w, data, n_classes=_CLASSES_OF_SOURCE)

    pairs = [
        (timed(plain_evaluation), timed(lambda: evaluate(model, data, beta_grid()))) for _ in range(rounds)
    ]  # fmt: skip
    plain_s, ours = (min(column) for column in zip(*pairs, strict=True))
    print(f"  evaluation      plain {1e3 * plain_s:.1f} ms, avpipe {1e3 * ours:.1f} ms, ratio {plain_s / ours:.2f}x")


def timed(function: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _training_set(features: str) -> TrainingSet:
    widths = KINDS[features].widths
    audio, video = (torch.randn(3174, widths[modality]) for modality in ("audio", "video"))
    return TrainingSet(audio, video, torch.arange(3174) % 30, torch.randn(30, 300), np.arange(30))


def _validation_set(features: str) -> EvaluationSet:
    widths = KINDS[features].widths
    audio, video = (torch.randn(1820, widths[modality]) for modality in ("audio", "video"))
    seen = torch.arange(42) < 30
    return EvaluationSet(audio, video, torch.arange(1820) % 42, torch.randn(42, 300), np.arange(42), seen)
