"""One linear layer in the place of each extractor's network, where not the network but what is around it is tested."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from avpipe.features.build import build_extractor
from avpipe.registry import EXTRACTORS

MEANS = 64


class SmallNetwork(nn.Module):
    """Means over stretches of a window, through one layer: rows depend on the input, its order and the weights."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.layer = nn.Linear(MEANS, dimension)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Float32 [N, ...] to [N, dimension]."""
        return self.layer(F.adaptive_avg_pool1d(batch.flatten(1)[:, None], MEANS)[:, 0])


def replace_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every extractor with weights a small network, within this process."""
    for name, entry in EXTRACTORS.items():
        if entry.has_weights:
            kind: Any = type(build_extractor(name, {"postprocess": False} if entry.uses_pca else {}))
            monkeypatch.setattr(kind, "build_network", _builder(dict(entry.streams)))


def _builder(streams: dict[str, int]) -> Any:
    def build(extractor: Any) -> nn.Module:
        if len(streams) > 1:
            return nn.ModuleDict({f"{stream}_network": SmallNetwork(size) for stream, size in streams.items()}).eval()
        network = nn.Sequential(SmallNetwork(*streams.values()))
        if getattr(extractor.settings, "final_relu", False):
            network.append(nn.ReLU())
        return network.eval()

    return build
