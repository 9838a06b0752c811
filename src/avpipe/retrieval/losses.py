"""The loss of the AVLnet models: masked margin softmax (docs/methods.md, Loss)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from avpipe.errors import AvpipeError


def masked_margin_softmax(similarity: Tensor, margin: float = 0.001) -> Tensor:
    """Cross-entropy of rows plus that of columns, after the margin is taken off the diagonal; a scalar.

    Nothing is masked, despite the name: every clip of the batch is a negative of every other. Half precision and
    less is computed in float32.

    Args:
        similarity: [B, B], the truth on the diagonal.
        margin: taken off the diagonal.

    Raises:
        AvpipeError: no tensor, or the matrix is not square, or empty.
    """
    if not isinstance(similarity, Tensor):
        raise AvpipeError(
            f"Masked margin softmax: similarities as {type(similarity).__name__}; expected a tensor [B, B]. Give "
            "torch.as_tensor of them."
        )
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise AvpipeError(
            f"Masked margin softmax: similarities of shape {list(similarity.shape)}; expected [B, B] with B at least "
            "1: as many candidates as queries, in the same order."
        )
    if similarity.dtype.itemsize < 4:
        similarity = similarity.float()
    similarity = similarity - margin * torch.eye(len(similarity), dtype=similarity.dtype, device=similarity.device)
    truth = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, truth) + F.cross_entropy(similarity.T, truth)
