"""Tests of models on galleries: embeddings against a plain computation, protocols, and what the record says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_retrieval import SIZES, make_pack, run_settings, word_table

from avpipe.errors import AvpipeError
from avpipe.retrieval import models, testing
from avpipe.retrieval.embedding import Reading, embed_pack
from avpipe.retrieval.metrics import retrieval_metrics
from avpipe.retrieval.packs import Pack
from avpipe.schema.retrieval import Ranking

PACK = make_pack(30, frames=(20, 1500), missing=2)
CUT = Reading(window=800, max_words=5, long_clips="cut")


def build(name: str) -> models.base.RetrievalModel:
    torch.manual_seed(5)
    return models.build(name, **SIZES).eval()


def texts(pack: Pack) -> torch.Tensor:
    return torch.from_numpy(np.stack([word_table().matrix(caption, 5) for caption in pack.eval_captions]))


def plain(model: models.base.RetrievalModel, pack: Pack, window: int) -> dict[str, torch.Tensor]:
    """As the published code: every clip padded with 0 to the whole window, in one batch."""
    audio = torch.zeros(len(pack), 40, window)
    for index in range(len(pack)):
        spectrogram = torch.from_numpy(np.array(pack.spectrogram(index)[:window]))
        audio[index, :, : len(spectrogram)] = spectrogram.T
    text = texts(pack) if model.uses_text else None
    with torch.inference_mode():
        return model.embed(audio, torch.from_numpy(pack.visual()), text, n_frames=pack.n_frames.tolist())


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("at_once", [100, 4000, 1 << 17])
def test_embeddings_are_those_of_plainly_padded_clips(name, at_once):
    model = build(name)
    found = embed_pack(model, PACK, word_table(), CUT, at_once=at_once)
    for modality, expected in plain(model, PACK, 800).items():
        # float32 sums in another order, through ten layers
        torch.testing.assert_close(found[modality], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", models.names())
def test_long_clips_are_the_mean_over_their_windows(name):
    """2.5 windows: two whole ones and a half, which counts half. Short clips are as they were."""
    model, window = build(name), 96
    pack = make_pack(6, frames=(230, 240))
    assert pack.n_frames.max() < 288
    found = embed_pack(model, pack, word_table(), Reading(window, 5, "average"))
    parts, weights = [], []
    for first in range(0, 288, window):
        pieces = [np.array(pack.spectrogram(index)[first : first + window]) for index in range(6)]
        counts = [len(piece) for piece in pieces]
        cut = replace(
            pack,
            audio=np.concatenate(pieces),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            n_frames=np.array(counts),
        )
        parts.append(plain(model, cut, window))
        weights.append(torch.tensor(counts)[:, None])
    for modality, value in found.items():
        expected = sum(part[modality] * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    short = make_pack(6, frames=(30, 96))
    cut = embed_pack(model, short, word_table(), Reading(window, 5, "cut"))
    averaged = embed_pack(model, short, word_table(), Reading(window, 5, "average"))
    for modality, value in cut.items():
        torch.testing.assert_close(averaged[modality], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", models.names())
def test_both_directions_are_the_matrix_and_its_transpose(name):
    model = build(name)
    gallery = testing.open_gallery(PACK, word_table(), CUT, expected=40, diagnostic=False, name="test")
    result = testing.score_gallery(model, gallery)
    similarity = model.similarity(embed_pack(model, PACK, word_table(), CUT))
    assert result.language_to_video == Ranking.of(retrieval_metrics(similarity, n_queries=40))
    assert result.video_to_language == Ranking.of(retrieval_metrics(similarity.T, n_queries=40))
    assert result.language_to_video.r10 == 100 * retrieval_metrics(similarity, n_queries=40)["r10"]


def test_what_a_gallery_rests_on():
    gallery = testing.open_gallery(PACK, word_table(), CUT, expected=40, diagnostic=True, name="test")
    result = testing.score_gallery(build("avlnet_text_tri"), gallery)
    assert (result.expected, result.gallery, result.missing, result.absent) == (40, 30, {"no_audio": 2}, 8)
    assert result.cut_clips == int((PACK.n_frames > 800).sum()) and result.window == 800
    assert result.known_words.to_json() == {"known": 90, "tokens": 90, "captions_without": 0}
    assert result.diagnostic and "10 without features counted as missed" in result.protocol
    assert testing.chance(gallery).to_json() == {"r1": 2.5, "r5": 12.5, "r10": 25.0}


def test_the_number_of_queries():
    def expected(given: int | None) -> int:
        return testing.open_gallery(PACK, None, CUT, expected=given, diagnostic=False, name="test").expected

    assert [expected(None), expected(31), expected(50)] == [32, 32, 50]  # the pack lists 32
    with pytest.raises(AvpipeError, match="test: the pack has 30 clips and 29 are expected"):
        expected(29)


def test_a_text_model_wants_words_and_captions():
    model = build("avlnet_text_fused")
    with pytest.raises(AvpipeError, match="reads captions, and no word vectors were given"):
        embed_pack(model, PACK, None, CUT)
    with pytest.raises(AvpipeError, match="have no caption"):
        embed_pack(model, replace(PACK, captions=[()] * 30), word_table(), CUT)


def test_the_first_caption_where_the_set_fixes_none():
    model = build("avlnet_text_fused")
    fixed = embed_pack(model, PACK, word_table(), CUT)
    free = embed_pack(model, replace(PACK, eval_captions=[""] * 30), word_table(), CUT)
    assert torch.equal(fixed["audio_text"], free["audio_text"])  # the examples fix the first


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 0, "weights": "published"}, "zero-shot"),
        ({"weights": "published"}, "fine-tuned"),
        ({"weights": "run:a/b"}, "fine-tuned"),
        ({"weights": "random:3"}, "from scratch"),
        ({"windows": {}}, "pre-trained"),
    ],
)
def test_regimes(changes, expected):
    assert testing.regime(run_settings(**changes)) == expected
