"""Which input frame stands in which output slot: the rule of ffmpeg's `fps` filter.

Source: docs/networks.md, Frames at a fixed rate.

With near(x) = floor(x + 1/2) and the time p_i of input frame i in seconds from the start of the container:

1. the slot of frame i at R frames a second is s_i = near(p_i * R);
2. output k shows the last frame i with s_i <= k;
3. the slots end before E = near((p_last + duration of the last frame) * R);
4. the slots before s_0 repeat the first frame shown, as the ffmpeg program does when it writes at a constant
   rate, so that the output has E frames.

The ffmpeg program leaves out rule 4 for a file with one stream only, unless `-fps_mode cfr` is given; here it
always holds, so that output k stands for the time k / R in every file.
"""

from __future__ import annotations

from fractions import Fraction

Seconds = Fraction | float

# Halves are common (50 to 25 frames a second) and floating point misses them: 0.58 * 25 is
# 14.499999999999998. Real time stamps that are not halves lie much farther from one than this, in slots.
_HALF_TOLERANCE = 1e-6


def frame_rate(rate_hz: Seconds) -> Fraction:
    """Give the exact rate that a number stands for, such as 30000/1001 for 29.97002997.

    Raises:
        ValueError: the rate is not positive.
    """
    if not rate_hz > 0:
        raise ValueError(f"a frame rate of {rate_hz} Hz: expected a positive number")
    return Fraction(rate_hz).limit_denominator(1001)


def slot_of(time_seconds: Seconds, rate_hz: Seconds) -> int:
    """Give the slot near(p * R) of a frame shown at `time_seconds`; exact when the time is a Fraction."""
    position = time_seconds * frame_rate(rate_hz)
    half = Fraction(1, 2) if isinstance(position, Fraction) else 0.5 + _HALF_TOLERANCE
    return int((position + half) // 1)


def expected_frame_count(last_time_seconds: Seconds, last_duration_seconds: Seconds, rate_hz: Seconds) -> int:
    """Give E, the number of output frames of a video whose last frame is shown at `last_time_seconds`."""
    return max(0, slot_of(last_time_seconds + last_duration_seconds, rate_hz))


class FrameRateConverter:
    """The rule for a stream: how often each frame is shown, known once its successor's time is.

    The caller keeps one frame, the one pushed last. `push` tells how often the frame before the one just
    pushed is to be emitted, `finish` how often the last one is.

    Args:
        rate_hz: output frames a second.
    """

    def __init__(self, rate_hz: Seconds) -> None:
        self._rate = frame_rate(rate_hz)
        self._slot: int | None = None  # of the frame pushed last
        self._next = 0  # the first output slot not yet filled
        self._started = False

    def push(self, time_seconds: Seconds) -> int:
        """Take the time of the next frame; give the number of copies of the previous one (0 at first)."""
        slot = slot_of(time_seconds, self._rate)
        copies = 0 if self._slot is None else self._fill(slot)
        self._slot = slot if self._slot is None else max(slot, self._slot)
        return copies

    def finish(self, last_time_seconds: Seconds, last_duration_seconds: Seconds) -> int:
        """Give the number of copies of the last frame; 0 when no frame was pushed."""
        if self._slot is None:
            return 0
        return self._fill(expected_frame_count(last_time_seconds, last_duration_seconds, self._rate))

    def _fill(self, end: int) -> int:
        """Show the frame pushed last in the slots up to `end`."""
        assert self._slot is not None
        first = self._next if self._started else self._slot
        if end <= max(first, self._next):
            return 0
        self._started = True
        copies = end - self._next
        self._next = end
        return copies
