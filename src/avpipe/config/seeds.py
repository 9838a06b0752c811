"""Lists of seeds in the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def check_seeds(value: list[int]) -> list[int]:
    """Seeds as torch's generators take them, each once."""
    if len(set(value)) < len(value) or min(value, default=0) < 0 or max(value, default=0) >= 2**63:
        raise ValueError(f"seeds must be different whole numbers from 0 to 2^63 - 1, found {value}")
    return value


Seeds = Annotated[list[int], AfterValidator(check_seeds)]
