"""Layers after the audio network: gated units, sentence pooling, and entries that are stored but never used.

Attribute names are those of the published checkpoints (docs/methods.md, Gated units and sentences; The three models).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContextGating(nn.Module):
    """x * sigmoid(W x + b), [B, dim] to [B, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Gate each entry by all."""
        return x * torch.sigmoid(self.fc(x))


class GatedEmbeddingUnit(nn.Module):
    """Linear layer, then context gating: [B, in_dim] to [B, out_dim]."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_dim, out_dim)
        self.cg = ContextGating(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Embed."""
        gated: Tensor = self.cg(self.fc(x))
        return gated


class FusedGatedUnit(nn.Module):
    """Linear layers of audio and of text, added, then context gating: twice [B, in_dim] to [B, out_dim]."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc_audio = nn.Linear(in_dim, out_dim)
        self.fc_text = nn.Linear(in_dim, out_dim)
        self.cg = ContextGating(out_dim)

    def forward(self, audio: Tensor, text: Tensor) -> Tensor:
        """Embed both as one."""
        gated: Tensor = self.cg(self.fc_audio(audio) + self.fc_text(text))
        return gated


class SentenceMaxPool(nn.Module):
    """Linear layer and ReLU for each word, then the maximum over the words: [B, words, in_dim] to [B, out_dim].

    Rows of zeros that pad a sentence take part as published: they contribute ReLU(b)
    (docs/methods.md, Gated units and sentences).
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_dim, out_dim)

    def forward(self, words: Tensor) -> Tensor:
        """Pool the words of each sentence."""
        # ReLU is monotone: after the maximum it does the same on a twentieth of the numbers.
        return F.relu(self.fc(words).amax(dim=1))


class StoredUnused(nn.Module):
    """Entries that every published checkpoint stores and nothing uses.

    They are buffers, so that checkpoints load strictly both ways and no optimiser sees them.
    """

    def __init__(self, entries: Mapping[str, Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, value in entries.items():
            head, dot, rest = name.partition(".")
            if dot:
                inner.setdefault(head, {})[rest] = value
            else:
                self.register_buffer(name, value)
        for name, values in inner.items():
            self.add_module(name, StoredUnused(values))


def unused_batch_norm() -> StoredUnused:
    """`DAVEnet.batchnorm1`: one channel, constructed and never applied."""
    return StoredUnused(
        {
            "weight": torch.ones(1),
            "bias": torch.zeros(1),
            "running_mean": torch.zeros(1),
            "running_var": torch.ones(1),
            "num_batches_tracked": torch.tensor(0),
        }
    )


def unused_gated_unit(dim: int) -> StoredUnused:
    """`GU_audio` of Text-Fused: a gated embedding unit from dim to dim that its forward pass leaves out."""
    return StoredUnused({name: value.detach() for name, value in GatedEmbeddingUnit(dim, dim).state_dict().items()})
