from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from avpipe.media.framerate import FrameRateConverter, expected_frame_count, frame_rate, slot_of


def by_the_words(times, last_duration, rate):
    """Rules 1 to 4 of docs/networks.md, Frames at a fixed rate, read aloud."""

    def near(x):
        return int((x + Fraction(1, 2)) // 1)

    slots = [near(time * rate) for time in times]
    end = near((times[-1] + last_duration) * rate)
    shown = [max(i for i, slot in enumerate(slots) if slot <= k) for k in range(slots[0], end)]
    return [shown[0]] * slots[0] + shown if shown else []


def stream(times, last_duration, rate):
    """Drive the converter as a decoder does, holding one frame."""
    converter, held, out = FrameRateConverter(rate), None, []
    for index, time in enumerate(times):
        out += [held] * converter.push(time)
        held = index
    return out + [held] * converter.finish(times[-1], last_duration)


def select_frames(times_seconds, last_duration_seconds, rate_hz):
    """The input frame of every output frame, for times in floating point too: indices, int64 [E]."""
    times = list(times_seconds)
    if not times:
        return np.zeros(0, dtype=np.int64)
    # A time stamp that goes backwards changes nothing: the filter shows the frame that came last.
    slots = np.maximum.accumulate([slot_of(time, rate_hz) for time in times])
    count = expected_frame_count(times[-1], last_duration_seconds, rate_hz)
    if count <= slots[0]:  # the filter itself gives nothing, so there is nothing to repeat
        return np.zeros(0, dtype=np.int64)
    outputs = np.maximum(np.arange(count), slots[0])
    return np.searchsorted(slots, outputs, side="right").astype(np.int64) - 1


def random_times(rng):
    """Time stamps of a made-up video of 1 to 120 frames a second, in ticks, the first seldom zero."""
    clock = int(rng.choice([1000, 12800, 30000, 90000]))
    rate = rng.uniform(1, 120)
    gaps = np.maximum(1, (rng.exponential(1 / rate, rng.integers(1, 60)) * clock).astype(int))
    first = int(rng.choice([0, rng.integers(0, 2 * clock)]))
    ticks = first + np.concatenate([[0], np.cumsum(gaps)])
    return [Fraction(int(tick), clock) for tick in ticks], Fraction(int(gaps[-1]), clock)


@pytest.mark.parametrize("seed", range(40))
def test_all_three_ways_agree_on_variable_rates(seed):
    rng = np.random.default_rng(seed)
    times, last = random_times(rng)
    rate = Fraction(rng.choice(["1", "24", "25", "30000/1001", "7.5", "60"]))
    expected = by_the_words(times, last, rate)
    assert select_frames(times, last, rate).tolist() == expected
    assert stream(times, last, rate) == expected
    in_floats = [float(time) for time in times], float(last), float(rate)
    assert select_frames(*in_floats).tolist() == stream(*in_floats) == expected
    assert len(expected) in (0, expected_frame_count(times[-1], last, rate))


def test_one_frame_a_second_is_the_frame_before_the_half_second():
    times = [Fraction(i, 25) for i in range(100)]
    assert select_frames(times, Fraction(1, 25), 1).tolist() == stream(times, Fraction(1, 25), 1) == [12, 37, 62, 87]


def test_halves_are_rounded_up_in_floating_point_too():
    # 0.58 * 25 is 14.499999999999998
    assert slot_of(0.58, 25) == slot_of(Fraction(58, 100), 25) == 15
    times = [i / 50 for i in range(200)]
    exact = [Fraction(i, 50) for i in range(200)]
    assert select_frames(times, 0.02, 25).tolist() == select_frames(exact, Fraction(1, 50), 25).tolist()
    assert stream(times, 0.02, 25) == stream(exact, Fraction(1, 50), 25)


def test_slow_video_repeats_frames():
    assert select_frames([0.0, 1.0], 1.0, 3).tolist() == stream([0.0, 1.0], 1.0, 3) == [0, 0, 0, 1, 1, 1]


def test_a_late_video_starts_with_copies_of_the_first_frame_shown():
    # Frames 0 and 1 fall into slot 1, so frame 1 is the first one shown; the program repeats that one.
    assert select_frames([0.6, 0.7, 2.0], 1.0, 1).tolist() == [1, 1, 2]
    assert stream([0.6, 0.7, 2.0], 1.0, 1) == [1, 1, 2]


def test_too_short_for_one_frame_gives_none():
    assert select_frames([0.0], 0.4, 1).tolist() == []
    assert stream([0.0], 0.4, 1) == []
    assert select_frames([], 0.0, 25).tolist() == []
    assert FrameRateConverter(25).finish(0.0, 1.0) == 0


def test_a_time_stamp_that_goes_back_shows_the_frame_that_came_last():
    times = [0.0, 0.2, 0.12, 0.4]
    assert select_frames(times, 0.04, 25).tolist() == [0] * 5 + [2] * 5 + [3]
    assert stream(times, 0.04, 25) == [0] * 5 + [2] * 5 + [3]


@pytest.mark.parametrize("rate", [0, -25, float("nan")])
def test_a_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match="frame rate"):
        frame_rate(rate)


def test_the_television_rate_is_exact():
    assert frame_rate(29.97002997002997) == Fraction(30000, 1001)
