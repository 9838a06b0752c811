"""SeLaVi against independent computations from docs/networks.md, SeLaVi; there are no published numbers."""

from __future__ import annotations

import resource
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import av
import ffmpeg
import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity import formula, needs_parity, own_entries, published_entries, relative_difference
from scipy.io import wavfile
from torch import nn
from torch.nn import functional as F

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features import build_network, extract, selavi
from avpipe.features.selavi import SeLaVi, SeLaViExtractor, waveform_to_log_spectrogram
from avpipe.features.selavi_frontend import band_edges, crop_picture, log_spectrograms, resized_size
from avpipe.features.selavi_windows import AvcaWindows, FullWindows, avca_frame_indices
from avpipe.features.settings import SeLaViSettings
from avpipe.features.types import Window
from avpipe.media.audio import audio_blocks
from avpipe.media.clip import Clip
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.file_mode.trim import trim_clip
from avpipe.weights import load_published, load_weights, random_state_dict


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file with the ffmpeg program; each name is one recipe."""
    folder = tmp_path_factory.mktemp("made")

    def build(
        name: str, *, seconds: float, rate: str = "25", size: str = "96x64", sound: float | None = 0, **options: Any
    ) -> Path:
        target = folder / name
        if not target.exists():
            inputs = [ffmpeg.input(f"testsrc2=size={size}:rate={rate}:duration={seconds}", f="lavfi")]
            if sound is not None:
                wave = f"anoisesrc=duration={sound or seconds}:sample_rate=48000:seed=3,aformat=channel_layouts=stereo"
                inputs.append(ffmpeg.input(wave, f="lavfi"))
            run_ffmpeg(ffmpeg.output(*inputs, f"file:{target}", **options), target, timeout_seconds=60)
        return target

    return build


def cut_windows(path: Path, start: float | None = None, end: float | None = None, **settings: Any) -> list[Window]:
    return list(SeLaViExtractor(SeLaViSettings(**settings)).windows(Clip("clip", path, start, end)))


def of(stream: str, windows: list[Window]) -> list[Window]:
    return [window for window in windows if window.stream == stream]


class TestNetwork:
    @needs_parity
    def test_published_entries(self) -> None:
        with torch.device("meta"):
            network = SeLaVi()
        assert own_entries(network.video_network) == published_entries("selavi_video_network")
        assert own_entries(network.audio_network) == published_entries("selavi_audio_network")

    @pytest.mark.slow
    def test_forward(self) -> None:
        network = SeLaVi().eval()
        state = random_state_dict(network, 4)
        load_published(network, state)
        generator = torch.Generator().manual_seed(0)
        video = torch.randn((2, 3, 6, 56, 56), generator=generator)
        audio = torch.randn((2, 1, 257, 99), generator=generator)
        with torch.inference_mode():
            ours = network(video, audio)
            alone = network(video[:1].contiguous(memory_format=torch.channels_last_3d), audio[:1])
            expected = plain_video(video, state), plain_audio(audio, state)
        for row, first, plain in zip(ours, alone, expected, strict=True):
            assert row.shape == (2, 512) and first.shape == (1, 512)
            # Float32 sums in other orders (docs/networks.md, Rounding): 1e-7 to 5e-7 for one network against another.
            assert relative_difference(row.numpy(), plain.numpy()) < 1e-5
            assert relative_difference(first.numpy(), plain[:1].numpy()) < 1e-5
            # Features of two inputs differ by far more than that.
            assert relative_difference(row[:1].numpy(), row[1:].numpy()) > 0.01

    def test_published_input_shapes(self) -> None:
        with torch.device("meta"):
            video, audio = SeLaVi().eval()(torch.zeros(1, 3, 30, 112, 112), torch.zeros(1, 1, 257, 99))
        assert video.shape == audio.shape == (1, 512)

    def test_building_leaves_the_global_generator_alone(self) -> None:
        before = torch.get_rng_state()
        build_network("selavi")
        assert torch.equal(torch.get_rng_state(), before)


def plain_norm(x: torch.Tensor, state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].reshape(1, -1, *[1] * (x.ndim - 2))
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def plain_video(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """R(2+1)D-18 of docs/networks.md, Networks of SeLaVi, from the entries alone."""
    base = "video_network.base"

    def factored(x: torch.Tensor, name: str, middle: str, last: str, stride: tuple[int, int]) -> torch.Tensor:
        spatial, temporal = state[f"{name}.0.weight"], state[f"{name}.{last}.weight"]
        pad = spatial.shape[-1] // 2
        x = F.conv3d(x, spatial, stride=(1, stride[1], stride[1]), padding=(0, pad, pad))
        x = plain_norm(x, state, f"{name}.{middle}").clamp(min=0)
        return F.conv3d(x, temporal, stride=(stride[0], 1, 1), padding=(1, 0, 0))

    x = plain_norm(factored(x, f"{base}.stem", "1", "3", (1, 2)), state, f"{base}.stem.4").clamp(min=0)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"{base}.layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            y = factored(x, f"{name}.conv1.0", "1", "3", (stride, stride))
            y = plain_norm(y, state, f"{name}.conv1.1").clamp(min=0)
            y = plain_norm(factored(y, f"{name}.conv2.0", "1", "3", (1, 1)), state, f"{name}.conv2.1")
            if stride == 2:
                x = F.conv3d(x, state[f"{name}.downsample.0.weight"], stride=2)
                x = plain_norm(x, state, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
    return x.mean(dim=(2, 3, 4))


def plain_audio(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The ResNet of docs/networks.md, Networks of SeLaVi, from the entries alone."""
    base = "audio_network.base"
    x = F.conv2d(x, state[f"{base}.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(plain_norm(x, state, f"{base}.bn1").clamp(min=0), 3, stride=2, padding=1)
    for layer in (1, 2, 3, 4):
        name, stride = f"{base}.layer{layer}.0", min(layer, 2)
        y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = plain_norm(y, state, f"{name}.bn1").clamp(min=0)
        y = plain_norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2")
        if stride == 2:
            x = plain_norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2), state, f"{name}.downsample.1")
        x = (x + y).clamp(min=0)
    return x.mean(dim=(2, 3))


@pytest.mark.slow
@needs_parity
class TestPublishedFile:
    @pytest.fixture(scope="class")
    @classmethod
    def published(cls) -> dict[str, torch.Tensor]:
        make = formula().tensor_for
        entries = published_entries("selavi_published")
        return {key: torch.from_numpy(np.asarray(make(key, shape))) for key, (shape, _) in entries.items()}

    @pytest.fixture
    def network(self) -> SeLaVi:
        with torch.device("meta"):
            return SeLaVi().to_empty(device="cpu")

    def check(self, network: nn.Module, published: dict[str, torch.Tensor]) -> None:
        own = network.state_dict()
        assert len(own) == 294
        assert all(torch.equal(value, published[key]) for key, value in own.items())

    def test_all_three_kinds_of_entries(self, published: dict[str, torch.Tensor], network: SeLaVi) -> None:
        assert len(published) == 454
        backbones = {key: value for key, value in published.items() if not key.startswith("mlp")}
        with_prefix = {f"module.{key}": value for key, value in published.items()}
        for entries in (with_prefix, published, backbones):
            for value in network.state_dict().values():
                value.zero_()
            load_published(network, entries)
            self.check(network, published)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_the_training_checkpoint(
        self, published: dict[str, torch.Tensor], network: SeLaVi, tmp_path: Path, zipped: bool
    ) -> None:
        checkpoint = {
            "epoch": np.int64(200),
            "dist": [torch.ones(3), None],
            "model": {f"module.{key}": value for key, value in published.items()},
            "optimizer": {"param_groups": [{"lr": np.float64(0.01), "nesterov": np.bool_(False)}]},
            "selflabels": torch.zeros(5, 10, dtype=torch.long),
            "amp": {"loss_scaler0": {"loss_scale": np.float32(65536)}},
        }
        torch.save(checkpoint, tmp_path / "selavi.pth", _use_new_zipfile_serialization=zipped)
        load_weights(network, tmp_path / "selavi.pth")
        self.check(network, published)

    def test_every_wrong_key_is_named(self, published: dict[str, torch.Tensor], network: SeLaVi) -> None:
        entries = {f"module.{key}": value for key, value in published.items()}
        del entries["module.video_network.base.stem.0.weight"]
        entries |= {"module.text_network.w": torch.ones(1), "module.audio_network.base.bn1.bias": torch.ones(3)}
        with pytest.raises(AvpipeError) as raised:
            load_published(network, entries)
        message = str(raised.value)
        assert "1 missing: video_network.base.stem.0.weight" in message
        assert "1 unexpected: text_network.w" in message
        assert "audio_network.base.bn1.bias (found [3], expected [64])" in message

    def test_half_a_prefix_is_refused(self, published: dict[str, torch.Tensor], network: SeLaVi) -> None:
        entries = published | {"module.video_network.base.stem.0.weight": torch.ones(1)}
        with pytest.raises(AvpipeError, match=r"1 unexpected: module\.video_network"):
            load_published(network, entries)


def plain_spectrogram(wave: npt.NDArray[np.int16], rate: int) -> npt.NDArray[np.float32]:
    """docs/networks.md, Sound of SeLaVi, a frame and a band at a time, with the Fourier sum written out."""
    signal = [float(wave[0])] + [float(wave[i]) - 0.97 * float(wave[i - 1]) for i in range(1, len(wave))]
    length, hop = int(0.02 * rate + 0.5), int(0.01 * rate + 0.5)
    count = 1 if len(signal) <= length else 1 + int(np.ceil((len(signal) - length) / hop))
    signal += [0.0] * ((count - 1) * hop + length - len(signal))
    mel = np.linspace(0, 2595 * np.log10(1 + (rate / 2) / 700.0), 259)
    edges = [int(np.floor(1025 * (700 * (10 ** (m / 2595.0) - 1)) / rate)) for m in mel]
    used = min(length, 1024)
    turns = np.outer(np.arange(used), np.arange(513)) % 1024
    waves = np.exp(-2j * np.pi * turns / 1024)
    out = np.empty((257, count), np.float64)
    for column in range(count):
        frame = np.array(signal[column * hop : column * hop + used])
        power = np.abs(frame @ waves) ** 2 / 1024
        for band in range(257):
            low, middle, high = edges[band : band + 3]
            energy = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
            energy += sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))
            out[band, column] = np.log(energy if energy != 0 else np.finfo(float).eps)
    return (out.astype(np.float32)[None] - np.float32(1.93)) / np.float32(17.89)


class TestSpectrogram:
    @pytest.mark.parametrize(
        ("rate", "samples"),
        [(44_100, 44_100), (48_000, 20_000), (24_000, 24_000), (22_050, 9_000), (96_000, 9_600), (44_100, 500)],
    )
    def test_equals_a_plain_computation(self, rate: int, samples: int) -> None:
        rng = np.random.default_rng(rate)
        tone = 6000 * np.sin(np.arange(samples) * 0.05) + rng.normal(0, 900, samples)
        wave = tone.astype(np.int16)
        wave[samples // 2 : samples // 2 + rate // 20] = 0  # whole frames without energy
        ours = waveform_to_log_spectrogram(wave, rate)
        assert ours.dtype == np.float32
        # The last steps are float32: a unit in the last place of values up to 2.2. Bands that hold rounding errors
        # of the transform alone do not occur in noise.
        np.testing.assert_allclose(ours, plain_spectrogram(wave, rate), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("rate", "empty"), [(44_100, 54), (48_000, 56), (24_000, 38)])
    def test_a_second_and_its_empty_bands(self, rate: int, empty: int) -> None:
        wave = np.random.default_rng(0).integers(-9000, 9000, rate).astype(np.int16)
        ours = waveform_to_log_spectrogram(wave, rate)
        assert ours.shape == (1, 257, 99)
        is_empty = (ours[0] == np.float32((np.log(np.finfo(float).eps) - 1.93) / 17.89)).all(axis=1)
        assert is_empty.sum() == empty
        assert ours[0, ~is_empty].min() > -1
        edges = band_edges(rate)
        # A band from bin e to e + 1 alone has the weight 0 there.
        assert all(edges[m + 2] - edges[m] <= 1 or edges[m] == edges[m + 1] - 1 for m in np.flatnonzero(is_empty))

    def test_kinds_of_waveforms_agree(self) -> None:
        wave = np.random.default_rng(0).integers(-3000, 3000, (20_000, 2)).astype(np.int16)
        expected = waveform_to_log_spectrogram(wave, 44_100)
        assert np.array_equal(waveform_to_log_spectrogram(wave / 32768.0, 44_100), expected)
        assert np.array_equal(waveform_to_log_spectrogram((wave / 32768).astype(np.float32), 44_100), expected)
        assert np.array_equal(waveform_to_log_spectrogram(wave.mean(axis=1) / 32768, 44_100), expected)
        assert np.array_equal(log_spectrograms(wave.mean(axis=1)[None], 44_100)[0], expected)

    def test_windows_together_or_alone(self) -> None:
        waves = np.random.default_rng(0).integers(-3000, 3000, (12, 44_100)).astype(np.int16)
        together = log_spectrograms(waves, 44_100)
        assert together.shape == (12, 1, 257, 99)
        assert all(
            np.array_equal(waveform_to_log_spectrogram(w, 44_100), t) for w, t in zip(waves, together, strict=True)
        )

    @pytest.mark.parametrize("wave", [np.zeros(9, np.int32), np.zeros((1, 2, 3)), np.zeros(0, np.int16)])
    def test_other_waveforms_are_refused(self, wave: npt.NDArray) -> None:
        with pytest.raises(ValueError, match="expected"):
            waveform_to_log_spectrogram(wave, 44_100)


def plain_picture(rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
    """docs/networks.md, Pictures of SeLaVi, with torch, as published: [3, 112, 112]."""
    height, width = rgb.shape[:2]
    picture = ((torch.from_numpy(rgb.copy()).float() / 255 - 0.45) / 0.225).permute(2, 0, 1)[None]
    if min(height, width) != 112:
        size = (112, int(width / height * 112)) if height <= width else (int(height / width * 112), 112)
        picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
    top, left = (int(np.ceil((side - 112) / 2)) for side in picture.shape[2:])
    return picture[0, :, top : top + 112, left : left + 112]


class TestPicture:
    @pytest.mark.parametrize(
        "size",
        [(240, 320), (320, 240), (360, 640), (1080, 1920), (112, 150), (151, 112), (112, 112), (64, 96), (99, 99)],
    )
    def test_equals_torch(self, size: tuple[int, int]) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        ours = torch.from_numpy(crop_picture(rgb)).permute(2, 0, 1)
        assert ours.dtype == torch.float32
        # Sums in another order: a few units in the last place of values up to 2.4.
        torch.testing.assert_close(ours, plain_picture(rgb), rtol=0, atol=1e-6)

    def test_published_sizes(self) -> None:
        assert resized_size(240, 320) == (112, 149)
        assert resized_size(360, 640) == (112, 199)
        assert resized_size(640, 360) == (199, 112)
        # 320x240: the crop begins at column 19 of 149, whose middle is that of column 41.4 of 320.
        columns = np.broadcast_to(np.arange(320).clip(max=255)[None, :, None], (240, 320, 3)).astype(np.uint8)
        first = float(crop_picture(columns)[0, 0, 0]) * 0.225 * 255 + 0.45 * 255
        assert first == pytest.approx(19.5 * 320 / 149 - 0.5, abs=1e-3)


def avca(seconds: float, rate: float = 25.0) -> AvcaWindows:
    frames = round(seconds * rate)
    return AvcaWindows(frames, rate, frames * 512, Fraction(round(512 * rate)))


class TestAvcaWindows:
    @pytest.mark.parametrize(
        ("seconds", "count", "end"),
        [(3, 2, 1.2), (7.2, 6, 4.1), (10, 9, 8.2), (11, 10, 5.5), (12, 11, 6.5), (20, 19, 18.1), (21, 20, 13.7)],
    )
    def test_coverage_as_specified(self, seconds: float, count: int, end: float) -> None:
        windows = avca(seconds)
        starts = list(windows.starts())
        assert windows.count == len(starts) == count
        assert starts[0] == 0
        # The table rounds to 0.1 s, and starts are cut to whole frames of 0.04 s.
        assert starts[-1] + 1 == pytest.approx(end, abs=0.09)

    def test_ten_seconds_by_hand(self) -> None:
        # Step (250 - 25) / 10 = 22.5 frames, truncated.
        assert list(avca(10).first_frames()) == [0, 22, 45, 67, 90, 112, 135, 157, 180]
        assert list(avca(10).tick_ranges())[1] == (22 * 512, (22 + 24) * 512)

    @pytest.mark.parametrize(("seconds", "count"), [(0.5, 0), (1.96, 0), (2.0, 1), (2.96, 1)])
    def test_two_seconds_are_needed(self, seconds: float, count: int) -> None:
        assert avca(seconds).count == count

    def test_frames_of_a_window(self) -> None:
        # 24 / 29 = 0.8276 frames a place.
        # Every sixth place or so repeats a frame.
        expected = sorted([*range(25), 0, 4, 9, 14, 19])
        assert avca_frame_indices(25.0, 30) == expected
        assert avca_frame_indices(30.0, 30) == list(range(30))
        assert avca_frame_indices(60.0, 3) == [0, 29, 59]
        assert avca_frame_indices(0.5, 3) == [0, 0, 0]  # clamped: fewer than one frame a second

    def test_few_frames_repeat_the_last(self) -> None:
        # 4 frames at an average of 2 Hz, but the last ones come late: a window has frames 0, 1 and the one after.
        chooser = AvcaWindows(4, 2.0, 2000, Fraction(1000)).chooser(3)
        times = [Fraction(0), Fraction(1, 10), Fraction(19, 10), Fraction(39, 20)]
        choices = [chooser.choose(t, n) for t, n in zip(times, [*times[1:], None], strict=True)]
        assert choices == [[(0, [0, 1])], [(0, [2])], [], []]

    def test_windows_beyond_the_last_frame_show_it(self) -> None:
        chooser = avca(4).chooser(2)  # announces 100 frames; 3 come
        assert [number for number, _ in chooser.choose(Fraction(0), Fraction(1, 25))] == [0]
        assert chooser.choose(Fraction(1, 25), Fraction(2, 25)) == []
        assert chooser.choose(Fraction(2, 25), None) == [(0, [1]), (1, [0, 1]), (2, [0, 1])]


class TestFullWindows:
    @pytest.mark.parametrize(
        ("seconds", "starts"),
        [("1", [0]), ("1.25", [0, 0.25]), ("2", [0, 1]), ("2.5", [0, 0.75, 1.5]), ("4", [0, 1, 2, 3]), ("0.96", [])],
    )
    def test_starts(self, seconds: str, starts: list[float]) -> None:
        windows = FullWindows(Fraction(seconds))
        assert list(windows.starts()) == starts
        assert windows.count == len(starts)

    @pytest.mark.parametrize("seconds", ["1.01", "7.2", "10", "11", "21.37", "3600.5"])
    def test_every_moment_is_covered(self, seconds: str) -> None:
        starts = list(FullWindows(Fraction(seconds)).exact_starts())
        assert starts[0] == 0 and starts[-1] + 1 == Fraction(seconds)
        assert all(0 < after - before <= 1 for before, after in pairwise(starts))

    def test_the_frame_on_the_screen(self) -> None:
        # Two windows, 0..1 and 0.5..1.5 s; middles of three parts at 1/6, 3/6, 5/6 and 4/6, 6/6, 8/6 s.
        chooser = FullWindows(Fraction(3, 2)).chooser(3)
        times = [Fraction(1, 4), Fraction(1, 2), Fraction(1)]
        choices = [chooser.choose(t, n) for t, n in zip(times, [*times[1:], None], strict=True)]
        assert choices == [[(0, [0])], [(0, [1, 2]), (1, [0])], [(1, [1, 2])]]

    def test_each_frame_once_at_the_windows_own_rate(self) -> None:
        chooser = FullWindows(Fraction(2)).chooser(30)
        # Clocks of 1 ms (Matroska) round the moments of change.
        times = [Fraction(round(1000 * k / 30), 1000) for k in range(60)]
        choices = [chooser.choose(t, n) for t, n in zip(times, [*times[1:], None], strict=True)]
        assert choices == [[(k // 30, [k % 30])] for k in range(60)]


def plain_avca_video(path: Path, window_frames: int) -> list[torch.Tensor]:
    """docs/networks.md, Windows of SeLaVi, with everything in memory: [3, frames, 112, 112] per window."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        n, f, duration = stream.frames, float(stream.average_rate), stream.duration
        frames = {frame.pts: frame.to_ndarray(format="rgb24") for frame in container.decode(stream)}
    count = int(n / f) - 1
    windows = []
    for i in range(count):
        s = int(max(n - f, 0) * (100 * i) / ((count // 10 + 1) * 1000))
        begin, end = int(s * (duration / n)), int((s + f - 1) * (duration / n))
        inside = [pts for pts in sorted(frames) if begin <= pts <= end]
        inside += [pts for pts in sorted(frames) if pts > end][:1]
        picks = torch.clamp(torch.linspace(0, f - 1, window_frames), 0, len(inside) - 1).long().tolist()
        windows.append(torch.stack([plain_picture(frames[inside[k]]) for k in picks], dim=1))
    return windows


class TestExtractor:
    FILES: ClassVar[dict[str, dict[str, Any]]] = {
        "b-frames.mp4": {"seconds": 4.2, "pix_fmt": "yuv420p"},
        "ntsc.mp4": {"seconds": 3.1, "rate": "30000/1001", "pix_fmt": "yuv420p"},
        "ucf.avi": {"seconds": 3.4, "vcodec": "mpeg4"},
        "fast.mp4": {"seconds": 2.5, "rate": "60", "pix_fmt": "yuv420p"},
    }

    @pytest.mark.parametrize("name", FILES)
    def test_avca_pictures_are_the_published_ones(self, make: Callable[..., Path], name: str) -> None:
        path = make(name, **self.FILES[name])
        windows = of("video", cut_windows(path, windows="avca", rotation="coded"))
        expected = plain_avca_video(path, 30)
        assert len(windows) == len(expected) >= 1
        for window, plain in zip(windows, expected, strict=True):
            torch.testing.assert_close(window.tensor, plain, rtol=0, atol=1e-6)

    def test_unknown_frame_counts_are_counted(self, make: Callable[..., Path]) -> None:
        options = {"seconds": 4.2, "pix_fmt": "yuv420p"}
        announced, silent = (cut_windows(make(name, **options), windows="avca") for name in ("a.mp4", "a.mkv"))
        assert [w.start_seconds for w in silent] == [w.start_seconds for w in announced]
        for ours, theirs in zip(of("video", silent), of("video", announced), strict=True):
            assert torch.equal(ours.tensor, theirs.tensor)

    @pytest.mark.parametrize("mode", ["avca", "full"])
    def test_sound_is_the_program_s(self, make: Callable[..., Path], tmp_path: Path, mode: str) -> None:
        path = make("b-frames.mp4", **self.FILES["b-frames.mp4"])
        raw = tmp_path / "mono.s16"
        output = ffmpeg.output(ffmpeg.input(f"file:{path}").audio, f"file:{raw}", f="s16le", ac=1, ar=44100)
        run_ffmpeg(output, path, timeout_seconds=60)
        sound = np.fromfile(raw, np.int16)
        windows = of("audio", cut_windows(path, windows=mode))
        for window in windows:
            begin = min(round(window.start_seconds * 44100), sound.size - 44100)
            expected = waveform_to_log_spectrogram(sound[begin : begin + 44100], 44100)
            assert np.array_equal(window.tensor.numpy(), expected)
        assert len(windows) == {"avca": 3, "full": 5}[mode]

    @pytest.mark.parametrize("mode", ["avca", "full"])
    def test_both_streams_have_the_same_times(self, make: Callable[..., Path], mode: str) -> None:
        windows = cut_windows(make("b-frames.mp4", **self.FILES["b-frames.mp4"]), windows=mode, window_frames=3)
        video, audio = of("video", windows), of("audio", windows)
        times = [(w.start_seconds, w.end_seconds) for w in video]
        assert times == [(w.start_seconds, w.end_seconds) for w in audio]
        assert all(end - start == pytest.approx(1) for start, end in times)
        assert {w.tensor.shape for w in video} == {(3, 3, 112, 112)}
        assert {w.tensor.shape for w in audio} == {(1, 257, 99)}
        if mode == "full":
            assert times[-1][1] == pytest.approx(4.2)

    def test_full_pictures_are_those_on_the_screen(self, make: Callable[..., Path]) -> None:
        path = make("b-frames.mp4", **self.FILES["b-frames.mp4"])
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        for window in of("video", cut_windows(path, window_frames=4)):
            numbers = [int((window.start_seconds + (k + 0.5) / 4) * 25) for k in range(4)]
            expected = torch.stack([plain_picture(frames[number]) for number in numbers], dim=1)
            torch.testing.assert_close(window.tensor, expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("mode", ["avca", "full"])
    @pytest.mark.parametrize("name", ["b-frames.mp4", "ucf.avi"])
    def test_a_segment_equals_the_trimmed_file(
        self, make: Callable[..., Path], tmp_path: Path, mode: str, name: str
    ) -> None:
        path = make(name, **self.FILES[name])
        segment = (0.713, 3.261)
        trim_clip(Clip("clip", path, *segment), tmp_path / "cut.mov", timeout_seconds=60)
        ours = cut_windows(path, *segment, windows=mode)
        theirs = cut_windows(tmp_path / "cut.mov", windows=mode)
        assert [w.start_seconds for w in ours] == [w.start_seconds for w in theirs]
        for window, other in zip(of("video", ours), of("video", theirs), strict=True):
            assert torch.equal(window.tensor, other.tensor)
        for window, other in zip(of("audio", ours), of("audio", theirs), strict=True):
            assert torch.equal(window.tensor, other.tensor)

    def test_a_rotation_tag(self, make: Callable[..., Path], tmp_path: Path) -> None:
        plain = make("b-frames.mp4", **self.FILES["b-frames.mp4"])
        turned = tmp_path / "turned.mp4"
        source = ffmpeg.input(f"file:{plain}", display_rotation=-90)  # shown turned clockwise by 90 degrees
        run_ffmpeg(ffmpeg.output(source, f"file:{turned}", c="copy"), plain, timeout_seconds=60)
        straight = of("video", cut_windows(plain, window_frames=2))[0].tensor
        coded = of("video", cut_windows(turned, window_frames=2, rotation="coded"))[0].tensor
        upright = of("video", cut_windows(turned, window_frames=2))[0].tensor
        assert torch.equal(coded, straight)
        # 96x64 turned is 64x96; the long side becomes 168 and the crop 112 in the middle: the same square. Its places
        # are rounded to float32, on either side of the middle otherwise.
        torch.testing.assert_close(upright, coded.rot90(-1, dims=(2, 3)), rtol=0, atol=1e-4)

    def test_short_sound_is_heard_from_its_last_second(self, make: Callable[..., Path]) -> None:
        path = make("short_sound.mkv", seconds=3, sound=1.5, pix_fmt="yuv420p", acodec="flac")
        audio = of("audio", cut_windows(path, window_frames=1))
        assert [w.start_seconds for w in audio] == [0, 1, 2]
        assert torch.equal(audio[1].tensor, audio[2].tensor)
        assert not torch.equal(audio[0].tensor, audio[1].tensor)

    @pytest.mark.parametrize(
        ("name", "recipe", "settings", "reason", "words"),
        [
            ("brief.mp4", {"seconds": 0.8}, {}, Reason.TOO_SHORT, r"0\.800 s of video; .* needs 1 s"),
            ("brief2.mp4", {"seconds": 1.6}, {"windows": "avca"}, Reason.TOO_SHORT, "40 frames at 25 Hz .* need 2 s"),
            ("brief3.mkv", {"seconds": 2, "sound": 0.5, "acodec": "flac"}, {}, Reason.TOO_SHORT, "22,050 samples"),
            ("mute.mp4", {"seconds": 2, "sound": None}, {}, Reason.NO_AUDIO, "no audio stream"),
        ],
    )
    def test_failures(
        self,
        make: Callable[..., Path],
        name: str,
        recipe: dict[str, Any],
        settings: dict[str, Any],
        reason: Reason,
        words: str,
    ) -> None:
        path = make(name, pix_fmt="yuv420p", **recipe)
        with pytest.raises(ClipFailure, match=words) as raised:
            cut_windows(path, window_frames=1, **settings)
        assert raised.value.reason is reason
        assert str(path) in raised.value.detail

    @pytest.mark.parametrize("mode", ["avca", "full"])
    def test_sound_alone_has_no_pictures(self, tmp_path: Path, mode: str) -> None:
        wavfile.write(tmp_path / "a.wav", 8000, np.zeros(20_000, np.int16))
        with pytest.raises(ClipFailure) as raised:
            cut_windows(tmp_path / "a.wav", windows=mode)
        assert raised.value.reason is Reason.NO_VIDEO

    def test_each_picture_is_resized_once(self, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        resized: list[int] = []

        def count(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            resized.append(1)
            return crop_picture(rgb)

        monkeypatch.setattr(selavi, "crop_picture", count)
        path = make("b-frames.mp4", **self.FILES["b-frames.mp4"])
        windows = of("video", cut_windows(path, windows="avca"))
        assert len(windows) == 3 and len(resized) <= 42  # to (105 - 25) / 5 + 25 frames, not 3 * 25

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_clip(self, make: Callable[..., Path]) -> None:
        short = make("short.mkv", seconds=5, rate="10", pix_fmt="yuv420p", acodec="flac")
        long = make(
            "long.mkv", seconds=300, rate="10", size="64x48", pix_fmt="yuv420p", acodec="flac", preset="ultrafast"
        )
        extractor = SeLaViExtractor(SeLaViSettings(windows="full", window_frames=10))
        for _ in extractor.windows(Clip("short", short)):
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = sum(1 for _ in extractor.windows(Clip("long", long)))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert count == 600
        # All pictures would be 450 MB, all spectrograms 30 MB, all sound 26 MB.
        assert grown < 30

    def test_settings_left_open_are_corrected(self) -> None:
        record = SeLaViExtractor().settings_record()
        assert record["windows"] == "full" and record["rotation"] == "upright"
        assert record["window_frames"] == 30 and record["audio_rate_hz"] == 44100


@pytest.mark.slow
class TestSoundAtAnotherRate:
    @pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
    @pytest.mark.parametrize(("suffix", "codec"), [("m4a", "aac"), ("flac", "flac"), ("wav", "pcm_s16le")])
    @pytest.mark.parametrize("rate", [44_100, 24_000])
    def test_equals_the_program(self, tmp_path: Path, layout: str, suffix: str, codec: str, rate: int) -> None:
        path, raw = tmp_path / f"a.{suffix}", tmp_path / "mono.s16"
        noise = f"anoisesrc=duration=2:sample_rate=48000:seed=3,aformat=channel_layouts={layout}"
        run_ffmpeg(
            ffmpeg.output(ffmpeg.input(noise, f="lavfi"), f"file:{path}", acodec=codec), path, timeout_seconds=60
        )
        output = ffmpeg.output(ffmpeg.input(f"file:{path}"), f"file:{raw}", f="s16le", ac=1, ar=rate)
        run_ffmpeg(output, path, timeout_seconds=60)
        reader = audio_blocks(path, block_seconds=0.3, rate_hz=rate, mono=True)
        ours = np.concatenate(list(reader))
        assert (reader.rate_hz, reader.channels) == (rate, 1)
        assert np.array_equal(ours[:, 0], np.fromfile(raw, np.int16))


@pytest.mark.slow
class TestEndToEnd:
    @pytest.fixture(scope="class")
    @classmethod
    def features(cls, make: Callable[..., Path]) -> dict[str, Any]:
        path = make("b-frames.mp4", **TestExtractor.FILES["b-frames.mp4"])
        return extract(path, "selavi", "random:0", end=2.3, settings={"window_frames": 2})

    def test_features(self, features: dict[str, Any]) -> None:
        assert list(features) == ["video", "audio"]
        assert np.array_equal(features["video"].times, features["audio"].times)
        for rows in features.values():
            assert rows.values.shape == (3, 512) and rows.values.dtype == np.float32
            assert rows.pooled.shape == (512,)
            np.testing.assert_allclose(rows.pooled, rows.values.mean(axis=0), atol=1e-6)
            assert relative_difference(rows.values[0], rows.values[1]) > 1e-4

    def test_rows_are_the_network_s(self, features: dict[str, Any], make: Callable[..., Path]) -> None:
        path = make("b-frames.mp4", **TestExtractor.FILES["b-frames.mp4"])
        network = SeLaViExtractor().build_network()
        load_weights(network, "random:0")
        windows = cut_windows(path, end=2.3, window_frames=2)
        with torch.inference_mode():
            video = network.video_network(of("video", windows)[1].tensor[None]).numpy()
            audio = network.audio_network(of("audio", windows)[1].tensor[None]).numpy()
        # Another batch size and memory format: float32 sums in another order.
        assert relative_difference(features["video"].values[1:2], video) < 1e-5
        assert relative_difference(features["audio"].values[1:2], audio) < 1e-5
