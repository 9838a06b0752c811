"""Layers after the audio network: gated units, sentence pooling, and entries that are stored but never used.

Attribute names are those of the published checkpoints (docs/methods.md, Gated units and sentences; The three models).
"""

from __future__ import annotations

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


def stored_unused(module: nn.Module) -> nn.Module:
    """A module whose entries every published checkpoint stores and nothing uses.

    They become buffers, so that checkpoints load strictly both ways and no optimiser sees them.
    """
    for each in module.modules():
        entries = {**each._parameters, **each._buffers}
        each._parameters.clear()
        each._buffers.clear()
        for name, value in entries.items():
            each.register_buffer(name, None if value is None else value.detach())
    return module
