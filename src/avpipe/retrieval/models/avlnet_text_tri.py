"""AVLnet-Text-Tri: text searches the sum of audio and video (docs/methods.md, The three models)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from avpipe.retrieval.models.avlnet import AVLnet
from avpipe.retrieval.models.base import Embeddings
from avpipe.retrieval.models.layers import GatedEmbeddingUnit, SentenceMaxPool


class AVLnetTextTri(AVLnet):
    """AVLnet with a third embedding, of the caption; the arguments are AVLnet's, and `word_dim` counts."""

    name: ClassVar[str] = "avlnet_text_tri"
    modalities: ClassVar[tuple[str, ...]] = ("audio", "video", "text")
    candidates: ClassVar[str] = "audio+video"

    def __init__(self, embedding_dim: int, audio_channels: int, video_dim: int, word_dim: int) -> None:
        super().__init__(embedding_dim, audio_channels, video_dim, word_dim)
        self.text_pooling_caption = SentenceMaxPool(word_dim, embedding_dim)
        self.GU_text_captions = GatedEmbeddingUnit(embedding_dim, embedding_dim)

    def embed_pooled(self, pooled: Tensor | None, video: Tensor | None, text: Tensor | None = None) -> Embeddings:
        """See `RetrievalModel.embed_pooled`."""
        embeddings = super().embed_pooled(pooled, video)
        if text is not None:
            embeddings["text"] = self.GU_text_captions(self.text_pooling_caption(text))
        return embeddings
