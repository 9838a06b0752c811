"""What every zero-shot method offers to the training loop and to the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl.evaluation import CalibratedStacking, calibrated_stacking, exact_calibration
from avpipe.gzsl.models.settings import TrainingSettings
from avpipe.gzsl.tensors import Batch, EvaluationSet, TrainingSet

_CHUNK = 4096  # clips embedded at once: bounds memory, changes nothing (eval mode treats rows one by one)

Losses = dict[str, Tensor]
"""Named scalar terms and their sum, "total"."""


def required(batch: Batch, *names: str) -> tuple[Tensor, ...]:
    """The named tensors of a batch.

    Raises:
        AvpipeError: the batch lacks some of them.
    """
    missing = [name for name in names if name not in batch]
    if missing:
        raise AvpipeError(
            f"The batch has {', '.join(sorted(batch)) or 'nothing'}, but lacks {', '.join(missing)}; see "
            "avpipe.gzsl.tensors.Batch for what each is."
        )
    return tuple(batch[name] for name in names)


def pair(batch: Batch, name: str) -> Tensor:
    """Positives and negatives of one modality as two groups: [B, 2, d]."""
    return torch.stack(required(batch, name, f"{name}_neg"), 1)


def ranked(batch: Batch) -> tuple[Tensor, Tensor]:
    """labels int64 [B] and words [C, d_w] of a batch.

    Raises:
        AvpipeError: one is missing or does not fit. Values are looked at on a CPU only: a GPU would have to wait.
    """
    audio, labels, words = required(batch, "audio", "labels", "words")
    if labels.shape != audio.shape[:1] or labels.is_floating_point():
        raise AvpipeError(
            f"labels are {labels.dtype} {tuple(labels.shape)}; expected a whole number for each of {len(audio)} clips."
        )
    if labels.device.type == "cpu" and not (int(labels.min()) >= 0 and int(labels.max()) < len(words)):
        raise AvpipeError(
            f"labels go from {int(labels.min())} to {int(labels.max())}; expected rows of words, 0 to {len(words) - 1}."
        )
    return labels, words


class Method(nn.Module):
    """Base class of the methods that `avpipe.gzsl.models.build` makes.

    A method that is one network with one loss and that classifies by distances needs `embed` and `losses`, and
    `distances` where these are not the usual ones; the other hooks are for those that go a way of their own.

    Attributes:
        word_dim: d_w, the length of the class vectors the method was built for.
        calibration_modes: the distances (keys of `distances`) whose best betas are averaged into the one that is
            handed to stage 2 (docs/methods.md, Two stages).
        extra_modes: further distances that are reported beside them.
        score_mode: the distance that chooses the best epoch and that is reported.
        is_calibrated: whether a constant is added to the distances of seen classes; False: beta is 0.
        is_scheduled: whether the learning rate falls when the harmonic mean stalls.
    """

    word_dim: int = 300
    calibration_modes: tuple[str, ...] = ("both",)
    extra_modes: tuple[str, ...] = ()
    score_mode: str = "both"
    is_calibrated: bool = True
    is_scheduled: bool = True

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of N clips [N, d_a], [N, d_v] and of C class vectors [C, d_w] in the shared space."""
        raise NotImplementedError

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """Named scalar terms of the loss and their sum, "total".

        Args:
            batch: see `Batch`.
            track_statistics: False lets the method skip work that only moves BatchNorm's running statistics.
        """
        raise NotImplementedError

    def optimizers(self, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
        """The optimisers of a stage: one Adam over all parameters by default."""
        return [adam(self.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)]

    def training_step(
        self, batch: Batch, optimizers: Sequence[torch.optim.Optimizer], *, index: int, track_statistics: bool = True
    ) -> Losses:
        """One batch: losses, gradients, the optimisers' steps, and what the method does afterwards.

        Nothing here may wait for the device or branch on values: on a GPU the step is captured once and replayed.

        Args:
            batch: see `Batch`.
            optimizers: what `optimizers` returned.
            index: the batch's number in its epoch, from 0.
            track_statistics: see `losses`.

        Returns:
            Terms for the log, detached or not.
        """
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = self.losses(batch, track_statistics=track_statistics)
        losses["total"].backward()
        for optimizer in optimizers:
            optimizer.step()
        self.after_step(batch, track_statistics=track_statistics)
        return losses

    def after_step(self, batch: Batch, *, track_statistics: bool = True) -> None:
        """Whatever the published program does between one optimiser step and the next; nothing by default."""

    def step_kind(self, index: int) -> int:
        """Batches of one kind do the same operations; a method whose step depends on `index` numbers the kinds."""
        return 0

    def statistics_horizon(self) -> int | None:
        """How many last steps of an epoch the running statistics can still be seen to depend on; None: all."""
        return None

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Euclidean distances [N, C] of N clips to C class vectors, per mode; "both" is the sum of the other two.

        Source: docs/methods.md, Metric.
        """
        embedded_audio, embedded_video, classes = self.embed(audio, video, words)
        by_audio, by_video = torch.cdist(embedded_audio, classes), torch.cdist(embedded_video, classes)
        return {"audio": by_audio, "video": by_video, "both": by_audio + by_video}

    def evaluate(
        self, train: TrainingSet, data: EvaluationSet, betas: Any, *, modes: Sequence[str] | None = None
    ) -> dict[str, CalibratedStacking]:
        """Score clips of seen and unseen classes together, per mode; by distances unless a method overrides it.

        Args:
            train: the clips the method was trained on, for methods that train a classifier first.
            data: clips and class vectors on the model's device.
            betas: calibration constants [K]; None: the best of all, by `exact_calibration`.
            modes: which distances to report besides those that calibration needs.
        """
        return evaluate(self, data, betas, modes=modes)

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device


def evaluate(
    model: Method, data: EvaluationSet, betas: Any, *, modes: Sequence[str] | None = None
) -> dict[str, CalibratedStacking]:
    """Score a model on seen and unseen clips together, per mode of distance.

    Args:
        model: used in eval mode; its mode is restored.
        data: clips and class vectors on the model's device.
        betas: calibration constants [K]; None: the best of all.
        modes: which distances of `model.distances`; default those that its calibration needs.

    Returns:
        mode -> `CalibratedStacking`, `ExactCalibration` without betas; columns follow `data.class_ids`.
    """
    distances = distances_of(model, data, modes or model.calibration_modes)
    if betas is None:
        return {mode: exact_calibration(each, data.labels, data.seen) for mode, each in distances.items()}
    return {mode: calibrated_stacking(each, data.labels, data.seen, betas) for mode, each in distances.items()}


@torch.no_grad()
def distances_of(model: Method, data: EvaluationSet, modes: Sequence[str]) -> dict[str, Tensor]:
    """Distances [N, C] of all clips to all classes in some modes and in `score_mode`; the model's mode is restored."""
    was_training = model.training
    model.eval()
    try:
        chunks = [
            model.distances(audio, video, data.words)
            for audio, video in zip(data.audio.split(_CHUNK), data.video.split(_CHUNK), strict=True)
        ]
    finally:
        model.train(was_training)
    wanted = dict.fromkeys((*modes, model.score_mode))
    return {mode: torch.cat([chunk[mode] for chunk in chunks]) for mode in wanted}


def adam(
    parameters: Any, learning_rate: float, *, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Adam as published (classic L2, eps 1e-8), in one fused kernel; on a GPU ready to be captured."""
    parameters = list(parameters)
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    rate: Any = torch.tensor(learning_rate, device=device) if on_gpu else learning_rate
    return torch.optim.Adam(
        parameters, lr=rate, betas=betas, eps=1e-8, weight_decay=weight_decay,
        fused=device.type in ("cpu", "cuda"), capturable=on_gpu,
    )  # fmt: skip
