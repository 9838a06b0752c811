"""Class-balanced pairs of clips, a whole epoch at a time (docs/methods.md, Pairs of clips).

The published program draws every index of a batch from weights 1/(C n_c) over the clips: that is a class drawn
uniformly, then one of its clips drawn uniformly. The negative of a pair is a uniform clip of a class drawn
uniformly from the other C - 1. Draws are independent and with replacement, so an epoch's can be made at once; they
depend on the generator alone, not on workers. (The published second positive is drawn and thrown away: left out.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from avpipe.errors import AvpipeError


class PairSampler:
    """Draws positive and negative clips; classes without clips cannot occur in either.

    Args:
        class_ids: int64 [n], the class of every clip; any ids, in any order. The draws are made on its device.

    Raises:
        AvpipeError: fewer than two classes have clips, so there is no negative.
    """

    def __init__(self, class_ids: Tensor) -> None:
        classes, self._counts = torch.unique(class_ids, sorted=True, return_counts=True)
        self.n_classes = len(classes)
        if self.n_classes < 2:
            raise AvpipeError(
                f"Training pairs need clips of at least 2 classes, found {self.n_classes} ({len(class_ids)} clips). "
                "Check the split and that features were extracted."
            )
        self._clips = torch.argsort(class_ids, stable=True)
        self._starts = self._counts.cumsum(0) - self._counts

    def draw(self, batches: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows of the positive and the negative clips of an epoch.

        Args:
            batches: batches in the epoch.
            batch_size: pairs in a batch.
            generator: of the same device as the clips' classes.

        Returns:
            Two int64 tensors [batches, batch_size].
        """
        shape = (batches, batch_size)
        device = self._clips.device
        positive = torch.randint(self.n_classes, shape, generator=generator, device=device)
        other = torch.randint(self.n_classes - 1, shape, generator=generator, device=device)
        negative = other + (other >= positive)  # the positive's class is skipped
        return self._clip_of(positive, generator), self._clip_of(negative, generator)

    def _clip_of(self, position: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform clip of each class; float64 has 53 random bits, so the product never rounds up to the count."""
        share = torch.rand(position.shape, generator=generator, device=position.device, dtype=torch.float64)
        offset = (share * self._counts[position]).long()
        return self._clips[self._starts[position] + offset]
