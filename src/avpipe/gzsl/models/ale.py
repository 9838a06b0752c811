"""ALE: hinge loss weighted by the rank of the true class (PAMI 2016; docs/methods.md, ALE, DEVISE and SJE)."""

from __future__ import annotations

import torch
from torch import Tensor

from avpipe.gzsl.models.compatibility import Compatibility

_RANK_EPS = 1e-8  # of the published formula; makes the weight of rank 0 a zero instead of 0/0


class ALE(Compatibility):
    """As DEVISE, but a clip's sum is averaged over the violating classes and multiplied by H(their number)."""

    def clip_losses(self, violations: Tensor) -> Tensor:
        """Weighted sum over the classes: [B, C] -> [B]; the weights carry no gradient."""
        weights = rank_weights(violations.shape[1], violations)
        ranks = (violations > 0).sum(1)
        return weights.index_select(0, ranks) * violations.sum(1)


def rank_weights(n_classes: int, like: Tensor) -> Tensor:
    """H(r) / (r + 1e-8) for the ranks r = 0 ... C - 1, where H(r) = 1 + 1/2 + ... + 1/r: [C], type and place of `like`.

    Made anew in every step: a few operations on C numbers, which wait for nothing and set no limit to C.
    """
    ranks = torch.arange(n_classes, dtype=like.dtype, device=like.device)
    harmonic = torch.cat((ranks[:1], ranks[1:].reciprocal().cumsum(0)))
    return harmonic / (ranks + _RANK_EPS)
