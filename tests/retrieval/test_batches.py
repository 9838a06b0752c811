"""Batches of a pack: pure functions of seed, epoch and clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_retrieval import make_pack, word_table

from avpipe.errors import AvpipeError
from avpipe.retrieval.batches import Batch, PackSource

CPU = torch.device("cpu")
PACK = make_pack(20)


def source(words: bool = True, window: int = 64) -> PackSource:
    return PackSource.make(PACK, word_table() if words else None, max_words=5, window=window, device=CPU)


def same(first: Batch, second: Batch) -> bool:
    return (
        all(torch.equal(a, b) for a, b in zip(first.audio, second.audio, strict=True))
        and first.n_frames == second.n_frames
        and torch.equal(first.video, second.video)
        and (first.text is second.text is None or torch.equal(first.text, second.text))
    )


def test_a_batch_is_what_the_pack_holds():
    batch = source(words=False).batch(seed=1, epoch=0, items=[3, 17])
    assert batch.text is None and batch.n_frames == [int(PACK.n_frames[3]), int(PACK.n_frames[17])]
    for item, spectrogram in zip([3, 17], batch.audio, strict=True):
        assert torch.equal(spectrogram, torch.from_numpy(np.array(PACK.spectrogram(item)[:64])))
    assert max(batch.n_frames) > 64  # the window cuts, the count stays
    assert torch.equal(batch.video, torch.from_numpy(PACK.visual()[[3, 17]]))


def test_captions_are_drawn_anew_in_each_epoch_and_for_each_clip_alone():
    given = source()
    whole = given.batch(seed=1, epoch=0, items=range(20))
    assert same(given.batch(seed=1, epoch=0, items=range(20)), whole)
    assert torch.equal(given.batch(seed=1, epoch=0, items=[11, 4]).text, whole.text[[11, 4]])
    others = [given.batch(seed=seed, epoch=epoch, items=range(20)) for seed, epoch in [(1, 1), (2, 0)]]
    assert not any(torch.equal(other.text, whole.text) for other in others)
    drawn = torch.stack([given.batch(seed=1, epoch=epoch, items=range(20)).text for epoch in range(40)])
    table = word_table()
    for item, captions in enumerate(PACK.captions):
        expected = {table.matrix(caption, 5).tobytes() for caption in captions}
        assert {each.numpy().tobytes() for each in drawn[:, item]} == expected


def test_permuted_pictures_are_all_there_with_other_clips():
    plain, permuted = source(words=False), source(words=False).permuted(7)
    first, second = (each.batch(seed=1, epoch=0, items=range(20)) for each in (plain, permuted))
    assert all(torch.equal(a, b) for a, b in zip(first.audio, second.audio, strict=True))
    moved = (first.video != second.video).any(dim=1)
    assert moved.float().mean() > 0.5
    assert sorted(map(tuple, first.video[:, :3].tolist())) == sorted(map(tuple, second.video[:, :3].tolist()))
    assert torch.equal(source(words=False).permuted(7).video, permuted.video)
    assert not torch.equal(source(words=False).permuted(8).video, permuted.video)


def test_the_fingerprint_changes_with_all_that_batches_depend_on():
    given = source()
    words = word_table()
    other_words = replace(given, words=replace(words, vectors=words.vectors + 1))
    other_pack = PackSource.make(make_pack(20, seed=1), words, max_words=5, window=64, device=CPU)
    every = [
        given, source(words=False), source(window=65), given.permuted(1), given.permuted(2),
        replace(given, max_words=4), other_words, other_pack,
    ]  # fmt: skip
    assert len({each.fingerprint() for each in every}) == len(every)
    assert source().fingerprint() == given.fingerprint()


def test_clips_without_captions():
    silent = replace(PACK, captions=[(), *PACK.captions[1:]])
    with pytest.raises(AvpipeError, match="1 of 20 clips have no caption, such as 'clip0-000'"):
        PackSource.make(silent, word_table(), max_words=5, window=64, device=CPU)
    PackSource.make(silent, None, max_words=5, window=64, device=CPU)
