"""Search an index with a sound, a text, or both (docs/retrieval.md, Searching)."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch

from avpipe import registry
from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features import Features, extract
from avpipe.retrieval.index import Index, IndexInfo, load_model, open_index
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.packs import FRAMES_PER_SECOND
from avpipe.retrieval.text import WordTable, read_word_table, select_words, tokenise

MIN_FRAMES = 16  # one step of the audio network

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
        rank: from 1.
        score: dot product of the embeddings; comparable within one search.
        clip_id: of the pack.
        path: its media file; "" if unknown.
        start, end: the segment of it in seconds; None: from its start, to its end.
        caption: the caption to test with, or the first; "" if it has none.
    """

    rank: int
    score: float
    clip_id: str
    path: str
    start: float | None
    end: float | None
    caption: str


def search(
    index: str | os.PathLike[str],
    *,
    media: str | os.PathLike[str] | None = None,
    start: float | None = None,
    end: float | None = None,
    text: str | None = None,
    words: str | os.PathLike[str] | None = None,
    top: int = 10,
    weights: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> list[Hit]:
    """The clips of an index that fit a query best.

    Args:
        index: the index file.
        media: a file with sound, for avlnet and avlnet_text_fused.
        start, end: the segment of it in seconds; None: from its start, to its end.
        text: a sentence, for avlnet_text_tri and avlnet_text_fused.
        words: word vectors for the text: a word table of avpipe (.h5), or a word2vec, GloVe or fastText file.
        top: how many clips are wanted.
        weights: where the index's weights are now; None: where they were.
        device: "cpu" or "cuda".

    Returns:
        At most `top` hits, the best first; of equal scores the one that stands first in the index.

    Raises:
        AvpipeError: another kind of query than the model's; no sound, silence, or less than 0.16 s of it; no word
            that has a vector; or an index or weights that are not what they should be, or give no finite scores.
    """
    if not isinstance(top, Integral) or top < 1:
        raise AvpipeError(f"{top!r} hits are wanted; expected a whole number of at least 1.")
    with open_index(index) as opened:
        info = opened.info
        _check_kind(info, media, text, words)
        sound = None if media is None else _spectrogram(Path(media), start, end, info)
        sentence = None if text is None or words is None else _text_matrix(text, words, info)
        network = load_model(info, weights=weights, device=device)
        scores = _scores(opened, _embed_query(network, sound, sentence, info.window))
        best = np.argsort(-scores, kind="stable")[:top]
        return [
            Hit(rank, float(scores[row]), opened.ids[row], *opened.sources[row], opened.captions[row])
            for rank, row in enumerate(best.tolist(), start=1)
        ]


def _check_kind(info: IndexInfo, media: object, text: object, words: object) -> None:
    query = registry.model(info.model).query
    given = {"audio": media is not None, "text": text is not None}
    wanted = {kind: kind in query.split("+") for kind in given}
    names = {"audio": "a file with sound", "text": "a text"}
    if given != wanted:
        found = " and ".join(names[kind] for kind, is_given in given.items() if is_given) or "nothing"
        expected = " and ".join(names[kind] for kind, is_wanted in wanted.items() if is_wanted)
        raise AvpipeError(f"The index is of {info.model}, which is searched with {expected}; given was {found}.")
    if given["text"] and words is None:
        raise AvpipeError(
            f"{info.model} needs word vectors for the text: give the word-vector file that it was trained with, "
            "published GoogleNews-vectors-negative300.bin (--words)."
        )


def _spectrogram(path: Path, start: float | None, end: float | None, info: IndexInfo) -> npt.NDArray[np.floating]:
    """The log-mel spectrogram of a segment, [T, 40], as the extractor makes it of a clip."""
    if not 0 <= (start or 0.0) < (math.inf if end is None else end):
        raise AvpipeError(f"start {start} and end {end} are no segment of {path}; expected 0 <= start < end.")
    try:
        features = extract(path, "spectrogram", start=start, end=end, settings={"quantise": info.quantise})
    except ClipFailure as failure:
        cure = {Reason.NO_AUDIO: "Give a file that has sound.", Reason.TOO_SHORT: "Give a longer segment."}
        raise AvpipeError(
            f"{path} cannot be searched with: {failure.reason.value} ({failure.detail}). "
            f"{cure.get(failure.reason, 'Give another file, or mend it.')}"
        ) from failure
    assert isinstance(features, Features)
    if len(features.values) < MIN_FRAMES:
        raise AvpipeError(
            f"{path} cannot be searched with: too_short ({len(features.values)} spectrogram frames, "
            f"{len(features.values) / FRAMES_PER_SECOND:g} s; expected at least {MIN_FRAMES}). Give a longer segment."
        )
    if not features.values.any():
        raise AvpipeError(f"{path} cannot be searched with: its sound is digital silence. Give another segment.")
    if len(features.values) > info.window:
        _log.warning("%s: only the first %g s are heard", path, info.window / FRAMES_PER_SECOND)
    return features.values


def _text_matrix(text: str, words: str | os.PathLike[str], info: IndexInfo) -> npt.NDArray[np.float32]:
    """Word vectors of a sentence, [max_words, d]."""
    table = _word_table(text, Path(words))
    if table.dimension != info.word_dim:
        raise AvpipeError(
            f"The vectors of {words} have {table.dimension} numbers; the model of the index reads {info.word_dim}. "
            "Give the word-vector file that it was trained with."
        )
    known, tokens = table.known(text)
    if not known:
        raise AvpipeError(
            f"{text!r}: {words} has a vector for none of its {tokens} words ({', '.join(tokenise(text)[:5])}). Case "
            "matters; use words of the captions' language."
        )
    if known < tokens:
        _log.warning("%d of the %d words of %r have no vector and are left out", tokens - known, tokens, text)
    return table.matrix(text, info.max_words)


def _word_table(text: str, path: Path) -> WordTable:
    if path.is_file() and h5py.is_hdf5(path):
        return read_word_table(path)
    with tempfile.TemporaryDirectory() as folder:
        return select_words(path, [text], Path(folder) / "words.h5")


def _embed_query(
    network: RetrievalModel,
    sound: npt.NDArray[np.floating] | None,
    sentence: npt.NDArray[np.float32] | None,
    window: int,
) -> npt.NDArray[np.float32]:
    """The query's embedding, [D]."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        pooled = None if sound is None else pool_ragged(network.DAVEnet, [torch.from_numpy(sound)], window=window)
        text = None if sentence is None else torch.from_numpy(sentence)[None].to(device)
        return network.query_of(network.embed_pooled(pooled, None, text))[0].float().cpu().numpy()


def _scores(index: Index, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Dot products with every row, [n]."""
    scores = np.concatenate([rows @ query for rows in index.embeddings()])
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise AvpipeError(
            f"{index.path}: the query scores {scores[wrong[0]]} with clip {index.ids[wrong[0]]!r} and no finite number "
            f"with {len(wrong)} of {len(scores)} clips. The weights {index.info.weights} diverged or the index was "
            "changed; make the index again, with weights of a run whose loss stayed finite."
        )
    return scores
