"""A segment of a file cut out without loss, at any frame and any sample."""

from __future__ import annotations

import itertools
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from avpipe.errors import ClipFailure, Reason
from avpipe.io.atomic import atomic_path
from avpipe.media.clip import Clip
from avpipe.media.cut import exact_clock, make_cut
from avpipe.media.decode import chosen_frames
from avpipe.media.file_mode.encode import keeps_in_h264, open_sound, write_clip
from avpipe.media.timeline import read_timeline

_EIGHT_BIT = 8


def trim_clip(source: Clip, target: Path, *, timeout_seconds: float | None, threads: int = 1) -> int:
    """Cut a segment out of a file: same pixels, same spacing of time stamps, sound as 16-bit samples.

    A picture with a rotation tag is written turned upright, without the tag: the pixels are those of
    `decode.decode_video` with `orientation="upright"`.

    The first frame is the one on the screen when the segment begins; it gets time stamp 0, and the others
    keep their distance from the segment's start to the tick, which QuickTime can store and Matroska (1 ms)
    cannot. Sample 0 of the sound is the start of the segment. The file appears whole or not at all.

    Args:
        source: the clip.
        target: a path ending in .mov.
        timeout_seconds: after which ffmpeg is killed; None: never.
        threads: for filters and the encoder.

    Returns:
        number of frames in the file written.

    Raises:
        ValueError: the target does not end in .mov, or the segment makes no sense.
        ClipFailure: as `decode.decode_video` and `decode.audio_blocks`, apart from NO_AUDIO; TIMEOUT, DECODE_ERROR
            also when the file written does not hold the frames and times expected.
        AvpipeError: the disk is full.
    """
    if target.suffix != ".mov":
        raise ValueError(f"{target}: expected a target that ends in .mov")
    cut = make_cut(source.start_seconds, source.end_seconds)
    sound = open_sound(source.path, cut)
    # A file's last frame lasts as long as its packet says, so the times are needed before the frames.
    with closing(chosen_frames(source.path, cut, None)) as frames:
        spans = [(cut.shift(shown.time), shown.end, shown.frame.time_base) for shown in frames]
    if sound is None or not cut.is_whole:  # without sound from 0 on, a file cannot say that its video begins late
        spans[0] = (Fraction(0), *spans[0][1:])
    times = list(itertools.accumulate((time for time, _, _ in spans), max))
    is_seen = [after > time for time, after in itertools.pairwise(times)] + [True]
    times, end = list(itertools.compress(times, is_seen)), max(times[-1], cut.shift(spans[-1][1]))
    clock = exact_clock(spans[0][2] or Fraction(1))
    last, last_ticks = round(times[-1] * clock), round((end - times[-1]) * clock)
    with atomic_path(target) as temporary, closing(chosen_frames(source.path, cut, None)) as frames:
        write_clip(
            source.path,
            temporary,
            zip(times, itertools.compress(frames, is_seen), strict=True),
            sound,
            tick=Fraction(1, clock),
            codec=_lossless_codec,
            input_options={},
            output_options={
                "bsf:v": f"setts=duration=if(gte(PTS\\,{last})\\,{last_ticks}\\,DURATION)",
                "video_track_timescale": clock,
                "c:a": "pcm_s16le",
                "f": "mov",
            },
            timeout_seconds=timeout_seconds,
            threads=threads,
        )
        _check_written(source.path, temporary, times, end)
    return len(times)


def _check_written(path: Path, target: Path, times: list[Fraction], end: Fraction) -> None:
    written = read_timeline(target)
    if written.times != times or written.end != end:
        found = f"{len(written.times)} frames that end at {float(written.end):.6f} s"
        expected = f"{len(times)} frames that end at {float(end):.6f} s"
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: ffmpeg wrote {found}, it was given {expected}; fetch it again")


def _lossless_codec(pixel_format: str, width: int, height: int) -> dict[str, Any]:
    """libx264 is lossless at quantiser 0 for 8-bit pictures only; FFV1 is for all, but larger and slower."""
    deepest = max(component.bits for component in av.VideoFormat(pixel_format).components)
    if deepest == _EIGHT_BIT and keeps_in_h264(pixel_format, width, height):
        return {"c:v": "libx264", "qp": 0, "preset": "ultrafast", "pix_fmt": pixel_format}
    return {"c:v": "ffv1", "pix_fmt": pixel_format}
