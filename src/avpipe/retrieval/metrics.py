"""Retrieval metrics with one rank for each query, however scores are tied (docs/methods.md, Retrieval metrics)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    import torch

TIES = "pessimistic"
_AT = (1, 5, 10)
_REAL = "fiub"  # numpy's kinds of floats, whole numbers and truth values
_CELLS = 1 << 24  # scores held at once by `ranks_of`: 64 MiB in float32

Ranks = npt.NDArray[np.int64]


def retrieval_metrics(similarity: npt.ArrayLike | torch.Tensor, *, n_queries: int | None = None) -> dict[str, Any]:
    """Metrics of a matrix of similarities.

    Args:
        similarity: [Q, C], Q at most C; the truth of query i is candidate i.
        n_queries: queries of the benchmark, those without a row included: these count as misses.

    Returns:
        As `metrics_of_ranks`.

    Raises:
        AvpipeError: no matrix of real numbers, NaN, an infinite score of a truth, more queries than candidates, or
            `n_queries` that is no whole number or less than the rows.
    """
    scores = _as_matrix(similarity)
    ranks, n_tied = _ranks_and_ties(scores, np.arange(len(scores)), 0)
    return metrics_of_ranks(ranks, n_tied=n_tied, gallery=scores.shape[1], n_queries=n_queries)


def ranks(similarity: npt.ArrayLike | torch.Tensor) -> Ranks:
    """Rank of each query's truth, int64 [Q] from 1; arguments and errors as of `retrieval_metrics`."""
    scores = _as_matrix(similarity)
    return _ranks_and_ties(scores, np.arange(len(scores)), 0)[0]


def ranks_of(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    *,
    query_clips: Sequence[int] | None = None,
    candidate_clips: Sequence[int] | None = None,
    chunk: int | None = None,
) -> tuple[Ranks, int]:
    """Ranks of clips without ever holding the whole matrix of similarities.

    Scores come from one matrix product for each chunk of queries, the truth's too. Candidates with equal embeddings
    are tied whatever rounding makes of their scores.

    Args:
        queries: [Q, D].
        candidates: [C, D], on the device of the queries.
        query_clips: [Q], the clip that is right for each query; None: clip i for query i.
        candidate_clips: [C], the clip that each candidate stands for, 0 to n - 1: a clip that several stand for has
            the best of their scores; None: candidate i for clip i.
        chunk: queries at once; None: as many as keep the scores within 64 MiB in float32.

    Returns:
        Ranks int64 [Q] from 1 among the clips (ties count against the query), and the number of queries whose truth is
        tied.

    Raises:
        AvpipeError: embeddings that are no floating-point tensors, or of other shapes or of two types; a `chunk` that
            is no whole number from 1; or as `retrieval_metrics`.
    """
    import torch

    _check_embeddings(queries, candidates)
    clips = None if candidate_clips is None else torch.as_tensor(candidate_clips, device=queries.device)
    n_clips = len(candidates) if clips is None else int(clips.max()) + 1
    if query_clips is None:
        _check_shape(len(queries), n_clips)
    truth = torch.as_tensor(range(len(queries)) if query_clips is None else query_clips, device=queries.device)
    alike = _first_alike(candidates)
    chunk = max(1, _CELLS // max(1, len(candidates))) if chunk is None else _whole("chunk", chunk)
    if chunk < 1:
        raise AvpipeError(f"Retrieval: chunk is {chunk}; expected at least 1, or None to have it chosen.")
    found, n_tied = [np.zeros(0, np.int64)], 0
    for start in range(0, len(queries), chunk):
        scores = (queries[start : start + chunk] @ candidates.T)[:, alike]
        if clips is not None:
            lowest = torch.full((len(scores), n_clips), -torch.inf, dtype=scores.dtype, device=scores.device)
            scores = lowest.scatter_reduce(1, clips.expand(len(scores), -1), scores, "amax")  # NaN stays NaN
        each, tied = _ranks_and_ties(scores, truth[start : start + chunk], start)
        found.append(each)
        n_tied += tied
    return np.concatenate(found), n_tied


def metrics_of_ranks(ranks: Ranks, *, n_tied: int, gallery: int, n_queries: int | None = None) -> dict[str, Any]:
    """Metrics of ranks.

    Args:
        ranks: int64 [n], ranks from 1 of the queries that have one.
        n_tied: how many of them are tied with another candidate.
        gallery: number of candidates.
        n_queries: all queries; None: those with a rank. 5.0 is taken for 5.

    Returns:
        r1, r5, r10 (fractions of `n_queries`, 0 to 1); median_rank and mean_rank (from 1, over ranked queries);
        median_rank_with_misses (misses last; None where the median is a miss); n_queries, n_ranked, gallery, n_tied
        and ties, the rule; rank_counts, how many queries have rank 1, 2, 3 to 4, 5 to 8 and so on.

    Raises:
        AvpipeError: no ranks, or more than `n_queries`, or that is no whole number.
    """
    n_queries = len(ranks) if n_queries is None else _whole("n_queries", n_queries)
    if not len(ranks):
        raise AvpipeError("Retrieval: no query has a rank; expected at least one clip with all its features.")
    if n_queries < len(ranks):
        raise AvpipeError(
            f"Retrieval: {len(ranks)} queries have ranks, but n_queries is {n_queries}. Expected the number of all "
            "queries of the benchmark, those without features included; correct `expected` of the subset."
        )
    middle = [(n_queries - 1) // 2, n_queries // 2]  # places in the order of all queries; from len(ranks) on: misses
    return {
        **{f"r{k}": int((ranks <= k).sum()) / n_queries for k in _AT},
        "median_rank": float(np.median(ranks)),
        "mean_rank": float(ranks.mean()),
        "median_rank_with_misses": float(np.sort(ranks)[middle].mean()) if middle[1] < len(ranks) else None,
        "n_queries": n_queries,
        "n_ranked": len(ranks),
        "gallery": int(gallery),
        "n_tied": int(n_tied),
        "ties": TIES,
        "rank_counts": np.bincount(np.ceil(np.log2(ranks)).astype(np.int64)).tolist(),
    }


def _as_matrix(similarity: npt.ArrayLike | torch.Tensor) -> npt.NDArray[Any]:
    try:
        if hasattr(similarity, "detach"):
            similarity = similarity.detach().cpu()
            if similarity.dtype.is_floating_point and similarity.element_size() < 4:
                similarity = similarity.float()  # numpy has no bfloat16
            similarity = similarity.numpy()
        scores = np.asarray(similarity)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of unequal lengths, sparse tensors
        raise AvpipeError(
            f"Retrieval: similarities that make no array ({error}); expected [queries, candidates]."
        ) from error
    if scores.ndim != 2 or scores.dtype.kind not in _REAL:
        raise AvpipeError(
            f"Retrieval: similarities of shape {list(scores.shape)}, type {scores.dtype}; expected real numbers "
            "[queries, candidates]."
        )
    _check_shape(*scores.shape)
    return scores


def _whole(name: str, value: Any) -> int:
    """A whole number as int, and 5.0 as 5."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool) and float(value).is_integer():
        return int(float(value))
    raise AvpipeError(f"Retrieval: {name} is {value!r}; expected a whole number.")


def _check_embeddings(queries: Any, candidates: Any) -> None:
    import torch

    both = (queries, candidates)
    kinds = [f"{each.dtype} on {each.device}" if torch.is_tensor(each) else type(each).__name__ for each in both]
    if not all(torch.is_tensor(each) and each.is_floating_point() for each in both) or kinds[0] != kinds[1]:
        raise AvpipeError(
            f"Retrieval: embeddings as {kinds[0]} and {kinds[1]}; expected two tensors of one floating-point type on "
            "one device. Bring them there with torch.as_tensor."
        )
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1] or not queries.shape[1]:
        raise AvpipeError(
            f"Retrieval: embeddings of shapes {list(queries.shape)} and {list(candidates.shape)}; expected [Q, D] "
            "and [C, D] of one D from 1."
        )


def _ranks_and_ties(scores: Any, clips: Any, start: int) -> tuple[Ranks, int]:
    """Ranks of clip clips[i] in row i of an array or a tensor, of which `start` rows came before; and the ties."""
    truth = scores[list(range(len(scores))), clips][:, None]
    bad = np.asarray(((scores != scores).any(1) | ~(abs(truth[:, 0]) < math.inf)).tolist(), bool)
    if bad.any():
        rows = np.flatnonzero(bad) + start
        raise AvpipeError(
            f"Retrieval: {len(rows)} queries (rows {', '.join(map(str, rows[:10]))}{', ...' * (len(rows) > 10)}) have "
            "scores that are NaN, or a truth whose score is infinite; expected numbers. Check the features and "
            "weights of these clips."
        )
    larger, equal = (scores > truth).sum(1), (scores == truth).sum(1) - 1
    return np.asarray((1 + larger + equal).tolist(), np.int64), int((equal > 0).sum())


def _check_shape(n_queries: int, n_candidates: int) -> None:
    if n_queries > n_candidates:
        raise AvpipeError(
            f"Retrieval: {n_queries} queries and {n_candidates} candidates; expected at least as many candidates, "
            "candidate i being the truth of query i."
        )


def _first_alike(rows: torch.Tensor) -> torch.Tensor:
    """For each row the first one with equal values; int64 on the device of the rows."""
    import torch

    values = (rows.detach() + 0.0).cpu()  # adding makes -0.0 the same bytes as 0.0
    if values.dtype == torch.bfloat16:
        values = values.float()
    table = np.ascontiguousarray(values.numpy())
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1])))[:, 0]
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return torch.as_tensor(first[group], dtype=torch.int64, device=rows.device)
