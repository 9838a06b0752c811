"""The retrieval models behind one interface (`avpipe.retrieval.models.base.RetrievalModel`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe import registry
from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.retrieval.models.base import RetrievalModel

__all__ = ["build", "implementation", "names"]


def names() -> list[str]:
    """Names of the models that `build` knows."""
    return list(registry.MODELS)


def implementation(name: str) -> type[RetrievalModel]:
    """The class of a model; its class attributes say what it reads and compares.

    Raises:
        AvpipeError: there is no such model.
    """
    model: type[RetrievalModel] = registry.load(registry.model(name).implementation)
    return model


def build(
    name: str, *, embedding_dim: int, audio_channels: int = 128, video_dim: int = 4096, word_dim: int = 300
) -> RetrievalModel:
    """A model with freshly initialised weights (from torch's default generator, on torch's default device).

    Args:
        name: one of `names()`.
        embedding_dim: D; published 4096, Text-Tri 6144. Even for Text-Fused.
        audio_channels: of the audio network's first layer; its last has eight times as many.
        video_dim: length of a clip's visual vector (2-D and 3-D parts together).
        word_dim: length of a word's vector; models without text ignore it.

    Raises:
        AvpipeError: unknown model, a size below 1, or an odd D where it is halved.
    """
    sizes = {
        "embedding_dim": embedding_dim,
        "audio_channels": audio_channels,
        "video_dim": video_dim,
        "word_dim": word_dim,
    }
    for size, value in sizes.items():
        if value < 1:
            raise AvpipeError(f"{size} of {name} is {value}; expected at least 1.")
    return implementation(name)(**sizes)
