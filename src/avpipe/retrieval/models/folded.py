"""The audio network with frozen statistics, as it is computed fast (docs/methods.md, Frames that matter).

Each BatchNorm is folded into its convolution, and of a clip no more is computed than what is asked for depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

BLOCKS_IN_LAYER = 2

# Forward passes on a CPU with AVX-512 are a tenth faster where a frame's channels are adjacent, and those that go
# back a tenth slower: gradients of weights are computed at half the speed there.
_WITHOUT_GRADIENTS, _WITH_GRADIENTS = torch.channels_last, torch.contiguous_format


@dataclass(frozen=True)
class Convolution:
    """weight [out, in, 1, width], bias [out], stride in frames; padding keeps the length."""

    weight: Tensor
    bias: Tensor
    stride: int

    @property
    def reach(self) -> int:
        """Frames on either side that an output depends on."""
        return self.weight.shape[3] // 2

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, 1, T] to [B, out, 1, ceil(T / stride)]."""
        return F.conv2d(x, self.weight, self.bias, stride=(1, self.stride), padding=(0, self.reach))


@dataclass(frozen=True)
class Block:
    """A residual block."""

    first: Convolution
    second: Convolution
    shortcut: Convolution | None

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, 1, T] to [B, out, 1, ceil(T / stride)]."""
        out = self.second(F.relu_(self.first(x)))
        return F.relu_(out.add_(x if self.shortcut is None else self.shortcut(x)))

    def inputs_for(self, outputs: int) -> int:
        """How many of the first input frames decide the first `outputs` frames."""
        return self.first.stride * (outputs - 1 + self.second.reach) + self.first.reach + 1

    def outputs_of(self, inputs: int) -> int:
        """Frames that the block makes of `inputs`."""
        return -(-inputs // self.first.stride)


@dataclass(frozen=True)
class FoldedAudioNetwork:
    """The audio network with frozen statistics; gradients reach the parameters it was folded from.

    Attributes:
        stem_weight: [C, 40].
        stem_bias: [C].
        blocks: two for each of the layers.
        gradient_checkpointing: see `AudioNetwork`.
    """

    stem_weight: Tensor
    stem_bias: Tensor
    blocks: Sequence[Block]
    gradient_checkpointing: bool = False

    def __call__(self, frames: Tensor, *, length: int | None = None, outputs: int | None = None) -> Tensor:
        """Features of frames.

        Args:
            frames: [B, T, 40]; T may be below `length`, but not below what `inputs_for` says.
            length: frames of the padded spectrogram that these are the beginning of; None: T.
            outputs: output frames that are wanted, from the first; None: all.

        Returns:
            [B, 8 C, n], n at least `outputs`; only the first `outputs` are those of the padded spectrogram.
        """
        length = frames.shape[1] if length is None else length
        lengths = self.lengths(length, outputs)
        layout = _WITH_GRADIENTS if torch.is_grad_enabled() else _WITHOUT_GRADIENTS
        x = F.relu_(F.linear(frames, self.stem_weight, self.stem_bias)).transpose(1, 2).unsqueeze(2)
        for start in range(0, len(self.blocks), BLOCKS_IN_LAYER):
            layer = slice(start, start + BLOCKS_IN_LAYER)
            arguments = (x, self.blocks[layer], lengths[layer], layout)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(_through, *arguments, use_reentrant=False)
            else:
                x = _through(*arguments)
        return x.squeeze(2)

    def inputs_for(self, outputs: int, length: int) -> int:
        """How many of the first frames of a spectrogram of `length` decide the first `outputs` output frames."""
        return self.lengths(length, outputs)[0]

    def lengths(self, length: int, outputs: int | None) -> list[int]:
        """Frames that each block is given: what the blocks after it need, at most all there are."""
        whole = [length]
        for block in self.blocks:
            whole.append(block.outputs_of(whole[-1]))
        wanted = whole[-1] if outputs is None else outputs
        lengths = []
        for block, available in zip(reversed(self.blocks), reversed(whole[:-1]), strict=True):
            wanted = min(available, block.inputs_for(wanted))
            lengths.append(wanted)
        return lengths[::-1]


def _through(x: Tensor, blocks: Sequence[Block], lengths: Sequence[int], layout: torch.memory_format) -> Tensor:
    for block, length in zip(blocks, lengths, strict=True):
        x = block(x[..., :length].contiguous(memory_format=layout))
    return x
