"""A benchmark's clips as tensors that stay on the device: what the training loop and the evaluation read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.gzsl.benchmark import Benchmark, join

log = logging.getLogger(__name__)

_CHECKED_AT_ONCE = 4096  # rows; the check must not need as much memory as the features

STAGE1_TRAINING = ("stage_1_train",)
STAGE2_TRAINING = ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen")
VALIDATION = ("stage_1_val_seen", "stage_1_val_unseen")
TEST = ("stage_2_test_seen", "stage_2_test_unseen")


Batch = Mapping[str, Tensor]
"""One batch of pairs: audio, audio_neg [B, d_a], video, video_neg [B, d_v], text, text_neg [B, d_w]; and for methods
that rank classes labels int64 [B], the positive clips' rows of words [C, d_w], the vectors of all training classes."""


@dataclass(frozen=True)
class ClipSet:
    """Clips of some subsets and all classes that these list, whether they have clips or not.

    Attributes:
        audio: [n, d_a]; video: [n, d_v]; float32.
        labels: int64 [n], rows of `words` and columns of the distances.
        words: [C, d_w], class vectors.
        class_ids: int64 [C], sorted ids of the classes in the benchmark.
    """

    audio: Tensor
    video: Tensor
    labels: Tensor
    words: Tensor
    class_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainingSet(ClipSet):
    """Clips that are trained on."""

    def batch(self, positive: Tensor, negative: Tensor) -> Batch:
        """Gather a batch of pairs from rows [B] of positives and of negatives."""
        batch = {}
        for suffix, rows in (("", positive), ("_neg", negative)):
            batch["audio" + suffix] = self.audio.index_select(0, rows)
            batch["video" + suffix] = self.video.index_select(0, rows)
            batch["labels" + suffix] = self.labels.index_select(0, rows)
            batch["text" + suffix] = self.words.index_select(0, batch["labels" + suffix])
        return batch | {"words": self.words}


@dataclass(frozen=True)
class EvaluationSet(ClipSet):
    """Clips of seen and unseen classes that are scored together; `seen`, bool [C], tells the classes apart."""

    seen: Tensor


Clips = TypeVar("Clips", bound=ClipSet)


def training_set(benchmark: Benchmark, subsets: Sequence[str], device: torch.device) -> TrainingSet:
    """The clips of `subsets`, in that order, on `device`; listed classes without clips are warned about.

    Raises:
        AvpipeError: a listed class has no class vector, or a feature is not finite.
    """
    return TrainingSet(**vars(_gather(benchmark, subsets, device)))


def with_words(data: Clips, words: npt.NDArray[np.float32]) -> Clips:
    """The same clips with other class vectors [n_classes of the benchmark, d_w]; the features are shared."""
    rows = torch.as_tensor(words[data.class_ids], device=data.words.device)
    return replace(data, words=rows)


def evaluation_set(benchmark: Benchmark, seen: str, unseen: str, device: torch.device) -> EvaluationSet:
    """The clips of a seen and an unseen subset on `device`; all their listed classes are candidates.

    Raises:
        AvpipeError: a class is listed as seen and as unseen, has no class vector, or a feature is not finite.
    """
    both = np.intersect1d(benchmark.classes[seen], benchmark.classes[unseen])
    if len(both):
        raise AvpipeError(
            f"{len(both)} classes are listed in {seen} and in {unseen} ({_named(benchmark, both)}); a class is "
            "either seen or unseen. Mend the split's class lists."
        )
    gathered = _gather(benchmark, (seen, unseen), device)
    is_seen = torch.as_tensor(np.isin(gathered.class_ids, benchmark.classes[seen]), device=device)
    return EvaluationSet(**vars(gathered), seen=is_seen)


def _gather(benchmark: Benchmark, names: Sequence[str], device: torch.device) -> ClipSet:
    class_ids = np.unique(np.concatenate([benchmark.classes[name] for name in names]))
    ids = np.concatenate([benchmark.subsets[name].class_ids for name in names])
    audio = join([benchmark.subsets[name].audio for name in names])
    video = join([benchmark.subsets[name].video for name in names])
    words = benchmark.words[class_ids]
    _check(benchmark, names, class_ids, ids, words, {"audio": audio, "video": video})
    labels = torch.as_tensor(np.searchsorted(class_ids, ids), device=device)
    on_audio, on_video, on_words = (
        torch.as_tensor(np.ascontiguousarray(each, np.float32), device=device) for each in (audio, video, words)
    )
    return ClipSet(on_audio, on_video, labels, on_words, class_ids)


def _check(
    benchmark: Benchmark,
    names: Sequence[str],
    class_ids: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    words: npt.NDArray[np.float32],
    features: dict[str, npt.NDArray[np.float32]],
) -> None:
    where = " + ".join(names)
    without_vector = class_ids[~np.isfinite(words).all(axis=1)]
    if len(without_vector):
        raise AvpipeError(
            f"{len(without_vector)} of {len(class_ids)} classes of {where} have no class vector: "
            f"{_named(benchmark, without_vector)}. Add their names to the word vectors' class-name table."
        )
    unlisted = np.setdiff1d(ids, class_ids)
    if len(unlisted):
        raise AvpipeError(f"Clips of {where} have classes that are not listed: {_named(benchmark, unlisted)}.")
    for kind, values in features.items():
        bad = sum(
            int((~np.isfinite(values[row : row + _CHECKED_AT_ONCE]).all(axis=1)).sum())
            for row in range(0, len(values), _CHECKED_AT_ONCE)
        )
        if bad:
            raise AvpipeError(f"{bad} of {len(values)} {kind} vectors of {where} are not finite. Extract them again.")
    without_clips = np.setdiff1d(class_ids, ids)
    if len(without_clips):
        log.warning(
            "%d of %d classes of %s have no clip with features: %s",
            len(without_clips), len(class_ids), where, _named(benchmark, without_clips),
        )  # fmt: skip


def _named(benchmark: Benchmark, class_ids: npt.NDArray[np.int64]) -> str:
    shown = ", ".join(benchmark.class_names[i] for i in class_ids[:8])
    return shown + (f" and {len(class_ids) - 8} more" if len(class_ids) > 8 else "")
