"""The audio network with frozen statistics over clips whose frames lie one after the other, nothing between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from avpipe.retrieval.models.folded import BLOCKS_IN_LAYER, Block, Convolution, FoldedAudioNetwork
from avpipe.retrieval.models.overlap_save import Layout, convolve
from avpipe.training.products import differentiable_product

Counts = tuple[int, ...]

_LEAST_CHANNELS = 64
_LEAST_FRAMES = 8192  # of spectrograms; weights are transformed as fast as so many frames are convolved directly


def is_faster(like: Tensor, channels: int, frames: int) -> bool:
    """Whether `concatenated_features` takes less time than clips of a length stacked: a function of kind and sizes.

    Args:
        like: of the dtype and on the device that the network computes with.
        channels: of the network's first layers.
        frames: of the spectrograms of all clips.
    """
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return False
    return not torch.is_autocast_enabled("cpu") and channels >= _LEAST_CHANNELS and frames >= _LEAST_FRAMES


def concatenated_features(
    network: FoldedAudioNetwork, frames: Tensor, *, window: int, counted: Sequence[int]
) -> Tensor:
    """Features of frames of clips padded to `window`; differentiable.

    Args:
        network: the folded network.
        frames: [sum of network.inputs_for(counted[i], window), 40], one clip after the other.
        window: frames of a padded spectrogram.
        counted: output frames that are wanted of each clip, from the first.

    Returns:
        [sum of counted, 8 C], one clip after the other.
    """
    lengths = list(zip(*(network.lengths(window, each) for each in counted), strict=True))
    lengths.append(tuple(counted))
    x = F.relu_(F.linear(frames, network.stem_weight, network.stem_bias))
    available = window
    for start in range(0, len(network.blocks), BLOCKS_IN_LAYER):
        blocks = network.blocks[start : start + BLOCKS_IN_LAYER]
        arguments = (x, blocks, lengths[start : start + BLOCKS_IN_LAYER + 1], available)
        if network.gradient_checkpointing and torch.is_grad_enabled():
            x = checkpoint(_through, *arguments, use_reentrant=False)
        else:
            x = _through(*arguments)
        for block in blocks:
            available = block.outputs_of(available)
    return x


def _through(x: Tensor, blocks: Sequence[Block], lengths: Sequence[Counts], available: int) -> Tensor:
    """Through blocks, of which block i is given lengths[i] frames of each clip and makes lengths[i + 1]."""
    for block, (inputs, outputs) in zip(blocks, pairwise(lengths), strict=True):
        available = block.outputs_of(available)
        between = tuple(min(available, each + block.second.reach) for each in outputs)
        inner = _convolved(block.first, x, inputs, between)
        out = _convolved(block.second, F.relu_(inner), between, outputs)
        x = F.relu_(out.add_(_shortcut(block, x, inputs, outputs)))
    return x


def _convolved(convolution: Convolution, x: Tensor, inputs: Counts, outputs: Counts) -> Tensor:
    layout = Layout(inputs, outputs, convolution.weight.shape[3], convolution.stride)
    return convolve(x, convolution.weight[:, :, 0], layout).add_(convolution.bias)


def _shortcut(block: Block, x: Tensor, inputs: Counts, outputs: Counts) -> Tensor:
    stride = block.first.stride
    clips = zip(x.split(inputs), outputs, strict=True)
    kept = torch.cat([clip[: stride * (n - 1) + 1 : stride] for clip, n in clips])
    if block.shortcut is None:
        return kept
    return differentiable_product(kept, block.shortcut.weight[:, :, 0, 0]).add_(block.shortcut.bias)
