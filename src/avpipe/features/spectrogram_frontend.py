"""From a waveform to AVLnet's log-mel frames, as a stream (docs/networks.md, Spectrogram of AVLnet).

Source: Rouditchenko et al. 2021, "AVLnet: Learning Audio-Visual Language Representations from Instructional
Videos", and its code. Arithmetic is float64; the publication's is float32, which moves values by less than 1e-3 dB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

from avpipe.features.bands import BandMatrix
from avpipe.features.spectrogram_sizes import FRAME_SAMPLES, HOP_SAMPLES, MEL_BANDS, PADDING_SAMPLES, RATE_HZ
from avpipe.features.vggish_frontend import to_mono, triangles

MEL_LOW_HZ, MEL_HIGH_HZ = 20.0, 8000.0
PRE_EMPHASIS = 0.97
SMALLEST_POWER = 1e-10
RANGE_DB = 80.0
EMPTY_SAMPLES = 200
"""Length of the silence that stands for a signal without a sample."""
QUANTISED_GAIN = 10.0 ** (-4.0 / 20.0)
# Stop band at -125 dB, below 16 bits: what sox's `rate` effect, which the publication uses, has by default (-h). VHQ is
# the counterpart of its -v and gains nothing for sound that was, or will be, 16 bits.
QUALITY = "HQ"
# All arithmetic after resampling goes by blocks of this length: values do not depend on how sound arrives, by no bit.
BLOCK_SAMPLES = 2 * RATE_HZ

Samples = npt.NDArray[np.float64]


def mono_blocks(
    blocks: Iterable[npt.NDArray[np.generic]], sample_rate: int, *, quantise: bool = False
) -> Iterator[Samples]:
    """Bring a waveform to one channel at 16 kHz.

    Args:
        blocks: int16 or float in [-1, 1], each [n] or [n, channels]; channels are averaged.
        sample_rate: of the blocks, in Hz.
        quantise: lower by 4 dB and round to 16 bits, as `sox in out gain -4 channels 1 rate 16000` does, but
            without its dither.

    Yields:
        float64 [2 s], the last one shorter; nothing for a waveform without a sample.

    Raises:
        ValueError: another type or number of axes, or a sample rate below 1.
    """
    mono = (to_mono(block) for block in blocks if block.shape[:1] != (0,))
    sound = _joined(_resampled(mono, sample_rate))
    return map(_quantised, sound) if quantise else sound


def _resampled(blocks: Iterable[Samples], sample_rate: int) -> Iterator[Samples]:
    """Mono blocks at 16 kHz; how the signal is cut does not change a bit (libsoxr is a stream itself)."""
    if sample_rate == RATE_HZ:
        yield from blocks
        return
    resampler = soxr.ResampleStream(sample_rate, RATE_HZ, 1, dtype="float64", quality=QUALITY)
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0), last=True)


def _joined(chunks: Iterable[Samples]) -> Iterator[Samples]:
    """Join and cut chunks to blocks of `BLOCK_SAMPLES`."""
    held = np.empty(0)
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        whole = len(held) - len(held) % BLOCK_SAMPLES
        yield from held[:whole].reshape(-1, BLOCK_SAMPLES)
        held = held[whole:].copy()
    if len(held):
        yield held


def _quantised(samples: Samples) -> Samples:
    levels = np.rint(samples * (QUANTISED_GAIN * 32768.0))
    return np.clip(levels, -32768.0, 32767.0) / 32768.0


def measure(blocks: Iterable[Samples]) -> tuple[int, float]:
    """Number of samples and their mean (0 of none)."""
    count, total = 0, 0.0
    for block in blocks:
        count += len(block)
        total += float(block.sum())
    return count, total / max(1, count)


def decibel_frames(blocks: Iterable[Samples], mean: float) -> Iterator[npt.NDArray[np.float32]]:
    """Log-mel frames of a signal, before `relative_decibels`.

    Args:
        blocks: of `mono_blocks`.
        mean: of the whole signal, which is taken off.

    Yields:
        float32 [n, 40], 10 log10 of mel power, at least -100; 1 + samples // 160 frames in all, frame i around
        sample 160 i. A signal without a sample counts as 200 zeros.
    """
    for padded in _padded(_emphasised(blocks, mean)):
        frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
        spectrum = np.fft.rfft(frames * HAMMING)
        power = spectrum.real**2 + spectrum.imag**2
        yield (10.0 * np.log10(np.maximum(MEL_MATRIX.sums(power), SMALLEST_POWER))).astype(np.float32)


def relative_decibels(decibels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """All of a signal's `decibel_frames`, [n, 40], below their loudest cell: from -80 to 0 dB."""
    relative = decibels - decibels.max()
    return np.maximum(relative, np.float32(-RANGE_DB), out=relative)


def _emphasised(blocks: Iterable[Samples], mean: float) -> Iterator[Samples]:
    """Take off the mean, then 0.97 times the sample before; the first sample has none before it."""
    before = np.zeros(1)
    for block in blocks:
        centred = block - mean
        yield centred - PRE_EMPHASIS * np.concatenate([before, centred[:-1]])
        before = centred[-1:]


def _padded(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Pad a signal by reflection on both sides and cut it at frame starts; each part holds whole frames."""
    held = np.empty(0)
    at_start = True
    for block in blocks:
        held = np.concatenate([held, block])
        if len(held) < 2 * FRAME_SAMPLES:  # one block: what a reflection looks like depends on whether more follows
            continue
        if at_start:
            held = np.pad(held, (PADDING_SAMPLES, 0), mode="reflect")
            at_start = False
        frames = 1 + (len(held) - FRAME_SAMPLES) // HOP_SAMPLES
        yield held[: (frames - 1) * HOP_SAMPLES + FRAME_SAMPLES]
        held = held[frames * HOP_SAMPLES :].copy()  # 240 to 399 samples, more than the reflection at the end takes
    if at_start and not len(held):
        held = np.zeros(EMPTY_SAMPLES)
    held = np.pad(held, (PADDING_SAMPLES if at_start else 0, PADDING_SAMPLES), mode="reflect")
    if len(held) >= FRAME_SAMPLES:
        yield held


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Slaney's mel scale: linear up to 1 kHz, logarithmic above."""
    hertz = np.asarray(hertz, dtype=np.float64)
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hertz, 1.0) / 1000.0) / np.log(6.4)
    return np.where(hertz < 1000.0, hertz / (200.0 / 3), logarithmic)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of `_mel`."""
    return np.where(mel < 15.0, mel * (200.0 / 3), 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def mel_matrix() -> npt.NDArray[np.float64]:
    """[201, 40]: weight of each FFT bin in each band; triangles that are linear in Hz, with area 1 (in Hz).

    As `librosa.filters.mel` by default. That is not used, because 302 of its weights differ in their last bit, which
    changes one in some ten million values of the features, and because librosa takes a second to import.
    """
    low, high = _mel([MEL_LOW_HZ, MEL_HIGH_HZ])
    edges = _hertz(np.linspace(low, high, MEL_BANDS + 2))
    bins = np.linspace(0.0, RATE_HZ / 2, FRAME_SAMPLES // 2 + 1)[:, None]
    return triangles(bins, edges) * 2.0 / (edges[2:] - edges[:-2])


HAMMING = np.hamming(FRAME_SAMPLES)
"""Symmetric Hamming window, [400]."""
MEL_MATRIX = BandMatrix(mel_matrix())
