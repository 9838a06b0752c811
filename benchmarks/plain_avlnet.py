"""The published procedure of AVLnet in its plain form, to compare avpipe's with.

Source: docs/methods.md, The three models; Training of the retrieval models; Retrieval metrics.

Every clip is padded to the window, convolutions are 2-D ones of height 1 with BatchNorm, ReLU and addition apart,
and clips are pooled one by one.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainBlock(nn.Module):
    """A residual block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        wide = {"kernel_size": (1, 9), "padding": (0, 4), "bias": False}
        self.conv1 = nn.Conv2d(in_channels, out_channels, stride=stride, **wide)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, **wide)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, 1, T] to [B, out, 1, ceil(T / stride)]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += shortcut
        return F.relu(out, inplace=True)


class PlainAudioNetwork(nn.Module):
    """The audio network, with the published names; `batchnorm1` is stored alone."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.batchnorm1 = nn.BatchNorm2d(1)
        self.conv1 = nn.Conv2d(1, channels, (40, 1), bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        widths = [channels * factor for factor in (1, 1, 2, 4, 8)]
        for number, (before, after) in enumerate(pairwise(widths), 1):
            layer = nn.Sequential(PlainBlock(before, after, 2), PlainBlock(after, after, 1))
            self.add_module(f"layer{number}", layer)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """[B, 40, T] to [B, 8 C, ceil(T / 16)]."""
        x = F.relu(self.bn1(self.conv1(spectrograms[:, None])), inplace=True)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.squeeze(2)


def padded(spectrograms: list[Tensor], window: int) -> Tensor:
    """[B, 40, window]: cut, or padded with 0."""
    return torch.stack([F.pad(each[:window].T, (0, max(0, window - len(each)))) for each in spectrograms])


def pool(network: PlainAudioNetwork, spectrograms: Tensor, n_frames: list[int]) -> Tensor:
    """[B, 8 C]: the mean over each clip's own frames, clip by clip."""
    features = network(spectrograms)
    ratio = round(spectrograms.shape[2] / features.shape[2])
    return torch.stack([
        F.adaptive_avg_pool1d(each[None, :, : max(1, count // ratio)], 1)[0, :, 0]
        for each, count in zip(features, n_frames, strict=True)
    ])  # fmt: skip
