"""Generalised zero-shot classification with made-up features of the unseen classes (docs/methods.md, f-VAEGAN-D2).

A generator makes feature vectors of the unseen classes up; with the real vectors of the seen classes they train a
linear softmax classifier over all classes, and alone one over the unseen classes. What the published program does,
and what is kept: every vector, real, made up or scored, is divided by its length; a batch has as many rows as a class
has made-up ones; rows are shuffled once, before the first epoch; the rest of an epoch makes a smaller last batch,
which counts as a full one; weights start at N(0, 0.02), biases at 0; Adam with betas (0.5, 0.999), no weight decay
and a constant learning rate; clips are scored by the largest logit, without calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl.evaluation import CalibratedStacking, calibrated_stacking
from avpipe.gzsl.models import layers
from avpipe.gzsl.models.base import adam
from avpipe.gzsl.models.settings import FVAEGANSettings
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

ADAM_BETAS = (0.5, 0.999)
INITIAL_DEVIATION = 0.02  # of the weights of classifiers and critic
_CHUNK = 4096  # clips gathered at once: bounds memory, changes nothing

Generate = Callable[[Tensor, Tensor], Tensor]
"""Noise [n, latent] and class vectors [n, d_w] to feature vectors [n, d]."""


def unit_features(audio: Tensor, video: Tensor) -> Tensor:
    """Audio [N, d_a] and video [N, d_v] side by side, each row divided by its length: [N, d_a + d_v]."""
    return F.normalize(torch.cat((audio, video), -1), dim=-1)


@torch.no_grad()
def make_up(
    generate: Generate, words: Tensor, *, count: int, latent_size: int, width: int, generator: torch.Generator
) -> Tensor:
    """Made-up feature vectors [U, count, width] of length 1 for U classes.

    Args:
        generate: see `Generate`.
        words: [U, d_w], class vectors.
        count: vectors for each class.
        latent_size: length of the noise, which is standard normal.
        width: d, length of a feature vector.
        generator: of the noise, on the device of `words`.
    """
    made_up = words.new_empty(len(words), count, width)
    for rows, word in zip(made_up, words, strict=True):
        noise = words.new_empty(count, latent_size).normal_(generator=generator)
        rows.copy_(F.normalize(generate(noise, word.expand(count, -1)), dim=-1))
    return made_up


def softmax_epochs(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Iterator[nn.Linear]:
    """Train a linear softmax classifier; yields it, always the same object, after each epoch.

    Args:
        features: [n, d], in the order in which every epoch goes through them.
        labels: int64 [n], 0 to n_classes - 1.
        n_classes: outputs, of which some may have no row.
        epochs: how many to run.
        batch_size: rows in a batch; the last of an epoch may have fewer.
        learning_rate: Adam's.
        generator: of the first weights, on the device of `features`.
    """
    classifier: nn.Linear = nn.utils.skip_init(  # torch's own initialisation would draw from the default generator
        nn.Linear, features.shape[1], n_classes, device=features.device, dtype=features.dtype
    )
    nn.init.normal_(classifier.weight, 0.0, INITIAL_DEVIATION, generator=generator)
    nn.init.zeros_(classifier.bias)
    optimizer = adam(classifier.parameters(), learning_rate, betas=ADAM_BETAS)
    batches = list(zip(features.split(batch_size), labels.split(batch_size), strict=True))
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            with torch.enable_grad():
                F.cross_entropy(layers.linear(x, classifier), y).backward()
            optimizer.step()
        yield classifier


def score(
    train: TrainingSet, data: EvaluationSet, made_up: Tensor, settings: FVAEGANSettings, generator: torch.Generator
) -> CalibratedStacking:
    """Train both classifiers and score `data`.

    Candidates are the classes of `data`. Real vectors are those of its seen classes only: training clips of a class
    that is unseen here, or not listed, are left out. A seen class without training clips stays a candidate that
    nothing is taught about, and counts in the seen accuracy if it has clips to score.

    Args:
        train: real clips; their classes are matched by id.
        data: clips to score.
        made_up: [U, n, d], vectors of length 1 of the unseen classes of `data`, in the order of its columns.
        settings: resolved. With `chooses_on_test` each classifier is that of the epoch which does best on `data`
            (harmonic mean, zero-shot accuracy; the last of equals), otherwise that of the last epoch.
        generator: of the order of the rows and of the first weights, on the device of `data`.

    Returns:
        Accuracies at the one beta 0; zero-shot figures are those of the classifier over the unseen classes.

    Raises:
        AvpipeError: no seen or no unseen class, a seen class that is no training class, no clip to train on or to
            score, or a classifier that diverged.
    """
    rows, columns = _real_rows(train, data)
    unseen = (~data.seen).nonzero()[:, 0]
    if len(made_up) != len(unseen):
        raise AvpipeError(f"Found made-up vectors of {len(made_up)} classes, expected the {len(unseen)} unseen ones.")
    clips = unit_features(data.audio, data.video)
    n_made_up = made_up.shape[0] * made_up.shape[1]

    vectors = chain(_real_vectors(train, rows, columns), _labelled(made_up, unseen))
    everything = _shuffled(vectors, len(rows) + n_made_up, generator)
    all_classes = torch.arange(len(data.seen), device=unseen.device)
    result = _fit(*everything, all_classes, clips, data, settings, generator, figure="best_hm")
    del everything

    made_up_alone = _shuffled(_labelled(made_up, range(len(unseen))), n_made_up, generator)
    zero_shot = _fit(*made_up_alone, unseen, clips, data, settings, generator, figure="best_zsl")
    return replace(result, zsl=zero_shot.zsl, per_class_zsl=zero_shot.per_class_zsl)


def _fit(
    features: Tensor,
    labels: Tensor,
    candidates: Tensor,
    clips: Tensor,
    data: EvaluationSet,
    settings: FVAEGANSettings,
    generator: torch.Generator,
    *,
    figure: str,
) -> CalibratedStacking:
    """Train a classifier over the columns `candidates` of `data`; its result on `clips`, as `score` chooses it."""
    classifiers = softmax_epochs(
        features, labels, len(candidates),
        epochs=settings.classifier_epochs, batch_size=settings.n_synthetic,
        learning_rate=settings.classifier_learning_rate, generator=generator,
    )  # fmt: skip
    if settings.chooses_on_test:
        results = [_scored(classifier, candidates, clips, data) for classifier in classifiers]
        return max(reversed(results), key=lambda result: float(result[figure]))  # the first of equals, from the end
    *_, last = classifiers
    return _scored(last, candidates, clips, data)


@torch.no_grad()
def _scored(classifier: nn.Linear, candidates: Tensor, clips: Tensor, data: EvaluationSet) -> CalibratedStacking:
    """Accuracies on `clips`; if only unseen classes are candidates, the zero-shot ones alone have a meaning."""
    distances = clips.new_zeros(len(clips), len(data.seen))
    distances[:, candidates] = -layers.linear(clips, classifier)
    return calibrated_stacking(distances, data.labels, data.seen, [0.0])


def _real_rows(train: TrainingSet, data: EvaluationSet) -> tuple[Tensor, Tensor]:
    """Rows of `train` whose class is seen in `data`, and the columns of their classes in `data`."""
    seen = data.seen.cpu().numpy()
    if seen.all() or not seen.any():
        raise AvpipeError(
            f"Made-up vectors need seen and unseen classes; {int(seen.sum())} of {len(seen)} classes are seen."
        )
    untrained = np.setdiff1d(data.class_ids[seen], train.class_ids)
    if len(untrained):
        raise AvpipeError(
            f"{len(untrained)} of {int(seen.sum())} seen classes are none of the {len(train.class_ids)} training "
            f"classes (ids {', '.join(map(str, untrained[:8]))}). Score the clips with the training set of their stage."
        )
    column_of = np.full(len(train.class_ids), -1)
    _, of_train, of_data = np.intersect1d(train.class_ids, data.class_ids, return_indices=True)
    column_of[of_train] = np.where(seen[of_data], of_data, -1)
    columns = torch.as_tensor(column_of, device=train.labels.device)[train.labels]
    rows = (columns >= 0).nonzero()[:, 0]
    if not len(rows):
        raise AvpipeError(
            f"None of the {len(columns)} training clips belongs to one of the {int(seen.sum())} seen classes. "
            "Check which clips of the split have features."
        )
    return rows, columns[rows]


def _real_vectors(train: TrainingSet, rows: Tensor, columns: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Vectors and labels of the clips `rows`, a chunk at a time."""
    for some, labels in zip(rows.split(_CHUNK), columns.split(_CHUNK), strict=True):
        yield unit_features(train.audio[some], train.video[some]), labels


def _labelled(made_up: Tensor, labels: Iterable[Tensor | int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Vectors and labels, a class at a time."""
    for vectors, label in zip(made_up, labels, strict=True):
        yield vectors, torch.full((len(vectors),), int(label), device=vectors.device)


def _shuffled(parts: Iterable[tuple[Tensor, Tensor]], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vectors [count, d] and labels [count] of all parts in one random order; only one copy of them is ever held."""
    places = torch.randperm(count, generator=generator, device=generator.device)
    features, labels = places.new_empty(0), places.new_empty(count)
    start = 0
    for vectors, their_labels in parts:
        if not start:
            features = vectors.new_empty(count, vectors.shape[1])
        at = places[start : start + len(vectors)]
        features.index_copy_(0, at, vectors)
        labels.index_copy_(0, at, their_labels)
        start += len(vectors)
    return features, labels
