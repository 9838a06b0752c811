"""Which of several captions ask in tests: ranks by hand, every caption against tests one caption at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_retrieval import SIZES, make_pack, word_table

from avpipe.retrieval import models, testing
from avpipe.retrieval.embedding import Reading, embed_pack, query_captions
from avpipe.retrieval.metrics import ranks_of
from avpipe.retrieval.packs import Pack

ALL = Reading(window=80, max_words=5, long_clips="cut", captions="all")
FIRST = replace(ALL, captions="first")


class GivenScores:
    """A model with text whose queries score as they are told to."""

    uses_text = True

    def __init__(self, scores: list[list[float]]) -> None:
        self.scores = torch.tensor(scores, dtype=torch.float64)

    def query_of(self, _: Any) -> torch.Tensor:
        return self.scores

    def candidates_of(self, _: Any) -> torch.Tensor:
        return torch.eye(self.scores.shape[1], dtype=torch.float64)


def score(monkeypatch: pytest.MonkeyPatch, scores: list[list[float]], counts: list[int], **changes: Any) -> Any:
    """A test of clips with so many captions each; row i of the scores is caption i's with every clip."""
    pack = make_pack(len(counts))
    texts = [tuple(f"pan {clip} {n}" for n in range(count)) for clip, count in enumerate(counts)]
    given = {"captions": texts, "eval_captions": [""] * len(counts)} | changes
    monkeypatch.setattr(testing, "embed_pack", lambda *_: {})
    expected, reading = given.pop("expected", None), given.pop("reading", ALL)
    pack = replace(pack, **given)
    gallery = testing.open_gallery(pack, word_table(), reading, expected=expected, diagnostic=False, name="test")
    return testing.score_gallery(GivenScores(scores), gallery)


# Captions 0 and 1 are clip 0's, 2 is clip 1's, 3 to 5 are clip 2's.
SCORES = [[3, 1, 2], [1, 2, 3], [2, 2, 1], [0, 1, 5], [4, 3, 1], [1, 2, 2]]
OWNERS = [0, 0, 1, 2, 2, 2]


def test_ranks_by_hand() -> None:
    queries, candidates = torch.tensor(SCORES, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    for chunk in (None, 1, 4):
        found, n_tied = ranks_of(queries, candidates, query_clips=OWNERS, chunk=chunk)
        assert found.tolist() == [1, 3, 2, 1, 3, 2] and n_tied == 2
        # The other way the clips have the scores 3, 2, 4; 2, 2, 3; and 3, 1, 5 with the best captions of each.
        found, n_tied = ranks_of(candidates, queries, candidate_clips=OWNERS, chunk=chunk)
        assert found.tolist() == [2, 3, 1] and n_tied == 1


def test_every_caption_is_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    result = score(monkeypatch, SCORES, [2, 1, 3])
    asked = result.language_to_video
    assert (asked.n_queries, asked.n_ranked, asked.gallery, asked.n_tied) == (6, 6, 3, 2)
    assert asked.r1 == pytest.approx(100 * 2 / 6) and asked.r5 == 100 and asked.mean_rank == 2
    back = result.video_to_language
    assert (back.n_queries, back.gallery, back.n_tied) == (3, 3, 1) and back.r1 == pytest.approx(100 / 3)
    assert result.captions.to_json() == {"rule": "all", "used": 6, "total": 6}
    assert result.protocol.startswith("Each of 6 captions is a query for its clip against a gallery of 3;")


def test_clips_that_are_missing_miss_with_as_many_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    result = score(monkeypatch, SCORES, [2, 1, 3], expected=4)
    assert result.language_to_video.n_queries == 8 and result.language_to_video.r1 == 25  # 2 captions a clip
    assert result.video_to_language.n_queries == 4 and result.video_to_language.r1 == 25
    assert "2 captions of 1 clips without features counted as missed" in result.protocol


def test_twenty_captions_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MSR-VTT has them, and a clip of six without features."""
    scores = np.random.default_rng(3).normal(size=(100, 5)).round(2)
    result = score(monkeypatch, scores.tolist(), [20] * 5, expected=6)
    owners = np.repeat(np.arange(5), 20)
    own = scores[np.arange(100), owners][:, None]
    ranks = (scores >= own).sum(axis=1)
    asked = result.language_to_video
    assert asked.n_queries == 120 and asked.r1 == pytest.approx(100 * (ranks == 1).sum() / 120)
    assert asked.mean_rank == pytest.approx(ranks.mean()) and asked.median_rank == np.median(ranks)
    best = np.stack([scores[owners == clip].max(axis=0) for clip in range(5)])  # of clip, with clip
    back = (best >= np.diag(best)).sum(axis=0)
    assert result.video_to_language.r1 == pytest.approx(100 * (back == 1).sum() / 6)


@pytest.mark.parametrize(
    ("changes", "rule", "used", "total", "said"),
    [
        ({"reading": FIRST}, "first", 3, 6, "the first is read (3 of 6)"),
        ({"reading": FIRST, "eval_captions": ["pan", "oil", "cut"]}, "fixed", 3, 6, "the set fixes for tests is read"),
        ({"reading": FIRST, "captions": [("pan",)] * 3}, "only", 3, 3, "3 clips is a query against"),
        ({"captions": [("pan",)] * 3}, "only", 3, 3, "3 clips is a query against"),
    ],
)
def test_one_caption_each(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], rule: str, used: int, total: int, said: str
) -> None:
    result = score(monkeypatch, np.eye(3).tolist(), [2, 1, 3], **changes)
    assert result.captions.to_json() == {"rule": rule, "used": used, "total": total}
    assert said in result.protocol and result.language_to_video.n_queries == 3
    assert result.language_to_video.r1 == result.video_to_language.r1 == 100


def one_caption_each(pack: Pack, number: int) -> Pack:
    return replace(pack, captions=[(each[number % len(each)],) for each in pack.captions], eval_captions=[""] * 12)


@pytest.mark.parametrize("long_clips", ["cut", "average"])
@pytest.mark.parametrize("name", ["avlnet_text_tri", "avlnet_text_fused"])
def test_embeddings_of_all_captions_are_those_of_each(name: str, long_clips: Any) -> None:
    torch.manual_seed(5)
    model, pack = models.build(name, **SIZES).eval(), make_pack(12, frames=(40, 200))
    reading = replace(ALL, long_clips=long_clips)
    found = embed_pack(model, pack, word_table(), reading)
    queries = model.query_of(found)
    captions = query_captions(pack, "all")
    assert len(queries) == len(captions) == sum(map(len, pack.captions)) > 12
    for number in range(3):
        single = embed_pack(model, one_caption_each(pack, number), word_table(), replace(reading, captions="first"))
        torch.testing.assert_close(model.candidates_of(found), model.candidates_of(single))
        for clip, texts in enumerate(pack.captions):
            row = next(i for i, each in enumerate(captions) if each.clip == clip) + number % len(texts)
            torch.testing.assert_close(queries[row], model.query_of(single)[clip], rtol=1e-4, atol=1e-6)
    first = embed_pack(model, replace(pack, eval_captions=[""] * 12), word_table(), replace(reading, captions="first"))
    assert len(model.query_of(first)) == 12


def test_a_model_without_text_asks_with_no_caption() -> None:
    model, pack = models.build("avlnet", **SIZES).eval(), make_pack(6)
    gallery = testing.open_gallery(pack, None, ALL, expected=None, diagnostic=False, name="test")
    result = testing.score_gallery(model, gallery)
    assert result.captions is None and result.language_to_video.n_queries == 6
