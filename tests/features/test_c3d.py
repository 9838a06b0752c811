"""C3D against a plain computation with the published layer list, and its frames against torchvision.

There are no reference numbers of the published network; the source is docs/networks.md, C3D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity import needs_parity, own_entries, published_entries, relative_difference
from torch.nn import functional as F
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToPILImage, ToTensor

from avpipe.errors import ClipFailure, Reason
from avpipe.features import c3d
from avpipe.features.c3d import C3D, C3DExtractor, crop_frame, cut_windows, window_tensor
from avpipe.features.settings import C3DSettings
from avpipe.media.clip import Clip
from avpipe.weights import load_published, random_state_dict

CLIP = Clip("clip", Path("clip.mp4"))
PUBLISHED_TRANSFORM = Compose(
    [
        ToPILImage(),
        Resize((128, 171)),
        CenterCrop(112),
        ToTensor(),
        Normalize((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    ]
)


def frames(n: int, height: int = 90, width: int = 120, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (n, height, width, 3)).astype(np.uint8))


class TestNetwork:
    @needs_parity
    def test_published_entries(self) -> None:
        with torch.device("meta"):
            assert own_entries(C3D()) == published_entries("c3d")

    @pytest.mark.slow
    def test_forward(self) -> None:
        network = C3D().eval()
        state = random_state_dict(network, 4)
        load_published(network, state)
        x = torch.randn((2, 3, 16, 112, 112), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            ours = network(x)
            channels_last = network.to(memory_format=torch.channels_last_3d)(
                x[:1].contiguous(memory_format=torch.channels_last_3d)
            )
            expected = published_forward(x, state)
        assert ours.shape == (2, 4096)
        assert ours.min() == 0 and 0.2 < (ours > 0).float().mean() < 0.8
        # Float32 sums in other orders (docs/networks.md, Rounding): 2e-6; the network's other memory format is within
        # it.
        assert relative_difference(ours.numpy(), expected.numpy()) < 1e-5
        assert relative_difference(channels_last.numpy(), expected[:1].numpy()) < 1e-5
        # Features of two inputs differ by far more than that.
        assert relative_difference(ours[:1].numpy(), ours[1:].numpy()) > 0.05


def published_forward(x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The layers of docs/networks.md, C3D, with the padding of the last pool and the flattening written out."""
    for layer in ("1", "P1", "2", "P2", "3a", "3b", "P2", "4a", "4b", "P2", "5a", "5b", "P5"):
        if layer == "P5":
            x = F.max_pool3d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 2)
        elif layer.startswith("P"):
            x = F.max_pool3d(x, (int(layer[1]), 2, 2))
        else:
            x = F.conv3d(x, state[f"conv{layer}.weight"], state[f"conv{layer}.bias"], padding=1).clamp(min=0)
    x = x.contiguous().view(-1, 8192)
    for layer in ("fc6", "fc7"):
        x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
    return x


def published_frame(frame: npt.NDArray[np.uint8], *, invert: bool) -> torch.Tensor:
    """An RGB frame through the scripts for ActivityNet or, inverted, for UCF and VGGSound: [3, 112, 112]."""
    bgr = frame[..., ::-1].copy()
    if invert:
        # Bytes kept as float; ToPILImage multiplies by 255 and casts to byte.
        return PUBLISHED_TRANSFORM(torch.from_numpy(bgr.astype(np.float32)).permute(2, 0, 1))
    return PUBLISHED_TRANSFORM(bgr)


class TestFrames:
    @pytest.mark.parametrize("size", [(240, 320), (360, 640), (320, 180), (96, 100), (128, 171)])
    @pytest.mark.parametrize("invert", [False, True], ids=["plain", "inverted"])
    def test_equals_torchvision(self, size: tuple[int, int], invert: bool) -> None:
        (frame,) = frames(1, *size)
        frame[0, :3] = [[0, 0, 0], [255, 255, 255], [1, 2, 254]]
        expected = published_frame(frame, invert=invert)
        ours = window_tensor([crop_frame(frame, invert_colours=invert)])[:, 0]
        # One multiply-add in place of three roundings: a few units in the last place of values up to 2.9.
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)

    def test_absent_frames_are_zeros_after_normalisation(self) -> None:
        tensor = window_tensor([np.full((112, 112, 3), 7, np.uint8)] * 5)
        assert tensor.shape == (3, 16, 112, 112) and tensor.dtype == torch.float32
        assert tensor[:, :5].abs().min() > 0.5
        assert not tensor[:, 5:].any()


class TestCutWindows:
    @pytest.mark.parametrize("stride", [1, 5, 8, 16, 17, 40])
    @pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 32, 41, 50])
    def test_windows_of_the_whole(self, n: int, stride: int) -> None:
        source = frames(n, 12, 16)
        crops = [crop_frame(frame, invert_colours=False) for frame in source]
        windows = list(cut_windows(iter(source), stride=stride, invert_colours=False))
        starts = range(0, n, stride)
        assert [(start, end) for start, end, _ in windows] == [(s, min(s + 16, n)) for s in starts]
        for start, end, tensor in windows:
            assert torch.equal(tensor, window_tensor(crops[start:end]))

    def test_a_repeated_frame_is_resized_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        resized = []

        def count(frame: npt.NDArray[np.uint8], *, invert_colours: bool) -> npt.NDArray[np.uint8]:
            resized.append(frame)
            return crop_frame(frame, invert_colours=invert_colours)

        monkeypatch.setattr(c3d, "crop_frame", count)
        doubled = [frame for frame in frames(17, 12, 16) for _ in range(2)]
        windows = list(cut_windows(iter(doubled), stride=16, invert_colours=False))
        assert len(windows) == 3
        assert len(resized) == 17


class TestExtractor:
    def decode(self, monkeypatch: pytest.MonkeyPatch, n: int) -> list[dict[str, object]]:
        calls: list[dict[str, object]] = []

        def decode_video(path: Path, **options: object) -> object:
            calls.append({"path": path} | options)
            return iter(frames(n, 12, 16))

        monkeypatch.setattr(c3d, "decode_video", decode_video)
        return calls

    def test_windows_and_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.decode(monkeypatch, 20)
        clip = Clip("clip", Path("clip.mp4"), 1.5, 3.0)
        windows = list(C3DExtractor(C3DSettings(stride_frames=8)).windows(clip))
        segment = {"start_seconds": 1.5, "end_seconds": 3.0}
        assert calls == [{"path": clip.path, "rate_hz": 25.0, **segment, "orientation": "upright"}]
        assert [(w.stream, w.start_seconds, w.end_seconds) for w in windows] == [
            ("video", 0.0, 0.64),
            ("video", 0.32, 0.8),
            ("video", 0.64, 0.8),
        ]

    def test_no_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decode(monkeypatch, 0)
        with pytest.raises(ClipFailure) as raised:
            list(C3DExtractor().windows(CLIP))
        assert raised.value.reason is Reason.TOO_SHORT  # a file without pictures fails before, in decoding

    def test_one_frame_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decode(monkeypatch, 1)
        assert [(w.start_seconds, w.end_seconds) for w in C3DExtractor().windows(CLIP)] == [(0.0, 0.04)]

    def test_record_and_pool(self) -> None:
        extractor = C3DExtractor(C3DSettings(batch_size=3))
        assert extractor.settings_record() == {
            "rate_hz": 25.0,
            "stride_frames": 16,
            "invert_colours": False,
            "precision": "float32",
            "storage": "float32",
        }
        assert extractor.batch_size == 3
        pooled = extractor.pool("video", np.float32([[1, 2], [2, 5]]))
        assert pooled.dtype == np.float32 and np.array_equal(pooled, [1.5, 3.5])
