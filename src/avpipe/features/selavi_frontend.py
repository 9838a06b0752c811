"""SeLaVi's inputs: log filterbank of the sound and cropped pictures.

Source: docs/networks.md, Sound of SeLaVi; Pictures of SeLaVi.

The filterbank is that of the package python_speech_features, whose habits the values depend on.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SPECTROGRAM_BANDS = 257
FFT_SIZE = 1024
FRAME_SECONDS, HOP_SECONDS = 0.02, 0.01
PRE_EMPHASIS = 0.97
SPECTROGRAM_MEAN, SPECTROGRAM_DEVIATION = 1.93, 17.89
_FRAMES_AT_ONCE = 1024  # bounds memory, some 20 MB; the values do not depend on it

PICTURE_SIZE = 112
PICTURE_MEAN, PICTURE_DEVIATION = 0.45, 0.225

_BYTES = np.arange(256, dtype=np.float32)
_NORMALISED = (_BYTES / np.float32(255) - np.float32(PICTURE_MEAN)) / np.float32(PICTURE_DEVIATION)
"""Of each value of a byte."""

Picture = npt.NDArray[np.float32]


def log_spectrograms(waves: npt.NDArray[np.number], rate_hz: int) -> npt.NDArray[np.float32]:
    """Normalised log filterbank energies of waves of one length.

    Frames last 0.02 s, 0.01 s apart, without a window function, and the last is filled up with zeros. The
    Fourier transform takes 1024 samples: above 51.2 kHz it leaves out the end of every frame, as published.

    Args:
        waves: [n, samples], samples >= 1, mono in the range of int16.
        rate_hz: sample rate.

    Returns:
        float32 [n, 1, 257, columns]. A second gives 99 columns at 44.1 and 48 kHz; a band without energy is
        ln(2.2e-16), -2.12 after normalisation. At 44.1 kHz 54 bands are always so: they are narrower than a bin.
    """
    frame, hop = _half_up(FRAME_SECONDS * rate_hz), _half_up(HOP_SECONDS * rate_hz)
    n, samples = waves.shape
    columns = 1 if samples <= frame else 1 + math.ceil((samples - frame) / hop)
    signal = np.zeros((n, (columns - 1) * hop + frame))
    signal[:, :samples] = waves
    signal[:, 1:samples] -= PRE_EMPHASIS * waves[:, :-1]
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame, axis=1)[:, ::hop]
    logs = np.empty((n * columns, SPECTROGRAM_BANDS), np.float32)
    for begin in range(0, n * columns, _FRAMES_AT_ONCE):
        rows = np.arange(begin, min(begin + _FRAMES_AT_ONCE, n * columns))
        spectrum = np.fft.rfft(frames[rows // columns, rows % columns], FFT_SIZE)
        energies = _band_energies(np.square(np.abs(spectrum)) / FFT_SIZE, rate_hz)
        logs[rows] = np.log(np.where(energies == 0, np.finfo(np.float64).eps, energies))
    bands_first = logs.reshape(n, 1, columns, SPECTROGRAM_BANDS).swapaxes(2, 3)
    return np.ascontiguousarray((bands_first - np.float32(SPECTROGRAM_MEAN)) / np.float32(SPECTROGRAM_DEVIATION))


def _half_up(value: float) -> int:
    return int(Decimal(value).quantize(Decimal(1), rounding=ROUND_HALF_UP))


@lru_cache(maxsize=4)
def band_edges(rate_hz: int) -> npt.NDArray[np.int64]:
    """Bins of the Fourier transform between which the bands lie, [259].

    Band m rises from edge m to edge m + 1 and falls to edge m + 2. `librosa.filters.mel` cannot give such bands: its
    edges lie between bins, and python_speech_features rounds them down to whole ones.
    """
    highest = 2595 * np.log10(1 + rate_hz / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, SPECTROGRAM_BANDS + 2) / 2595) - 1)
    return np.floor((FFT_SIZE + 1) * hertz / rate_hz).astype(np.int64)


def _band_energies(power: npt.NDArray[np.float64], rate_hz: int) -> npt.NDArray[np.float64]:
    """From power [frames, 513] to [frames, 257].

    Between two edges a bin counts for one rising and one falling band, so two weights a bin say it all.
    """
    edges = band_edges(rate_hz)
    bins = np.arange(edges[-1])
    span = np.searchsorted(edges, bins, side="right") - 1
    rising = (bins - edges[span]) / (edges[span + 1] - edges[span])
    falling = (edges[span + 1] - bins) / (edges[span + 1] - edges[span])
    used = power[:, : edges[-1]]
    is_filled = edges[:-1] < edges[1:]
    sums = [np.add.reduceat(used * weights, edges[:-1], axis=1) * is_filled for weights in (rising, falling)]
    return sums[0][:, :-1] + sums[1][:, 1:]


def resized_size(height: int, width: int) -> tuple[int, int]:
    """Height and width after the short side was brought to 112; the long side is rounded down."""
    if width < height:
        return math.floor(height / width * PICTURE_SIZE), PICTURE_SIZE
    return PICTURE_SIZE, math.floor(width / height * PICTURE_SIZE)


def crop_picture(rgb: npt.NDArray[np.uint8]) -> Picture:
    """Resize a picture's short side to 112 and cut out the centre, normalised.

    Bilinear between the four nearest pixels, not antialiased: the published features rest on the aliasing. Only
    the pixels that the centre needs are read.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        float32 [112, 112, 3], RGB; equal to torch's interpolation of the normalised picture to 1e-6.
    """
    (upper, lower, down), (left, right, across) = _sampling(*rgb.shape[:2])
    down, across = down[:, None, None], across[None, :, None]
    above, below = rgb[upper], rgb[lower]
    picture = (_NORMALISED[above[:, left]] * (1 - across) + _NORMALISED[above[:, right]] * across) * (1 - down)
    picture += (_NORMALISED[below[:, left]] * (1 - across) + _NORMALISED[below[:, right]] * across) * down
    return picture


Axis = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]


@lru_cache(maxsize=4)
def _sampling(height: int, width: int) -> tuple[Axis, Axis]:
    new_height, new_width = resized_size(height, width)
    return _axis(height, new_height), _axis(width, new_width)


def _axis(size: int, new_size: int) -> Axis:
    """For 112 places in the middle of an axis: the pixels on both sides and the weight of the second.

    Rounded to float32 where torch rounds, which multiplies and adds in one step: at 2,000 pixels unrounded weights
    would differ by 1e-4, at 100 pixels a rounded product by 4e-6.
    """
    offset = math.ceil((new_size - PICTURE_SIZE) / 2)
    places = np.arange(offset, offset + PICTURE_SIZE)
    scale = float(np.float32(size) / np.float32(new_size))
    source = np.maximum(scale * (places + 0.5) - 0.5, 0).astype(np.float32)
    before = source.astype(np.int64)
    return before, np.minimum(before + 1, size - 1), source - before.astype(np.float32)
