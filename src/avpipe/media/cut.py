"""A segment of a file on exact clocks: what trimming a file and streaming a part of it must agree on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

# Starts and ends of clips are taken to the millisecond, so that a trimmed file can hold every shifted time
# stamp exactly: its clock ticks at the least common multiple of the source's clock and this one.
_TICKS_PER_SECOND = 1000
_LARGEST_CLOCK = 2**31 - 1  # QuickTime and MP4 store the clock in 32 bits


@dataclass(frozen=True)
class Cut:
    """A segment of a file, in seconds from the container's first time stamp.

    Attributes:
        start: where it begins.
        end: where it ends (not included); None: at the end of the file.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole file.

        Then a video that begins late keeps its place on the file's clock; the first frame of a segment always
        stands at 0, since a file that was trimmed to it could not say otherwise.
        """
        return self.start == 0 and self.end is None

    @property
    def length(self) -> Fraction | None:
        """Seconds from start to end; None when the file's end bounds it."""
        return None if self.end is None else self.end - self.start

    def shift(self, time: Fraction) -> Fraction:
        """Move a time stamp onto the segment's clock; what began before it is shown from its start."""
        return max(time - self.start, Fraction(0))


def make_cut(start_seconds: float | None, end_seconds: float | None) -> Cut:
    """Take a segment to the millisecond.

    Raises:
        ValueError: not finite, the start is negative, or the end is not after the start.
    """
    if not all(math.isfinite(seconds) for seconds in (start_seconds, end_seconds) if seconds is not None):
        raise ValueError(f"a segment from {start_seconds} s to {end_seconds} s: expected finite numbers of seconds")
    start = _to_clock(start_seconds or 0.0)
    end = None if end_seconds is None else _to_clock(end_seconds)
    if start < 0 or (end is not None and end <= start):
        raise ValueError(
            f"a segment from {start_seconds} s to {end_seconds} s: expected 0 <= start < end in seconds from "
            "the start of the file, at least 1 ms apart"
        )
    return Cut(start, end)


def exact_clock(time_base: Fraction) -> int:
    """Give ticks per second of a clock that holds the source's time stamps, moved by milliseconds, exactly.

    A source clock too odd for 32 bits gets microseconds: the error stays below 1 us.
    """
    clock = math.lcm(time_base.denominator, _TICKS_PER_SECOND)
    return clock if clock <= _LARGEST_CLOCK else 1_000_000


def _to_clock(seconds: float) -> Fraction:
    return Fraction(round(seconds * _TICKS_PER_SECOND), _TICKS_PER_SECOND)
