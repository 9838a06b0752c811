"""DEVISE: hinge loss over all wrong classes (NIPS 2013; docs/methods.md, ALE, DEVISE and SJE)."""

from __future__ import annotations

from torch import Tensor

from avpipe.gzsl.models.compatibility import Compatibility


class DEVISE(Compatibility):
    """Every class that violates the margin counts by how far it does."""

    def clip_losses(self, violations: Tensor) -> Tensor:
        """Sum over the classes: [B, C] -> [B]."""
        return violations.sum(1)
