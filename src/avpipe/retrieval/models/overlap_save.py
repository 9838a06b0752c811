"""Convolutions of many channels in the frequency domain, by overlap-save.

Clips are cut into tiles of L frames that begin L - K + 1 frames apart, K the width of the kernel: all that so many
outputs depend on. A real DFT of L frames has L / 2 - 1 complex and 2 real bins. A product of complex matrices takes
three products of real ones (Gauss), P1 = Xr Wr, P2 = Xi Wi, P3 = (Xr + Xi)(Wr + Wi), so there are R = 3 L / 2 - 1
rows of real products, and the sums belong to the matrices that transform:

    outputs = O [L - K + 1, R] · ((A [R, L] · frames) * (B [R, K] · taps))

where * is, for each row, a product of matrices [tiles, channels in] · [channels in, channels out]. With L = 32 and
K = 9 these are 47 multiplications for 24 outputs and pair of channels, 1.96 an output instead of 9. A convolution of
stride 2 is one of stride 1 over pairs of frames, with twice the channels and (K + 1) / 2 taps: 3.4 instead of 9. The
formula is linear in frames and in taps, so gradients are made of the same three matrices transposed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avpipe.training.products import product

_TILE_LENGTHS = (16, 24, 32, 48, 64)
_LEAST_TILES_AT_ONCE = 256


@dataclass(frozen=True)
class Transform:
    """The matrices A [R, L], B [R, K] and O [S, R] of the module's formula."""

    frames: Tensor
    taps: Tensor
    outputs: Tensor


@functools.lru_cache
def transform(length: int, taps: int, dtype: torch.dtype) -> Transform:
    """Matrices for tiles of `length` frames, even and at least `taps`."""
    angles = 2 * np.pi / length * np.outer(np.arange(1, length // 2), np.arange(length))
    cosine, sine = np.cos(angles), np.sin(angles)
    ends = np.stack([np.ones(length), (-1.0) ** np.arange(length)])
    # What is computed is a correlation, whose spectrum is that of the frames times the conjugate of that of the taps.
    frames = np.concatenate([ends, cosine, -sine, cosine - sine])
    weights = np.concatenate([ends, cosine, sine, cosine + sine])
    outputs = np.concatenate([ends, 2 * (cosine + sine), 2 * (sine - cosine), -2 * sine]) / length
    matrices = frames, weights[:, :taps], outputs[:, : length - taps + 1].T
    return Transform(*(torch.tensor(each, dtype=dtype) for each in matrices))


@dataclass(frozen=True)
class Tiles:
    """Consecutive tiles of clips whose frames lie one after the other.

    Attributes:
        sources: [L, tiles, stride], rows of the input; 0 for those outside of the clip.
        outside: indices into the flattened `sources` of frames outside of the clip.
        first, last: rows of the output that the tiles make.
        places: [last - first], where these are among the tiles' outputs [S, tiles], flattened.
    """

    sources: Tensor
    outside: Tensor
    first: int
    last: int
    places: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Frames (or pairs of these) of a tile, and tiles."""
        return self.sources.shape[0], self.sources.shape[1]


@dataclass(frozen=True)
class Layout:
    """Which frames a convolution reads and writes.

    Attributes:
        inputs: frames of each clip, one clip after the other.
        outputs: frames that are wanted of each clip, from the first.
        width: of the kernel, odd; there is zero padding of width // 2 frames.
        stride: 1 or 2.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    width: int
    stride: int

    @property
    def taps(self) -> int:
        """Of the convolution of stride 1 that this is."""
        return -(-self.width // self.stride)

    def tiles(self, length: int, at_once: int) -> Iterator[Tiles]:
        """All tiles of `length` frames, up to `at_once` together."""
        step = length - self.taps + 1
        counts = np.array([-(-each // step) for each in self.outputs])
        clip = np.repeat(np.arange(len(counts)), counts)
        begin = step * (np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts))
        kept = np.minimum(step, np.array(self.outputs)[clip] - begin)
        row_in = (np.cumsum(self.inputs) - self.inputs)[clip]
        row_out = np.cumsum(kept) - kept
        available = np.array(self.inputs)[clip]
        for some in (slice(start, start + at_once) for start in range(0, len(clip), at_once)):
            frames = np.arange(length * self.stride).reshape(length, 1, self.stride) - self.width // 2
            frames = frames + self.stride * begin[some, None]
            outside = (frames < 0) | (frames >= available[some, None])
            sources = np.where(outside, 0, frames + row_in[some, None])
            n_tiles = len(begin[some])
            order = np.arange(step) * n_tiles + np.arange(n_tiles)[:, None]
            places = order[np.arange(step) < kept[some, None]]
            first = int(row_out[some.start])
            yield Tiles(
                torch.from_numpy(sources),
                torch.from_numpy(np.flatnonzero(outside)),
                first,
                first + len(places),
                torch.from_numpy(places),
            )


def tile_length(layout: Layout, channels_in: int, channels_out: int) -> int:
    """The length of tiles that takes the least time, by counting multiplications."""
    pairs = layout.stride * channels_in * channels_out

    def cost(length: int) -> float:
        rows, step = 3 * length // 2 - 1, length - layout.taps + 1
        n_tiles = sum(-(-each // step) for each in layout.outputs)
        # Transforms run at about a third of the products' speed; that of the weights takes as long as 64 tiles.
        transforms = 3 * rows * (length * layout.stride * channels_in + step * channels_out)
        return rows * pairs * (n_tiles + 64) + n_tiles * transforms

    return min(_TILE_LENGTHS, key=cost)


def convolve(x: Tensor, weight: Tensor, layout: Layout, length: int | None = None) -> Tensor:
    """A convolution of clips that lie one after the other, without a bias.

    Args:
        x: [sum of layout.inputs, in], float32 or float64 on a CPU.
        weight: [out, in, width].
        layout: frames of the clips.
        length: of tiles, even; None: `tile_length`.

    Returns:
        [sum of layout.outputs, out]; what `torch.nn.functional.conv1d` makes of each clip, but for rounding.
    """
    if length is None:
        length = tile_length(layout, weight.shape[1], weight.shape[0])
    found: Tensor = _OverlapSave.apply(x, weight, layout, length)
    return found


class _OverlapSave(torch.autograd.Function):
    """The convolution by overlap-save, with its gradients.

    Frames and weights are kept for the backward pass as they came and are transformed a second time there: that takes
    little time, while their transforms would take several times the memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: Layout, length: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layout, ctx.length = layout, length
        matrices = transform(length, layout.taps, x.dtype)
        weights = _transformed_weight(weight, layout, matrices)
        out = x.new_empty(sum(layout.outputs), len(weight))
        for tiles in layout.tiles(length, _at_once(weight)):
            products = _products(_transformed_frames(x, tiles, matrices), weights)
            made = _mix(matrices.outputs, products).view(-1, len(weight))
            torch.index_select(made, 0, tiles.places, out=out[tiles.first : tiles.last])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # With Y = O ((A X) * (B W)) for each tile: the gradient of the products is O^T of that of Y. Multiplied by the
        # transformed weights, or frames, it becomes that of the transformed frames, or weights; A^T and B^T lead from
        # these back to frames and taps.
        x, weight = ctx.saved_tensors
        layout, length = ctx.layout, ctx.length
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        matrices = transform(length, layout.taps, x.dtype)
        weights = _transformed_weight(weight, layout, matrices)
        of_x = torch.zeros_like(x) if wants_x else None
        of_weights = None
        for tiles in layout.tiles(length, _at_once(weight)):
            # A clip's last tile makes more outputs than were kept of it: these have no gradient.
            made = gradient.new_zeros(matrices.outputs.shape[0] * tiles.shape[1], len(weight))
            made.index_copy_(0, tiles.places, gradient[tiles.first : tiles.last])
            of_products = _mix(matrices.outputs.T, made.view(len(matrices.outputs), tiles.shape[1], -1))
            if wants_weight:
                frames = _transformed_frames(x, tiles, matrices)
                of_weights = _products(of_products.mT, frames.mT, of_weights)  # added up over the tiles
            if of_x is not None:
                of_frames = _mix(matrices.frames.T, _products(of_products, weights.mT))
                _add_frames(of_x, of_frames, tiles)
        return of_x, _weight_gradient(of_weights, weight, layout, matrices), None, None


def _at_once(weight: Tensor) -> int:
    """Tiles that are computed together: with so many, the transformed frames take the memory that the weights do."""
    return max(_LEAST_TILES_AT_ONCE, *weight.shape[:2])


def _transformed_weight(weight: Tensor, layout: Layout, matrices: Transform) -> Tensor:
    """[R, out, stride * in] of [out, in, width]."""
    if layout.stride > 1:
        missing = layout.taps * layout.stride - layout.width
        weight = torch.nn.functional.pad(weight, (0, missing))
        weight = weight.unflatten(2, (layout.taps, layout.stride)).permute(0, 3, 1, 2).flatten(1, 2)
    out, into, taps = weight.shape
    return product(matrices.taps, weight.reshape(out * into, taps)).view(-1, out, into)


def _weight_gradient(of_weights: Tensor | None, weight: Tensor, layout: Layout, matrices: Transform) -> Tensor | None:
    """[out, in, width] of [R, out, stride * in]: `_transformed_weight` backwards."""
    if of_weights is None:
        return None
    of_taps = _mix(matrices.taps.T, of_weights)
    # With a stride, taps and channels were divided among pairs of frames; the tap that was added to make the width even
    # is cut off.
    of_taps = of_taps.unflatten(2, (layout.stride, -1)).permute(1, 3, 0, 2).flatten(2)
    return of_taps[..., : layout.width].contiguous()


def _transformed_frames(x: Tensor, tiles: Tiles, matrices: Transform) -> Tensor:
    """[R, tiles, stride * in] of rows [frames, in]."""
    # Frames outside of a clip are read from row 0, which always exists, and then set to zero: the padding.
    frames = x.index_select(0, tiles.sources.flatten())
    frames.index_fill_(0, tiles.outside, 0)
    return _mix(matrices.frames, frames.view(*tiles.shape, -1))


def _add_frames(of_x: Tensor, of_frames: Tensor, tiles: Tiles) -> None:
    """Add gradients of tiles [L, tiles, stride * in] to those of the frames; tiles overlap, so a frame gets several."""
    of_frames = of_frames.view(-1, of_x.shape[1])
    # What lies outside of a clip was read from row 0 and must not be added to it.
    of_frames.index_fill_(0, tiles.outside, 0)
    of_x.index_add_(0, tiles.sources.flatten(), of_frames)


def _mix(matrix: Tensor, rows: Tensor) -> Tensor:
    """[n, m] times [m, a, b] as [n, a, b]."""
    return product(matrix, rows.flatten(1).mT).view(-1, *rows.shape[1:])


def _products(left: Tensor, right: Tensor, before: Tensor | None = None) -> Tensor:
    """left [R, a, c] times the transposed of right [R, b, c] as [R, a, b], added to what is there before."""
    out = left.new_empty(len(left), left.shape[1], right.shape[1]) if before is None else before
    for row, one, other in zip(out, left, right, strict=True):
        if before is None:
            row.copy_(product(one, other))
        else:
            row.add_(product(one, other))
    return out
