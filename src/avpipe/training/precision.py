"""In which arithmetic the networks compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Whether a GPU may shorten float32 factors to TF32 inside the block; what was set before is put back.

    Args:
        precision: "tf32" allows it; "float32", "bfloat16" and "float16" do not.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def mixed(precision: str, device: torch.device) -> torch.autocast:
    """A block in which networks compute in half precision if `precision` says so; weights stay float32."""
    return torch.autocast(device.type, _HALVES.get(precision, torch.bfloat16), enabled=precision in _HALVES)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss up where float16 would lose small gradients, and skips steps that overflow; else does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
