"""The audio network: a residual 1-D convolutional network over spectrogram frames (docs/methods.md, Audio network)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avpipe.features.spectrogram_sizes import MEL_BANDS
from avpipe.retrieval.models.folded import Block, Convolution, FoldedAudioNetwork
from avpipe.retrieval.models.layers import stored_unused

KERNEL = 9


class AudioNetwork(nn.Module):
    """Spectrograms to frames of features; one output frame sees 420 input frames on either side.

    Weights of convolutions are stored 4-D as published ([out, in, 1, width], the first [channels, 1, 40, 1]). In eval
    mode the computation is `folded`, differentiably, so that fine-tuning with frozen statistics is as fast.

    Args:
        channels: C, of the first layers (published 128); the last layer has 8 C.

    Attributes:
        gradient_checkpointing: keep only the layers' inputs in training, and compute the layers again going back.
    """

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.batchnorm1 = stored_unused(nn.BatchNorm2d(1))
        self.conv1 = nn.Conv2d(1, channels, (MEL_BANDS, 1), bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = _layer(channels, channels)
        self.layer2 = _layer(channels, 2 * channels)
        self.layer3 = _layer(2 * channels, 4 * channels)
        self.layer4 = _layer(4 * channels, 8 * channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / (height * width * module.out_channels)))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Features of frames.

        Args:
            spectrograms: [B, 40, T] in decibels (-80 to 0), 0 where padded, of any floating type.

        Returns:
            [B, 8 C, ceil(T / 16)].
        """
        spectrograms = spectrograms.to(self.conv1.weight.dtype)
        if not self.training:
            return self.folded()(spectrograms.transpose(1, 2))
        # The kernel spans all mel bands, so this convolution is a matrix product.
        x = torch.matmul(self.conv1.weight[:, 0, :, 0], spectrograms).unsqueeze(2)
        x = F.relu_(self.bn1(x))
        for layer in self._layers():
            x = self._checkpointed(layer, x) if self.gradient_checkpointing and torch.is_grad_enabled() else layer(x)
        return x.squeeze(2)

    def folded(self) -> FoldedAudioNetwork:
        """The network as it computes with frozen statistics; the parameters as they are now, differentiably."""
        weight, bias = _fold(self.conv1.weight, self.bn1)
        blocks = [block for layer in self._layers() for block in layer]
        return FoldedAudioNetwork(
            stem_weight=weight[:, 0, :, 0],
            stem_bias=bias,
            blocks=[block.folded() for block in blocks if isinstance(block, ResidualBlock)],
            gradient_checkpointing=self.gradient_checkpointing,
        )

    def _layers(self) -> list[nn.Sequential]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    @staticmethod
    def _checkpointed(layer: nn.Sequential, x: Tensor) -> Tensor:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_untouched(layer)

        out: Tensor = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
        return out


class ResidualBlock(nn.Module):
    """Two convolutions of width 9 beside a shortcut: [B, in, 1, T] to [B, out, 1, ceil(T / stride)]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, KERNEL, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _convolution(out_channels, out_channels, KERNEL, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride > 1:
            self.downsample = nn.Sequential(
                _convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions find to the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu_(self.bn1(self.conv1(x)))
        return F.relu_(self.bn2(self.conv2(out)) + shortcut)

    def folded(self) -> Block:
        """The block with frozen statistics."""
        return Block(
            _folded_convolution(self.conv1, self.bn1),
            _folded_convolution(self.conv2, self.bn2),
            None if self.downsample is None else _folded_convolution(*self.downsample),
        )


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(in_channels, out_channels, stride=2), ResidualBlock(out_channels, out_channels, stride=1)
    )


def _convolution(in_channels: int, out_channels: int, width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, (1, width), stride=(1, stride), padding=(0, width // 2), bias=False)


def _folded_convolution(convolution: nn.Module, norm: nn.Module) -> Convolution:
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    weight, bias = _fold(convolution.weight, norm)
    return Convolution(weight, bias, convolution.stride[1])


def _fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what one without a bias and the stored statistics do."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


@contextmanager
def _statistics_untouched(module: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are: a batch that is computed a second time must not count twice."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
