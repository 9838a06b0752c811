"""3D ResNeXt-101 against the reference numbers, and its input against frames of the ffmpeg program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_video import make_video, program_frames, turn
from parity import (
    FOLDER,
    formula_state_dict,
    needs_parity,
    own_entries,
    published_entries,
    relative_difference,
    stage_statistics,
)

from avpipe.errors import ClipFailure, Reason
from avpipe.features import extract
from avpipe.features.engine import prepare_network
from avpipe.features.frame_size import unit_length
from avpipe.features.resnext101 import ResNeXt101, ResNeXt101Extractor, crop_frame, window_tensor
from avpipe.features.settings import ResNeXt101Settings
from avpipe.features.types import Features, Window
from avpipe.media.clip import Clip
from avpipe.weights import load_published, random_state_dict

MEAN = torch.FloatTensor([110.6, 103.2, 96.3]).view(3, 1, 1, 1)


def published_input(frames: np.ndarray) -> torch.Tensor:
    """preprocessing.py of video_feature_extractor, of uint8 [n, 112, 112, 3]: float32 [windows, 3, 16, 112, 112]."""
    video = torch.from_numpy(frames.astype("float32")).permute(0, 3, 1, 2)
    video = torch.cat([video, torch.zeros(-len(video) % 16, 3, 112, 112)])
    video = (video - MEAN.view(1, 3, 1, 1)) / (torch.FloatTensor([1.0, 1.0, 1.0]).view(1, 3, 1, 1) + 1e-8)
    return video.view(-1, 16, 3, 112, 112).transpose(1, 2)


MEASURED_ROWS = [0, 1, 3, 4, 5, 6, 7]
"""Rows of the reference for `measured_parts`; rows 2 and 8 are the ReLU after bn1 and the mean over layer4."""


def measured_parts(network: ResNeXt101) -> list[torch.nn.Module]:
    parts = (network.conv1, network.bn1, network.maxpool, network.layer1, network.layer2, network.layer3)
    return [*parts, network.layer4]


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "resnext101.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def network() -> ResNeXt101:
    network = ResNeXt101().eval()
    load_published(network, formula_state_dict(network))
    return network


@pytest.fixture(scope="module")
def inputs(reference: dict[str, np.ndarray]) -> torch.Tensor:
    frames = [crop_frame(frame) for frame in reference["frames"]]
    return torch.stack([window_tensor(frames[:16]), window_tensor(frames[16:])])


@pytest.mark.slow
@needs_parity
class TestParity:
    def test_published_entries(self) -> None:
        with torch.device("meta"):
            entries = own_entries(ResNeXt101())
        assert entries == published_entries("resnext101")
        assert len(entries) == 626

    def test_input(self, inputs: torch.Tensor, reference: dict[str, np.ndarray]) -> None:
        assert list(inputs.shape) == reference["input_shape"].tolist()
        assert float(inputs.double().sum()) == reference["input_sum"]
        assert np.array_equal(inputs[0, :, :, 0, 0], reference["input_0_c_t_0_0"])
        absent = inputs[1, :, 8:]
        assert torch.equal(absent, torch.from_numpy(reference["pad_value"]).view(3, 1, 1, 1).expand_as(absent))

    def test_output(self, network: ResNeXt101, inputs: torch.Tensor, reference: dict[str, np.ndarray]) -> None:
        raw, stages = stage_statistics(network, measured_parts(network), inputs)
        # The reference is of the second window.
        expected = reference["stage_c_t_h_w_mean_std"][MEASURED_ROWS]
        np.testing.assert_allclose(stages, expected, rtol=1e-6)
        # Measured 2.5e-7: float32 sums in other orders (docs/networks.md, Rounding: 2e-7 to 3e-7).
        assert relative_difference(raw, reference["raw"]) < 5e-6
        unit = unit_length(raw)
        assert relative_difference(unit, reference["l2"]) < 5e-6
        half = unit.astype(np.float16)
        # A value next to the middle between two halves may fall on the other side: a unit in the last place.
        assert np.mean(half != reference["f16"]) < 0.02
        np.testing.assert_allclose(half.astype(float), reference["f16"].astype(float), rtol=2**-10, atol=2**-24)
        # The two windows' features differ by far more than any tolerance here.
        assert relative_difference(raw[:1], raw[1:]) > 0.1

    def test_memory_format_of_the_engine(
        self, network: ResNeXt101, inputs: torch.Tensor, reference: dict[str, np.ndarray]
    ) -> None:
        prepared = prepare_network(network, "cpu")
        with torch.inference_mode():
            raw = prepared(inputs[:1].contiguous(memory_format=torch.channels_last_3d)).numpy()
        assert relative_difference(raw, reference["raw"][:1]) < 5e-6


class TestPublishedEntries:
    def test_hara_s_prefix(self) -> None:
        with torch.device("meta"):
            network = ResNeXt101()
        state = dict(network.state_dict())
        prefixed = {f"module.{key}": value for key, value in state.items()}
        assert network.published_entries(prefixed) == state
        assert network.published_entries(state) == state
        # A mixture is no published file: it stays, so that loading names what is wrong with it.
        mixed = prefixed | {"conv1.weight": state["conv1.weight"]}
        assert network.published_entries(mixed) == mixed
        assert ResNeXt101.published_entry == "state_dict"


class TestWindowTensor:
    @pytest.mark.parametrize("n", [1, 15, 16])
    def test_is_the_published_input_bit_for_bit(self, n: int) -> None:
        frames = np.random.default_rng(n).integers(0, 256, (n, 112, 112, 3), np.uint8)
        ours = window_tensor(list(frames))
        assert ours.shape == (3, 16, 112, 112) and ours.dtype == torch.float32
        assert torch.equal(ours, published_input(frames)[0])
        assert ours.unsqueeze(0).is_contiguous(memory_format=torch.channels_last_3d)
        assert torch.equal(ours[:, n:], -MEAN.expand(3, 16 - n, 112, 112))


class TestWindows:
    def windows(self, path: Path, **settings: object) -> list[Window]:
        return list(ResNeXt101Extractor(ResNeXt101Settings(**settings)).windows(Clip("a", path)))

    @pytest.mark.parametrize(
        ("size", "resized", "crop"),
        [("320x240", "149:112", "18:0"), ("640x360", "199:112", "43:0"), ("240x320", "112:149", "0:18")],
    )
    def test_inputs_are_the_programs_frames(self, tmp_path: Path, size: str, resized: str, crop: str) -> None:
        path = make_video(tmp_path / "a.mp4", size, "30000/1001", 1.5)
        windows = self.windows(path)
        frames = program_frames(path, f"fps=24,scale={resized},crop=112:112:{crop}", 112, 112)
        assert len(frames) == 36
        assert torch.equal(torch.stack([window.tensor for window in windows]), published_input(frames))
        assert [(w.stream, w.start_seconds, w.end_seconds) for w in windows] == [
            ("video", 0.0, 16 / 24),
            ("video", 16 / 24, 32 / 24),
            ("video", 32 / 24, 1.5),
        ]

    @pytest.mark.parametrize(
        ("rotation", "filters"),
        [("upright", "scale=112:149,crop=112:112:0:18"), ("squeezed", "scale=149:112,crop=112:112:18:0")],
    )
    def test_a_turned_picture(self, tmp_path: Path, rotation: str, filters: str) -> None:
        path = turn(make_video(tmp_path / "a.mp4", seconds=0.5), tmp_path / "turned.mp4", 90)
        (window,) = self.windows(path, rotation=rotation)
        expected = published_input(program_frames(path, f"fps=24,{filters}", 112, 112))
        assert torch.equal(window.tensor[None], expected)

    @pytest.mark.parametrize("stride", [5, 16, 20])
    def test_strides(self, tmp_path: Path, stride: int) -> None:
        path = make_video(tmp_path / "a.mp4", "160x120", "24", 35 / 24)
        every = [crop_frame(frame) for frame in program_frames(path, "fps=24,scale=149:112", 149, 112)]
        windows = self.windows(path, stride_frames=stride)
        starts = range(0, 35, stride)
        assert [window.start_seconds for window in windows] == [start / 24 for start in starts]
        for start, window in zip(starts, windows, strict=True):
            assert torch.equal(window.tensor, window_tensor(every[start : start + 16]))
            assert window.end_seconds == min(start + 16, 35) / 24

    def test_one_frame(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48", "25", 0.04)
        (window,) = self.windows(path)
        assert (window.start_seconds, window.end_seconds) == (0.0, 1 / 24)
        assert window.tensor[:, 0].std() > 10
        assert torch.equal(window.tensor[:, 1:], -MEAN.expand(3, 15, 112, 112))

    def test_too_short(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48")
        with pytest.raises(ClipFailure) as caught:
            list(ResNeXt101Extractor().windows(Clip("a", path, 0.5, 0.52)))
        assert caught.value.reason is Reason.TOO_SHORT


class TestExtractor:
    def test_settings_record(self) -> None:
        assert ResNeXt101Extractor(ResNeXt101Settings(batch_size=2)).settings_record() == {
            "rate_hz": 24.0,
            "stride_frames": 16,
            "rotation": "upright",
            "precision": "float32",
            "storage": "float32",
        }

    @pytest.mark.slow
    def test_end_to_end(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "160x120", "25", 1.0)
        settings = {"batch_size": 2}
        features = extract(path, "resnext101", "random:0", settings=settings)
        assert isinstance(features, Features)
        assert features.values.shape == (2, 2048) and features.values.dtype == np.float32
        assert features.times.tolist() == [[0, 16 / 24], [16 / 24, 1.0]]
        assert np.array_equal(features.pooled, features.values.max(axis=0))

        network = ResNeXt101().eval()
        load_published(network, random_state_dict(network, 0))
        with torch.inference_mode():
            raw = network(published_input(program_frames(path, "fps=24,scale=149:112,crop=112:112:18:0", 112, 112)))
        expected = torch.nn.functional.normalize(raw, dim=1).numpy()
        assert relative_difference(features.values, expected) < 1e-5

        published = extract(path, "resnext101", "random:0", settings=settings | {"storage": "float16"})
        assert isinstance(published, Features)
        assert published.values.dtype == np.float16
        assert np.array_equal(published.values, features.values.astype(np.float16))
        assert np.array_equal(published.pooled, published.values.max(axis=0).astype(np.float32))
