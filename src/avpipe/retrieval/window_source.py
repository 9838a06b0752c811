"""Batches of windows of long videos, for pre-training (docs/methods.md, Long videos). Only the windows are read."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features.frame_size import unit_length
from avpipe.formats.clip_pickles import MEL_BANDS, VISUAL_DIMENSION
from avpipe.formats.file_rows import Rows
from avpipe.inventory.status import ClipStatus
from avpipe.retrieval.batches import PICTURES, Batch
from avpipe.retrieval.captions import Captions
from avpipe.retrieval.corpus import THREADS, Corpus, located, mapped, require_some, scan
from avpipe.retrieval.settings import Windows
from avpipe.retrieval.text import MAX_WORDS, WordTable
from avpipe.retrieval.windows import Window, draw_windows, generator, visual_rows

log = logging.getLogger(__name__)


class WindowSource:
    """Batches of windows, drawn anew at every visit (a `Source` of `avpipe.retrieval.batches`).

    What is drawn depends on seed, epoch and video id alone. The items of a batch are videos; their windows follow one
    another in it. Spectrograms are float16 or float32 [audio_frames, 40] as stored, with zeros behind their end.

    Args:
        corpus: where features are.
        windows: which windows; quirks left open are as `corrected`.
        captions: needed where windows are drawn around captions.
        words: vectors of words, for models that read text.
        max_words: known words of a window that are read.
        threads: videos that are read at once.

    Attributes:
        video_ids: the videos of items 0, 1, …
        window: spectrogram frames of a window.
        excluded: videos of the corpus that are not trained on, and why.
        bytes_read: by all batches so far.

    Raises:
        AvpipeError: captions are needed and absent, or no video is usable.
    """

    def __init__(
        self,
        corpus: Corpus,
        windows: Windows,
        captions: Captions | None = None,
        words: WordTable | None = None,
        max_words: int = MAX_WORDS,
        *,
        threads: int = THREADS,
    ) -> None:
        self._corpus = corpus
        self.windows = windows.resolved("corrected")
        self._captions = captions if self.windows.drawn == "captions" else None
        if self.windows.drawn == "captions" and captions is None:
            raise AvpipeError(
                "Windows are drawn around captions, but there are none: set datasets.<name>.retrieval.captions."
            )
        self._words, self._max_words, self._threads = words, max_words, threads
        scanned = scan(corpus, threads=threads)
        self.bytes_read, self.window, self._is_permuted = 0, windows.audio_frames, False
        self.excluded = list(scanned.excluded)
        self.video_ids: list[str] = []
        self._sizes = scanned.digest
        for video_id, end in zip(scanned.usable, scanned.covered_seconds, strict=True):
            failure = self._lacks_captions(video_id, end)
            if failure is None:
                self.video_ids.append(video_id)
            else:
                self.excluded.append(failure)
        require_some(self.video_ids, self.excluded)
        counts = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.left_out.items()))
        log.info("%s videos to draw windows from, %s left out: %s", self.n_items, len(self.excluded), counts or "none")

    @property
    def n_items(self) -> int:
        """Videos."""
        return len(self.video_ids)

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> videos that are not trained on."""
        return dict(Counter(each.status for each in self.excluded))

    def permuted(self, seed: int) -> WindowSource:
        """The same windows with the pictures of a batch permuted among them, otherwise at each visit."""
        permuted = copy.copy(self)
        permuted._is_permuted = True
        return permuted

    def fingerprint(self) -> str:
        """Digest of everything that batches depend on: videos, sizes, windows, captions and words.

        The features' values are too many to be read for it; the corpus says what it knows of them.
        """
        parts: dict[str, Any] = {
            "corpus": self._corpus.digest(self.video_ids),
            "sizes": self._sizes,
            "windows": self.windows.model_dump(mode="json"),
            "captions": None if self._captions is None else self._captions.digest(),
            "max_words": self._max_words,
        }
        total = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        if self._words is not None:
            total.update(json.dumps(self._words.words).encode())
            total.update(self._words.vectors.tobytes())
        digest = total.hexdigest()
        return hashlib.sha256(f"permuted {digest}".encode()).hexdigest() if self._is_permuted else digest

    def batch(self, *, seed: int, epoch: int, items: Sequence[int]) -> Batch:
        """The windows of some videos at this visit, `windows.per_video` each.

        Raises:
            AvpipeError: a file was removed or damaged since the scan, or holds NaN.
        """

        def read(item: int) -> tuple[Batch, int]:
            return self._read(self.video_ids[item], seed, epoch)

        parts, bytes_read = zip(*mapped(read, items, self._threads), strict=True)
        self.bytes_read += sum(bytes_read)
        texts = [part.text for part in parts if part.text is not None]
        video = torch.cat([part.video for part in parts])
        if self._is_permuted:
            rows = np.random.default_rng([seed, epoch, items[0], PICTURES]).permutation(len(video))
            video = video[torch.from_numpy(rows)]
        return Batch(
            audio=[window for part in parts for window in part.audio],
            n_frames=[n for part in parts for n in part.n_frames],
            video=video,
            text=torch.cat(texts) if texts else None,
        )

    def _lacks_captions(self, video_id: str, end: float) -> ClipStatus | None:
        """Why no window can be drawn around captions, None if one can.

        A window starts with its own caption or one before it, so that of all windows one is covered if and only if
        the first caption is.
        """
        if self._captions is None:
            return None
        start = self._captions.first_start(video_id)
        if start is None:
            return ClipStatus(video_id, Reason.MISSING.value, "no caption with a duration")
        if self.windows.lacking_video == "skip" and start >= end:
            found = f"the first caption starts at {start:.2f} s, where features have ended ({end:.2f} s)"
            return ClipStatus(video_id, Reason.TOO_SHORT.value, found)
        return None

    def _read(self, video_id: str, seed: int, epoch: int) -> tuple[Batch, int]:
        """The windows of one video, and the bytes that were read."""
        try:
            video = located(self._corpus, video_id)
        except ClipFailure as failure:
            raise AvpipeError(
                f"Video {video_id} was whole when the run began, and is not any more: {failure}. Restore its files "
                "and run again."
            ) from failure
        captions = None if self._captions is None else self._captions.of(video_id)
        extent = video.extent
        windows = draw_windows(self.windows, extent, captions, generator(seed, epoch, video_id))
        if not windows:
            raise AvpipeError(f"Video {video_id} has no window with sound and pictures any more; its files changed.")
        segments, bytes_read = video.audio.read([window.frames for window in windows])
        audio = _padded(segments, self.windows.audio_frames)
        halves = []
        for rows, rate in video.visual:
            half, more = _pooled(rows, rate, windows)
            halves.append(half)
            bytes_read += more
        text = None
        if self._words is not None:
            matrices = [self._words.matrix(window.text, self._max_words) for window in windows]
            text = torch.from_numpy(np.stack(matrices))
        spectrograms, video_rows = torch.from_numpy(audio).unbind(), torch.from_numpy(np.hstack(halves))
        return Batch(list(spectrograms), [len(each) for each in segments], video_rows, text), bytes_read


def _padded(segments: list[npt.NDArray[np.floating]], length: int) -> npt.NDArray[np.floating]:
    """Segments [n, 40] of at most `length` frames with zeros behind them, [k, length, 40].

    Zero is the loudest cell's level; the publication pads with it.
    """
    padded = np.zeros((len(segments), length, MEL_BANDS), np.result_type(*segments))
    for target, segment in zip(padded, segments, strict=True):
        target[: len(segment)] = segment
    return padded


def _pooled(rows: Rows, rate: float, windows: list[Window]) -> tuple[npt.NDArray[np.float32], int]:
    """One visual stream: the maximum over each window's rows at unit length [k, 2048], zeros without rows."""
    segments, bytes_read = rows.read([visual_rows(window, rows.n_rows, rate) for window in windows])
    pooled = np.zeros((len(windows), VISUAL_DIMENSION), np.float32)
    for target, segment in zip(pooled, segments, strict=True):
        if len(segment):
            target[:] = _maximum(segment)
    return unit_length(pooled), bytes_read


def _maximum(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The maximum over rows [n, d] without NaN.

    numpy compares float16 several times as slowly as whole numbers, which its bits are in order of value, once those
    of negative numbers are turned round.
    """
    if rows.dtype != np.float16:
        return rows.max(axis=0)
    bits = rows.view(np.int16)
    top = (bits ^ ((bits >> 15) & 0x7FFF)).max(axis=0)
    return (top ^ ((top >> 15) & 0x7FFF)).view(np.float16)
