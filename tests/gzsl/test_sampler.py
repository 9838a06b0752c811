"""The pair sampler's distribution (chi-square at fixed seeds) and its independence of everything but the generator."""

from __future__ import annotations

import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.gzsl.sampler import PairSampler

CLASS_IDS = torch.tensor([7, 2, 2, 7, 7, 40, 2, 7, 40, 7, 11])  # 3, 5, 1 and 2 clips
BATCHES, SIZE = 100, 400


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return PairSampler(CLASS_IDS).draw(BATCHES, SIZE, torch.Generator().manual_seed(seed))


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_clips_follow_the_balanced_distribution() -> None:
    n_classes, draws = 4, BATCHES * SIZE
    sizes = torch.tensor([CLASS_IDS.eq(c).sum() for c in CLASS_IDS])
    expected = draws / (n_classes * sizes.double())
    for clips in draw():
        counts = torch.bincount(clips.flatten(), minlength=len(CLASS_IDS)).double()
        assert chi_square(counts, expected) < 29.6  # 99.9 % quantile, 10 degrees of freedom


def test_negative_classes_are_uniform_over_the_others() -> None:
    positive, negative = (CLASS_IDS[clips.flatten()] for clips in draw())
    assert not bool((positive == negative).any())
    classes = CLASS_IDS.unique()
    for c in classes:
        others = negative[positive == c]
        counts = torch.stack([(others == other).sum() for other in classes if other != c]).double()
        assert chi_square(counts, torch.full((3,), len(others) / 3)) < 13.8  # 99.9 %, 2 degrees of freedom


def test_the_generator_alone_decides() -> None:
    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (BATCHES, SIZE)


def test_one_class_is_not_enough() -> None:
    with pytest.raises(AvpipeError, match="at least 2 classes, found 1"):
        PairSampler(torch.tensor([5, 5, 5]))
