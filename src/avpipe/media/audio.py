"""The sound of a media file as 16-bit samples at its own rate, as a stream.

Sample 0 is the instant of video time 0, the container's first time stamp: sound that begins later is preceded
by zeros. `ffmpeg -i file out.wav` writes no such zeros (its file begins with the first sample there is), and
neither do the published scripts that use it; the two differ only for files whose sound begins late. After the
first sample both join what the decoder gives, whatever the time stamps say of gaps.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.stream import Discard

from avpipe.errors import ClipFailure, Reason
from avpipe.media.cut import Cut, make_cut
from avpipe.media.probe import is_short
from avpipe.media.source import (
    announced_seconds,
    check_gap,
    check_packet,
    find_audio,
    open_media,
    origin_seconds,
    require_decoder,
)

Samples = npt.NDArray[np.int16]


class AudioReader:
    """The sound of a file or of a stretch of it; every iteration reads it anew from the file.

    Attributes:
        rate_hz: samples a second, the file's own.
        channels: number of channels, the file's own.
        lead_samples: samples of silence between the container's first time stamp and the first sample in the
            file.

    Iteration yields int16 [n, channels] with n = block_seconds * rate_hz, the last block shorter; nothing
    when the sound ends before the stretch begins. Floating-point codecs are converted by libswresample
    without dither, as ffmpeg's pcm_s16le gives them. The file is always decoded from its beginning, since
    seeking is not exact to the sample in most containers; memory holds one block.

    Raises:
        ClipFailure: MISSING, NO_AUDIO (no audio stream, or no sample in it), DECODE_ERROR (with the time).
    """

    def __init__(self, path: str | os.PathLike[str], cut: Cut, block_seconds: float) -> None:
        self._path = Path(path)
        with closing(_decoded(self._path)) as frames:
            first = next(frames, None)
            if first is None:
                raise ClipFailure(Reason.NO_AUDIO, f"{self._path}: the audio stream holds no sample")
            start, frame = first
        check_gap(self._path, "the sound", Fraction(0), start)
        self.rate_hz: int = frame.sample_rate
        self.channels: int = frame.layout.nb_channels
        self.lead_samples: int = max(0, round(start * self.rate_hz))
        self._layout = _known_layout(frame)
        self._first = round(cut.start * self.rate_hz)
        self._end = None if cut.end is None else round(cut.end * self.rate_hz)
        self._announced = _announced_samples(self._path, self.rate_hz)
        self._block = max(1, round(block_seconds * self.rate_hz))

    @property
    def sample_range(self) -> tuple[int, int | None]:
        """First sample of the stretch and the one after its last (None: the file's end), from the origin."""
        return self._first, self._end

    def __iter__(self) -> Iterator[Samples]:
        with closing(_decoded(self._path)) as frames:
            sound = _without_padding(self._decoded_samples(frames), self._announced)
            yield from _blocks(_cut(self._after_silence(sound), self._first, self._end), self._block)

    def _after_silence(self, sound: Iterable[Samples]) -> Iterator[Samples]:
        """All samples from the container's first time stamp on."""
        for begin in range(0, self.lead_samples, self.rate_hz):
            yield np.zeros((min(self.rate_hz, self.lead_samples - begin), self.channels), dtype=np.int16)
        yield from sound

    def _decoded_samples(self, frames: Iterable[tuple[Fraction, AudioFrame]]) -> Iterator[Samples]:
        """All samples of the stream, as 16 bit."""
        resampler: AudioResampler | None = None
        setting: tuple[str, str, int] | None = None
        for _, frame in frames:
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or now != setting:  # a broadcast may change its sound half-way
                if resampler is not None:
                    yield from map(self._to_array, resampler.resample(None))
                resampler, setting = AudioResampler("s16", self._layout, self.rate_hz), now
            yield from map(self._to_array, resampler.resample(frame))
        if resampler is not None:
            yield from map(self._to_array, resampler.resample(None))

    def _to_array(self, frame: AudioFrame) -> Samples:
        return frame.to_ndarray().reshape(-1, self.channels).astype(np.int16, copy=False)


def audio_blocks(
    path: str | os.PathLike[str],
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    block_seconds: float = 10.0,
) -> AudioReader:
    """Open the sound of a file or of a stretch of it, to be read block by block.

    Args:
        path: the media file.
        start_seconds, end_seconds: the stretch, from the container's first time stamp, to the millisecond as
            for `decode.decode_video`; None: from its start, to its end.
        block_seconds: length of a block.

    Raises:
        ValueError: a stretch that makes no sense.
        ClipFailure: see `AudioReader`.
    """
    return AudioReader(path, make_cut(start_seconds, end_seconds), block_seconds)


def read_audio(
    path: str | os.PathLike[str], *, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[Samples, int]:
    """Read the whole sound of a file or of a stretch of it: int16 [n, channels] and its rate in Hz.

    Raises:
        As `audio_blocks`.
    """
    reader = audio_blocks(path, start_seconds=start_seconds, end_seconds=end_seconds)
    blocks = list(reader)
    samples = np.concatenate(blocks) if blocks else np.zeros((0, reader.channels), dtype=np.int16)
    return samples, reader.rate_hz


def _decoded(path: Path) -> Generator[tuple[Fraction, AudioFrame]]:
    """Decode the audio stream: frames and their times in seconds from the container's first time stamp."""
    with open_media(path) as container:
        stream = find_audio(container)
        if stream is None:
            raise ClipFailure(Reason.NO_AUDIO, f"{path}: no audio stream")
        require_decoder(stream, path)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        origin, time = origin_seconds(container), Fraction(0)
        try:
            for packet in container.demux(stream):
                check_packet(packet, path)
                for frame in stream.decode(packet):
                    if frame.pts is not None and frame.time_base is not None:
                        time = frame.pts * frame.time_base - origin
                    if frame.samples:
                        yield time, frame
                        time += Fraction(frame.samples, frame.sample_rate)
        except FFmpegError as error:
            detail = f"{path}: sound: {error.strerror} after {float(time):.3f} s"
            raise ClipFailure(Reason.DECODE_ERROR, detail) from error
        # Elsewhere the announced duration is a guess from the bit rate, or covers the picture as well.
        if "mov" in container.format.name and stream.duration and stream.time_base:
            announced = float(stream.duration * stream.time_base)
            if is_short(announced, float(time + origin - (stream.start_time or 0) * stream.time_base)):
                detail = f"truncated: the header announces {announced:.2f} s of sound, it ends at {float(time):.2f} s"
                raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {detail}; fetch it again")


def _announced_samples(path: Path, rate_hz: int) -> int | None:
    """Give the number of samples by the header where padding may follow them (compressed, in MP4), else None."""
    with open_media(path) as container:
        stream = find_audio(container)
        if stream is None or "mov" not in container.format.name or stream.codec_context.name.startswith("pcm"):
            return None
        seconds = announced_seconds(container, stream)
        return None if seconds is None else round(seconds * rate_hz)


def _without_padding(chunks: Iterable[Samples], announced: int | None) -> Iterator[Samples]:
    """Drop what an encoder added to fill its last packet.

    The ffmpeg program (9.0) does so for MP4, PyAV's FFmpeg (8.1) does not; both must give the same sound.
    """
    held: Samples | None = None
    position = 0
    for chunk in chunks:
        if held is not None:
            yield held
        held = chunk
        position += len(chunk)
    if held is not None:
        excess = 0 if announced is None else position - announced
        yield held[: len(held) - excess] if 0 < excess < len(held) else held


def _known_layout(frame: AudioFrame) -> str:
    """Name the frame's channel layout; channels without an order get the usual one, as in ffmpeg."""
    name = frame.layout.name
    if not name.endswith("channels"):
        return name
    usual = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    return usual.get(frame.layout.nb_channels, name)


def _cut(chunks: Iterable[Samples], first: int, end: int | None) -> Iterator[Samples]:
    """Give samples first..end-1 of a stream of chunks, and read no more of it than that takes."""
    position = 0
    for chunk in chunks:
        part = chunk[max(0, first - position) : None if end is None else max(0, end - position)]
        position += len(chunk)
        if len(part):
            yield part
        if end is not None and position >= end:
            return


def _blocks(chunks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Join chunks to blocks of `size` samples; the last may be shorter."""
    held: list[Samples] = []
    count = 0
    for chunk in chunks:
        while count + len(chunk) >= size:
            head, chunk = chunk[: size - count], chunk[size - count :]
            yield np.concatenate([*held, head])
            held, count = [], 0
        if len(chunk):
            held.append(chunk)
            count += len(chunk)
    if held:
        yield np.concatenate(held)
