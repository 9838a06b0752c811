"""Building blocks whose batch may hold several calls of one module, each with its own BatchNorm statistics.

Positives and negatives are separate calls of a module in the published program: each is normalised with its own
batch statistics, and each moves the running statistics in turn. Here the calls are stacked as groups, [B, g, d],
so that one matrix product serves all of them while BatchNorm still sees g batches of size B.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from avpipe.errors import AvpipeError
from avpipe.training.products import differentiable_product, product

_HALF_RANGE = 1 << 15  # of the signed 16-bit numbers that decide dropout

_generator: torch.Generator | None = None  # what dropout draws from; None: torch's default generator


@contextmanager
def draws_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let dropout draw from `generator` inside the block, so that models that train side by side stay independent."""
    global _generator
    before, _generator = _generator, generator
    try:
        yield
    finally:
        _generator = before


def current_generator() -> torch.Generator | None:
    """What `draws_from` set for this block; None: torch's default generator."""
    return _generator


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """`layer(x)` for x [..., in] -> [..., out]."""
    return affine(x, layer.weight, layer.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for x [..., in], weight [out, in] -> [..., out]; once differentiable."""
    if x.shape[-1] != weight.shape[1] or x.dtype != weight.dtype:
        raise AvpipeError(
            f"A linear layer got {x.dtype} rows of length {x.shape[-1]}; its weights are {weight.dtype} for rows of "
            f"length {weight.shape[1]}. Pass features of the widths and the type that the method was built for."
        )
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    return differentiable_product(rows, weight, bias).view(*x.shape[:-1], len(weight))


def _keep_mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """A fresh 0/1 mask for every element of `like` and the scale 1 / (1 - p) that goes with it.

    16 random bits decide an element, four elements a 64-bit draw (see `draws_from`): five times faster than
    Bernoulli draws. p is rounded to a multiple of 1/65536 (0.2 becomes 0.199997) and the scale follows the
    rounded value, so the expectation is exact.
    """
    drop = min(round(p * 2 * _HALF_RANGE), 2 * _HALF_RANGE - 1)
    count = like.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device)
    draws.random_(-(2**63), None, generator=_generator)
    bits = draws.view(torch.int16)[:count].view(like.shape)
    return (bits >= drop - _HALF_RANGE).to(like.dtype), 2 * _HALF_RANGE / (2 * _HALF_RANGE - drop)


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Inverted dropout, distributed as torch's (see `_keep_mask` for p's rounding)."""
    if not training or p == 0:
        return x
    mask, scale = _keep_mask(x, p)
    return x * mask.mul_(scale)


class _BlockLayer(torch.autograd.Function):
    """Linear - BatchNorm - ReLU - Dropout of g calls in training mode, x [B, g, in] -> [B, g, out].

    Laid out as [B, g*C], the calls' outputs are just more channels to the native BatchNorm. Dropout's scale is
    applied to BatchNorm's affine parameters instead of to every element, which is the same because the scale is
    positive and ReLU lets it pass. A zero in the output tells the backward pass that ReLU or dropout stopped the
    element, so neither mask is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        statistics: tuple[Tensor, Tensor] | None,
        p: float,
        eps: float,
    ) -> Tensor:
        batch, groups, width = x.shape
        rows = x.reshape(-1, width).contiguous()
        hidden = product(rows, weight, bias).view(batch, -1)
        mask, scale = _keep_mask(hidden, p) if p > 0 else (None, 1.0)
        gammas, betas = (gamma * scale).repeat(groups), (beta * scale).repeat(groups)
        # With momentum 1 the operator hands over the statistics of the batch (variance unbiased).
        means, variances = statistics if statistics is not None else (None, None)
        out, mean, invstd = torch.native_batch_norm(hidden, gammas, betas, means, variances, True, 1.0, eps)
        out.relu_()
        if mask is not None:
            out.mul_(mask)
        ctx.save_for_backward(rows, weight, hidden, gammas, mean, invstd, out)
        ctx.scale, ctx.eps, ctx.groups = scale, eps, groups
        return out.view(batch, groups, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, hidden, gammas, mean, invstd, out = ctx.saved_tensors
        # ReLU and dropout: where the output is 0 the gradient stops, elsewhere it passes (the scale is in gammas).
        gradient = torch.ops.aten.threshold_backward(gradient.reshape(out.shape), out, 0)
        # BatchNorm in training mode. The running statistics (None) have no part in what the batch was normalised with.
        for_hidden, for_gammas, for_betas = torch.ops.aten.native_batch_norm_backward(
            gradient, hidden, gammas, None, None, mean, invstd, True, ctx.eps, [True, True, True]
        )
        # From here on the calls are rows of one linear layer again. They share gamma and beta, so gradients add up over
        # the calls, and both were multiplied by dropout's scale on the way forward.
        for_hidden = for_hidden.view(len(rows), -1)
        for_gamma, for_beta = (g.view(ctx.groups, -1).sum(0).mul_(ctx.scale) for g in (for_gammas, for_betas))
        for_x = product(for_hidden, weight.t()).view(len(hidden), ctx.groups, -1) if ctx.needs_input_grad[0] else None
        for_weight = product(for_hidden.t(), rows.t())
        return for_x, for_weight, for_hidden.sum(0), for_gamma, for_beta, None, None, None


def block_layer(
    x: Tensor, layer: nn.Linear, norm: nn.BatchNorm1d, p: float, *, training: bool, track_statistics: bool = True
) -> Tensor:
    """Linear - BatchNorm - ReLU - Dropout(p) of g calls stacked in x [B, g, in] -> [B, g, out].

    In training every call is normalised by its own statistics, and the running statistics take them one after the
    other, in the order of the groups, unless `track_statistics` is False.
    """
    if training and len(x) < 2:
        raise AvpipeError(
            f"A layer with BatchNorm got {len(x)} row(s) of length {layer.in_features} in training and needs at least "
            "2. Use a batch_size of 2 or more and 2 or more training classes, or call eval() first."
        )
    if not training:
        return norm(linear(x, layer).flatten(0, 1)).unflatten(0, x.shape[:2]).relu()
    groups = x.shape[1]
    statistics = None
    if track_statistics:
        statistics = (x.new_zeros(groups * layer.out_features), x.new_zeros(groups * layer.out_features))
    x = _BlockLayer.apply(x, layer.weight, layer.bias, norm.weight, norm.bias, statistics, p, norm.eps)
    _count_calls(norm, groups)
    if statistics is not None:
        _move_running_statistics(norm, *(s.view(groups, -1) for s in statistics))
    return x


class Block(nn.Module):
    """One or two times Linear - BatchNorm - ReLU - Dropout on grouped batches [B, g, in] -> [B, g, out].

    With `hidden` it is the published deep block, whose first BatchNorm keeps momentum 0.1 and whose second has
    `momentum`; without, the shallow one, whose momentum is always 0.1 (docs/methods.md, AVCA). Parameters are named
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
        """Output [B, g, out] of g calls stacked in x [B, g, in]; see `block_layer`."""
        for i in range(0, len(self.fc), 4):
            layer, norm = self.fc[i], self.fc[i + 1]
            assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
            x = block_layer(x, layer, norm, self.dropout, training=self.training, track_statistics=track_statistics)
        return x

    def count_call(self) -> None:
        """Count a call that was skipped, so that num_batches_tracked stays as published."""
        for layer in self.fc:
            if isinstance(layer, nn.BatchNorm1d):
                _count_calls(layer, 1)


@torch.no_grad()
def _move_running_statistics(norm: nn.BatchNorm1d, means: Tensor, variances: Tensor) -> None:
    """Let the running statistics take the groups' statistics [g, C] in order."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    for mean, variance in zip(means, variances, strict=True):
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance, norm.momentum)


def _count_calls(norm: nn.BatchNorm1d, calls: int) -> None:
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(calls)


class _PreNorm(nn.Module):
    """LayerNorm and the layer after it; only its names matter here."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class _MixPair(torch.autograd.Function):
    """Attention between two tokens: query, key, value [N, 2, 3, heads, d] -> mixed values [N, 2, heads, d].

    A softmax over two scores is a sigmoid of their difference, so a head needs one product of the query with the
    difference of the keys instead of a 2x2 matrix per sample. With s the share of the first token, the mixed value is
    value_1 + s (value_0 - value_1).
    """

    @staticmethod
    def forward(ctx: Any, projections: Tensor) -> Tensor:
        query, key, value = projections.unbind(2)
        key_difference = (key[:, 0] - key[:, 1])[:, None]
        value_difference = (value[:, 0] - value[:, 1])[:, None]
        scale = projections.shape[-1] ** -0.5
        share = (query * key_difference).sum(-1, keepdim=True).mul_(scale).sigmoid_()  # of the first token
        ctx.save_for_backward(projections, key_difference, value_difference, share)
        ctx.scale = scale
        return torch.addcmul(value[:, 1:], share, value_difference)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        projections, key_difference, value_difference, share = ctx.saved_tensors
        for_share = (gradient * value_difference).sum(-1, keepdim=True)
        for_score = for_share * (share * (1 - share) * ctx.scale)  # the derivative of a sigmoid is s (1 - s)
        # Each gradient is written into its place among the projections [N, token, part, heads, d], the parts being
        # query, key and value; three tensors of their own would have to be stacked afterwards.
        out = torch.empty_like(projections)
        torch.mul(for_score, key_difference, out=out[:, :, 0])  # of both queries
        # Only the difference of the keys counts, so the gradient of the second key is that of the first, negated.
        torch.sum(for_score * projections[:, :, 0], 1, out=out[:, 0, 1])
        torch.neg(out[:, 0, 1], out=out[:, 1, 1])
        # The two shares add up to 1: what the first value does not get of the gradient belongs to the second.
        torch.sum(gradient * share, 1, out=out[:, 0, 2])
        torch.sub(gradient.sum(1), out[:, 0, 2], out=out[:, 1, 2])
        return out


class _PairAttention(nn.Module):
    """Multi-head self-attention over exactly two tokens, x [N, 2, width]."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout = heads, head_width, dropout
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        projections = linear(x, self.to_qkv).view(len(x), 2, 3, self.heads, self.head_width)
        mixed = _MixPair.apply(projections).flatten(-2)
        out = linear(mixed, self.to_out[0])  # type: ignore[arg-type]
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
        """x [N, 2, width] -> the same shape."""
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = x + attention(x)
            x = x + feed_forward(x)
        return x
