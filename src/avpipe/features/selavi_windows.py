"""Which windows of a clip SeLaVi sees, and which frames each of them shows (docs/networks.md, Windows of SeLaVi)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch

WINDOW_SECONDS = 1.0

Choice = tuple[int, list[int]]
"""A window's number and the places in it, of 0..window_frames-1, that a frame fills."""


class FrameChooser(Protocol):
    """Says of one frame after another which places it fills; windows are filled in order."""

    def choose(self, time: Fraction, following: Fraction | None) -> list[Choice]:
        """Choose for a frame.

        Args:
            time: when it is shown, in seconds from the start of the clip; not before the one given last.
            following: when the next one is shown; None: there is none, and all windows left are filled.
        """


class Windows(Protocol):
    """The windows of a clip, 1 s each, in order."""

    @property
    def count(self) -> int:
        """How many there are; 0 for a clip that is too short."""

    @property
    def shortage(self) -> str:
        """What a clip without a window has and lacks, with numbers."""

    def starts(self) -> Iterator[float]:
        """Start of each window in seconds from the start of the clip, never falling."""

    def chooser(self, window_frames: int) -> FrameChooser:
        """What chooses the frames of the windows."""


@dataclass(frozen=True)
class AvcaWindows:
    """The windows of AVCA, of which there is one less than seconds, whose steps are 1/10, 1/20, ... of the clip.

    They end early: after 8.2 s of 10 s, but 5.5 s of 11 s. Frames are counted in truncated ticks of the video's
    clock, as published. One thing is not: where an AVI exchanges the time stamps of neighbours (`media.frames`), the
    publication shows those two in the wrong order.

    Attributes:
        frames: number of frames that the file announces.
        rate_hz: average frames a second.
        duration_ticks: length of the video.
        ticks_per_second: of the video's clock.
        first_tick: the clock at the clip's start; the publication takes it for 0, so that a clock that starts
            later shortens the first windows.
    """

    frames: int
    rate_hz: float
    duration_ticks: int
    ticks_per_second: Fraction
    first_tick: int = 0

    @property
    def count(self) -> int:
        """int(frames / rate) - 1."""
        return max(0, int(self.frames / self.rate_hz) - 1)

    @property
    def shortage(self) -> str:
        """What a clip without a window has and lacks."""
        seconds = self.frames / self.rate_hz
        return f"{self.frames} frames at {self.rate_hz:g} Hz ({seconds:.3f} s); AVCA's SeLaVi windows need 2 s"

    def first_frames(self) -> Iterator[int]:
        """Number of each window's first frame, by the average rate."""
        movable = max(self.frames - self.rate_hz, 0)
        parts = (self.count // 10 + 1) * 1000
        for window in range(self.count):
            yield int(movable * (100 * window) / parts)

    def starts(self) -> Iterator[float]:
        """Start of each window in seconds."""
        for first in self.first_frames():
            yield first / self.rate_hz

    def tick_ranges(self) -> Iterator[tuple[int, int]]:
        """First and last tick, both included, at which a frame of each window begins.

        One frame more belongs to the window: the first one after.
        """
        ticks_per_frame = self.duration_ticks / self.frames
        for first in self.first_frames():
            yield int(first * ticks_per_frame), int((first + self.rate_hz - 1) * ticks_per_frame)

    def chooser(self, window_frames: int) -> FrameChooser:
        """What chooses the frames of the windows."""
        return _AvcaChooser(self, window_frames)


def avca_frame_indices(rate_hz: float, window_frames: int) -> list[int]:
    """Which of a window's frames are taken, before they are limited to those that there are; never falling."""
    # Truncation shows the last bit: torch's float32, as published. 30 Hz gives 0..29 without a gap.
    positions = torch.linspace(0, rate_hz - 1, window_frames, dtype=torch.float32)
    return positions.clamp(min=0).long().tolist()


class _AvcaChooser:
    def __init__(self, windows: AvcaWindows, window_frames: int) -> None:
        self._windows = windows
        self._indices = avca_frame_indices(windows.rate_hz, window_frames)
        self._coming = enumerate(windows.tick_ranges())
        self._next = next(self._coming, None)
        self._open: list[_OpenWindow] = []

    def choose(self, time: Fraction, following: Fraction | None) -> list[Choice]:
        tick = self._windows.first_tick + round(time * self._windows.ticks_per_second)
        while self._next is not None and (self._next[1][0] <= tick or following is None):
            number, (_, last_tick) = self._next
            self._open.append(_OpenWindow(number, last_tick))
            self._next = next(self._coming, None)
        choices = []
        for window in self._open:
            window.is_over = following is None or tick > window.last_tick
            places = [
                place
                for place, index in enumerate(self._indices)
                if index == window.frames or (window.is_over and index > window.frames)
            ]
            window.frames += 1
            window.is_over |= window.frames > self._indices[-1]
            if places:
                choices.append((window.number, places))
        self._open = [window for window in self._open if not window.is_over]
        return choices


@dataclass
class _OpenWindow:
    """A window that frames are being counted for."""

    number: int
    last_tick: int
    frames: int = 0
    is_over: bool = False


@dataclass(frozen=True)
class FullWindows:
    """As few windows of 1 s as cover a clip from its start to its end, equally spaced.

    A window is cut into `window_frames` equal parts; each shows the frame that is on the screen in the part's
    middle. (A part's start would fall on the very moment of a change of frame, where clocks of 1 ms round to
    either side.) Before the first frame it is the first, after the last the last.

    Attributes:
        duration: of the clip, in seconds, to the end of its last frame.
    """

    duration: Fraction

    @property
    def count(self) -> int:
        """Seconds, rounded up."""
        return 0 if self.duration < 1 else math.ceil(self.duration)

    @property
    def shortage(self) -> str:
        """What a clip without a window has and lacks."""
        return f"{float(self.duration):.3f} s of video; one SeLaVi window needs 1 s"

    def exact_starts(self) -> Iterator[Fraction]:
        """Start of each window in seconds: from 0 to 1 s before the end."""
        for window in range(self.count):
            yield (self.duration - 1) * window / max(1, self.count - 1)

    def starts(self) -> Iterator[float]:
        """Start of each window in seconds."""
        return map(float, self.exact_starts())

    def chooser(self, window_frames: int) -> FrameChooser:
        """What chooses the frames of the windows."""
        return _FullChooser(self, window_frames)


class _FullChooser:
    def __init__(self, windows: FullWindows, window_frames: int) -> None:
        self._middles = [Fraction(2 * place + 1, 2 * window_frames) for place in range(window_frames)]
        self._coming = enumerate(windows.exact_starts())
        self._next = next(self._coming, None)
        self._open: list[tuple[int, Fraction, int]] = []  # number, start, places filled

    def choose(self, time: Fraction, following: Fraction | None) -> list[Choice]:
        while self._next is not None and (following is None or self._next[1] < following):
            self._open.append((*self._next, 0))
            self._next = next(self._coming, None)
        choices, still_open = [], []
        for number, start, filled in self._open:
            end = filled
            while end < len(self._middles) and (following is None or start + self._middles[end] < following):
                end += 1
            if end > filled:
                choices.append((number, list(range(filled, end))))
            if end < len(self._middles):
                still_open.append((number, start, end))
        self._open = still_open
        return choices
