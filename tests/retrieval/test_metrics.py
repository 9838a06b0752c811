"""Ranks and metrics by hand, with ties, and against the published counting where nothing is tied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.retrieval.metrics import metrics_of_ranks, ranks, ranks_of, retrieval_metrics


def published(similarity: np.ndarray, n_queries: int) -> dict[str, float]:
    """R@k and median rank as published: every position whose score equals the truth's is counted.

    Source: docs/methods.md, Retrieval metrics.
    """
    descending = -np.sort(-similarity, axis=1)
    positions = np.nonzero(descending == np.diag(similarity)[:, None])[1]
    found = {f"r{k}": float((positions < k).sum() / n_queries) for k in (1, 5, 10)}
    return {**found, "median_rank": float(np.median(positions)) + 1}


def random_scores(n_queries: int, n_candidates: int) -> np.ndarray:
    return np.random.default_rng(n_queries).standard_normal((n_queries, n_candidates))


def test_by_hand() -> None:
    similarity = [[3.0, 1, 2, 0], [9, 8, 7, 6], [1, 2, 0, 3]]  # ranks 1, 2 and 4
    assert ranks(similarity).tolist() == [1, 2, 4]
    found = retrieval_metrics(similarity)
    assert found["r1"] == pytest.approx(1 / 3) and found["r5"] == found["r10"] == 1
    assert found["median_rank"] == found["median_rank_with_misses"] == 2
    assert found["mean_rank"] == pytest.approx(7 / 3)
    assert (found["n_queries"], found["n_ranked"], found["gallery"], found["n_tied"]) == (3, 3, 4, 0)


def test_ties_count_against_the_query_once() -> None:
    similarity = [[2.0, 2, 1], [0, 1, 0], [5, 5, 5]]
    assert ranks(similarity).tolist() == [2, 1, 3]
    assert retrieval_metrics(similarity)["n_tied"] == 2


def test_a_constant_matrix_is_no_success() -> None:
    """The published counting gives R@1 = 1, R@5 = 5 and R@10 = 10."""
    found = retrieval_metrics(np.ones((20, 20)))
    assert [found[f"r{k}"] for k in (1, 5, 10)] == [0, 0, 0]
    assert found["median_rank"] == 20 and found["n_tied"] == 20


def test_equals_the_published_counting_without_ties() -> None:
    similarity = random_scores(97, 97)
    similarity[np.arange(97), np.arange(97)] += 2
    for transposed in (False, True):
        scores = similarity.T if transposed else similarity
        for n_queries in (97, 100):
            found = retrieval_metrics(scores, n_queries=n_queries)
            expected = published(scores, n_queries)
            assert {key: found[key] for key in expected} == expected


def test_missing_queries_are_misses() -> None:
    found = retrieval_metrics(np.eye(3), n_queries=4)
    assert found["r1"] == 0.75 and found["median_rank"] == 1 and found["median_rank_with_misses"] == 1
    assert retrieval_metrics(np.eye(3), n_queries=6)["median_rank_with_misses"] is None  # between rank 1 and a miss
    assert retrieval_metrics(np.eye(3), n_queries=7)["median_rank_with_misses"] is None
    assert retrieval_metrics(np.eye(3), n_queries=7)["mean_rank"] == 1


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.where(np.eye(4) > 0, [[0], [np.nan], [0], [np.nan]], 0.0), r"2 queries \(rows 1, 3\)"),
        (np.where(np.arange(16).reshape(4, 4) == 14, np.nan, 0.0), r"1 queries \(rows 3\)"),
        (np.diag([1.0, np.inf, 1, -np.inf]), r"rows 1, 3"),
        (np.zeros((4, 3)), "4 queries and 3 candidates"),
        (np.zeros(4), r"shape \[4\]"),
        (np.zeros((0, 3)), "no query has a rank"),
        ([], r"shape \[0\]"),
        ([[1, 2], [3]], "make no array"),
        (torch.eye(2).to_sparse(), "make no array"),
        ([["a", "b"], ["c", "d"]], r"shape \[2, 2\], type <U1; expected real numbers"),
        (np.eye(2, dtype=object), "type object; expected real numbers"),
        (np.eye(2) * 1j, "type complex128; expected real numbers"),
    ],
)
def test_what_cannot_be_ranked_is_refused(similarity: Any, message: str) -> None:
    with pytest.raises(AvpipeError, match=message):
        retrieval_metrics(similarity)


@pytest.mark.parametrize("n_queries", [4.5, float("inf"), float("nan"), "3", True, [3]])
def test_a_number_of_queries_that_is_no_whole_number_is_refused(n_queries: Any) -> None:
    with pytest.raises(AvpipeError, match=r"n_queries is .*; expected a whole number"):
        retrieval_metrics(np.eye(1), n_queries=n_queries)


def test_a_whole_number_of_any_type_and_size_is_taken() -> None:
    for n_queries in (5, 5.0, np.int64(5), np.float32(5)):
        found = retrieval_metrics(np.eye(3), n_queries=n_queries)
        assert (type(found["n_queries"]), found["n_queries"], found["r1"]) == (int, 5, 0.6)
        assert found["median_rank_with_misses"] == 1
    found = retrieval_metrics(np.eye(2), n_queries=10**12)  # as an array: 8 TB
    assert found["r1"] == 2e-12 and found["median_rank_with_misses"] is None


def test_the_median_with_misses_equals_that_of_all_ranks() -> None:
    for n_missing in range(8):
        ranked = np.array([3, 1, 7, 2, 9, 4])
        expected = np.median([*ranked, *[1e9] * n_missing])
        found = metrics_of_ranks(ranked, n_tied=0, gallery=9, n_queries=6 + n_missing)["median_rank_with_misses"]
        assert found == (expected if expected < 1e8 else None)


def test_queries_are_counted_by_ranks_that_double() -> None:
    for ranked, counts in (
        ([1], [1]),
        ([1, 2, 3, 4, 5, 8, 9], [1, 1, 2, 2, 1]),
        ([2**40, 2**40 + 1], [0] * 40 + [1, 1]),
    ):
        found = metrics_of_ranks(np.array(ranked), n_tied=0, gallery=2**41)
        assert found["rank_counts"] == counts


def test_more_ranks_than_queries_are_refused() -> None:
    with pytest.raises(AvpipeError, match="3 queries have ranks, but n_queries is 2"):
        retrieval_metrics(np.eye(3), n_queries=2)
    with pytest.raises(AvpipeError, match="3 queries have ranks"):
        metrics_of_ranks(np.array([1, 2, 3]), n_tied=0, gallery=3, n_queries=2)


def test_an_infinite_score_of_another_candidate_can_be_ranked() -> None:
    assert ranks([[1.0, -np.inf], [np.inf, 1.0]]).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_are_taken_as_arrays_are(dtype: torch.dtype) -> None:
    scores = torch.tensor(random_scores(9, 12)).to(dtype)
    assert ranks(scores.requires_grad_()).tolist() == ranks(scores.detach().double().numpy()).tolist()


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_whole_numbers_are_compared_exactly(make: Any) -> None:
    """In float32 the first row would be tied, and in float64 the second."""
    similarity = make([[2**40, 2**40 + 1], [2**60, 2**60 + 1]])
    assert retrieval_metrics(similarity)["n_tied"] == 0
    assert ranks(similarity).tolist() == [2, 1]
    assert ranks(make([[True, False], [True, True]])).tolist() == [1, 2]


def embeddings(n_queries: int, n_candidates: int) -> Any:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n_queries, 8, generator=generator), torch.randn(n_candidates, 8, generator=generator)


def test_chunks_change_nothing() -> None:
    queries, candidates = embeddings(23, 31)
    expected = ranks(queries.double() @ candidates.double().T)
    for chunk in (None, 1, 7, 23):
        found, n_tied = ranks_of(queries.double(), candidates.double(), chunk=chunk)
        assert found.dtype == np.int64 and found.tolist() == expected.tolist() and n_tied == 0


def test_equal_candidates_are_tied_whatever_rounding_does() -> None:
    """Copies at either end of an odd-sized gallery may be multiplied by different kernels of the library."""
    generator = torch.Generator().manual_seed(0)
    candidates = torch.randn(131, 257, generator=generator)
    candidates[[100, 130]] = candidates[0].clone()
    queries = candidates.clone() * 3
    found, n_tied = ranks_of(queries, candidates, chunk=50)
    assert n_tied == 3 and found[[0, 100, 130]].tolist() == [3, 3, 3]
    assert (np.delete(found, [0, 100, 130]) == 1).all()


def test_zero_and_minus_zero_are_equal() -> None:
    candidates = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert ranks_of(candidates, candidates) == (pytest.approx([2, 2]), 2)


def test_chunked_ranks_name_the_row_of_a_nan() -> None:
    queries, candidates = embeddings(10, 10)
    queries[7, 2] = float("nan")
    with pytest.raises(AvpipeError, match=r"rows 7\)"):
        ranks_of(queries, candidates, chunk=4)
    with pytest.raises(AvpipeError, match="of one D"):
        ranks_of(queries, candidates[:, :5])


def test_embeddings_without_numbers_or_types_in_common_are_refused() -> None:
    queries, candidates = embeddings(3, 4)
    for chunk, message in {0: "chunk is 0; expected at least 1", -2: "at least 1", 1.5: "a whole number"}.items():
        with pytest.raises(AvpipeError, match=message):
            ranks_of(queries, candidates, chunk=chunk)  # type: ignore[arg-type]
    with pytest.raises(AvpipeError, match=r"shapes \[3, 0\] and \[4, 0\].*of one D from 1"):
        ranks_of(queries[:, :0], candidates[:, :0])
    others: list[Any] = [candidates.numpy(), candidates.tolist(), candidates.double(), candidates.long()]
    for other in others:
        with pytest.raises(AvpipeError, match="expected two tensors of one floating-point type"):
            ranks_of(queries, other)
    assert ranks_of(queries[:0], candidates)[0].shape == (0,)
