"""What ALE, DEVISE and SJE share: one linear map into the space of class vectors.

Source: docs/methods.md, ALE, DEVISE and SJE.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.gzsl.models.base import Losses, Method, ranked
from avpipe.gzsl.models.layers import dropout, linear
from avpipe.gzsl.models.settings import CompatibilitySettings
from avpipe.gzsl.tensors import Batch


def clip_vectors(audio: Tensor, video: Tensor, *, norm_inputs: bool) -> Tensor:
    """Both modalities in one vector, video first: [N, d_a] and [N, d_v] -> [N, d_v + d_a], of length 1 if asked."""
    clips = torch.cat((video, audio), 1)
    return F.normalize(clips) if norm_inputs else clips


class Compatibility(Method):
    """Clips are mapped linearly to word vectors; their dot products with the class vectors are ranked.

    Scored by Euclidean distance all the same, as published (docs/methods.md, ALE, DEVISE and SJE). A subclass says how
    a clip's violations of the margin add up to its loss.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: hyper-parameters.
    """

    def __init__(self, audio_dim: int, video_dim: int, settings: CompatibilitySettings) -> None:
        super().__init__()
        self.settings = settings
        self.bilinear = nn.Linear(video_dim + audio_dim, self.word_dim, bias=False)

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clips and classes in the space of word vectors; in training with dropout on features and class vectors.

        Args:
            audio: [N, d_a]; video: [N, d_v]; text: [C, 300], C need not be N.

        Returns:
            The clips' one embedding [N, 300] twice, in the places of audio and of video, and the classes' [C, 300].
        """
        p = self.settings.dropout
        clips = clip_vectors(audio, video, norm_inputs=self.settings.norm_inputs)
        projected = linear(dropout(clips, p, training=self.training), self.bilinear)
        return projected, projected, dropout(text, p, training=self.training)

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """The ranking loss, "ranking", which is also the "total".

        Args:
            batch: audio [B, d_a], video [B, d_v], labels [B], words [C, 300].
            track_statistics: without effect, there are no running statistics.

        Raises:
            AvpipeError: labels or words are missing.
        """
        labels, words = ranked(batch)
        projected, _, classes = self.embed(batch["audio"], batch["video"], words)
        violations = margin_violations(projected @ classes.t(), labels, self.settings.margin)
        ranking = self.clip_losses(violations).mean()
        return {"ranking": ranking, "total": ranking}

    def clip_losses(self, violations: Tensor) -> Tensor:
        """Loss of each clip [B] from how far it violates the margin to each class [B, C]."""
        raise NotImplementedError

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Euclidean distances [N, C] of N clips to C class vectors; "both" is the only mode.

        Source: docs/methods.md, Metric.
        """
        clips, _, classes = self.embed(audio, video, words)
        return {"both": torch.cdist(clips, classes)}


def margin_violations(scores: Tensor, labels: Tensor, margin: float) -> Tensor:
    """max(0, margin + s_ij - s_iy) for scores [B, C] and true columns y [B]; 0 in the true column."""
    true = labels[:, None]
    return (margin + scores - scores.gather(1, true)).relu().scatter(1, true, 0.0)
