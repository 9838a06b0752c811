"""One decode of a file for several readers that want different frames of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from avpipe.errors import ClipFailure
from avpipe.media.frames import TimedFrame

# Frames that a fast reader may be ahead of a slow one; a frame of 1920 x 1080 takes 3 MB.
FRAMES_AHEAD = 8


class FrameReader(Iterator[TimedFrame]):
    """One reader's view of a shared decode; frames are shared, so that nobody may change them.

    Attributes:
        waited_seconds: time spent waiting for the decoder, and so for the other readers.
    """

    def __init__(self) -> None:
        self.waited_seconds = 0.0
        self._frames: queue.Queue[TimedFrame | BaseException | None] = queue.Queue(FRAMES_AHEAD)
        self._left = threading.Event()

    def __next__(self) -> TimedFrame:
        began = time.monotonic()
        frame = self._frames.get()
        self.waited_seconds += time.monotonic() - began
        if isinstance(frame, TimedFrame):
            return frame
        self._frames.put(frame)  # asked again, it ends again
        if frame is None:
            raise StopIteration
        raise frame

    def close(self) -> None:
        """Take no more frames; the decoder goes on for the others."""
        self._left.set()

    @property
    def has_left(self) -> bool:
        """Whether the reader takes no more frames."""
        return self._left.is_set()

    def offer(self, frame: TimedFrame | BaseException | None) -> None:
        """Hand over a frame, a failure or, with None, the end; waits until the reader has room or has left."""
        while not self.has_left:
            try:
                self._frames.put(frame, timeout=0.05)
                return
            except queue.Full:
                continue


class SharedDecode:
    """Frames that are decoded once, in the thread that calls `run`, and read in others.

    Args:
        decode: gives the frames.
        readers: how many read them.
    """

    def __init__(self, decode: Callable[[], Generator[TimedFrame]], readers: int) -> None:
        self._decode = decode
        self.readers = [FrameReader() for _ in range(readers)]

    def run(self, limit_seconds: float, failure: Callable[[], ClipFailure]) -> None:
        """Decode to the end, or until every reader has left; a failure is handed to every reader.

        Args:
            limit_seconds: longest time for decoding alone.
            failure: made and handed out when it takes longer.
        """
        end: BaseException | None = None
        working_seconds = 0.0
        try:
            with closing(self._decode()) as frames:
                while not all(reader.has_left for reader in self.readers):
                    began = time.monotonic()
                    frame = next(frames, None)
                    working_seconds += time.monotonic() - began
                    if frame is None:
                        break
                    if working_seconds > limit_seconds:
                        raise failure()
                    self._offer(frame)
        except BaseException as error:  # each reader raises it
            end = error
        self._offer(end)

    def _offer(self, frame: TimedFrame | BaseException | None) -> None:
        for reader in self.readers:
            reader.offer(frame)
