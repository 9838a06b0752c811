"""From a waveform to VGGish's log-mel examples, as a stream (docs/networks.md, Sound of VGGish).

Source: Hershey et al. 2017, "CNN architectures for large-scale audio classification"; constants of the
AudioSet release (tensorflow/models, research/audioset/vggish/vggish_params.py). Arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from avpipe.features.bands import BandMatrix
from avpipe.features.resample import FilterName, Resampler, Samples

RATE_HZ = 16_000
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SIZE = 512
EXAMPLE_BANDS = 64
MEL_LOW_HZ, MEL_HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96
MOST_CHANNELS = 64
"""More are no sound: the axes are the wrong way round."""

EXAMPLE_HOP_SAMPLES = EXAMPLE_FRAMES * HOP_SAMPLES
EXAMPLE_SAMPLES = EXAMPLE_HOP_SAMPLES - HOP_SAMPLES + FRAME_SAMPLES
EXAMPLE_HOP_SECONDS = EXAMPLE_HOP_SAMPLES / RATE_HZ
EXAMPLE_SECONDS = EXAMPLE_SAMPLES / RATE_HZ
"""0.975 s: 96 frames start 0.01 s apart, and the last one lasts 0.025 s."""


class ExampleStream:
    """Turns blocks of a waveform into examples, the same ones however the waveform is cut into blocks.

    Memory holds the current block and less than one example of samples.

    Args:
        sample_rate: of the blocks, in Hz.
        resampler: filter for the way to 16 kHz; unused at 16 kHz.
    """

    def __init__(self, sample_rate: int, resampler: FilterName = "resampy-0.2.2") -> None:
        self._resampler = Resampler(sample_rate, RATE_HZ, resampler)
        self._pending: Samples = np.empty(0)
        self.samples = 0
        """Samples at 16 kHz so far."""

    def push(self, block: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.float32]]:
        """Take a block, int16 or float in [-1, 1], [n] or [n, channels]; give the examples that it completes.

        Yields:
            float32 [96, 64]: frames by mel bands.

        Raises:
            ValueError: another type or number of axes.
        """
        yield from self._examples(self._resampler.push(to_mono(block)))

    def flush(self) -> Iterator[npt.NDArray[np.float32]]:
        """The examples completed by the end of the waveform; samples short of one example are dropped."""
        yield from self._examples(self._resampler.flush())

    def _examples(self, samples: Samples) -> Iterator[npt.NDArray[np.float32]]:
        self.samples += samples.size
        self._pending = np.concatenate([self._pending, samples])
        start = 0
        while start + EXAMPLE_SAMPLES <= self._pending.size:
            yield log_mel(self._pending[start : start + EXAMPLE_SAMPLES]).astype(np.float32)
            start += EXAMPLE_HOP_SAMPLES
        self._pending = self._pending[start:]


def to_mono(waveform: npt.NDArray[np.generic]) -> Samples:
    """Float64 [n] in [-1, 1] from int16 or float, [n] or [n, channels]; channels are averaged.

    Raises:
        ValueError: another type or number of axes, more channels than a sound has, or values that are not finite.
    """
    if waveform.dtype != np.int16 and not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"Waveform of type {waveform.dtype}; expected int16, or float in [-1, 1]: convert it first.")
    if waveform.ndim not in (1, 2):
        raise ValueError(f"Waveform of shape {waveform.shape}; expected [samples] or [samples, channels].")
    if waveform.ndim == 2 and waveform.shape[1] == 0:
        raise ValueError(f"Waveform of shape {waveform.shape}; expected at least one channel.")
    if waveform.ndim == 2 and waveform.shape[1] > MOST_CHANNELS:
        raise ValueError(f"Waveform of shape {waveform.shape}; expected [samples, channels]: transpose it first.")
    if waveform.dtype != np.int16:
        samples = waveform.astype(np.float64)
        if not np.isfinite(samples).all():
            raise ValueError("The waveform holds values that are not finite.")
        return samples.mean(axis=1) if samples.ndim == 2 else samples
    # Sums of int16 are exact and 32768 is a power of 2, so this equals the mean of scaled samples bit for bit; adding
    # whole channels takes a quarter of the time of a mean over so short an axis.
    channels = waveform.T if waveform.ndim == 2 else waveform[None]
    total = channels[0].astype(np.float64)
    for channel in channels[1:]:
        total += channel
    total /= 32768.0 * len(channels)
    return total


def log_mel(samples: Samples) -> npt.NDArray[np.float64]:
    """Log-mel frames of a signal at 16 kHz: ln(mel magnitude + 0.01).

    Args:
        samples: float64 [n] in [-1, 1], n >= 400.

    Returns:
        [1 + (n - 400) // 160, 64]; frames are neither padded nor centred.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES]
    magnitude = np.abs(np.fft.rfft(frames * HANN, FFT_SIZE))
    return np.log(MEL_MATRIX.sums(magnitude) + LOG_OFFSET)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The HTK mel scale."""
    return 1127.0 * np.log(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)


def triangles(places: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n, b]: height at places [n, 1] of triangles between every three of b + 2 edges, 1 at the middle one."""
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def mel_matrix() -> npt.NDArray[np.float64]:
    """[257, 64]: weight of each FFT bin in each band; triangles that are linear in mel, with height 1.

    `librosa.filters.mel` cannot give it: its triangles are linear in Hz on either scale, so that weights differ by up
    to 0.004.
    """
    edges = np.linspace(_mel(MEL_LOW_HZ), _mel(MEL_HIGH_HZ), EXAMPLE_BANDS + 2)
    bins = _mel(np.linspace(0.0, RATE_HZ / 2, FFT_SIZE // 2 + 1))[:, None]
    weights = triangles(bins, edges)
    weights[0] = 0.0  # the constant component never counts
    return weights


HANN = 0.5 - 0.5 * np.cos(2 * np.pi / FRAME_SAMPLES * np.arange(FRAME_SAMPLES))
"""Periodic Hann window, [400]."""
MEL_MATRIX = BandMatrix(mel_matrix())
