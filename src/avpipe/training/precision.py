"""In which precision networks compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from avpipe.settings import Precision

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let networks compute in a precision inside the block; what was set before is put back.

    Args:
        device: where they compute.
        precision: "bfloat16" or "float16": most layers compute in it, from float32 weights; else `float32_products`.
    """
    half = _HALVES.get(precision)
    autocast = torch.autocast(device.type, dtype=half, enabled=half is not None)
    with autocast, float32_products(precision):
        yield


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Whether a GPU may shorten the factors of float32 products to TF32 inside the block; what was set is put back.

    Args:
        precision: "tf32" allows it; "float32", "bfloat16" and "float16" do not. (torch's own default allows it in
            convolutions.)
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def loss_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss up where float16 would lose small gradients, and skips steps that overflow; else does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
