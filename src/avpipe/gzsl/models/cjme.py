"""CJME: coordinated joint embeddings with attention over the two modalities (WACV 2020; docs/methods.md, CJME)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.gzsl.models.base import Losses, pair, required
from avpipe.gzsl.models.embedding import TripletMethod, triplets
from avpipe.gzsl.models.settings import CJMESettings
from avpipe.gzsl.tensors import Batch

_ENTROPY_GAP = 0.1  # nats by which one modality must be surer of the class to be the one attention should choose


class CJME(TripletMethod):
    """The published model; its state dict has the published names.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: hyper-parameters.
    """

    def __init__(self, audio_dim: int, video_dim: int, settings: CJMESettings) -> None:
        super().__init__(
            audio_dim, video_dim, hidden=settings.embeddings_hidden_size, dropout=settings.dropout, final_relu=True
        )
        self.settings = settings
        width = audio_dim + video_dim
        self.attention_model = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 1), nn.Sigmoid())

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """The three terms of the loss and their sum, "total".

        ct: composite triplet loss, weighted by attention; av: mean squared difference of the audio and the video
        embedding; attention: its mean squared error.

        Args:
            batch: audio, audio_neg [B, d_a], video, video_neg [B, d_v], text, text_neg [B, 300], words [C, 300].
            track_statistics: whether the running statistics of the three networks move; the attention's, which
                cost nothing, always do.

        Raises:
            AvpipeError: words is missing, or fewer than 2 rows or classes in training.
        """
        (words,) = required(batch, "words")
        nets = self.triplet_net
        audio = nets.embedding_net1(pair(batch, "audio"), track_statistics=track_statistics)
        video = nets.embedding_net2(pair(batch, "video"), track_statistics=track_statistics)
        text = nets.embedding_net3(batch["text"][:, None], track_statistics=track_statistics)
        nets.embedding_net3.observe(batch["text_neg"][:, None], track_statistics=track_statistics)
        attention = self._attention(batch["audio"], batch["video"])
        with torch.no_grad():  # after the call for the negatives: the statistics follow the published order
            classes = nets.embedding_net3(words[:, None], track_statistics=track_statistics)[:, 0]
            target = attention_target(audio[:, 0], video[:, 0], classes)

        clips = torch.stack((audio, video), 1)  # [B, modality, sign, 64]
        for_audio, for_video = triplets(text, clips[:, :, 0], clips[:, :, 1])
        # Published as [B, 1] times [B], so every clip's attention weighs every clip's triplets: a product of means.
        to_video = attention.mean()
        terms = {
            "ct": (1 - to_video) * for_audio + to_video * for_video,
            "av": F.mse_loss(audio[:, 0], video[:, 0]),
            "attention": F.mse_loss(attention, target),
        }
        terms["total"] = torch.stack(tuple(terms.values())).sum()
        return terms

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> dict[str, Tensor]:
        """Euclidean distances [N, C] of N clips to C class vectors.

        "both" is a clip's distance by video where its attention is 0.5 or more, else by audio
        (docs/methods.md, Metric).
        """
        by = super().distances(audio, video, words)
        chooses_video = self._attention(audio, video)[:, None] >= 0.5
        return {**by, "both": torch.where(chooses_video, by["video"], by["audio"])}

    def _attention(self, audio: Tensor, video: Tensor) -> Tensor:
        """How much of each clip's attention goes to video, 0 to 1: [N]. Audio comes first in its input."""
        return self.attention_model(torch.cat((audio, video), 1))[:, 0]


def attention_target(audio: Tensor, video: Tensor, classes: Tensor) -> Tensor:
    """What attention should be: 0 where audio is surer of the class, 1 where video is, 0.5 where neither.

    Args:
        audio: embeddings [B, 64]; video: [B, 64]; classes: [C, 64].
    """
    surplus = _entropy(video @ classes.t()) - _entropy(audio @ classes.t())
    target = torch.full_like(surplus, 0.5)
    return target.masked_fill(surplus > _ENTROPY_GAP, 0.0).masked_fill(surplus < -_ENTROPY_GAP, 1.0)


def _entropy(scores: Tensor) -> Tensor:
    """Entropy in nats of the softmax of scores [B, C]: [B]."""
    log_probabilities = scores.log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)
