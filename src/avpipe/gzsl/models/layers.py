"""Building blocks whose batch may hold several calls of one module, each with its own BatchNorm statistics.

Positives and negatives are separate calls of a module in the published program: each is normalised with its own
batch statistics, and each moves the running statistics in turn. Here the calls are stacked as groups, [B, g, d],
so that one matrix product serves all of them while BatchNorm still sees g batches of size B.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_HALF_RANGE = 1 << 15
"""Dropout draws 16 bits an element: four masks' worth from each 64-bit draw, three times faster than Bernoulli."""


class _OneDnnLinear(torch.autograd.Function):
    """x W^T + b through oneDNN: twice MKL's speed for float32 on AMD CPUs (200 against 100 GFLOP/s a core).

    torch's own `linear` uses oneDNN only in reduced precision; this is the operator that torch.compile uses.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _gemm(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_x = _gemm(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        for_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return for_x, _gemm(gradient.t(), x.t(), None), for_bias


def _gemm(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _use_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """`layer(x)` for x [..., in] -> [..., out], on the fastest exact back end."""
    if not _use_onednn(x):
        return F.linear(x, layer.weight, layer.bias)
    rows = x.reshape(-1, x.shape[-1]).contiguous()  # oneDNN is 1000 times slower on strided rows
    return _OneDnnLinear.apply(rows, layer.weight, layer.bias).view(*x.shape[:-1], layer.out_features)


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Inverted dropout with a fresh mask for every element, from torch's default generator of the device.

    p is rounded to a multiple of 1/65536 (0.2 becomes 0.199997), the scale follows the rounded value, so the
    expectation is exact.
    """
    if not training or p == 0:
        return x
    drop = round(p * 2 * _HALF_RANGE)
    count = x.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    bits = draws.view(torch.int16)[:count].view(x.shape)
    keep = (bits >= drop - _HALF_RANGE).to(x.dtype)
    return x * keep.mul_(2 * _HALF_RANGE / (2 * _HALF_RANGE - drop))


def grouped_batch_norm(x: Tensor, norm: nn.BatchNorm1d, *, track_statistics: bool) -> Tensor:
    """BatchNorm of g calls at once: x [B, g, C], every group normalised by its own mean and variance.

    Laid out as [B, g*C], the groups are just more channels to the native operator. The running statistics then
    take the groups' statistics one after the other, in the order of the groups.
    """
    batch, groups, width = x.shape
    if not norm.training:
        rows = x.reshape(-1, width)
        out = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        return out.view(batch, groups, width)
    mean = variance = None
    if track_statistics:  # with momentum 1 the operator hands over the (unbiased) statistics of the batch
        mean, variance = x.new_zeros(groups * width), x.new_zeros(groups * width)
    weight, bias = norm.weight.repeat(groups), norm.bias.repeat(groups)
    out = F.batch_norm(x.reshape(batch, -1), mean, variance, weight, bias, True, 1.0, norm.eps)
    if mean is not None and variance is not None:
        for group in range(groups):
            part = slice(group * width, (group + 1) * width)
            norm.running_mean.lerp_(mean[part], norm.momentum)  # type: ignore[union-attr, arg-type]
            norm.running_var.lerp_(variance[part], norm.momentum)  # type: ignore[union-attr, arg-type]
    norm.num_batches_tracked.add_(groups)  # type: ignore[union-attr]
    return out.view(batch, groups, width)


class Block(nn.Module):
    """One or two times Linear - BatchNorm - ReLU - Dropout on grouped batches [B, g, in] -> [B, g, out].

    With `hidden` it is the published deep block, whose first BatchNorm keeps momentum 0.1 and whose second has
    `momentum`; without, the shallow one, whose momentum is always 0.1 (specs/avca.md §3.1). Parameters are named
    fc.0, fc.1 (, fc.4, fc.5).
    """

    def __init__(
        self, inputs: int, outputs: int, dropout: float, *, hidden: int | None = None, momentum: float = 0.1
    ) -> None:
        super().__init__()
        widths = [inputs, outputs] if hidden is None else [inputs, hidden, outputs]
        layers: list[nn.Module] = []
        for i in range(len(widths) - 1):
            norm = nn.BatchNorm1d(widths[i + 1], momentum=momentum if i == 1 else 0.1)
            layers += [nn.Linear(widths[i], widths[i + 1]), norm, nn.ReLU(), nn.Dropout(dropout)]
        self.fc = nn.Sequential(*layers)
        self.dropout = dropout

    def forward(self, x: Tensor, *, track_statistics: bool = True) -> Tensor:
        """Output [B, g, out] of g calls stacked in x [B, g, in]."""
        for i in range(0, len(self.fc), 4):
            x = linear(x, self.fc[i])  # type: ignore[arg-type]
            x = grouped_batch_norm(x, self.fc[i + 1], track_statistics=track_statistics)  # type: ignore[arg-type]
            x = dropout(x.relu_(), self.dropout, training=self.training)
        return x

    def norms(self) -> list[nn.BatchNorm1d]:
        """The block's BatchNorm layers in order."""
        return [layer for layer in self.fc if isinstance(layer, nn.BatchNorm1d)]

    def count_call(self) -> None:
        """Count a call that was skipped, so that num_batches_tracked stays as published."""
        for norm in self.norms():
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class _PreNorm(nn.Module):
    """LayerNorm and the layer after it; only its names matter here."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class _PairAttention(nn.Module):
    """Multi-head self-attention over exactly two tokens, x [..., 2, width].

    A softmax over two scores is a sigmoid of their difference, so each head needs one product with the difference
    of the keys instead of a 2x2 matrix per sample and head.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout = heads, head_width, dropout
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        parts = linear(x, self.to_qkv).view(*x.shape[:-1], 3, self.heads, self.head_width)
        query, key, value = parts.unbind(-3)
        key_difference = key[..., :1, :, :] - key[..., 1:, :, :]
        score = (query * key_difference).sum(-1, keepdim=True) * self.head_width**-0.5
        first, second = value[..., :1, :, :], value[..., 1:, :, :]
        mixed = second + score.sigmoid() * (first - second)
        out = linear(mixed.flatten(-2), self.to_out[0])  # type: ignore[arg-type]
        return dropout(out, self.dropout, training=self.training)


class _FeedForward(nn.Module):
    """Linear - GELU (exact) - Dropout - Linear - Dropout."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(linear(x, self.net[0]))  # type: ignore[arg-type]
        hidden = dropout(hidden, self.dropout, training=self.training)
        return dropout(linear(hidden, self.net[3]), self.dropout, training=self.training)  # type: ignore[arg-type]


class PairTransformer(nn.Module):
    """The published cross-modal transformer: pre-norm layers over the two tokens audio and video, no final norm."""

    def __init__(self, width: int, depth: int, *, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _PreNorm(width, _PairAttention(width, heads, head_width, dropout)),
                    _PreNorm(width, _FeedForward(width, hidden, dropout)),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [..., 2, width] -> the same shape."""
        for layer in self.layers:
            for residual in layer:  # type: ignore[union-attr]
                x = x + residual(x)
        return x
