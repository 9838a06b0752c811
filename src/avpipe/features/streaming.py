"""Clips in, features out: what decoders cut is handed to a network's batches, and rows that need none to their clips.

Nothing here imports torch, which an extractor without a network does not need.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

import numpy as np

from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.decoding import ClipRows, Decoder
from avpipe.features.types import Extractor, Features, Rows, Window
from avpipe.io.memory import release_memory
from avpipe.media.clip import Clip
from avpipe.media.decoded import Decoded

Outcome = dict[str, Features] | ClipFailure
SECONDS_BETWEEN_TICKS = 5.0


class Batches(Protocol):
    """A network that takes windows in batches: `avpipe.features.engine.Batches`."""

    def add(self, found: ClipRows, window: Window) -> list[ClipRows]:
        """Add a window; returns the clips to which a batch brought rows."""

    def flush(self) -> list[ClipRows]:
        """Run what waits in short batches, and collect all."""


def stream_clips(
    extractor: Extractor,
    open_batches: Callable[[], Batches],
    clips: Iterable[Clip],
    *,
    decode_workers: int = 1,
    clip_timeout_seconds: float = 1800.0,
    tick: Callable[[], None] = lambda: None,
    tell: Callable[[Clip, Decoded], None] = lambda clip, decoded: None,
) -> Generator[tuple[Clip, Outcome]]:
    """Stream clips through an extractor.

    Args:
        extractor: cuts clips into windows and finishes the network's rows.
        open_batches: called once, for the first window; never for an extractor whose rows need no network.
        clips: consumed as needed, never all at once.
        decode_workers: threads that decode clips.
        clip_timeout_seconds: a clip whose decoding takes longer fails with the reason timeout.
        tick: called every few seconds while work goes on, for progress.
        tell: called for each clip, before it is given, with how much of it was decoded.

    Yields:
        Each clip once, as it is done, with its features by stream or the failure it met.

    Raises:
        AvpipeError: a value is too large for the storage that the settings ask for.
        Exception: any other error that is not a `ClipFailure` is a bug and is raised here.
    """
    capacity = 4 * extractor.batch_size  # windows that wait for the network: enough to keep it busy, and bounded
    decoder = Decoder(extractor, clips, decode_workers, clip_timeout_seconds, capacity)
    batches: Batches | None = None
    last_tick = time.monotonic()
    with contextlib.closing(decoder):
        for found, piece in decoder:
            if isinstance(piece, Window):
                found.pending += 1
                batches = batches or open_batches()
                yield from _results(extractor, batches.add(found, piece), tell)
            elif isinstance(piece, Rows):
                found.add(found.number(), piece)
            else:
                found.ended = True
                found.failure = piece
                yield from _results(extractor, [found], tell)
            if time.monotonic() - last_tick >= SECONDS_BETWEEN_TICKS:
                last_tick = time.monotonic()
                release_memory()
                tick()
        yield from _results(extractor, batches.flush() if batches else [], tell)


def _results(
    extractor: Extractor, candidates: list[ClipRows], tell: Callable[[Clip, Decoded], None]
) -> Iterator[tuple[Clip, Outcome]]:
    """Finish the clips that are done: decoding has ended, and no window of them waits in a batch any more."""
    for found in {id(each): each for each in candidates}.values():  # a clip may have had several windows in the batches
        if found.ended and found.pending == 0:
            tell(found.clip, found.decoded)
            yield found.clip, found.failure or _finish(extractor, found)


def _finish(extractor: Extractor, found: ClipRows) -> dict[str, Features]:
    features = {}
    for stream in extractor.streams:
        rows = found.joined(stream)
        values = extractor.finish(stream, rows.values)
        if not np.isfinite(values).all():
            raise AssertionError(f"{extractor.name} gave values that are not finite for {found.clip}")
        with np.errstate(over="ignore"):  # what overflowed is reported below
            stored = values.astype(extractor.settings.storage, copy=False)
        if not np.isfinite(stored).all():
            raise AvpipeError(
                f"{extractor.name} gave {np.abs(values).max():g} for {found.clip.clip_id}, more than float16 holds "
                "(65,504). Set the extractor's storage to float32."
            )
        features[stream] = Features(stored, extractor.pool(stream, stored), rows.times)
    return features
