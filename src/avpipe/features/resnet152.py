"""ResNet-152, 2048 numbers per frame (docs/networks.md, ResNet-152)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torchvision.models.resnet import Bottleneck, ResNet

from avpipe.features.frame_size import VisualExtractor, resized_frames
from avpipe.features.settings import ResNet152Settings
from avpipe.features.types import Window
from avpipe.media.clip import Clip
from avpipe.media.frames import RgbFrame

DIMENSION = 2048
STREAM = "video"
SHORT_SIDE = 224

# ImageNet's constants for R, G, B.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_DIVISOR = STANDARD_DEVIATION + np.float32(1e-8)  # as published; it raises each by one step of float32


class ResNet152(ResNet):
    """torchvision's ResNet-152 up to its last convolutions, with the published key names, 932 entries.

    `fc`, the classifier, is part of the published file and unused here.
    """

    folds_batch_norms: ClassVar = True
    other_files: ClassVar = {"f82ba261": "torchvision's IMAGENET1K_V2, trained by another recipe"}
    """Beginnings of the sha256 of files that fit and are not the published one."""

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 8, 36, 3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [N, 2048], none negative, of normalised frames [N, 3, H, W] of any size."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def frame_tensor(frame: RgbFrame) -> torch.Tensor:
    """The network's input for one frame, equal to the published one bit for bit.

    Args:
        frame: uint8 [H, W, 3], RGB.

    Returns:
        float32 [3, H, W], channels R, G, B: (x / 255 - mean) / (std + 1e-8). The memory is laid out as
        channels_last, the order in which frames arrive.
    """
    height, width, channels = frame.shape
    # A row of a frame at a time: with the three channels as innermost axis numpy would be many times slower.
    mean, divisor = np.tile(MEAN, width), np.tile(_DIVISOR, width)
    pixels = np.empty((height, width * channels), np.float32)
    np.divide(frame.reshape(height, -1), np.float32(255), out=pixels)
    pixels -= mean
    pixels /= divisor
    return torch.from_numpy(pixels.reshape(frame.shape)).permute(2, 0, 1)


class ResNet152Extractor(VisualExtractor):
    """ResNet-152 features of a clip's pictures: one row of unit length per frame, the maximum over the clip.

    Row k stands for the seconds k / rate_hz to (k + 1) / rate_hz of the clip, from the middle of which its frame
    is. The last row may end up to half a frame's time before or after the clip does: so much is rounded.

    Args:
        settings: a rotation left open is upright and storage float32, as in `corrected`.
    """

    name = "resnet152"
    settings: ResNet152Settings

    def build_network(self) -> ResNet152:
        """The untrained network; forward takes float32 [N, 3, H, W] and gives [N, 2048]."""
        return ResNet152().eval()

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode the clip's pictures at `rate_hz`, short side 224, uncropped: float32 [3, H, W] each.

        Raises:
            ClipFailure: too_short for less than half the time of one frame; no_video and decode_error from
                decoding; decode_error for very elongated pictures (`frame_size`).
        """
        rate_hz = self.settings.rate_hz
        previous: RgbFrame | None = None
        tensor: torch.Tensor
        for index, frame in enumerate(resized_frames(clip, self.settings, SHORT_SIDE)):
            if frame is not previous:  # the decoder repeats one object where the rate is raised
                previous, tensor = frame, frame_tensor(frame)
            yield Window(STREAM, tensor, index / rate_hz, (index + 1) / rate_hz)
