"""3D ResNeXt-101, 2048 numbers per 16 frames (docs/networks.md, 3D ResNeXt-101)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from avpipe.features.frame_size import VisualExtractor, centre_crop, resized_frames
from avpipe.features.frame_windows import cut_windows
from avpipe.features.settings import ResNeXt101Settings
from avpipe.features.types import Window
from avpipe.formats.weights import renamed_prefix
from avpipe.media.clip import Clip
from avpipe.media.frames import RgbFrame

DIMENSION = 2048
STREAM = "video"
WINDOW_FRAMES = 16
SHORT_SIDE = CROP = 112
CARDINALITY = 32

# The Kinetics means of R, G, B as published, in grey levels; values are not scaled.
MEAN = np.array([110.6, 103.2, 96.3], np.float32)
_MEAN_OF_A_ROW = np.tile(MEAN, CROP)


class _Bottleneck(nn.Module):
    """A residual block in 32 groups; a first block of a layer brings the shortcut to its size (shortcut B)."""

    def __init__(self, channels_in: int, planes: int, stride: int, *, is_first: bool) -> None:
        super().__init__()
        channels_out = 2 * planes
        self.conv1 = nn.Conv3d(channels_in, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, kernel_size=3, stride=stride, padding=1, groups=CARDINALITY, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, channels_out, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if is_first:
            shortcut = nn.Conv3d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(channels_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 2 * planes, t, h, w] of [N, channels_in, T, H, W]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNeXt101(nn.Module):
    """The network of Hara et al. 2018 with the key names of the published file, 626 entries.

    `fc`, the classifier, is part of the published file and unused here.
    """

    published_entry: ClassVar[str] = "state_dict"
    folds_batch_norms: ClassVar = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, kernel_size=7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _layer(64, 128, blocks=3, stride=1)
        self.layer2 = _layer(256, 256, blocks=4, stride=2)
        self.layer3 = _layer(512, 512, blocks=23, stride=2)
        self.layer4 = _layer(1024, 1024, blocks=3, stride=2)
        self.fc = nn.Linear(DIMENSION, 400)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features [N, 2048], none negative, of windows [N, 3, 16, 112, 112] in any memory format."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(frames))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3, 4))

    def published_entries(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """The entries of a published file under this network's names.

        Hara's own file, saved from several GPUs, has the prefix "module." throughout; Miech's has none.
        """
        return renamed_prefix(state_dict, "module.")


def _layer(channels_in: int, planes: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(channels_in, planes, stride, is_first=True)
    return nn.Sequential(first, *(_Bottleneck(2 * planes, planes, 1, is_first=False) for _ in range(blocks - 1)))


def crop_frame(frame: RgbFrame) -> RgbFrame:
    """The middle 112x112 of a frame resized to a short side of 112, uint8 [112, 112, 3]."""
    return centre_crop(frame, CROP)


def window_tensor(frames: list[RgbFrame]) -> torch.Tensor:
    """The network's input for up to 16 cropped frames, equal to the published one bit for bit.

    Args:
        frames: 1 to 16 of uint8 [112, 112, 3], RGB.

    Returns:
        float32 [3, 16, 112, 112], channels R, G, B, in grey levels less the mean; absent frames are black, so
        that the mean with a minus stands there. The memory is laid out as channels_last_3d, the order in which
        frames arrive.
    """
    window = np.zeros((WINDOW_FRAMES, CROP, CROP * 3), np.float32)
    window[: len(frames)] = np.stack(frames).reshape(len(frames), CROP, CROP * 3)
    window -= _MEAN_OF_A_ROW
    return torch.from_numpy(window.reshape(WINDOW_FRAMES, CROP, CROP, 3)).permute(3, 0, 1, 2)


class ResNeXt101Extractor(VisualExtractor):
    """3D ResNeXt-101 features of a clip's pictures: one row of unit length per window, the maximum over the clip.

    Window i lasts from frame i * stride to 16 frames later or the end of the clip, whichever is first; times
    are frame numbers divided by `rate_hz`.

    Args:
        settings: a rotation left open is upright and storage float32, as in `corrected`.
    """

    name = "resnext101"
    settings: ResNeXt101Settings

    def build_network(self) -> ResNeXt101:
        """The untrained network; forward takes float32 [N, 3, 16, 112, 112] and gives [N, 2048]."""
        return ResNeXt101().eval()

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode the clip's pictures at `rate_hz` and cut them into windows, float32 [3, 16, 112, 112].

        Raises:
            ClipFailure: too_short for less than half the time of one frame; no_video and decode_error from
                decoding; decode_error for very elongated pictures (`frame_size`).
        """
        rate_hz = self.settings.rate_hz
        for start, end, tensor in cut_windows(
            resized_frames(clip, self.settings, SHORT_SIDE),
            length=WINDOW_FRAMES,
            stride=self.settings.stride_frames,
            crop=crop_frame,
            to_tensor=window_tensor,
        ):
            yield Window(STREAM, tensor, start / rate_hz, end / rate_hz)
