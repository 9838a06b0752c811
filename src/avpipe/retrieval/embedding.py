"""Embeddings of a pack's clips for tests, in memory that does not grow with the lengths of the clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.retrieval.batches import require_captions
from avpipe.retrieval.models.base import Embeddings, RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.packs import Pack
from avpipe.retrieval.text import WordTable

FRAMES_AT_ONCE = 1 << 17  # of spectrograms, 20 MB in float32
_CLIPS_AT_ONCE = 1024


@dataclass(frozen=True)
class Reading:
    """How clips are read.

    Attributes:
        window: spectrogram frames that the model reads at once.
        max_words: known words of a caption that are read.
        long_clips: of clips longer than the window the rest is "cut", or their embedding is the "average" over
            consecutive windows, each counting as much as it has frames.
    """

    window: int
    max_words: int
    long_clips: Literal["cut", "average"]


@dataclass(frozen=True)
class _Segment:
    """Part of a clip that is embedded on its own: rows of the pack's audio, and the frames that count."""

    clip: int
    begin: int
    end: int
    n_frames: int


def embed_pack(
    model: RetrievalModel, pack: Pack, words: WordTable | None, reading: Reading, *, at_once: int = FRAMES_AT_ONCE
) -> Embeddings:
    """Embeddings of all clips, [n, D] for each modality, float32 on the model's device.

    Args:
        model: in eval mode.
        pack: the clips.
        words: vectors of the captions' words; None for models without text.
        reading: how clips are read.
        at_once: spectrogram frames held at once; the result depends on it by rounding alone.

    Raises:
        AvpipeError: the model reads text and there is no word table, or clips lack captions.
    """
    if model.uses_text:
        if words is None:
            raise AvpipeError(f"{model.name} reads captions, and no word vectors were given; set word_vectors.")
        require_captions(pack)
    device = next(model.parameters()).device
    visual = torch.from_numpy(pack.visual())
    counts = np.zeros(len(pack))
    sums: Embeddings = {}
    with torch.inference_mode():
        for segments in _chunks(_segments(pack, reading), at_once):
            pooled = _pooled(model, pack, segments, reading.window)
            clips = [segment.clip for segment in segments]
            weights = np.array([1.0 if reading.long_clips == "cut" else each.end - each.begin for each in segments])
            text = None
            if words is not None and model.uses_text:
                captions = [evaluation_caption(pack, clip) for clip in clips]
                text = torch.from_numpy(np.stack([words.matrix(each, reading.max_words) for each in captions]))
                text = text.to(device)
            found = model.embed_pooled(pooled, visual[clips].to(device), text)
            _add(sums, found, clips, weights, len(pack))
            np.add.at(counts, clips, weights)
        total = torch.from_numpy(counts).to(device)[:, None]
        embeddings = {name: (each / total).float() for name, each in sums.items()}
        if words is not None and "text" in embeddings:
            # Equal captions must tie, and rows of one product may differ in their last bit.
            embeddings["text"] = embeddings["text"][_first_alike(pack, words, reading.max_words)]
        return embeddings


def evaluation_caption(pack: Pack, index: int) -> str:
    """The caption that a clip is tested with: the one the set fixes for tests, else its first; "" where it has none."""
    return pack.eval_captions[index] or next(iter(pack.captions[index]), "")


def _first_alike(pack: Pack, words: WordTable, max_words: int) -> list[int]:
    """For each clip the first one whose caption has the same word vectors."""
    first: dict[bytes, int] = {}
    matrices = (words.matrix(evaluation_caption(pack, clip), max_words) for clip in range(len(pack)))
    return [first.setdefault(hashlib.sha256(each.tobytes()).digest(), clip) for clip, each in enumerate(matrices)]


def _segments(pack: Pack, reading: Reading) -> list[_Segment]:
    """What is embedded, the longest first, so that like lengths go together."""
    segments = []
    for clip in range(len(pack)):
        begin, end = (int(each) for each in pack.offsets[clip : clip + 2])
        if reading.long_clips == "cut" or end - begin <= reading.window:
            last = min(end, begin + reading.window)
            segments.append(_Segment(clip, begin, last, int(pack.n_frames[clip])))
            continue
        for first in range(begin, end, reading.window):
            last = min(end, first + reading.window)
            segments.append(_Segment(clip, first, last, last - first))
    return sorted(segments, key=lambda each: each.begin - each.end)


def _chunks(segments: Sequence[_Segment], at_once: int) -> Iterator[list[_Segment]]:
    """Consecutive segments with at most `at_once` frames together, or one."""
    chunk: list[_Segment] = []
    frames = 0
    for segment in segments:
        length = segment.end - segment.begin
        if chunk and (frames + length > at_once or len(chunk) == _CLIPS_AT_ONCE):
            yield chunk
            chunk, frames = [], 0
        chunk.append(segment)
        frames += length
    if chunk:
        yield chunk


def _pooled(model: RetrievalModel, pack: Pack, segments: Sequence[_Segment], window: int) -> Tensor:
    device = next(model.parameters()).device
    audio = torch.from_numpy(np.concatenate([pack.audio[each.begin : each.end] for each in segments])).to(device)
    spectrograms = audio.split([each.end - each.begin for each in segments])
    return pool_ragged(model.DAVEnet, spectrograms, window=window, n_frames=[each.n_frames for each in segments])


def _add(sums: Embeddings, found: Embeddings, clips: Sequence[int], weights: np.ndarray, n: int) -> None:
    """Add weighted embeddings of segments to their clips' sums, float64 [n, D]."""
    for name, each in found.items():
        if name not in sums:
            sums[name] = torch.zeros(n, each.shape[1], dtype=torch.float64, device=each.device)
        factors = torch.from_numpy(weights).to(each.device)[:, None]
        sums[name].index_add_(0, torch.tensor(clips, device=each.device), each.double() * factors)
