"""Which windows are drawn: the published formulas by hand-computed cases; draws depend on nothing but their key."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from avpipe.retrieval.settings import Windows
from avpipe.retrieval.windows import (
    Extent,
    VideoCaptions,
    Window,
    caption_window,
    covered_seconds,
    draw_windows,
    extended,
    frame_at,
    generator,
    is_covered,
    random_starts,
    random_window,
    visual_rows,
    whole_seconds,
)

MINUTE = Extent(6001, ((60, 1.0), (90, 1.5)))
"""60 s of sound and pictures."""


def settings(**changes: Any) -> Windows:
    return Windows.model_validate({"drawn": "captions", **changes}).resolved("corrected")


def captions(*spans: tuple[float, float]) -> VideoCaptions:
    return VideoCaptions([a for a, _ in spans], [b for _, b in spans], [f"t{i}" for i in range(len(spans))])


@pytest.mark.parametrize(
    ("seconds", "frame"),
    # floor((16000 s - 200) / 160); frame 0 begins at 200 samples. 0.5025 s is 8040 samples and 49 frames, but 8039.99…
    # in float64, which the published conversion cuts to 8039, one sample before frame 49.
    [(0, -2), (0.01, -1), (0.0124, -1), (0.0125, 0), (0.0225, 1), (1, 98), (2, 198), (10, 998), (0.5025, 48)],
)
def test_frame_at(seconds: float, frame: int) -> None:
    assert frame_at(seconds) == frame


@pytest.mark.parametrize(
    ("frames", "seconds"), [(800, 8), (1000, 10), (1024, 10), (98, 0), (99, 1), (39001, 390), (0, 0)]
)
def test_whole_seconds(frames: int, seconds: int) -> None:
    assert whole_seconds(frames) == seconds


@pytest.mark.parametrize(
    ("frames", "starts"),
    # S - (W + 1) with W = 10, never below 1: 390 s -> 379; 12 s -> 1; 13 s -> 2; shorter than the window -> 1
    [(39001, 379), (1201, 1), (1301, 2), (1000, 1), (3, 1)],
)
def test_random_starts(frames: int, starts: int) -> None:
    assert random_starts(frames, 1000) == starts


def test_random_window_begins_two_frames_early_and_ends_inside_the_video() -> None:
    assert random_window(0, 1000, MINUTE) == Window((0, 1000), (0, 10))
    assert random_window(7, 1000, MINUTE) == Window((698, 1698), (7, 17))
    assert random_window(0, 1000, Extent(250, ((2, 1.0),))) == Window((0, 250), (0, 10))


@pytest.mark.parametrize(
    ("seconds", "rows", "rate", "expected"),
    # int(s fps) : int(e fps) + 1, cut at the last row
    [
        ((7, 17), 60, 1.0, (7, 18)),
        ((7, 17), 90, 1.5, (10, 26)),
        ((2.9, 5.2), 60, 1.0, (2, 6)),
        ((0, 10), 2, 1.0, (0, 2)),
        ((55, 65), 60, 1.0, (55, 60)),
        ((60, 70), 60, 1.0, (60, 60)),
        ((80, 90), 60, 1.0, (60, 60)),
    ],
)
def test_visual_rows(seconds: tuple[float, float], rows: int, rate: float, expected: tuple[int, int]) -> None:
    assert visual_rows(Window((0, 1), seconds), rows, rate) == expected


def test_a_long_caption_stays_alone() -> None:
    assert extended(captions((0, 2), (2, 9), (9, 10)), 1, 5.0) == [1]


def test_a_caption_as_long_as_the_minimum_stays_alone() -> None:
    assert extended(captions((0, 2), (2, 7), (7, 10)), 1, 5.0) == [1]


def test_the_nearer_neighbour_is_absorbed() -> None:
    # With the previous one 4 - 0 = 4 s, with the next one 9 - 2 = 7 s.
    assert extended(captions((0, 2), (2, 4), (4, 9)), 1, 3.0) == [1, 0]
    # With the previous one 6 - 0 = 6 s, with the next one 7 - 4 = 3 s.
    assert extended(captions((0, 4), (4, 6), (6, 7)), 1, 3.0) == [1, 2]


def test_of_equal_neighbours_the_previous_one_is_absorbed() -> None:
    assert extended(captions((0, 2), (2, 4), (4, 6)), 1, 4.0) == [1, 0]


def test_extension_goes_on_until_long_enough_and_counts_gaps() -> None:
    # 1 s; the gap makes the next one costly (12 - 5), so the previous (6 - 3, then 6 - 0); 6 s suffice.
    assert extended(captions((0, 1), (3, 4), (5, 6), (11, 12)), 2, 5.0) == [2, 1, 0]
    # Nothing before: over the gap. Nothing at all: as it is.
    assert extended(captions((0, 1), (30, 31)), 0, 5.0) == [0, 1]
    assert extended(captions((0, 1), (30, 31)), 1, 5.0) == [1, 0]
    assert extended(captions((0, 1)), 0, 5.0) == [0]


def test_only_the_side_that_is_left_is_extended() -> None:
    assert extended(captions((0, 1), (1, 2), (2, 3), (3, 4)), 0, 3.0) == [0, 1, 2]
    assert extended(captions((0, 1), (1, 2), (2, 3), (3, 4)), 3, 3.0) == [3, 2, 1]


def test_a_caption_window_has_the_words_of_the_drawn_caption_first() -> None:
    window = caption_window(captions((0, 1), (3, 4), (5, 6), (11, 12)), 2, settings(min_seconds=5), MINUTE)
    assert window == Window((0, 598), (0, 6), "t2 t1 t0")


def test_sound_is_cut_to_the_first_frames_and_pictures_are_not() -> None:
    window = caption_window(captions((2, 38)), 0, settings(audio_frames=1000), MINUTE)
    assert window == Window((198, 1198), (2, 38), "t0")
    assert visual_rows(window, 60, 1.0) == (2, 39)


def test_a_caption_at_the_very_start() -> None:
    clamped, published = settings(), settings(caption_start="published")
    first = captions((0.01, 6.0))
    assert caption_window(first, 0, clamped, MINUTE).frames == (0, 598)
    # Published: frames -1 : 598 of 6001, that is 6000 : 598, which is empty.
    begin, end = caption_window(first, 0, published, MINUTE).frames
    assert begin == end
    # In a video that ends with the caption, -1 : 598 is the last frame.
    assert caption_window(first, 0, published, Extent(598, ((5, 1.0),))).frames == (597, 598)


def test_a_caption_shorter_than_a_frame_keeps_one() -> None:
    assert caption_window(captions((0.0, 0.005)), 0, settings(), MINUTE).frames == (0, 1)
    assert caption_window(captions((1.0, 1.001)), 0, settings(), MINUTE).frames == (98, 99)


def test_a_caption_behind_the_sound_has_no_frame() -> None:
    assert caption_window(captions((70, 80)), 0, settings(), MINUTE).frames == (6001, 6001)


def test_covered_seconds_agrees_with_is_covered() -> None:
    few_rows, little_sound = Extent(6001, ((60, 1.0), (3, 1.5))), Extent(150, ((60, 1.0),))
    for extent in (MINUTE, few_rows, little_sound, Extent(9000, ((7, 1.4985),))):
        end = covered_seconds(extent)
        assert is_covered(end, extent)
        assert not is_covered(end + 2e-6, extent)


def test_windows_without_pictures_are_drawn_elsewhere_or_kept() -> None:
    many = captions((0, 6), (10, 16), (70, 76), (80, 86))
    long_sound = dataclasses.replace(MINUTE, n_frames=9001)
    random = generator(1, 0, "x")
    skipped = draw_windows(settings(per_video=200), long_sound, many, random)
    assert {window.text for window in skipped} == {"t0", "t1"}
    kept = draw_windows(settings(per_video=200, lacking_video="zeros"), long_sound, many, random)
    assert {window.text for window in kept} == {"t0", "t1", "t2", "t3"}


def test_random_windows_skip_what_has_no_pictures() -> None:
    short = Extent(39001, ((20, 1.0), (25, 1.5)))  # 25 / 1.5: starts 0 to 16 have a 3-D row
    drawn = draw_windows(settings(drawn="random", per_video=500), short, None, generator(1, 0, "x"))
    assert {window.seconds[0] for window in drawn} == set(range(17))


def test_no_window_has_pictures() -> None:
    nothing = Extent(6001, ((0, 1.0),))
    assert draw_windows(settings(drawn="random"), nothing, None, generator(1, 0, "x")) == []
    assert draw_windows(settings(), MINUTE, captions((70, 80)), generator(1, 0, "x")) == []


def test_random_windows_reach_every_start_and_no_other() -> None:
    extent = Extent(2001, ((20, 1.0),))  # 20 s: starts 0 to 8
    drawn = draw_windows(settings(drawn="random", per_video=2000), extent, None, generator(0, 0, "x"))
    counts = np.bincount([window.seconds[0] for window in drawn], minlength=9)
    assert len(counts) == 9
    # 2000 draws, 222 each with a standard deviation of 14: five of them either way.
    assert counts.min() > 150
    assert counts.max() < 295


def test_without_replacement_uses_all_before_repeating() -> None:
    extent = Extent(2001, ((20, 1.0),))
    chosen = settings(drawn="random", per_video=24, without_replacement=True)
    starts = [window.seconds[0] for window in draw_windows(chosen, extent, None, generator(0, 0, "x"))]
    assert sorted(starts[:9]) == sorted(starts[9:18]) == list(range(9))
    assert len(set(starts[18:])) == 6


def test_a_draw_depends_on_seed_epoch_and_video_alone() -> None:
    def draw(seed: int, epoch: int, video: str) -> list[Window]:
        return draw_windows(settings(drawn="random"), Extent(39001, ((390, 1.0),)), None, generator(seed, epoch, video))

    assert draw(1, 2, "abc") == draw(1, 2, "abc")
    different = [draw(1, 2, "abc"), draw(2, 1, "abc"), draw(1, 3, "abc"), draw(1, 2, "abd"), draw(2**63 - 1, 2, "abc")]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_captions_are_needed() -> None:
    with pytest.raises(ValueError, match="without captions"):
        draw_windows(settings(), MINUTE, VideoCaptions([], [], []), generator(0, 0, "x"))
