"""SJE: structured hinge loss, only the worst class counts (CVPR 2015; docs/methods.md, ALE, DEVISE and SJE)."""

from __future__ import annotations

from torch import Tensor

from avpipe.gzsl.models.compatibility import Compatibility


class SJE(Compatibility):
    """The class that violates the margin most counts by how far it does."""

    def clip_losses(self, violations: Tensor) -> Tensor:
        """Largest violation: [B, C] -> [B]. Among equal ones the gradient goes to a single class, as published."""
        return violations.max(1).values
