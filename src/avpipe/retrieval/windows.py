"""Which windows of a long video are trained on: pure functions of sizes, captions and a random generator.

Source: docs/methods.md, Long videos. Spectrogram frames lie 10 ms apart and are 25 ms long, centred; times are seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avpipe.features.spectrogram_sizes import HOP_SAMPLES, PADDING_SAMPLES, RATE_HZ
from avpipe.retrieval.settings import Windows


@dataclass(frozen=True)
class Extent:
    """How far a video's features reach.

    Attributes:
        n_frames: spectrogram frames.
        visual: (rows, rows per second) of each visual stream.
    """

    n_frames: int
    visual: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class VideoCaptions:
    """Captions of one video, sorted by start; ends lie behind starts, and captions may overlap.

    Attributes:
        starts, ends: seconds.
        texts: what is said.
    """

    starts: Sequence[float]
    ends: Sequence[float]
    texts: Sequence[str]


@dataclass(frozen=True)
class Window:
    """A segment of a video.

    Attributes:
        frames: first spectrogram frame and the one after the last, inside the video; equal where there is none.
        seconds: start and end of the segment over which visual features are pooled.
        text: the captions it is made of, the drawn one first; empty for random windows.
    """

    frames: tuple[int, int]
    seconds: tuple[float, float]
    text: str = ""


def generator(seed: int, epoch: int, video_id: str) -> np.random.Generator:
    """The random numbers of one visit to a video, whoever asks and whenever."""
    digest = hashlib.sha256(f"{seed} {epoch} {video_id}".encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "little"))))


def draw_windows(
    settings: Windows, extent: Extent, captions: VideoCaptions | None, random: np.random.Generator
) -> list[Window]:
    """The windows of one visit to a video.

    Args:
        settings: with every quirk decided.
        extent: of the video's features.
        captions: of the video, at least one; needed where `settings.drawn` is captions, else ignored.
        random: consumed.

    Returns:
        `settings.per_video` windows; none at all where `lacking_video` is skip and no window of the video has both
        a spectrogram frame and visual rows.

    Raises:
        ValueError: captions are drawn, and there are none.
    """
    skips = settings.lacking_video == "skip"
    if settings.drawn == "random":
        n_starts = random_starts(extent.n_frames, settings.audio_frames)
        while skips and n_starts and not is_covered(n_starts - 1, extent):
            n_starts -= 1  # no start behind one that is not covered is
        return [random_window(start, settings.audio_frames, extent) for start in _draw(n_starts, settings, random)]
    if captions is None or not captions.starts:
        raise ValueError("windows around captions of a video without captions")
    candidates = [caption_window(captions, index, settings, extent) for index in range(len(captions.starts))]
    if skips:
        candidates = [window for window in candidates if is_covered(window.seconds[0], extent)]
    return [candidates[index] for index in _draw(len(candidates), settings, random)]


def _draw(n: int, settings: Windows, random: np.random.Generator) -> list[int]:
    """Numbers below n, `settings.per_video` of them, or none below 0.

    Without replacement all are used up before one comes a second time.
    """
    if n == 0:
        return []
    if not settings.without_replacement:
        return random.integers(0, n, settings.per_video).tolist()
    rounds = -(-settings.per_video // n)
    return np.concatenate([random.permutation(n) for _ in range(rounds)])[: settings.per_video].tolist()


def random_starts(n_frames: int, audio_frames: int) -> int:
    """How many whole seconds, from 0, a random window may start at; at least one, for a video shorter than it."""
    return max(1, whole_seconds(n_frames) - (whole_seconds(audio_frames) + 1))


def random_window(start_seconds: int, audio_frames: int, extent: Extent) -> Window:
    """The window of `audio_frames` that starts at a whole second; its sound begins two frames before that."""
    first = max(0, frame_at(start_seconds))
    return Window(
        _inside(first, first + audio_frames, extent.n_frames),
        (start_seconds, start_seconds + whole_seconds(audio_frames)),
    )


def caption_window(captions: VideoCaptions, index: int, settings: Windows, extent: Extent) -> Window:
    """The window around one caption, extended by its neighbours until it lasts `min_seconds`.

    Sound is cut to the first `audio_frames`; the visual segment covers the whole window, gaps between its captions
    included. With `caption_start` published, a window that starts in the first 0.0125 s begins at a negative frame,
    which counts from the end, and so has no sound as a rule; clamped, it begins at the first frame and has one or more.
    """
    members = extended(captions, index, settings.min_seconds)
    start, end = captions.starts[min(members)], captions.ends[max(members)]
    first, stop = frame_at(start), frame_at(end)
    if settings.caption_start == "published":
        first, stop, _ = slice(first, stop).indices(extent.n_frames)
    else:
        first = max(0, first)
        stop = max(stop, first + 1)
    frames = _inside(first, min(stop, first + settings.audio_frames), extent.n_frames)
    return Window(frames, (start, end), " ".join(captions.texts[member] for member in members))


def extended(captions: VideoCaptions, index: int, min_seconds: float) -> list[int]:
    """Captions that together last `min_seconds`, or all there are: the given one, then those absorbed, in order.

    Of two neighbours the one that makes the window longer by less is absorbed, the previous one if they tie.
    """
    starts, ends = captions.starts, captions.ends
    first = last = index
    members = [index]
    while ends[last] - starts[first] < min_seconds:
        has_previous, has_next = first > 0, last < len(starts) - 1
        if has_previous and has_next:
            with_previous, with_next = ends[last] - starts[first - 1], ends[last + 1] - starts[first]
            has_previous = with_previous <= with_next
        if has_previous:
            first -= 1
            members.append(first)
        elif has_next:
            last += 1
            members.append(last)
        else:
            break
    return members


def is_covered(start_seconds: float, extent: Extent) -> bool:
    """Whether a window that starts there has a spectrogram frame and a row of every visual stream."""
    has_sound = max(0, frame_at(start_seconds)) < extent.n_frames
    return has_sound and all(int(start_seconds * rate) < rows for rows, rate in extent.visual)


def covered_seconds(extent: Extent) -> float:
    """A window is covered (`is_covered`) if it starts before this many seconds."""
    heard = (HOP_SAMPLES * extent.n_frames + PADDING_SAMPLES) / RATE_HZ if extent.n_frames else 0.0
    seen = (rows / rate for rows, rate in extent.visual)
    return min(heard, *seen) - 1e-6  # start * rate may be rounded up to the next row


def visual_rows(window: Window, rows: int, rate: float) -> tuple[int, int]:
    """First row of a visual stream in the window and the one after the last; equal where there is none.

    Args:
        window: the window.
        rows: of the video's stream.
        rate: rows per second, 1 and 24/16 as published.
    """
    start, end = window.seconds
    return _inside(int(start * rate), int(end * rate) + 1, rows)


def frame_at(seconds: float) -> int:
    """The spectrogram frame at which a time lies: 100 s - 2 for whole seconds, negative before 0.0125 s.

    By the published count frame i begins at sample 160 i + 200; a time is brought to samples by truncation.
    """
    return (int(seconds * RATE_HZ) - PADDING_SAMPLES) // HOP_SAMPLES


def whole_seconds(n_frames: int) -> int:
    """Duration of some spectrogram frames, truncated to whole seconds."""
    return (HOP_SAMPLES * n_frames + PADDING_SAMPLES) // RATE_HZ


def _inside(first: int, stop: int, n: int) -> tuple[int, int]:
    """The part of a segment that lies below n, [first, first] or [n, n] if there is none."""
    first = min(first, n)
    return first, max(first, min(stop, n))
