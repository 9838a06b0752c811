"""APN: attribute prototype network, here two linear maps to word vectors (NeurIPS 2020; docs/methods.md, APN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.gzsl.models.base import Losses, Method, ranked
from avpipe.gzsl.models.compatibility import clip_vectors
from avpipe.gzsl.models.layers import affine
from avpipe.gzsl.models.settings import APNSettings
from avpipe.gzsl.tensors import Batch

_INITIAL_RANGE = 2e-4


class APN(Method):
    """The published model; parameters have the published names and the shape of 1x1 convolutions.

    The clips are scored with `ALE_vector`; `prototype_vectors.layer4` is trained beside it and used nowhere
    (docs/methods.md, APN).

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: hyper-parameters.
    """

    def __init__(self, audio_dim: int, video_dim: int, settings: APNSettings) -> None:
        super().__init__()
        self.settings = settings
        shape = (self.word_dim, video_dim + audio_dim, 1, 1)
        self.prototype_vectors = nn.ParameterDict({"layer4": nn.Parameter(_INITIAL_RANGE * torch.rand(shape))})
        self.ALE_vector = nn.Parameter(_INITIAL_RANGE * torch.rand(shape))

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clips in the space of word vectors.

        Args:
            audio: [N, d_a]; video: [N, d_v]; text: [C, 300], C need not be N.

        Returns:
            The clips' one embedding [N, 300] twice, in the places of audio and of video, and `text` as it is.
        """
        clips = clip_vectors(audio, video, norm_inputs=self.settings.norm_inputs)
        projected = _project(clips, self.ALE_vector)
        return projected, projected, text

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """Classification and regression to the class vector, of both maps, and their sum, "total".

        Terms: cls_base, reg_base of `ALE_vector`, cls_proto, reg_proto of the prototypes. The cross-entropy takes
        probabilities for scores and so has a second softmax, as published.

        Args:
            batch: audio [B, d_a], video [B, d_v], text [B, 300], labels [B], words [C, 300].
            track_statistics: without effect, there are no running statistics.

        Raises:
            AvpipeError: labels or words are missing.
        """
        labels, words = ranked(batch)
        clips = clip_vectors(batch["audio"], batch["video"], norm_inputs=self.settings.norm_inputs)
        terms = {}
        for name, matrix in (("base", self.ALE_vector), ("proto", self.prototype_vectors["layer4"])):
            projected = _project(clips, matrix)
            probabilities = (projected @ words.t()).softmax(1)
            terms[f"cls_{name}"] = F.cross_entropy(probabilities, labels)
            terms[f"reg_{name}"] = F.mse_loss(projected, batch["text"])
        terms["total"] = torch.stack(tuple(terms.values())).sum()
        return terms

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Euclidean distances [N, C] of N clips to C class vectors; "both" is the only mode.

        Source: docs/methods.md, Metric.
        """
        clips, _, classes = self.embed(audio, video, words)
        return {"both": torch.cdist(clips, classes)}


def _project(clips: Tensor, matrix: Tensor) -> Tensor:
    """A 1x1 convolution of single pixels: clips [N, d], matrix [300, d, 1, 1] -> [N, 300]."""
    return affine(clips, matrix.flatten(1))
