"""One linear layer in the place of each extractor's network, where not the network but what is around it is tested."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from avpipe.features.build import build_extractor
from avpipe.registry import EXTRACTORS

if TYPE_CHECKING:
    import pytest

MEANS = 64
_SMALLER = """

_as_published = build_extractor


def build_extractor(*arguments, **options):
    from avpipe.small_networks import smaller

    return smaller(_as_published)(*arguments, **options)
"""


class SmallNetwork(nn.Module):
    """Means over segments of a window, through one layer: rows depend on the input, its order and the weights."""

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


def replace_networks_of_package(package: Path) -> None:
    """Give every extractor of a copy of the package a small network: for jobs, which are processes of their own."""
    shutil.copyfile(__file__, package / "small_networks.py")
    with (package / "features" / "build.py").open("a", encoding="utf-8") as module:
        module.write(_SMALLER)  # which imports torch when an extractor is built, as the package does


def smaller(build: Callable[..., Any]) -> Callable[..., Any]:
    """`build_extractor`, whose extractors have small networks."""

    def built(name: str, *arguments: Any, **options: Any) -> Any:
        extractor, entry = build(name, *arguments, **options), EXTRACTORS[name]
        if entry.has_weights:
            type(extractor).build_network = _builder(dict(entry.streams))
        return extractor

    return built


def _builder(streams: dict[str, int]) -> Any:
    def build(extractor: Any) -> nn.Module:
        if len(streams) > 1:
            return nn.ModuleDict({f"{stream}_network": SmallNetwork(size) for stream, size in streams.items()}).eval()
        network = nn.Sequential(SmallNetwork(*streams.values()))
        if getattr(extractor.settings, "final_relu", False):
            network.append(nn.ReLU())
        return network.eval()

    return build
