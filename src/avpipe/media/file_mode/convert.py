"""A clip rewritten at a fixed frame rate, near-lossless, for programs that cannot stream its source."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import av

from avpipe.errors import ClipFailure, Reason
from avpipe.io.atomic import atomic_path
from avpipe.media.clip import Clip
from avpipe.media.cut import make_cut
from avpipe.media.decode import chosen_frames
from avpipe.media.file_mode.encode import keeps_in_h264, open_sound, write_clip
from avpipe.media.framerate import Seconds, frame_rate
from avpipe.media.timeline import read_timeline

_FLAC_CHANNELS = 2  # FLAC knows few layouts beyond stereo; those are rare and stay PCM


def convert_to_rate(
    source: Clip,
    target: Path,
    *,
    rate_hz: Seconds,
    crf: int,
    timeout_seconds: float | None,
    threads: int = 1,
) -> int:
    """Write a clip as H.264 at a fixed frame rate with lossless sound at its own rate, in Matroska.

    Frame k is the frame that `decode.decode_video` gives as its k-th with `orientation="upright"`, but for the
    compression; there is no rotation tag. Sample 0 of the sound is the start of the clip. The file appears whole
    or not at all.

    Args:
        source: the clip; its segment is cut as `decode.decode_video` cuts it.
        target: a path ending in .mkv.
        rate_hz: frames a second.
        crf: libx264's constant rate factor, 0 (lossless) to 51; below 18 the loss is hard to see.
        timeout_seconds: after which ffmpeg is killed; None: never.
        threads: for filters and the encoder.

    Returns:
        number of frames in the file written.

    Raises:
        ValueError: the target does not end in .mkv, or the segment makes no sense.
        ClipFailure: as `decode.decode_video` and `decode.audio_blocks`, apart from NO_AUDIO; TIMEOUT, TOO_SHORT (less
            than half an output frame), DECODE_ERROR also when the file written does not hold the frames expected.
        AvpipeError: the disk is full.
    """
    if target.suffix != ".mkv":
        raise ValueError(f"{target}: expected a target that ends in .mkv")
    cut, rate = make_cut(source.start_seconds, source.end_seconds), frame_rate(rate_hz)
    sound = open_sound(source.path, cut)
    with atomic_path(target) as temporary, closing(chosen_frames(source.path, cut, rate)) as frames:
        expected = write_clip(
            source.path,
            temporary,
            ((number / rate, shown) for number, shown in enumerate(frames)),
            sound,
            tick=1 / rate,
            codec=lambda *form: {"c:v": "libx264", "crf": crf, "preset": "veryfast", "pix_fmt": h264_format(*form)},
            input_options={"r": f"{rate.numerator}/{rate.denominator}"},
            output_options={
                "c:a": "flac" if sound is not None and sound.channels <= _FLAC_CHANNELS else "pcm_s16le",
                "f": "matroska",
            },
            timeout_seconds=timeout_seconds,
            threads=threads,
        )
        if expected == 0:
            raise ClipFailure(Reason.TOO_SHORT, f"{source.path}: no frame at {float(rate_hz):g} frames a second")
        found = len(read_timeline(temporary).times)
        if found != expected:
            detail = f"{source.path}: ffmpeg wrote {found} frames, it was given {expected}; fetch it again"
            raise ClipFailure(Reason.DECODE_ERROR, detail)
    return expected


def h264_format(pixel_format: str, width: int, height: int) -> str:
    """Choose the pixel format for H.264: the source's own, or one with full colour resolution."""
    if keeps_in_h264(pixel_format, width, height):
        return pixel_format
    deep = any(component.bits > 8 for component in av.VideoFormat(pixel_format).components)
    if pixel_format.startswith("yuvj"):
        return "yuvj444p"
    return "yuv444p10le" if deep else "yuv444p"
