"""Encoding of one small clip in this process, with the same bytes each time for the same FFmpeg libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.container
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags as CodecFlags
from av.container import Flags as ContainerFlags

from avpipe.demo.render import HEIGHT, SAMPLE_RATE_HZ, WIDTH

VIDEO_BIT_RATE = 800_000
AUDIO_BIT_RATE = 64_000
_KEY_FRAME_EVERY = 12
# LAME's first packet is stamped this much before its first sample. AVI has no negative time, so the muxer would
# shift everything and put an empty second frame into the video.
_LAME_DELAY_SAMPLES = 1105


def encode(
    path: Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    ticks: Sequence[int],
    time_base: Fraction,
    samples: npt.NDArray[np.float32] | None,
) -> None:
    """Write MPEG-4 video and MP3 (in .avi, as UCF-101 has) or AAC sound (in .mp4).

    Args:
        path: the file; its suffix decides the container.
        pictures: uint8 [120, 160, 3] RGB, one per tick.
        ticks: time stamp of each picture, in units of `time_base` seconds.
        time_base: seconds per tick; in .avi, ticks must be 0, 1, 2, …
        samples: float32 [n] at `SAMPLE_RATE_HZ`, or None for no sound track.
    """
    with av.open(str(path), "w") as container:
        container.flags |= cast(int, ContainerFlags.bitexact.value)
        video = container.add_stream("mpeg4", rate=1 / time_base)
        video.codec_context.time_base = time_base
        video.bit_rate = VIDEO_BIT_RATE
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.gop_size = _KEY_FRAME_EVERY
        _make_deterministic(video.codec_context)
        if samples is not None:
            codec = "libmp3lame" if path.suffix == ".avi" else "aac"
            audio = cast(av.AudioStream, container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono"))
            audio.bit_rate = AUDIO_BIT_RATE
            _make_deterministic(audio.codec_context)
        for tick, pixels in zip(ticks, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if samples is not None:
            chunk = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts = SAMPLE_RATE_HZ, _LAME_DELAY_SAMPLES if path.suffix == ".avi" else 0
            container.mux(audio.encode(chunk))
            container.mux(audio.encode(None))


def _make_deterministic(context: av.CodecContext) -> None:
    """No version string in the stream, and no dependence on the number of threads."""
    context.flags |= CodecFlags.bitexact.value
    context.thread_count = 1
