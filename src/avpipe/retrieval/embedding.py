"""Embeddings of a pack's clips for tests, in memory that does not grow with the lengths of the clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
_SEGMENTS_AT_ONCE = 128
_CAPTIONS_AT_ONCE = 1024


@dataclass(frozen=True)
class Reading:
    """How clips are read.

    Attributes:
        window: spectrogram frames that the model reads at once.
        max_words: known words of a caption that are read.
        long_clips: of clips longer than the window the rest is "cut", or their embedding is the "average" over
            consecutive windows, each counting as much as it has frames.
        captions: of a clip the "first" is tested with, or the one that the set fixes; or "all" are, each for itself.
    """

    window: int
    max_words: int
    long_clips: Literal["cut", "average"]
    captions: Literal["first", "all"] = "first"


class Caption(NamedTuple):
    """A caption that is tested with, and the clip that it belongs to."""

    clip: int
    text: str


@dataclass(frozen=True)
class Segment:
    """Part of a clip that is embedded on its own: rows of the pack's audio, the frames that count, and its share."""

    clip: int
    begin: int
    end: int
    n_frames: int
    weight: float = 1.0


def embed_pack(
    model: RetrievalModel, pack: Pack, words: WordTable | None, reading: Reading, *, at_once: int = FRAMES_AT_ONCE
) -> Embeddings:
    """Embeddings of all clips, [n, D] for each modality, float32 on the model's device; with text [Q, D].

    Args:
        model: in eval mode.
        pack: the clips.
        words: vectors of the captions' words; None for models without text.
        reading: how clips are read; the Q captions are `query_captions`.
        at_once: spectrogram frames in one pass of the network; the result depends on it by rounding alone.

    Raises:
        AvpipeError: the model reads text and there is no word table, or clips lack captions.
    """
    texts = None
    if model.uses_text:
        if words is None:
            raise AvpipeError(f"{model.name} reads captions, and no word vectors were given; set word_vectors.")
        require_captions(pack)
        texts = _Texts(query_captions(pack, reading.captions), words, reading.max_words)
    device = next(model.parameters()).device
    visual = torch.from_numpy(pack.visual())
    of_clips: Embeddings = {}
    of_captions: Embeddings = {}
    with torch.inference_mode():
        # The longest first, so that like lengths go together.
        ordered = sorted(segments_of(pack, reading, range(len(pack))), key=lambda each: each.begin - each.end)
        for start in range(0, len(ordered), _SEGMENTS_AT_ONCE):
            segments = ordered[start : start + _SEGMENTS_AT_ONCE]
            pooled = pool_segments(model, pack, segments, reading.window, at_once)
            clips = [segment.clip for segment in segments]
            weights = np.array([segment.weight for segment in segments])
            _add(of_clips, model.embed_pooled(pooled, visual[clips].to(device)), clips, weights, len(pack))
            if texts is not None and "audio" in model.query:
                for rows, captions in texts.of_clips(clips):
                    found = model.embed_pooled(pooled[rows], None, texts.vectors(captions).to(device))
                    _add(of_captions, found, captions, weights[rows], len(texts.captions))
        embeddings = {name: each.float() for name, each in (of_clips | of_captions).items()}
        if texts is not None and "audio" not in model.query:
            parts = [model.embed_pooled(None, None, each.to(device)) for each in texts.blocks()]
            # Equal captions must tie, and rows of one product may differ in their last bit.
            embeddings["text"] = torch.cat([part["text"] for part in parts]).float()[texts.first_alike()]
        return embeddings


def query_captions(pack: Pack, which: Literal["first", "all"]) -> list[Caption]:
    """The captions that clips are tested with, in the order of the clips, of each all or `evaluation_caption`."""
    if which == "first":
        return [Caption(clip, evaluation_caption(pack, clip)) for clip in range(len(pack))]
    return [
        Caption(clip, text)
        for clip, captions in enumerate(pack.captions)
        for text in captions or (evaluation_caption(pack, clip),)
    ]


def evaluation_caption(pack: Pack, index: int) -> str:
    """The caption that a clip is tested with: the one the set fixes for tests, else its first; "" where it has none."""
    return pack.eval_captions[index] or next(iter(pack.captions[index]), "")


@dataclass(frozen=True)
class _Texts:
    """Captions as word vectors."""

    captions: Sequence[Caption]
    words: WordTable
    max_words: int

    def vectors(self, some: Iterable[int]) -> Tensor:
        """Of some captions, [n, max_words, d]."""
        return torch.from_numpy(np.stack([self.words.matrix(self.captions[i].text, self.max_words) for i in some]))

    def blocks(self) -> Iterator[Tensor]:
        """Of all captions, a thousand at a time."""
        for begin in range(0, len(self.captions), _CAPTIONS_AT_ONCE):
            yield self.vectors(range(begin, min(begin + _CAPTIONS_AT_ONCE, len(self.captions))))

    def of_clips(self, clips: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Rows of some clips and captions that go together, all captions of each clip, a thousand at a time."""
        of_clip: dict[int, list[int]] = {}
        for caption, (clip, _) in enumerate(self.captions):
            of_clip.setdefault(clip, []).append(caption)
        pairs = [(row, caption) for row, clip in enumerate(clips) for caption in of_clip[clip]]
        for begin in range(0, len(pairs), _CAPTIONS_AT_ONCE):
            rows, captions = zip(*pairs[begin : begin + _CAPTIONS_AT_ONCE], strict=True)
            yield list(rows), list(captions)

    def first_alike(self) -> list[int]:
        """For each caption the first one that has the same word vectors."""
        first: dict[bytes, int] = {}
        matrices = (each.numpy().tobytes() for block in self.blocks() for each in block)
        return [first.setdefault(hashlib.sha256(each).digest(), caption) for caption, each in enumerate(matrices)]


def segments_of(pack: Pack, reading: Reading, clips: Iterable[int]) -> list[Segment]:
    """What is embedded of some clips."""
    segments = []
    for clip in clips:
        begin, end = (int(each) for each in pack.offsets[clip : clip + 2])
        if reading.long_clips == "cut" or end - begin <= reading.window:
            segments.append(Segment(clip, begin, min(end, begin + reading.window), int(pack.n_frames[clip])))
            continue
        for first in range(begin, end, reading.window):
            last = min(end, first + reading.window)
            segments.append(Segment(clip, first, last, last - first, (last - first) / (end - begin)))
    return segments


def pool_segments(
    model: RetrievalModel, pack: Pack, segments: Sequence[Segment], window: int, max_frames: int = FRAMES_AT_ONCE
) -> Tensor:
    """The pooled sound of some segments, [segments, 8 C]; `max_frames` as in `pool_ragged`."""
    sounds = [torch.from_numpy(np.array(pack.audio[each.begin : each.end])) for each in segments]
    counts = [each.n_frames for each in segments]
    return pool_ragged(model.DAVEnet, sounds, window=window, n_frames=counts, max_frames=max_frames)


def _add(sums: Embeddings, found: Embeddings, clips: Sequence[int], weights: np.ndarray, n: int) -> None:
    """Add weighted embeddings of segments to their clips' sums, float64 [n, D]."""
    for name, each in found.items():
        if name not in sums:
            sums[name] = torch.zeros(n, each.shape[1], dtype=torch.float64, device=each.device)
        factors = torch.from_numpy(weights).to(each.device)[:, None]
        sums[name].index_add_(0, torch.tensor(clips, device=each.device), each.double() * factors)
