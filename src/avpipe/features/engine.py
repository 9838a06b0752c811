"""The engine: clips in, features out. Decoding of the next clips overlaps the network; clips share batches.

Every batch has the same shape (a short one is padded), because a row of a fixed-shape batch does not depend on
the other rows. A clip's features are therefore the same bits whatever clips surround it, after a resume too.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from avpipe.errors import ClipFailure, Reason
from avpipe.features.types import Clip, Extractor, Features, Window

Outcome = dict[str, Features] | ClipFailure
SECONDS_BETWEEN_TICKS = 5.0


@dataclass
class _Collected:
    """What has come out of the network for one clip so far."""

    clip: Clip
    rows: dict[str, list[npt.NDArray[np.float32]]]
    times: dict[str, list[tuple[float, float]]]
    pending: int = 0
    ended: bool = False
    failure: ClipFailure | None = None


@dataclass
class _Batch:
    """Windows of one stream and shape that wait for the network."""

    tensors: torch.Tensor
    owners: list[tuple[_Collected, Window]] = field(default_factory=list)


def prepare_network(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Evaluation mode, no gradients, on the device, in the memory format that its convolutions run fastest in."""
    network = network.eval().requires_grad_(False).to(device)
    dimensions = {
        module.weight.dim() for module in network.modules() if isinstance(module, torch.nn.modules.conv._ConvNd)
    }
    if 5 in dimensions:
        return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.to(memory_format=torch.channels_last) if 4 in dimensions else network  # type: ignore[call-overload]


def extract_clips(
    extractor: Extractor,
    network: torch.nn.Module,
    clips: Iterable[Clip],
    *,
    device: str = "cpu",
    decode_workers: int = 1,
    clip_timeout_seconds: float = 1800.0,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Clip, Outcome]]:
    """Stream clips through an extractor.

    Args:
        extractor: cuts clips into windows and finishes the network's rows.
        network: as `prepare_network` returned it.
        clips: consumed as needed, never all at once.
        device: where the network lies.
        decode_workers: threads that decode clips.
        clip_timeout_seconds: a clip whose decoding takes longer fails with the reason timeout.
        tick: called every few seconds while work goes on, for progress.

    Yields:
        Each clip once, as it is done, with its features by stream or the failure it met.

    Raises:
        Exception: any error in decoding that is not a `ClipFailure` is a bug and is raised here.
    """
    decoder = _Decoder(extractor, clips, decode_workers, clip_timeout_seconds, capacity=4 * extractor.batch_size)
    batches = _Batches(extractor, network, device)
    last_tick = time.monotonic()
    with contextlib.closing(decoder):
        for event in decoder:
            collected, item = event
            if isinstance(item, Window):
                collected.pending += 1
                yield from _results(extractor, batches.add(collected, item))
            else:
                collected.ended = True
                collected.failure = item
                yield from _results(extractor, [collected])
            if time.monotonic() - last_tick >= SECONDS_BETWEEN_TICKS:
                last_tick = time.monotonic()
                tick()
        yield from _results(extractor, batches.flush())


def _results(extractor: Extractor, candidates: list[_Collected]) -> Iterator[tuple[Clip, Outcome]]:
    for collected in candidates:
        if collected.ended and collected.pending == 0:
            yield collected.clip, collected.failure or _finish(extractor, collected)


def _finish(extractor: Extractor, collected: _Collected) -> dict[str, Features]:
    features = {}
    for stream in extractor.streams:
        values = extractor.finish(stream, np.stack(collected.rows[stream]))
        times = np.asarray(collected.times[stream], dtype=np.float64)
        if not np.isfinite(values).all():
            raise AssertionError(f"{extractor.name} gave values that are not finite for {collected.clip}")
        features[stream] = Features(values, extractor.pool(stream, values), times)
    return features


class _Batches:
    """Gathers windows into fixed-shape batches and hands the network's rows back to their clips."""

    def __init__(self, extractor: Extractor, network: torch.nn.Module, device: str) -> None:
        self._size = extractor.batch_size
        self._network = network
        self._device = torch.device(device)
        self._waiting: dict[tuple[str, tuple[int, ...]], _Batch] = {}

    def add(self, collected: _Collected, window: Window) -> list[_Collected]:
        """Add a window; returns the clips to which a full batch brought rows."""
        key = (window.stream, tuple(window.tensor.shape))
        batch = self._waiting.get(key)
        if batch is None:
            batch = self._waiting[key] = _Batch(self._allocate(window.tensor))
        batch.tensors[len(batch.owners)] = window.tensor
        batch.owners.append((collected, window))
        return self._run(batch) if len(batch.owners) == self._size else []

    def flush(self) -> list[_Collected]:
        """Run what waits in short batches."""
        return [done for batch in self._waiting.values() if batch.owners for done in self._run(batch)]

    def _allocate(self, item: torch.Tensor) -> torch.Tensor:
        shape = (self._size, *item.shape)
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        memory_format = formats.get(len(shape), torch.contiguous_format)
        tensors = torch.zeros(shape, dtype=item.dtype).contiguous(memory_format=memory_format)
        return tensors.pin_memory() if self._device.type == "cuda" else tensors

    def _run(self, batch: _Batch) -> list[_Collected]:
        batch.tensors[len(batch.owners) :] = 0  # the padding of a short batch
        with torch.inference_mode():
            rows = self._network(batch.tensors.to(self._device, non_blocking=True)).float().cpu().numpy()
        done: dict[int, _Collected] = {}
        for (collected, window), row in zip(batch.owners, rows, strict=False):
            collected.pending -= 1
            if collected.failure is None:
                collected.rows[window.stream].append(row.copy())
                collected.times[window.stream].append((window.start_seconds, window.end_seconds))
            done[id(collected)] = collected
        batch.owners.clear()
        return list(done.values())


class _Decoder:
    """Threads that decode clips into a bounded queue; iterating gives (clip, window or how the clip ended)."""

    def __init__(
        self, extractor: Extractor, clips: Iterable[Clip], workers: int, timeout_seconds: float, capacity: int
    ) -> None:
        self._extractor = extractor
        self._clips = iter(clips)
        self._next_clip = threading.Lock()
        self._timeout_seconds = timeout_seconds
        self._events: queue.Queue[tuple[_Collected, Window | ClipFailure | None] | BaseException | None] = queue.Queue(
            capacity
        )
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, workers))]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[tuple[_Collected, Window | ClipFailure | None]]:
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
        streams = self._extractor.streams
        collected = _Collected(clip, {name: [] for name in streams}, {name: [] for name in streams})
        failure: ClipFailure | None = None
        working_seconds = 0.0
        try:
            windows = self._extractor.windows(clip)
            while True:
                began = time.monotonic()
                window = next(windows, None)
                working_seconds += time.monotonic() - began  # waiting for a slow network does not count
                if window is None or self._stopped.is_set():
                    break
                if working_seconds > self._timeout_seconds:
                    raise ClipFailure(Reason.TIMEOUT, f"decoding took more than {self._timeout_seconds:g} s")
                self._events.put((collected, window))
        except ClipFailure as met:
            failure = met
        except MemoryError:
            failure = ClipFailure(Reason.OUT_OF_MEMORY, "decoding asked for more memory than there is")
        self._events.put((collected, failure))
