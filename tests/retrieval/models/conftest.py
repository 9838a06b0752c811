"""Fixtures of the models' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from recorded_avlnet import Recorded


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small sizes: threads that wait for each other cost more than they save, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
