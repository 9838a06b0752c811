"""How much less than announced is still a whole file."""

from __future__ import annotations

# An XviD AVI announces a frame more for each frame its encoder held back (82 announced, 81 there:
# specs/extractors.md 3.4), and containers round their durations.
_SLACK_FRAMES = 2
_SLACK_SECONDS = 0.5
_SLACK_SHARE = 0.02


def is_short(announced_seconds: float, found_seconds: float) -> bool:
    """Tell whether so much is missing that the file must have been cut off."""
    return announced_seconds - found_seconds > max(_SLACK_SECONDS, _SLACK_SHARE * announced_seconds)


def has_too_few(expected_frames: int, found_frames: int) -> bool:
    """Tell whether more frames are missing than a whole file may lack."""
    return expected_frames - found_frames > _SLACK_FRAMES + _SLACK_SHARE * expected_frames
