"""Threads that decode clips and cut them into windows."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from avpipe.errors import ClipFailure, Reason
from avpipe.features.types import Extractor, Rows, Window
from avpipe.media.clip import Clip
from avpipe.media.decoded import Decoded, watching

Piece = Window | Rows | ClipFailure | None
"""What a decoder hands over: something of a clip, or how the clip ended."""


@dataclass
class ClipRows:
    """What is known so far of one clip.

    Batches of different shapes come back out of order, so rows are kept by the number of their piece.

    Attributes:
        clip: the clip.
        rows: rows by the number of their piece.
        pieces: pieces so far.
        pending: windows that wait for the network.
        ended: whether decoding has ended.
        failure: how it failed.
        decoded: how much of it was decoded.
    """

    clip: Clip
    rows: dict[int, Rows] = field(default_factory=dict)
    pieces: int = 0
    pending: int = 0
    ended: bool = False
    failure: ClipFailure | None = None
    decoded: Decoded = field(default_factory=Decoded)

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


Event = tuple[ClipRows, Piece]


class Decoder:
    """Threads that decode clips into a bounded queue; iterating gives (clip, piece).

    Args:
        extractor: cuts clips into windows.
        clips: consumed as needed.
        workers: clips that are decoded at a time.
        timeout_seconds: a clip whose decoding takes longer fails.
        capacity: pieces that may wait in the queue.
    """

    def __init__(
        self, extractor: Extractor, clips: Iterable[Clip], workers: int, timeout_seconds: float, capacity: int
    ) -> None:
        self._extractor = extractor
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
                    clip = next(self._clips, None)
                if clip is None:
                    break
                self._decode(clip)
            self._events.put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            self._events.put(error)

    def _decode(self, clip: Clip) -> None:
        with watching() as decoded:
            self._cut_into_windows(ClipRows(clip, decoded=decoded))

    def _cut_into_windows(self, found: ClipRows) -> None:
        failure: ClipFailure | None = None
        working_seconds = 0.0
        try:
            windows = self._extractor.windows(found.clip)
            while True:
                began = time.monotonic()
                window = next(windows, None)
                working_seconds += time.monotonic() - began  # waiting for a slow network does not count
                if window is None or self._stopped.is_set():
                    break
                if working_seconds > self._timeout_seconds:
                    detail = f"decoding took more than {self._timeout_seconds:g} s"
                    raise ClipFailure(Reason.TIMEOUT, detail)
                self._events.put((found, window))
        except ClipFailure as met:
            failure = met
        except MemoryError:
            failure = ClipFailure(Reason.OUT_OF_MEMORY, "decoding asked for more memory than there is")
        self._events.put((found, failure))
