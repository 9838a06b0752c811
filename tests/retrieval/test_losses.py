"""The masked margin softmax against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.retrieval.losses import masked_margin_softmax


def by_definition(similarity: np.ndarray, margin: float) -> float:
    z = similarity - margin * np.eye(len(similarity))
    rows = np.log(np.exp(z).sum(axis=1)) - np.diag(z)
    columns = np.log(np.exp(z).sum(axis=0)) - np.diag(z)
    return float((rows + columns).mean())


def test_sums_both_directions_with_the_margin_off_the_diagonal() -> None:
    similarity = np.random.default_rng(0).standard_normal((5, 5))
    for margin in (0.001, 0.5):
        loss = masked_margin_softmax(torch.tensor(similarity), margin)
        assert loss.dtype == torch.float64
        assert loss.item() == pytest.approx(by_definition(similarity, margin), rel=1e-14)  # rounding of float64


def test_large_scores_do_not_overflow() -> None:
    """Dot products of unnormalised embeddings of dimension 4096 reach hundreds."""
    loss = masked_margin_softmax(torch.tensor([[900.0, 0.0], [0.0, 900.0]]))
    assert loss.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    loss = masked_margin_softmax(similarity)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, masked_margin_softmax(similarity.float()))


@pytest.mark.parametrize("shape", [(3, 4), (4,), (0, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AvpipeError, match=r"expected \[B, B\]"):
        masked_margin_softmax(torch.zeros(shape))


@pytest.mark.parametrize("similarity", [np.eye(3), [[1.0, 0.0], [0.0, 1.0]]], ids=["array", "list"])
def test_what_is_no_tensor_is_refused(similarity: Any) -> None:
    with pytest.raises(AvpipeError, match=r"similarities as \w+; expected a tensor \[B, B\]"):
        masked_margin_softmax(similarity)
