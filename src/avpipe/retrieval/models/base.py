"""What the retrieval models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

from torch import Tensor, nn

from avpipe import registry
from avpipe.errors import AvpipeError
from avpipe.retrieval.losses import masked_margin_softmax
from avpipe.retrieval.models.audio import AudioNetwork
from avpipe.retrieval.models.layers import GatedEmbeddingUnit
from avpipe.retrieval.models.pooling import pooled

Embeddings = dict[str, Tensor]
OBJECTIVES = ("retrieval", "pairwise")


class RetrievalModel(nn.Module, ABC):
    """Embeds clips so that a dot product says how well a query fits a candidate (docs/methods.md, The three models).

    State dicts of the published models have exactly the published names and shapes. Embeddings are not normalised.

    Attributes:
        name: its name in the registry, which says what it is searched with.
        modalities: names of the embeddings.
        candidates: modalities that are searched in.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    candidates: ClassVar[str]

    def __init__(self, embedding_dim: int, audio_channels: int, video_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.DAVEnet = AudioNetwork(audio_channels)
        self.GU_video = GatedEmbeddingUnit(video_dim, embedding_dim)

    @property
    def query(self) -> str:
        """Modalities that are searched with, such as "audio+text"."""
        return registry.model(self.name).query

    @property
    def uses_text(self) -> bool:
        """Whether captions are read."""
        return registry.model(self.name).uses_text

    def embed(
        self,
        audio: Tensor,
        video: Tensor,
        text: Tensor | None = None,
        *,
        n_frames: Sequence[int] | Tensor | None = None,
        own_frames: bool | None = None,
    ) -> Embeddings:
        """Embeddings of B clips.

        Args:
            audio: spectrograms [B, 40, T] in decibels, 0 where padded.
            video: [B, video_dim], each half of unit length.
            text: word vectors [B, words, 300]; only where `uses_text`.
            n_frames: [B], spectrogram frames of each clip before it was cut or padded to T; None: T each.
            own_frames: average the audio over the clip's own frames, or else over padding too. None: as published,
                own frames in eval mode and all in train mode.

        Returns:
            `modalities` to [B, D].

        Raises:
            AvpipeError: the text is missing, or `n_frames` does not fit the clips.
        """
        if self.uses_text and text is None:
            raise AvpipeError(f"{self.name} embeds text, and none was given; expected word vectors [B, words, 300].")
        pooled_audio = self.pool_audio(audio, n_frames=n_frames, own_frames=own_frames)
        return self.embed_pooled(pooled_audio, video, text)

    def pool_audio(
        self, audio: Tensor, *, n_frames: Sequence[int] | Tensor | None = None, own_frames: bool | None = None
    ) -> Tensor:
        """The audio network's features averaged over time, [B, 8 * audio_channels]; arguments as of `embed`."""
        own_frames = not self.training if own_frames is None else own_frames
        found = pooled(self.DAVEnet(audio), audio.shape[2], n_frames if own_frames else None)
        return found.to(self.DAVEnet.conv1.weight.dtype)  # means of half precision are taken in float32

    @abstractmethod
    def embed_pooled(self, pooled: Tensor | None, video: Tensor | None, text: Tensor | None = None) -> Embeddings:
        """What comes after the audio's average; embeddings whose inputs are None are left out.

        Args:
            pooled: [B, 8 * audio_channels], of `pool_audio` or `avpipe.retrieval.models.ragged.pool_ragged`.
            video: [B, video_dim].
            text: [B, words, 300].
        """

    def query_of(self, embeddings: Embeddings) -> Tensor:
        """The side that is searched with, [Q, D]: the embedding of `query`."""
        return embeddings[self.query.replace("+", "_")]

    def candidates_of(self, embeddings: Embeddings) -> Tensor:
        """The side that is searched in, [C, D]: the embeddings of `candidates`, added."""
        first, *others = (embeddings[name] for name in self.candidates.split("+"))
        return sum(others, first)

    def similarity(self, embeddings: Embeddings) -> Tensor:
        """Dot products [Q, C]: row i is query i, and its truth is column i."""
        return self.query_of(embeddings) @ self.candidates_of(embeddings).T

    def loss(self, embeddings: Embeddings, *, margin: float = 0.001, objective: str = "retrieval") -> Tensor:
        """Masked margin softmax of the batch (docs/methods.md, Loss).

        Args:
            embeddings: of `embed`, all modalities.
            margin: taken off the truth's similarity.
            objective: "retrieval" (on what is searched), or "pairwise" (the sum over all pairs of modalities, as
                Text-Tri is pre-trained; with two modalities it is the same).

        Raises:
            AvpipeError: another objective.
        """
        if objective not in OBJECTIVES:
            raise AvpipeError(f"Objective {objective!r} of {self.name} is unknown. Expected one of {OBJECTIVES}.")
        if objective == "retrieval":
            return masked_margin_softmax(self.similarity(embeddings), margin)
        terms = [
            masked_margin_softmax(embeddings[first] @ embeddings[second].T, margin)
            for first, second in combinations(self.modalities, 2)
        ]
        return sum(terms[1:], terms[0])
