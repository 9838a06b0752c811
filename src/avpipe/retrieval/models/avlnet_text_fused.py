"""AVLnet-Text-Fused: audio and text together search video (docs/methods.md, The three models)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.retrieval.models.base import Embeddings, RetrievalModel
from avpipe.retrieval.models.layers import FusedGatedUnit, GatedEmbeddingUnit, SentenceMaxPool, stored_unused


class AVLnetTextFused(RetrievalModel):
    """Audio and text, D/2 each, fused by one gated unit; the arguments are AVLnet's, and `word_dim` counts.

    Raises:
        AvpipeError: D is odd.
    """

    name: ClassVar[str] = "avlnet_text_fused"
    modalities: ClassVar[tuple[str, ...]] = ("audio_text", "video")
    candidates: ClassVar[str] = "video"

    def __init__(self, embedding_dim: int, audio_channels: int, video_dim: int, word_dim: int) -> None:
        if embedding_dim % 2:
            raise AvpipeError(
                f"embedding_dim of {self.name} is {embedding_dim}; half of it is the text's: give an "
                "even number, such as the published 4096."
            )
        super().__init__(embedding_dim, audio_channels, video_dim)
        half = embedding_dim // 2
        self.DAVEnet_projection = nn.Linear(8 * audio_channels, half)
        self.GU_audio = stored_unused(GatedEmbeddingUnit(8 * audio_channels, 8 * audio_channels))
        self.text_pooling_caption = SentenceMaxPool(word_dim, half)
        self.GU_audio_text = FusedGatedUnit(half, embedding_dim)

    def embed_pooled(self, pooled: Tensor | None, video: Tensor | None, text: Tensor | None = None) -> Embeddings:
        """See `RetrievalModel.embed_pooled`; audio and text go together, so both are needed for their embedding."""
        embeddings = {}
        if pooled is not None and text is not None:
            embeddings["audio_text"] = self.GU_audio_text(
                self.DAVEnet_projection(pooled), self.text_pooling_caption(text)
            )
        if video is not None:
            embeddings["video"] = self.GU_video(video)
        return embeddings
