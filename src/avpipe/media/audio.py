"""The sound of a media file as 16-bit samples, at its own rate or another, as a stream.

Sample 0 is the instant of video time 0, the container's first time stamp: sound that begins later is preceded
by zeros. `ffmpeg -i file out.wav` writes no such zeros (its file begins with the first sample there is), and
neither do the published scripts that use it; the two differ only for files whose sound begins late or pauses.

Sound stays on the time base of the pictures, in a container that has time stamps of its own (`wholeness.keeps_time`):
where it would come more than 0.02 s early, since something is missing before it, zeros are put there, and where it
would come as much late, samples are left out. Smaller differences, of clocks that tick in milliseconds or of encoders,
are left alone. Where the file shows that something was lost, a jump by more than 0.1 s and 1.5 times the length of what
comes after it is a failure instead (`wholeness`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from avpipe.errors import ClipFailure, Reason
from avpipe.media.cut import Cut, make_cut
from avpipe.media.decoded import now_watched
from avpipe.media.sample_stream import Samples, cut_samples, in_blocks, join_frames, pass_over
from avpipe.media.sound_frames import PlacedFrames, SoundStart, open_sound
from avpipe.media.source import check_gap


@dataclass(frozen=True)
class _Format:
    """What samples of 16 bit are: FFmpeg's name of the channel layout and its number of channels."""

    rate_hz: int
    layout: str
    channels: int


class AudioReader:
    """The sound of a file or of a segment of it; every iteration reads it from the file, from its beginning.

    Attributes:
        rate_hz: samples a second: those asked for, or the file's own.
        channels: number of channels: 1 where mono is asked for, or the file's own.
        lead_samples: samples of silence between the container's first time stamp and the first sample in the
            file.

    Iteration yields int16 [n, channels] with n = block_seconds * rate_hz, the last block shorter; nothing
    when the sound ends before the segment begins. Floating-point codecs are converted by libswresample
    without dither, as ffmpeg's pcm_s16le gives them. Another rate and the mixture of all channels are made by
    libswresample in the same step, from the codec's own samples: the result is that of
    `ffmpeg -i file -ac 1 -ar RATE -f s16le`. A segment is cut out before, as samples of 16 bit, so that it
    sounds as the file does that `trim` makes of it. The file is decoded from its beginning
    (`sample_stream.pass_over`); memory holds one block.

    Raises:
        ClipFailure: MISSING, NO_AUDIO (no audio stream, or no sample in it), DECODE_ERROR (with the time; also
            when the file was cut off before the end of the segment, or something is missing before it).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        cut: Cut,
        block_seconds: float,
        *,
        rate_hz: int | None = None,
        mono: bool = False,
    ) -> None:
        self._path = Path(path)
        start, frames = self._open()
        self._opened: PlacedFrames | None = frames
        check_gap(self._path, "the sound", Fraction(0), start.time)
        frame = start.frame
        own = _Format(frame.sample_rate, _known_layout(frame), frame.layout.nb_channels)
        self._wanted = _Format(rate_hz or own.rate_hz, *(("mono", 1) if mono else (own.layout, own.channels)))
        self._cut_as = self._wanted if cut.is_whole else own
        self._start, self._cut = start.time, cut
        announced = start.announced_seconds
        self._announced = None if announced is None else round(announced * own.rate_hz)
        self._block = max(1, round(block_seconds * self.rate_hz))

    @property
    def rate_hz(self) -> int:
        """Samples a second."""
        return self._wanted.rate_hz

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._wanted.channels

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channels."""
        return self._wanted.layout

    @property
    def lead_samples(self) -> int:
        """Samples of silence before the first sample in the file."""
        return self._lead(self.rate_hz)

    def __iter__(self) -> Iterator[Samples]:
        cut_as = self._cut_as
        frames, self._opened = self._opened or self._open()[1], None
        with closing(frames):
            placed = _heard(frames, float(self._start), self._cut)
            decoded = _without_padding(_with_silence(placed), self._announced)
            lead, (first, end) = self._lead(cut_as.rate_hz), self._range(cut_as.rate_hz)
            passed, decoded = pass_over(decoded, first - lead)
            joined = join_frames(decoded, None if end is None else end - passed - lead)
            sound = _after_silence(_converted(joined, cut_as), lead, cut_as)
            sound = cut_samples(sound, first - passed, None if end is None else end - passed)
            if cut_as != self._wanted:
                sound = _converted(_as_frames(sound, cut_as), self._wanted)
            watched = now_watched()
            for block in in_blocks(sound, self._block):
                if watched is not None:
                    watched.is_silent = watched.is_silent is not False and not block.any()
                yield block

    def _open(self) -> tuple[SoundStart, PlacedFrames]:
        opened = open_sound(self._path)
        if opened is None:
            raise ClipFailure(Reason.NO_AUDIO, f"{self._path}: the audio stream holds no sample")
        return opened

    def _lead(self, rate_hz: int) -> int:
        return max(0, round(self._start * rate_hz))

    def _range(self, rate_hz: int) -> tuple[int, int | None]:
        end = self._cut.end
        return round(self._cut.start * rate_hz), None if end is None else round(end * rate_hz)


def audio_blocks(
    path: str | os.PathLike[str],
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    block_seconds: float = 10.0,
    rate_hz: int | None = None,
    mono: bool = False,
) -> AudioReader:
    """Open the sound of a file or of a segment of it, to be read block by block.

    Args:
        path: the media file.
        start_seconds, end_seconds: the segment, from the container's first time stamp, to the millisecond as
            for `decode.decode_video`; None: from its start, to its end.
        block_seconds: length of a block.
        rate_hz: sample rate wanted; None: the file's own.
        mono: mix all channels into one, as `ffmpeg -ac 1` does.

    Raises:
        ValueError: a segment that makes no sense.
        ClipFailure: see `AudioReader`.
    """
    cut = make_cut(start_seconds, end_seconds)
    return AudioReader(path, cut, block_seconds, rate_hz=rate_hz, mono=mono)


def read_audio(
    path: str | os.PathLike[str], *, start_seconds: float | None = None, end_seconds: float | None = None
) -> tuple[Samples, int]:
    """Read the whole sound of a file or of a segment of it: int16 [n, channels] and its rate in Hz.

    Raises:
        As `audio_blocks`.
    """
    reader = audio_blocks(path, start_seconds=start_seconds, end_seconds=end_seconds)
    blocks = list(reader)
    samples = np.concatenate(blocks) if blocks else np.zeros((0, reader.channels), dtype=np.int16)
    return samples, reader.rate_hz


def _heard(frames: Iterable[tuple[int, AudioFrame]], time: float, cut: Cut) -> Iterator[tuple[int, AudioFrame]]:
    """Pass frames on and tell how many seconds of them lie in a segment; the first begins at `time`."""
    watched = now_watched()
    if watched is not None:
        watched.sound_seconds = 0.0
    start, end = float(cut.start), float("inf") if cut.end is None else float(cut.end)
    for pause, frame in frames:
        time += max(pause, 0) / frame.sample_rate
        following = time + (frame.samples + min(pause, 0)) / frame.sample_rate
        if watched is not None and watched.sound_seconds is not None:
            watched.sound_seconds += max(0.0, min(following, end) - max(time, start))
        time = following
        yield pause, frame


def _with_silence(frames: Iterable[tuple[int, AudioFrame]]) -> Iterator[AudioFrame]:
    """Put silence before frames, in frames of a second at most, or shorten them."""
    for pause, frame in frames:
        for first in range(0, pause, frame.sample_rate):
            yield _silence(frame, min(frame.sample_rate, pause - first))
        if pause >= 0:
            yield frame
        elif pause > -frame.samples:
            yield _part(frame, -pause, frame.samples)


def _silence(like: AudioFrame, samples: int) -> AudioFrame:
    """A frame of silence in the format of another."""
    values: npt.NDArray[Any] = like.to_ndarray()
    columns = samples if like.format.is_planar else samples * like.layout.nb_channels
    middle = 128 if values.dtype == np.uint8 else 0
    return _frame_of(np.full((len(values), columns), middle, values.dtype), like)


def _frame_of(values: npt.NDArray[Any], like: AudioFrame) -> AudioFrame:
    frame = AudioFrame.from_ndarray(values, format=like.format.name, layout=like.layout.name)
    frame.sample_rate = like.sample_rate
    return frame


def _after_silence(sound: Iterable[Samples], lead: int, form: _Format) -> Iterator[Samples]:
    """All samples from the container's first time stamp on."""
    for begin in range(0, lead, form.rate_hz):
        yield np.zeros((min(form.rate_hz, lead - begin), form.channels), dtype=np.int16)
    yield from sound


def _converted(frames: Iterable[AudioFrame], form: _Format) -> Iterator[Samples]:
    """All samples of some frames, as 16 bit, with the rate and the channels wanted."""
    resampler: AudioResampler | None = None
    setting: tuple[str, str, int] | None = None
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or now != setting:  # a broadcast may change its sound half-way
            if resampler is not None:
                yield from _arrays(resampler.resample(None), form)
            resampler, setting = AudioResampler("s16", form.layout, form.rate_hz), now
        yield from _arrays(resampler.resample(frame), form)
    if resampler is not None:
        yield from _arrays(resampler.resample(None), form)


def _arrays(frames: Iterable[AudioFrame], form: _Format) -> Iterator[Samples]:
    for frame in frames:
        yield frame.to_ndarray().reshape(-1, form.channels).astype(np.int16, copy=False)


def _as_frames(sound: Iterable[Samples], form: _Format) -> Iterator[AudioFrame]:
    for samples in sound:
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=form.layout)
        frame.sample_rate = form.rate_hz
        yield frame


def _without_padding(frames: Iterable[AudioFrame], announced: int | None) -> Iterator[AudioFrame]:
    """Drop what an encoder added to fill its last packet.

    The ffmpeg program (9.0) does so for MP4, PyAV's FFmpeg (8.1) does not; both must give the same sound.
    """
    held: AudioFrame | None = None
    position = 0
    for frame in frames:
        if held is not None:
            yield held
        held = frame
        position += frame.samples
    if held is not None:
        excess = 0 if announced is None else position - announced
        yield _part(held, 0, held.samples - excess) if 0 < excess < held.samples else held


def _part(frame: AudioFrame, first: int, end: int) -> AudioFrame:
    """Samples first..end-1 of a frame, as a frame."""
    values: npt.NDArray[Any] = frame.to_ndarray()
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    part = _frame_of(np.ascontiguousarray(values[:, first * width : end * width]), frame)
    part.pts, part.time_base = frame.pts, frame.time_base
    return part


def _known_layout(frame: AudioFrame) -> str:
    """Name the frame's channel layout; channels without an order get the usual one, as in ffmpeg."""
    name = frame.layout.name
    if not name.endswith("channels"):
        return name
    usual = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    return usual.get(frame.layout.nb_channels, name)
