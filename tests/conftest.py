"""Shared fixtures."""

import os

import pytest

# One thread a worker: two workers on two cores are faster than two threads each. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def gpu() -> str:
    """Skips without a GPU, but fails where AVPIPE_REQUIRE_GPU=1 promises one."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("AVPIPE_REQUIRE_GPU") == "1":
        pytest.fail("AVPIPE_REQUIRE_GPU=1, but torch finds no GPU")
    pytest.skip("no GPU here")
