"""What `trim` and `convert` share: a clip that was decoded as in stream mode is encoded by the ffmpeg program.

The program gets frames and samples, never the file: what a damaged or odd file holds is decided once, by the decoding
of stream mode, so that a clip has the same frames, the same sound and the same verdict in both modes.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import av
import ffmpeg
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.audio import AudioReader
from avpipe.media.cut import Cut
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.frames import PictureConverter, TimedFrame, turns_sideways, upright_steps
from avpipe.media.sample_stream import Samples
from avpipe.media.source import media_url

Picture = tuple[Fraction, TimedFrame]
"""When to show a frame, in seconds from the start of the clip, and the frame."""

ChooseCodec = Callable[[str, int, int], dict[str, Any]]
"""From the pixel format, width and height of upright pictures to the program's options for their codec."""

# What libx264 takes and an H.264 decoder gives back under the same name. (Grey comes back as yuvj420p.)
_H264_FORMATS = frozenset(
    f"yuv{kind}" for kind in ("420p", "422p", "444p", "j420p", "j422p", "j444p", "420p10le", "422p10le", "444p10le")
)
_SOME_PIXELS = 64  # any number that subsampling divides evenly
_SOUND_BLOCK_SECONDS = 1.0
# What raw pictures cannot be passed on as, the program cannot convert, or FFV1 does not take.
_PLAIN_FORMATS = {"rgb24": "bgr0", "bgr24": "bgr0", "rgb0": "bgr0", "rgba": "bgra", "pal8": "bgra"}
_PLAIN_FORMATS |= {"monob": "gray", "monow": "gray"}
_UNSPECIFIED = 2  # FFmpeg's number for colours that nobody described
_ALL_LEVELS = 2  # its number for samples that use all values


def keeps_in_h264(pixel_format: str, width: int, height: int) -> bool:
    """Tell whether libx264 can keep pictures of this format and size as they are.

    With subsampled colour it refuses odd sizes.
    """
    if pixel_format not in _H264_FORMATS:
        return False
    return ("422" in pixel_format or "444" in pixel_format or height % 2 == 0) and (
        "444" in pixel_format or width % 2 == 0
    )


def open_sound(path: Path, cut: Cut) -> AudioReader | None:
    """The sound of a clip, or None where the file has none.

    Raises:
        ClipFailure: MISSING, DECODE_ERROR.
    """
    try:
        return AudioReader(path, cut, _SOUND_BLOCK_SECONDS)
    except ClipFailure as failure:
        if failure.reason is Reason.NO_AUDIO:
            return None
        raise


def write_clip(
    source: Path,
    target: Path,
    pictures: Iterator[Picture],
    sound: AudioReader | None,
    *,
    tick: Fraction,
    codec: ChooseCodec,
    input_options: dict[str, Any],
    output_options: dict[str, Any],
    timeout_seconds: float | None,
    threads: int,
) -> int:
    """Encode a clip; the file has the same bytes every time. A picture with a rotation tag is written upright.

    Args:
        source: the file to blame in messages.
        target: the file to write.
        pictures: what to show; later pictures of another size are scaled to that of the first, as in stream mode.
        sound: of the clip, written where it has a sample.
        tick: of the clock of the pictures, in seconds.
        codec: chooses that of the pictures.
        input_options, output_options: others for the program.
        timeout_seconds, threads: as for `run_ffmpeg`.

    Returns:
        number of pictures; where it is 0, nothing was written.

    Raises:
        As `run_ffmpeg`, and what decoding raises.
    """
    if (first := next(pictures, None)) is None:
        return 0
    blocks = iter(sound or ())
    first_block = next(blocks, None)
    heard = sound if first_block is not None else None
    pixel_format, width, height = _upright_form(first[1].frame)
    convert = PictureConverter(pixel_format, threads, orientation="upright").filtered
    written = 0

    def feed(pipe: IO[bytes]) -> None:
        nonlocal written
        with av.open(pipe, "w", format="nut") as container:
            video = container.add_stream("rawvideo", width=width, height=height, pix_fmt=pixel_format, time_base=tick)
            packets = [_video_packets(video, itertools.chain([first], pictures), tick, convert)]
            if heard is not None and first_block is not None:
                audio = container.add_stream("pcm_s16le", rate=heard.rate_hz, layout=heard.layout)
                packets.append(_sound_packets(audio, itertools.chain([first_block], blocks)))
            for _, packet in heapq.merge(*packets, key=itemgetter(0)):
                written += packet.stream.type == "video"
                container.mux(packet)

    opened = ffmpeg.input("pipe:0", f="nut", threads=threads, **input_options, **_unsaid(first[1].frame, heard))
    options = {"threads": threads, "fps_mode": "passthrough", "fflags": "+bitexact", "map_metadata": -1}
    options |= {"enc_time_base:v": f"{tick.numerator}:{tick.denominator}"}
    options |= codec(pixel_format, width, height) | output_options
    streams = [opened.video] if heard is None else [opened.video, opened.audio]
    output = ffmpeg.output(*streams, media_url(target), **options).global_args("-copyts")
    run_ffmpeg(output, source, timeout_seconds=timeout_seconds, threads=threads, feed=feed)
    return written


def _upright_form(frame: VideoFrame) -> tuple[str, int, int]:
    """Pixel format, width and height of a frame that is turned as its rotation tag says."""
    pixel_format = _PLAIN_FORMATS.get(frame.format.name, frame.format.name)
    if turns_sideways(upright_steps(frame)):
        return _turned_format(pixel_format), frame.height, frame.width
    return pixel_format, frame.width, frame.height


def _turned_format(pixel_format: str) -> str:
    """Choose the pixel format that keeps a picture whole when it is turned by 90 degrees.

    Colour that is coarser in one direction than in the other has no format of its own once it is turned.
    """
    layout = av.VideoFormat(pixel_format)
    if layout.chroma_width(_SOME_PIXELS) == layout.chroma_height(_SOME_PIXELS):
        return pixel_format
    full, found = re.subn(r"4(22|40|11)p", "444p", pixel_format)
    if found:
        return full
    return "yuv444p10le" if any(component.bits > 8 for component in layout.components) else "yuv444p"


def _unsaid(frame: VideoFrame, sound: AudioReader | None) -> dict[str, Any]:
    """What raw pictures and sound do not say about themselves, as options for the program's input."""
    said = {name: int(getattr(frame, name)) for name in ("colorspace", "color_primaries", "color_trc")}
    options: dict[str, Any] = {f"{name}:v": number for name, number in said.items() if number != _UNSPECIFIED}
    levels = _ALL_LEVELS if frame.format.name.startswith("yuvj") else int(frame.color_range)
    return options | {"color_range:v": levels} | ({} if sound is None else {"ch_layout:a": sound.layout})


def _video_packets(
    stream: VideoStream, pictures: Iterable[Picture], tick: Fraction, convert: Callable[[VideoFrame], VideoFrame]
) -> Iterator[tuple[Fraction, Packet]]:
    for time, shown in pictures:
        frame = convert(shown.frame)
        frame.pts, frame.time_base = round(time / tick), tick
        yield from ((time, packet) for packet in stream.encode(frame))


def _sound_packets(stream: AudioStream, blocks: Iterable[Samples]) -> Iterator[tuple[Fraction, Packet]]:
    position = 0
    for block in blocks:
        frame = AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = stream.rate, position, Fraction(1, stream.rate)
        yield from ((Fraction(position, stream.rate), packet) for packet in stream.encode(frame))
        position += len(block)
