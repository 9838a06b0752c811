"""Passing over, cutting and joining a stream of samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame

from avpipe.errors import ClipFailure

Samples = npt.NDArray[np.int16]

# FFmpeg converts so many samples at a time, and what is left of a frame in another way, which may round otherwise.
_CONVERTED_AT_ONCE = 16


def pass_over(frames: Iterator[AudioFrame], samples: int) -> tuple[int, Iterator[AudioFrame]]:
    """Pass over decoded frames that lie before a segment: nothing is converted of them.

    They have to be decoded all the same: most decoders that begin in the middle give other samples, and of the others
    most are what notices damage (docs/odd_media.md, Sound before a segment). From the first frame of another rate or
    layout on, all are kept: converting those has a memory of its own.

    Args:
        frames: from the first sample of the file on.
        samples: how many of the first samples are not wanted; may be negative.

    Returns:
        the number of samples passed over, and the frames that follow.
    """
    passed = 0
    first: tuple[str, int] | None = None
    for frame in frames:
        form = (frame.layout.name, frame.sample_rate)
        first = first or form
        if form != first or passed + frame.samples > samples:
            return passed, itertools.chain([frame], frames)
        passed += frame.samples
    return passed, frames


def join_frames(frames: Iterable[AudioFrame], samples: int | None) -> Iterator[AudioFrame]:
    """Join decoded frames to frames of about a second: converting one takes as many calls as converting a packet's.

    Where frames are joined, conversion gives the same samples, bit for bit.

    Args:
        frames: their time stamps are lost.
        samples: how many of the first samples are wanted; None: all. From the frame that completes them on, and from
            the first one of another rate or layout on, frames are given one by one: no more is read than is wanted.
    """
    left = math.inf if samples is None else samples
    fifo, first = AudioFifo(), None
    frames = iter(frames)
    try:
        for frame in frames:
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            first = first or form
            if form != first or left <= 0:
                frames = itertools.chain([frame], frames)
                break
            left -= frame.samples
            frame.pts = None
            fifo.write(frame)
            if left <= 0 or frame.samples % _CONVERTED_AT_ONCE or fifo.samples >= frame.sample_rate:
                yield from fifo.read_many(fifo.samples)
    except ClipFailure:  # what comes before the damage is given before it is told
        yield from fifo.read_many(fifo.samples)
        raise
    yield from fifo.read_many(fifo.samples)
    yield from frames


def cut_samples(chunks: Iterable[Samples], first: int, end: int | None) -> Iterator[Samples]:
    """Give samples first..end-1 of a stream of chunks, and read no more of it than that takes."""
    position = 0
    for chunk in chunks:
        part = chunk[max(0, first - position) : None if end is None else max(0, end - position)]
        position += len(chunk)
        if len(part):
            yield part
        if end is not None and position >= end:
            return


def in_blocks(chunks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Join chunks to blocks of `size` samples; the last may be shorter."""
    held: list[Samples] = []
    count = 0
    for chunk in chunks:
        while count + len(chunk) >= size:
            head, chunk = chunk[: size - count], chunk[size - count :]
            yield np.concatenate([*held, head])
            held, count = [], 0
        if len(chunk):
            held.append(chunk)
            count += len(chunk)
    if held:
        yield np.concatenate(held)
