"""AVLnet's log-mel spectrogram, 40 numbers per 10 ms of sound (docs/networks.md, Spectrogram of AVLnet)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avpipe.errors import ClipFailure, Reason
from avpipe.features.settings import SpectrogramSettings
from avpipe.features.spectrogram_frontend import Samples, decibel_frames, measure, mono_blocks, relative_decibels
from avpipe.features.spectrogram_sizes import FRAME_SAMPLES, HOP_SAMPLES, RATE_HZ
from avpipe.features.types import Extractor, Rows
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks

if TYPE_CHECKING:
    from torch import nn

STREAM = "audio"
_BLOCK_SECONDS = 2.0
# Sound of less than so many blocks, a minute and 8 MB, is kept between its mean and its frames.
_MOST_BLOCKS_KEPT = 32


def log_mel(waveform: npt.ArrayLike, sample_rate: int = RATE_HZ, *, quantise: bool = False) -> npt.NDArray[np.float32]:
    """AVLnet's log-mel spectrogram of a whole waveform.

    The waveform loses its mean and is pre-emphasised (0.97); frames of 25 ms lie 10 ms apart, centred, with
    reflection at both ends. An empty waveform counts as 200 zeros; silence gives zeros, as loud as any file's
    loudest cell, because the reference is the waveform's own.

    Args:
        waveform: int16, or float in [-1, 1]; [n] or [n, channels], of which the mean is taken.
        sample_rate: in Hz; rates other than 16,000 are converted with soxr first.
        quantise: lower by 4 dB and round to 16 bits at 16 kHz, as the published preparation does.

    Returns:
        float32 [40 mel bands, 1 + n // 160 frames] with n samples at 16 kHz: decibels below the waveform's
        loudest cell, from -80 to 0.

    Raises:
        ValueError: another type or number of axes, or a sample rate below 1.
    """
    sound = list(mono_blocks([np.asarray(waveform)], sample_rate, quantise=quantise))
    _, mean = measure(sound)
    return np.ascontiguousarray(relative_decibels(np.concatenate(list(decibel_frames(sound, mean)))).T)


def frame_times(first: int, frames: int, samples: int) -> npt.NDArray[np.float64]:
    """Start and end of some frames in seconds, [frames, 2].

    Args:
        first: number of the first of them.
        frames: how many.
        samples: length of the signal at 16 kHz, beyond which no frame reaches.
    """
    centres = np.arange(first, first + frames)[:, None] * HOP_SAMPLES
    half = FRAME_SAMPLES // 2
    return np.clip(np.hstack([centres - half, centres + half]), 0, samples) / RATE_HZ


class SpectrogramExtractor(Extractor):
    """The log-mel spectrogram of a clip's sound: one row of 40 bands per 10 ms, the clip's mean pooled.

    Row i is centred at 0.01 i seconds and lasts 25 ms, cut at the clip's start and end. Values are decibels
    below the clip's own loudest cell, from -80 to 0. A clip of digital silence is all zeros, in the publication
    as well: it equals the padding that AVLnet puts behind short clips.

    Args:
        settings: a quantisation left open is off, as in `corrected`.
    """

    name = "spectrogram"
    pooled_in = np.float64  # an hour has 360,000 frames; AVLnet itself pools nothing
    settings: SpectrogramSettings

    def build_network(self) -> nn.Identity:
        """A network that returns its input: there is nothing to learn here."""
        from torch import nn  # extraction never asks for it

        return nn.Identity().eval()

    def windows(self, clip: Clip) -> Iterator[Rows]:
        """Decode the clip's sound, and once more from a minute on: its frames need its mean. Memory holds that minute.

        Yields:
            Decibels of mel power, float32 [n, 40]; `finish` makes them relative to the clip's loudest cell.

        Raises:
            ClipFailure: too_short for less than one frame of 25 ms; no_audio and decode_error from decoding.
        """
        reader = audio_blocks(
            clip.path,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            block_seconds=_BLOCK_SECONDS,
        )

        def sound() -> Iterator[Samples]:
            return mono_blocks(reader, reader.rate_hz, quantise=bool(self.settings.quantise))

        kept: list[Samples] = []
        samples, mean = measure(_keeping(sound(), kept))
        if samples < FRAME_SAMPLES:
            raise ClipFailure(
                Reason.TOO_SHORT,
                f"{clip.path}: {samples:,} samples at 16 kHz ({samples / RATE_HZ:.4f} s); "
                f"one spectrogram frame needs {FRAME_SAMPLES:,} ({FRAME_SAMPLES / RATE_HZ} s)",
            )
        if len(kept) == _MOST_BLOCKS_KEPT:
            kept.clear()
        first = 0
        for decibels in decibel_frames(kept or sound(), mean):
            yield Rows(STREAM, decibels, frame_times(first, len(decibels), samples))
            first += len(decibels)

    def finish(self, stream: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Decibels to decibels below the clip's loudest cell, both [T, 40]."""
        return relative_decibels(rows)


def _keeping(blocks: Iterable[Samples], kept: list[Samples]) -> Iterator[Samples]:
    """Pass blocks on and keep the first ones."""
    for block in blocks:
        if len(kept) < _MOST_BLOCKS_KEPT:
            kept.append(block)
        yield block
