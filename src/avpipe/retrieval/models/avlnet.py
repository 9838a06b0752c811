"""AVLnet: audio searches video (Rouditchenko et al. 2021; docs/methods.md, The three models)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from avpipe.retrieval.models.base import Embeddings, RetrievalModel
from avpipe.retrieval.models.layers import GatedEmbeddingUnit


class AVLnet(RetrievalModel):
    """Audio through a gate and a projection, video through a gate.

    Args:
        embedding_dim: D.
        audio_channels: C of the audio network.
        video_dim: length of a clip's visual vector.
        word_dim: ignored.
    """

    name: ClassVar[str] = "avlnet"
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video")
    candidates: ClassVar[str] = "video"

    def __init__(self, embedding_dim: int, audio_channels: int, video_dim: int, word_dim: int) -> None:
        super().__init__(embedding_dim, audio_channels, video_dim)
        self.DAVEnet_projection = nn.Linear(8 * audio_channels, embedding_dim)
        self.GU_audio = GatedEmbeddingUnit(8 * audio_channels, 8 * audio_channels)

    def embed_pooled(self, pooled: Tensor | None, video: Tensor | None, text: Tensor | None = None) -> Embeddings:
        """See `RetrievalModel.embed_pooled`; the gate precedes the projection to D."""
        embeddings = {}
        if pooled is not None:
            embeddings["audio"] = self.DAVEnet_projection(self.GU_audio(pooled))
        if video is not None:
            embeddings["video"] = self.GU_video(video)
        return embeddings
