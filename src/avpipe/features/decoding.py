"""Threads that decode clips and cut them into windows, for one extractor or for several at once."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from avpipe.errors import ClipFailure, Reason
from avpipe.features.types import Clip, Extractor, Rows, Window
from avpipe.media.cut import make_cut
from avpipe.media.decode import shown_frames
from avpipe.media.sharing import FrameReader, SharedDecode

Piece = Window | Rows | ClipFailure | None
"""What a decoder hands over: something of a clip, or how the clip ended."""


@dataclass
class Collected:
    """What is known so far of one clip and extractor.

    Batches of different shapes come back out of order, so rows are kept by the number of their piece.

    Attributes:
        clip: the clip.
        lane: number of the extractor.
        rows: rows by the number of their piece.
        pieces: pieces so far.
        pending: windows that wait for the network.
        ended: whether decoding has ended.
        failure: how it failed.
    """

    clip: Clip
    lane: int
    rows: dict[int, Rows] = field(default_factory=dict)
    pieces: int = 0
    pending: int = 0
    ended: bool = False
    failure: ClipFailure | None = None

    def number(self) -> int:
        """The number of the next piece."""
        self.pieces += 1
        return self.pieces

    def add(self, number: int, rows: Rows) -> None:
        """Keep the rows of a piece; those of a clip that failed are dropped."""
        if self.failure is None:
            self.rows[number] = rows

    def joined(self, stream: str) -> Rows:
        """All rows of a stream in the order of their pieces."""
        ordered = [rows for _, rows in sorted(self.rows.items()) if rows.stream == stream]
        return Rows(
            stream, np.concatenate([rows.values for rows in ordered]), np.concatenate([rows.times for rows in ordered])
        )


Event = tuple[Collected, Piece]


class Decoder:
    """Threads that decode clips into a bounded queue; iterating gives (clip and extractor, piece).

    Args:
        extractors: cut clips into windows.
        clips: each with the numbers of the extractors that want it. Those of them that read pictures share one
            decode of the clip.
        workers: clips that are decoded at a time.
        timeout_seconds: a clip whose decoding takes longer fails.
        capacity: pieces that may wait in the queue.
    """

    def __init__(
        self,
        extractors: Sequence[Extractor],
        clips: Iterable[tuple[Clip, Sequence[int]]],
        workers: int,
        timeout_seconds: float,
        capacity: int,
    ) -> None:
        self._extractors = extractors
        self._clips = iter(clips)
        self._next_clip = threading.Lock()
        self._timeout_seconds = timeout_seconds
        self._events: queue.Queue[Event | BaseException | None] = queue.Queue(capacity)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, workers))]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Event]:
        running = len(self._threads)
        while running:
            event = self._events.get()
            if event is None:
                running -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event

    def close(self) -> None:
        """Stop the threads, also in the middle of a clip."""
        self._stopped.set()
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=0.05)

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                with self._next_clip:
                    clip, lanes = next(self._clips, (None, ()))
                if clip is None:
                    break
                seeing = [lane for lane in lanes if "video" in self._extractors[lane].streams]
                if len(seeing) > 1:
                    self._decode_together(clip, seeing)
                for lane in lanes:
                    if len(seeing) < 2 or lane not in seeing:
                        self._decode(clip, lane)
            self._events.put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            self._events.put(error)

    def _decode_together(self, clip: Clip, lanes: Sequence[int]) -> None:
        """Decode a clip's pictures once for several extractors, each of which works in a thread of its own."""
        cut = make_cut(clip.start_seconds, clip.end_seconds)
        shared = SharedDecode(lambda: shown_frames(clip.path, cut), len(lanes))
        threads = [
            threading.Thread(target=self._decode_shared, args=(clip, lane, reader), daemon=True)
            for lane, reader in zip(lanes, shared.readers, strict=True)
        ]
        for thread in threads:
            thread.start()
        shared.run(self._timeout_seconds, self._too_slow)
        for thread in threads:
            thread.join()

    def _decode_shared(self, clip: Clip, lane: int, reader: FrameReader) -> None:
        try:
            self._decode(replace(clip, frames=reader), lane)
        except BaseException as error:
            self._events.put(error)
        finally:
            reader.close()

    def _decode(self, clip: Clip, lane: int) -> None:
        collected = Collected(clip, lane)
        failure: ClipFailure | None = None
        working_seconds = 0.0
        try:
            windows = self._extractors[lane].windows(clip)
            while True:
                began, waited = time.monotonic(), _waited(clip)
                window = next(windows, None)
                # Waiting does not count: for a slow network, nor for the other readers of the same frames.
                working_seconds += time.monotonic() - began - (_waited(clip) - waited)
                if window is None or self._stopped.is_set():
                    break
                if working_seconds > self._timeout_seconds:
                    raise self._too_slow()
                self._events.put((collected, window))
        except ClipFailure as met:
            failure = met
        except MemoryError:
            failure = ClipFailure(Reason.OUT_OF_MEMORY, "decoding asked for more memory than there is")
        self._events.put((collected, failure))

    def _too_slow(self) -> ClipFailure:
        return ClipFailure(Reason.TIMEOUT, f"decoding took more than {self._timeout_seconds:g} s")


def _waited(clip: Clip) -> float:
    return clip.frames.waited_seconds if clip.frames is not None else 0.0
