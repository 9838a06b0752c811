"""The embedding networks of CJME and AVGZSLNet, and what these two methods share (docs/methods.md, CJME; AVGZSLNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.gzsl.models.base import Method
from avpipe.gzsl.models.layers import block_layer, linear

JOINT_DIM = 64
_TRIPLET_MARGIN = 1.0


class EmbeddingNet(nn.Module):
    """Linear - BatchNorm - ReLU - Dropout - Linear (- ReLU) on grouped batches [B, g, in] -> [B, g, out].

    The groups are separate calls: see `avpipe.gzsl.models.layers`. Parameters are named fc.0, fc.1, fc.4.

    Args:
        inputs: length of an input vector.
        hidden: units of the hidden layer.
        outputs: length of an output vector.
        dropout: share of the hidden units that is dropped in training.
        final_relu: whether a ReLU follows the second linear layer.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, dropout: float, *, final_relu: bool = False) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, outputs), *([nn.ReLU()] if final_relu else []),
        )  # fmt: skip
        self.dropout, self.final_relu = dropout, final_relu

    def forward(self, x: Tensor, *, track_statistics: bool = True) -> Tensor:
        """Output [B, g, out] of g calls stacked in x [B, g, in].

        Raises:
            AvpipeError: fewer than 2 rows in training.
        """
        last = self.fc[4]
        assert isinstance(last, nn.Linear)
        out = linear(self._hidden(x, track_statistics), last)
        return out.relu() if self.final_relu else out

    @torch.no_grad()
    def observe(self, x: Tensor, *, track_statistics: bool = True) -> None:
        """Calls with x [B, g, in] whose results nothing uses: in training BatchNorm's statistics take them."""
        norm = self.fc[1]
        assert isinstance(norm, nn.BatchNorm1d) and norm.num_batches_tracked is not None
        if self.training and track_statistics:
            self._hidden(x, True)
        elif self.training:
            norm.num_batches_tracked.add_(x.shape[1])

    def _hidden(self, x: Tensor, track_statistics: bool) -> Tensor:
        layer, norm = self.fc[0], self.fc[1]
        assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        return block_layer(x, layer, norm, self.dropout, training=self.training, track_statistics=track_statistics)


class TripletNet(nn.Module):
    """The published container of the networks for audio (1), video (2) and word vectors (3); only names matter."""

    def __init__(self, audio: EmbeddingNet, video: EmbeddingNet, text: EmbeddingNet) -> None:
        super().__init__()
        self.embedding_net1 = audio
        self.embedding_net2 = video
        self.embedding_net3 = text


class TripletMethod(Method):
    """A method with one embedding network per modality, whose outputs in the joint space are compared in triplets.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        hidden: hidden units of the audio and of the video network; the text network has 300.
        dropout: of all three networks.
        final_relu: whether embeddings are cut at zero.
    """

    calibration_modes = ("audio", "video", "both")
    score_mode = "both"

    def __init__(self, audio_dim: int, video_dim: int, *, hidden: int, dropout: float, final_relu: bool) -> None:
        super().__init__()
        self.triplet_net = TripletNet(
            EmbeddingNet(audio_dim, hidden, JOINT_DIM, dropout, final_relu=final_relu),
            EmbeddingNet(video_dim, hidden, JOINT_DIM, dropout, final_relu=final_relu),
            EmbeddingNet(self.word_dim, self.word_dim, JOINT_DIM, dropout, final_relu=final_relu),
        )

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings in the joint space.

        Args:
            audio: [N, d_a]; video: [N, d_v]; text: [C, 300], C need not be N.

        Returns:
            audio [N, 64], video [N, 64], text [C, 64].

        Raises:
            AvpipeError: fewer than 2 rows in training.
        """
        nets = self.triplet_net
        embedded_audio = nets.embedding_net1(audio[:, None])[:, 0]
        embedded_video = nets.embedding_net2(video[:, None])[:, 0]
        return embedded_audio, embedded_video, nets.embedding_net3(text[:, None])[:, 0]


def triplets(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean triplet loss of each group, T of docs/methods.md, Notation: [B, g or 1, d] each -> [g]."""
    return F.triplet_margin_loss(anchor, positive, negative, margin=_TRIPLET_MARGIN, reduction="none").mean(0)
