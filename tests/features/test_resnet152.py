"""ResNet-152 against torchvision's layers run by hand, and its input against frames of the ffmpeg program.

There are no reference numbers of the published extractor's output; the source is docs/networks.md, ResNet-152.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from made_video import make_video, program_frames, turn
from parity import formula_state_dict, needs_parity, own_entries, published_entries, relative_difference

from avpipe.errors import ClipFailure, Reason
from avpipe.features import extract
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.frame_size import unit_length
from avpipe.features.resnet152 import ResNet152, ResNet152Extractor, frame_tensor
from avpipe.features.settings import ResNet152Settings
from avpipe.features.types import Features
from avpipe.media.clip import Clip
from avpipe.weights import load_published, random_state_dict


def published_input(frames: np.ndarray) -> torch.Tensor:
    """preprocessing.py of video_feature_extractor, of uint8 [n, H, W, 3]: float32 [n, 3, H, W]."""
    video = torch.from_numpy(frames.astype("float32")).permute(0, 3, 1, 2)
    mean = torch.FloatTensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.FloatTensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (video / 255.0 - mean) / (std + 1e-8)


def published_forward(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """torchvision's own network up to its last two modules, and the mean over both spatial axes."""
    with torch.device("meta"):
        theirs = torchvision.models.resnet152(weights=None).eval()
    theirs.load_state_dict(state, assign=True)
    with torch.inference_mode():
        return torch.nn.Sequential(*list(theirs.children())[:-2])(x).mean(dim=[-2, -1])


class TestNetwork:
    @needs_parity
    def test_published_entries(self) -> None:
        with torch.device("meta"):
            entries = own_entries(ResNet152())
        assert entries == published_entries("resnet152")
        assert len(entries) == 932
        counters = sum(key.endswith("num_batches_tracked") for key in entries)
        assert counters == 155  # absent from the published file, which is older than they are

    @pytest.mark.slow
    def test_forward(self) -> None:
        network = ResNet152().eval()
        state = formula_or_random(network)
        load_published(network, {key: value for key, value in state.items() if "num_batches" not in key})
        rng = torch.Generator().manual_seed(0)
        for shape in ((2, 3, 64, 90), (1, 3, 33, 250), (1, 3, 7, 1)):
            x = torch.randn(shape, generator=rng)
            expected = published_forward(x, state).numpy()
            with torch.inference_mode():
                ours = network(x).numpy()
                last = prepare_network(network, "cpu")(x.contiguous(memory_format=torch.channels_last)).numpy()
            assert ours.shape == (shape[0], 2048) and ours.min() >= 0
            # Float32 sums in other orders (docs/networks.md, Rounding): 5e-7.
            assert relative_difference(ours, expected) < 1e-5
            assert relative_difference(last, expected) < 1e-5
            if shape[0] == 2:
                assert relative_difference(ours[:1], ours[1:]) > 0.01


def formula_or_random(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    try:
        return formula_state_dict(network)
    except FileNotFoundError:
        return random_state_dict(network, 5)


class TestFrameTensor:
    @pytest.mark.parametrize("size", [(224, 298), (398, 224), (1, 1), (5, 256)])
    def test_is_the_published_input_bit_for_bit(self, size: tuple[int, int]) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        ours = frame_tensor(frame)
        assert ours.shape == (3, *size) and ours.dtype == torch.float32
        assert torch.equal(ours, published_input(frame[None])[0])
        assert ours.unsqueeze(0).is_contiguous(memory_format=torch.channels_last)

    def test_every_byte_of_every_channel(self) -> None:
        frame = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
        exact = (frame / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(frame_tensor(frame).permute(1, 2, 0).numpy(), exact, rtol=0, atol=5e-7)


class TestWindows:
    @pytest.mark.parametrize("fidelity", ["corrected", "published"])
    @pytest.mark.parametrize(("size", "resized"), [("320x240", (298, 224)), ("90x160", (224, 398))])
    def test_inputs_are_the_programs_frames(
        self, tmp_path: Path, size: str, resized: tuple[int, int], fidelity: str
    ) -> None:
        path = make_video(tmp_path / "a.mp4", size, "30000/1001", 3.4)
        windows = list(ResNet152Extractor(ResNet152Settings().resolved(fidelity)).windows(Clip("a", path)))
        expected = published_input(program_frames(path, f"fps=1,scale={resized[0]}:{resized[1]}", *resized))
        assert torch.equal(torch.stack([window.tensor for window in windows]), expected)
        assert [(w.stream, w.start_seconds, w.end_seconds) for w in windows] == [
            ("video", 0.0, 1.0),
            ("video", 1.0, 2.0),
            ("video", 2.0, 3.0),
        ]

    @pytest.mark.parametrize(("fidelity", "shape"), [("corrected", (298, 224)), ("published", (224, 298))])
    def test_a_turned_picture(self, tmp_path: Path, fidelity: str, shape: tuple[int, int]) -> None:
        path = turn(make_video(tmp_path / "a.mp4"), tmp_path / "turned.mp4", 270)
        windows = list(ResNet152Extractor(ResNet152Settings().resolved(fidelity)).windows(Clip("a", path)))
        assert {window.tensor.shape for window in windows} == {(3, *shape)}
        expected = published_input(program_frames(path, f"fps=1,scale={shape[1]}:{shape[0]}", shape[1], shape[0]))
        assert torch.equal(torch.stack([window.tensor for window in windows]), expected)

    def test_a_repeated_frame_is_prepared_once(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48", "2", 2.0)
        windows = list(ResNet152Extractor(ResNet152Settings(rate_hz=8)).windows(Clip("a", path)))
        assert len(windows) == 16
        assert len({id(window.tensor) for window in windows}) == 4
        assert windows[3].start_seconds == 0.375 and windows[3].end_seconds == 0.5

    def test_segments(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48", "25", 4.0)
        extractor = ResNet152Extractor()
        (window,) = extractor.windows(Clip("a", path, 1.5, 2.0))
        assert (window.start_seconds, window.end_seconds) == (0.0, 1.0)
        assert len(list(extractor.windows(Clip("a", path, 1.5, 2.99)))) == 1
        assert len(list(extractor.windows(Clip("a", path, 1.5, 3.0)))) == 2
        with pytest.raises(ClipFailure) as caught:
            list(extractor.windows(Clip("a", path, 1.5, 1.98)))
        assert caught.value.reason is Reason.TOO_SHORT


class TestExtractor:
    def test_settings_record(self) -> None:
        assert ResNet152Extractor(ResNet152Settings(batch_size=2)).settings_record() == {
            "rate_hz": 1.0,
            "rotation": "upright",
            "precision": "float32",
            "storage": "float32",
        }
        published = ResNet152Extractor(ResNet152Settings().resolved("published")).settings_record()
        assert (published["rotation"], published["storage"]) == ("squeezed", "float16")

    @pytest.mark.slow
    def test_end_to_end(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48", "25", 2.0)
        features = extract(path, "resnet152", "random:0", settings={"batch_size": 2})
        assert isinstance(features, Features)
        assert features.values.shape == (2, 2048) and features.values.dtype == np.float32
        assert features.times.tolist() == [[0, 1], [1, 2]]
        assert np.array_equal(features.pooled, features.values.max(axis=0))
        np.testing.assert_allclose(np.linalg.norm(features.values, axis=1), 1, rtol=1e-6)

        state = random_state_dict(ResNet152(), 0)
        frames = program_frames(path, "fps=1,scale=298:224", 298, 224)
        expected = unit_length(published_forward(published_input(frames), state).numpy())
        assert relative_difference(features.values, expected) < 1e-5

        # The published storage is those rows rounded to float16; the maximum is taken of what is stored.
        extractor = ResNet152Extractor(ResNet152Settings(batch_size=2).resolved("published"))
        network = extractor.build_network()
        load_published(network, state)
        ((_, outcome),) = extract_clips(extractor, prepare_network(network, "cpu"), [Clip("a", path)])
        assert isinstance(outcome, dict)
        stored = outcome["video"]
        assert stored.values.dtype == np.float16 and np.array_equal(stored.values, features.values.astype(np.float16))
        assert stored.pooled.dtype == np.float32 and np.array_equal(stored.pooled, stored.values.max(axis=0))

    @pytest.mark.slow
    def test_one_frame(self, tmp_path: Path) -> None:
        path = make_video(tmp_path / "a.mp4", "64x48", "25", 0.6)
        features = extract(path, "resnet152", "random:0", settings={"batch_size": 1})
        assert isinstance(features, Features)
        assert features.values.shape == (1, 2048) and features.times.tolist() == [[0, 1]]
        assert math.isclose(float(np.linalg.norm(features.pooled)), 1, rel_tol=1e-6)
