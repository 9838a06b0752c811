"""AVLnet's spectrogram against librosa, with which the publication computes it."""

from __future__ import annotations

import warnings
import wave
from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import soxr
import torch

from avpipe.errors import ClipFailure, Reason
from avpipe.features import extract, spectrogram
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.settings import SpectrogramSettings
from avpipe.features.spectrogram import SpectrogramExtractor, frame_times, log_mel
from avpipe.features.spectrogram_frontend import HAMMING, decibel_frames, measure, mel_matrix, mono_blocks
from avpipe.features.types import Features
from avpipe.media.clip import Clip
from avpipe.media.decode import read_audio

CLIP = Clip("clip", Path("clip.mp4"))


def published(samples: npt.NDArray[np.floating], **changes: object) -> npt.NDArray[np.floating]:
    """The published function on today's librosa (docs/networks.md, Spectrogram of AVLnet), in the type of `samples`."""
    y = samples - samples.mean()
    y = np.append(y[0], y[1:] - samples.dtype.type(0.97) * y[:-1])
    options = {"window": scipy.signal.windows.hamming, "center": True, "pad_mode": "reflect", **changes}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=400 is too large")
        power = np.abs(librosa.stft(y, n_fft=400, hop_length=160, win_length=400, **options)) ** 2
    bank = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=40, fmin=20, fmax=8000, dtype=samples.dtype)
    return librosa.power_to_db(bank @ power, ref=np.max)


def noise(samples: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Noise that swells from faint to loud, off centre, so that the floor, the mean and every band count."""
    swell = 10.0 ** np.linspace(-5, -1, samples)
    return np.random.default_rng(seed).normal(0, 1, samples) * swell + 0.02


class TestAgainstLibrosa:
    def test_window_and_mel_matrix(self) -> None:
        np.testing.assert_allclose(HAMMING, scipy.signal.windows.hamming(400), rtol=0, atol=1e-15)
        bank = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=40, fmin=20, fmax=8000, dtype=np.float64)
        np.testing.assert_allclose(mel_matrix(), bank.T, rtol=0, atol=1e-15)
        assert (mel_matrix().sum(axis=0) > 0).all()

    # Shorter than the padding, around every boundary of the streaming, and several blocks long.
    @pytest.mark.parametrize(
        "samples", [
            2, 150, 199, 200, 201, 399, 400, 401, 559, 560, 799, 800, 801, 1000,
            31_999, 32_000, 32_001, 32_239, 32_240, 32_399, 32_400, 32_560, 64_000, 100_123,
        ],
    )  # fmt: skip
    def test_values(self, samples: int) -> None:
        sound = noise(samples)
        ours, theirs = log_mel(sound), published(sound)
        assert ours.shape == theirs.shape == (40, 1 + samples // 160)
        assert ours.dtype == np.float32 and ours.max() == 0 and ours.min() >= -80
        # Three roundings to float32 of numbers up to 100, 4e-6 each. Measured: 7e-6.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)

    def test_values_in_the_published_precision(self) -> None:
        # librosa loads float32 and computes in it; cells far below the loudest lose digits. Measured: 2.2e-4.
        sound = noise(50_000).astype(np.float32)
        np.testing.assert_allclose(log_mel(sound), published(sound), rtol=0, atol=1e-3)

    @pytest.mark.parametrize(("change", "decibels"), [({"pad_mode": "constant"}, 0.1), ({"window": "hamming"}, 0.01)])
    def test_what_librosa_does_by_default_would_differ(self, change: dict[str, object], decibels: float) -> None:
        sound = noise(50_000)
        assert np.abs(log_mel(sound) - published(sound, **change)).max() > decibels


class TestEdges:
    def test_empty_counts_as_200_zeros(self) -> None:
        assert np.array_equal(log_mel(np.zeros(0)), np.zeros((40, 2)))
        assert np.array_equal(log_mel(np.zeros((0, 2), np.int16), 44_100), np.zeros((40, 2)))

    def test_one_sample(self) -> None:
        assert np.array_equal(log_mel([0.5]), np.zeros((40, 1)))

    def test_150_samples_give_one_frame(self) -> None:
        assert log_mel(noise(150)).shape == (40, 1)

    @pytest.mark.parametrize("level", [0.0, 0.5])
    def test_silence_gives_zeros(self, level: float) -> None:
        assert np.array_equal(log_mel(np.full(40_000, level)), np.zeros((40, 251)))

    @pytest.mark.parametrize(
        "sound", [np.zeros(2000, np.int32), np.zeros((1, 2, 3)), np.zeros((9, 0), np.int16), np.float64(0)]
    )
    def test_other_waveforms_are_refused(self, sound: npt.NDArray) -> None:
        with pytest.raises(ValueError, match="expected"):
            log_mel(sound)

    def test_rate_of_zero_is_refused(self) -> None:
        with pytest.raises(ValueError, match="rate"):
            log_mel(noise(2000), 0)


class TestWaveforms:
    def test_integers_and_channels(self) -> None:
        sound = np.random.default_rng(0).integers(-3000, 3000, (20_000, 2)).astype(np.int16)
        expected = log_mel(sound.mean(axis=1) / 32768)
        assert np.array_equal(log_mel(sound), expected)
        assert np.array_equal(log_mel((sound / 32768.0).astype(np.float32)), expected)

    @pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
    def test_other_rates_are_resampled(self, rate: int) -> None:
        sound = noise(2 * rate + 77, rate)
        at_16_khz = soxr.resample(sound, rate, 16_000, quality="HQ")
        assert np.array_equal(log_mel(sound, rate), log_mel(at_16_khz))

    def test_a_tone_lies_in_its_band_at_any_rate(self) -> None:
        for rate in (16_000, 44_100, 96_000):
            tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
            band = log_mel(tone, rate).mean(axis=1).argmax()
            assert mel_matrix()[round(1000 / 40), band] > 0, rate

    def test_quantised(self) -> None:
        sound = noise(30_000)
        levels = np.rint(sound * 10 ** (-4 / 20) * 32768).astype(np.int16)
        assert np.abs(levels).max() < 32_767
        assert np.array_equal(log_mel(sound, quantise=True), log_mel(levels))
        assert not np.array_equal(log_mel(sound, quantise=True), log_mel(sound))

    def test_quantised_is_clipped(self) -> None:
        sound = np.float64([2.0, -2.0] * 1000)
        (block,) = mono_blocks([sound], 16_000, quantise=True)
        assert (block.max(), block.min()) == (32_767 / 32_768, -1.0)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_stream_equals_whole(rate: int) -> None:
    rng = np.random.default_rng(rate)
    sound = rng.integers(-9000, 9000, (rate * 5 + 77, 2)).astype(np.int16)
    cuts = np.sort(rng.integers(0, len(sound), 40))
    pieces = np.split(sound, cuts)
    _, mean = measure(mono_blocks(pieces, rate))
    parts = list(decibel_frames(mono_blocks(pieces, rate), mean))
    rows = np.concatenate(parts)
    assert len(parts) > 2
    assert np.array_equal(np.maximum(rows - rows.max(), np.float32(-80)).T, log_mel(sound, rate))


def test_frame_times() -> None:
    times = np.concatenate([frame_times(0, 2, 399), frame_times(2, 1, 399)])
    np.testing.assert_allclose(times, [[0, 0.0125], [0, 0.0225], [0.0075, 399 / 16_000]], rtol=0, atol=1e-15)


class FakeReader:
    """A decoded file: stereo, in blocks of a tenth of a second."""

    channels = 2

    def __init__(self, sound: npt.NDArray[np.int16], rate_hz: int) -> None:
        self.sound, self.rate_hz = sound, rate_hz

    def __iter__(self) -> Iterator[npt.NDArray[np.int16]]:
        for at in range(0, len(self.sound), self.rate_hz // 10):
            yield self.sound[at : at + self.rate_hz // 10]


class TestExtractor:
    def extract(
        self, monkeypatch: pytest.MonkeyPatch, sound: npt.NDArray[np.int16], rate_hz: int, **settings: object
    ) -> Features | ClipFailure:
        monkeypatch.setattr(spectrogram, "audio_blocks", lambda *_, **__: FakeReader(sound, rate_hz))
        extractor = SpectrogramExtractor(SpectrogramSettings(**settings))
        network = prepare_network(extractor.build_network(), "cpu")
        ((clip, outcome),) = extract_clips(extractor, network, [CLIP])
        assert clip == CLIP
        return outcome if isinstance(outcome, ClipFailure) else outcome["audio"]

    def samples(self, samples: int) -> npt.NDArray[np.int16]:
        return np.random.default_rng(1).integers(-9000, 9000, (samples, 2)).astype(np.int16)

    @pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
    @pytest.mark.parametrize("quantise", [False, True])
    def test_features(self, monkeypatch: pytest.MonkeyPatch, rate: int, quantise: bool) -> None:
        sound = self.samples(5 * rate + 123)
        features = self.extract(monkeypatch, sound, rate, quantise=quantise)
        assert isinstance(features, Features)
        assert np.array_equal(features.values, log_mel(sound, rate, quantise=quantise).T)
        np.testing.assert_allclose(features.pooled, features.values.mean(axis=0), rtol=0, atol=1e-4)
        assert features.pooled.dtype == np.float32
        seconds = (5 * rate + 123) / rate
        centres = np.arange(len(features.values)) / 100
        expected = np.stack([np.maximum(0, centres - 0.0125), np.minimum(seconds, centres + 0.0125)], axis=1)
        np.testing.assert_allclose(features.times, expected, rtol=0, atol=1 / 16_000)

    @pytest.mark.parametrize(("start", "end"), [(None, None), (0.5, 1.75)])
    def test_of_a_file(self, tmp_path: Path, start: float | None, end: float | None) -> None:
        path = tmp_path / "sound.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((2, 2, 44_100, 0, "NONE", ""))
            file.writeframes(self.samples(100_000).tobytes())
        features = extract(path, "spectrogram", start=start, end=end)
        samples, rate_hz = read_audio(path, start_seconds=start, end_seconds=end)
        assert isinstance(features, Features) and rate_hz == 44_100
        assert np.array_equal(features.values, log_mel(samples, rate_hz).T)

    def test_float16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sound = self.samples(20_000)
        features = self.extract(monkeypatch, sound, 16_000, storage="float16")
        assert isinstance(features, Features) and features.values.dtype == np.float16
        # Half a unit in the last place of float16 between 64 and 128 is 0.031 dB.
        np.testing.assert_allclose(features.values, log_mel(sound).T, rtol=0, atol=0.032)

    @pytest.mark.parametrize("samples", [0, 1, 399])
    def test_too_short(self, monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
        failure = self.extract(monkeypatch, self.samples(samples), 16_000)
        assert isinstance(failure, ClipFailure) and failure.reason is Reason.TOO_SHORT
        assert f"{samples} samples" in failure.detail and "400" in failure.detail

    def test_just_long_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        features = self.extract(monkeypatch, self.samples(400), 16_000)
        assert isinstance(features, Features) and features.values.shape == (3, 40)

    def test_silence_is_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        features = self.extract(monkeypatch, np.zeros((16_000, 2), np.int16), 16_000)
        assert isinstance(features, Features) and np.array_equal(features.values, np.zeros((101, 40)))

    def test_there_is_no_network(self) -> None:
        network = SpectrogramExtractor().build_network()
        assert isinstance(network, torch.nn.Identity) and not network.training and not network.state_dict()

    def test_record(self) -> None:
        assert SpectrogramExtractor().settings_record() == {"storage": "float32", "quantise": False}
