"""What every zero-shot method offers to the training loop and to the evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""One batch of pairs: audio, audio_neg [B, d_a], video, video_neg [B, d_v], text, text_neg [B, d_w]."""


class Method(nn.Module):
    """Base class of the methods that `avpipe.gzsl.models.build` makes.

    Attributes:
        word_dim: d_w, the length of the class vectors the method was built for.
        calibration_modes: the distances (keys of `distances`) whose best betas are averaged into the one that is
            handed to stage 2 (specs/avca.md §4.4).
        score_mode: the distance that chooses the best epoch and that is reported.
    """

    word_dim: int = 300
    calibration_modes: tuple[str, ...] = ("both",)
    score_mode: str = "both"

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of N clips [N, d_a], [N, d_v] and of C class vectors [C, d_w] in the shared space."""
        raise NotImplementedError

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> dict[str, Tensor]:
        """Named scalar terms of the loss and their sum, "total".

        Args:
            batch: see `Batch`.
            track_statistics: False lets the method skip work that only moves BatchNorm's running statistics.
        """
        raise NotImplementedError

    def after_step(self, batch: Batch, *, track_statistics: bool = True) -> None:
        """Whatever the published program does between one optimiser step and the next; nothing by default."""

    def statistics_horizon(self) -> int | None:
        """How many last steps of an epoch the running statistics can still be seen to depend on; None: all."""
        return None

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Distances [N, C] of N clips to C class vectors, per mode ("audio", "video", "both")."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device
