"""The product of a linear layer beside torch's own, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from avpipe.training.products import differentiable_product, product

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}  # sums in another order


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_and_their_gradients(dtype: torch.dtype, with_bias: bool) -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(n, 7, dtype=dtype, requires_grad=True) for n in (11, 5))
    bias = torch.randn(5, dtype=dtype, requires_grad=True) if with_bias else None
    inputs = (x, weight) if bias is None else (x, weight, bias)
    found = differentiable_product(x, weight, bias)
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.dtype == dtype and relative(found, expected) < TOLERANCE[dtype]
    assert torch.equal(found, product(x.detach(), weight.detach(), None if bias is None else bias.detach()))
    # The gradient of a sum has no memory of its own for each of its elements.
    for one, other in zip(
        torch.autograd.grad(found.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), strict=True
    ):
        assert relative(one, other) < TOLERANCE[dtype]


def test_without_the_fast_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(11, 7), torch.randn(5, 7), torch.randn(5)
    fast = product(x, weight, bias)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert relative(product(x, weight, bias), fast) < TOLERANCE[torch.float32]
