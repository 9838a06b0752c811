"""VGGish against the published implementation's numbers (../shared/parity/extractors)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity import (
    FOLDER,
    formula_state_dict,
    needs_parity,
    own_entries,
    published_entries,
    relative_difference,
)

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features import vggish
from avpipe.features.settings import VGGishSettings
from avpipe.features.vggish import Postprocessor, VGGish, VGGishExtractor, waveform_to_examples
from avpipe.features.vggish_frontend import HANN, ExampleStream, mel_matrix, to_mono
from avpipe.media.clip import Clip
from avpipe.weights import load_published

CASES = ["mono16k", "stereo44k", "mono48k", "mono22k"]
CLIP = Clip("clip", Path("clip.mp4"))


@pytest.fixture(scope="module")
def reference() -> dict[str, npt.NDArray[np.generic]]:
    with np.load(FOLDER / "vggish.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def network() -> VGGish:
    network = VGGish().eval()
    load_published(network, formula_state_dict(network))
    return network


@needs_parity
class TestNetwork:
    def test_published_entries(self) -> None:
        with torch.device("meta"):
            assert own_entries(VGGish()) == published_entries("vggish")

    @pytest.mark.slow
    @pytest.mark.parametrize("case", CASES)
    def test_embedding(self, network: VGGish, reference: dict[str, npt.NDArray], case: str) -> None:
        examples = torch.from_numpy(reference[f"{case}_examples"].astype(np.float32))
        with torch.inference_mode():
            ours = network(examples).numpy()
            with_channel = network(examples[:, None].contiguous(memory_format=torch.channels_last)).numpy()
        # Float32 sums of up to 12,288 products in other orders; measured 2e-6.
        assert relative_difference(ours, reference[f"{case}_embedding"]) < 1e-5
        assert relative_difference(with_channel, reference[f"{case}_embedding"]) < 1e-5

    @pytest.mark.slow
    def test_final_relu_is_a_choice(self, network: VGGish) -> None:
        plain = VGGishExtractor(VGGishSettings(postprocess=False, final_relu=False)).build_network()
        plain.load_state_dict(network.state_dict())
        example = torch.zeros(1, 96, 64)
        with torch.inference_mode():
            assert plain(example).min() < 0
            assert torch.equal(torch.relu(plain(example)), network(example))


@needs_parity
class TestFrontEnd:
    def test_window_and_mel_matrix(self, reference: dict[str, npt.NDArray]) -> None:
        np.testing.assert_allclose(HANN, reference["hann_400"], rtol=0, atol=1e-15)
        np.testing.assert_allclose(mel_matrix(), reference["mel_matrix_257x64"], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("case", CASES)
    def test_examples(self, reference: dict[str, npt.NDArray], case: str) -> None:
        ours = waveform_to_examples(reference[f"{case}_wave"], int(reference[f"{case}_sr"]), resampler="resampy-0.4")
        assert ours.dtype == np.float32
        # The last step is float32: half a unit in the last place of values up to 4 is 2.4e-7.
        np.testing.assert_allclose(ours, reference[f"{case}_examples"], rtol=0, atol=1e-6)

    def test_sine(self, reference: dict[str, npt.NDArray]) -> None:
        # Both ends included, as in the port's example, so the tone is a little above 1 kHz.
        wave = np.sin(2 * np.pi * 1000 * np.linspace(0, 3, 3 * 44_100))
        ours = waveform_to_examples(wave, 44_100, resampler="resampy-0.4")
        np.testing.assert_allclose(ours, reference["sine_examples"], rtol=0, atol=1e-6)

    def test_number_of_examples(self, reference: dict[str, npt.NDArray]) -> None:
        for samples, examples in reference["n16k_to_examples"].tolist():
            # -1: the published code raises; here it is no example.
            assert len(waveform_to_examples(np.zeros(samples), 16_000)) == max(0, examples), samples


def test_resampler_releases_differ_as_stated() -> None:
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 44_100)
    old, new = (waveform_to_examples(wave, 44_100, resampler=name) for name in ("resampy-0.2.2", "resampy-0.4"))
    assert np.array_equal(old, waveform_to_examples(wave, 44_100))
    assert 0.1 < np.abs(old - new).max() < 0.6


def test_integer_and_float_waveforms_agree() -> None:
    wave = np.random.default_rng(0).integers(-3000, 3000, (20_000, 2)).astype(np.int16)
    as_float = (wave / 32768.0).astype(np.float32)
    assert np.array_equal(waveform_to_examples(wave, 16_000), waveform_to_examples(as_float, 16_000))
    # The mean of int16 channels is exact in float64, so is taking it first.
    assert np.array_equal(waveform_to_examples(wave, 16_000), waveform_to_examples(wave.mean(axis=1) / 32768, 16_000))


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_mono_is_the_mean_over_channels_bit_for_bit(channels: int) -> None:
    wave = np.random.default_rng(channels).integers(-(2**15), 2**15, (20_000, channels)).astype(np.int16)
    assert np.array_equal(to_mono(wave), (wave / 32768.0).mean(axis=1))


@pytest.mark.parametrize("shape", [(0,), (0, 1), (0, 2)])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_no_sample_gives_no_example(shape: tuple[int, ...], kind: type) -> None:
    assert to_mono(np.zeros(shape, kind)).shape == (0,)
    for rate in (16_000, 44_100):
        assert waveform_to_examples(np.zeros(shape, kind), rate).shape == (0, 96, 64)


@pytest.mark.parametrize(
    "wave", [np.zeros(20_000, np.int32), np.zeros((1, 2, 3)), np.zeros((9, 0), np.int16), np.float64(0)]
)
def test_other_waveforms_are_refused(wave: npt.NDArray) -> None:
    with pytest.raises(ValueError, match="expected"):
        waveform_to_examples(wave, 16_000)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_stream_equals_whole(rate: int) -> None:
    rng = np.random.default_rng(rate)
    wave = rng.integers(-9000, 9000, (rate * 4 + 77, 2)).astype(np.int16)
    stream, examples, at, held = ExampleStream(rate), [], 0, []
    while at < len(wave):
        size = int(rng.integers(0, 9000))
        examples += stream.push(wave[at : at + size])
        held.append(stream._pending.size)
        at += size
    examples += stream.flush()
    assert np.array_equal(np.stack(examples), waveform_to_examples(wave, rate))
    assert max(held) < 15_600


@needs_parity
class TestPostprocessing:
    def test_quantised_and_average(self, reference: dict[str, npt.NDArray]) -> None:
        extractor = VGGishExtractor(pca_path=FOLDER / "vggish_standin_pca.npz")
        values = extractor.finish("audio", reference["stereo44k_embedding"])
        assert values.dtype == np.float32
        # Exact: the same float64 arithmetic on the same embedding.
        assert np.array_equal(values, reference["stereo44k_quantised"])
        assert np.array_equal(extractor.pool("audio", values), reference["stereo44k_average"])

    @pytest.mark.slow
    def test_from_wave_to_bytes(self, network: VGGish, reference: dict[str, npt.NDArray]) -> None:
        examples = waveform_to_examples(reference["stereo44k_wave"], 44_100, resampler="resampy-0.4")
        with torch.inference_mode():
            embedding = network(torch.from_numpy(examples)).numpy()
        ours = Postprocessor.from_file(FOLDER / "vggish_standin_pca.npz")(embedding).astype(int)
        # Truncation: a difference of 1e-6 may move a value across a boundary, by one.
        assert np.abs(ours - reference["stereo44k_quantised"]).max() <= 1

    def test_record_names_the_file(self) -> None:
        path = FOLDER / "vggish_standin_pca.npz"
        record = VGGishExtractor(pca_path=path).settings_record()
        assert record == {
            "precision": "float32",
            "storage": "float32",
            "postprocess": True,
            "final_relu": True,
            "resampler": "resampy-0.2.2",
            "pca_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }


class TestPcaFile:
    def test_without_file(self) -> None:
        extractor = VGGishExtractor()
        for attempt in (extractor.settings_record, lambda: next(extractor.windows(CLIP))):
            with pytest.raises(AvpipeError, match=r"postprocess: true.*vggish_pca_params.npz.*postprocess: false"):
                attempt()

    def test_without_postprocessing(self) -> None:
        extractor = VGGishExtractor(VGGishSettings(postprocess=False))
        rows = np.float32([[1, 2], [3, 5]])
        assert extractor.settings_record()["pca_sha256"] is None
        assert np.array_equal(extractor.finish("audio", rows), rows)
        assert np.array_equal(extractor.pool("audio", rows), [2, 3.5])

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"pca_means": np.zeros(128)}, "pca_eigen_vectors"),
            ({"pca_eigen_vectors": np.zeros((128, 64)), "pca_means": np.zeros(128)}, r"\[128, 64\]"),
            ({"pca_eigen_vectors": np.array([{}]), "pca_means": np.zeros(128)}, "not 'dict'"),
        ],
    )
    def test_wrong_contents(self, tmp_path: Path, arrays: dict[str, npt.NDArray], message: str) -> None:
        np.savez(tmp_path / "pca.npz", **arrays)
        with pytest.raises(AvpipeError, match=message):
            VGGishExtractor(pca_path=tmp_path / "pca.npz")

    def test_not_an_npz(self, tmp_path: Path) -> None:
        (tmp_path / "pca.npz").write_text("<html>")
        with pytest.raises(AvpipeError, match="Download it again"):
            VGGishExtractor(pca_path=tmp_path / "pca.npz")
        with pytest.raises(AvpipeError, match="cannot be opened"):
            VGGishExtractor(pca_path=tmp_path / "absent.npz")


class FakeReader:
    """A decoded file: stereo, in blocks of a tenth of a second."""

    channels = 2

    def __init__(self, wave: npt.NDArray[np.int16], rate_hz: int) -> None:
        self.wave, self.rate_hz = wave, rate_hz

    def __iter__(self) -> Iterator[npt.NDArray[np.int16]]:
        for at in range(0, len(self.wave), self.rate_hz // 10):
            yield self.wave[at : at + self.rate_hz // 10]


class TestWindows:
    extractor = VGGishExtractor(VGGishSettings(postprocess=False))

    def decode(self, monkeypatch: pytest.MonkeyPatch, samples: int, rate_hz: int) -> npt.NDArray[np.int16]:
        wave = np.random.default_rng(1).integers(-9000, 9000, (samples, 2)).astype(np.int16)
        monkeypatch.setattr(vggish, "audio_blocks", lambda *_, **__: FakeReader(wave, rate_hz))
        return wave

    def test_examples_and_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wave = self.decode(monkeypatch, 3 * 22_050, 22_050)
        windows = list(self.extractor.windows(CLIP))
        assert np.array_equal(np.stack([w.tensor.numpy() for w in windows]), waveform_to_examples(wave, 22_050))
        assert [w.stream for w in windows] == ["audio"] * 3
        assert [(w.start_seconds, w.end_seconds) for w in windows] == [
            pytest.approx((0.96 * i, 0.96 * i + 0.975)) for i in range(3)
        ]

    def test_too_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decode(monkeypatch, 15_599, 16_000)
        with pytest.raises(ClipFailure) as raised:
            list(self.extractor.windows(CLIP))
        assert raised.value.reason is Reason.TOO_SHORT
        assert "15,599 samples" in raised.value.detail and "15,600" in raised.value.detail

    def test_just_long_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decode(monkeypatch, 15_600, 16_000)
        assert len(list(self.extractor.windows(CLIP))) == 1


@pytest.mark.parametrize(
    ("waveform", "found"),
    [
        (np.zeros((1, 50_000), np.int16), "transpose it"),
        (np.array([0.0, np.nan], np.float32), "not finite"),
    ],
)
def test_waveforms_that_are_none(waveform: np.ndarray, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        waveform_to_examples(waveform, 16_000)
