"""C3D, 4096 numbers per 16 frames (docs/networks.md, C3D)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from avpipe.errors import ClipFailure, Reason
from avpipe.features import frame_windows
from avpipe.features.settings import C3DSettings
from avpipe.features.types import Extractor, Window
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video

DIMENSION = 4096
STREAM = "video"
WINDOW_FRAMES = 16
RESIZED_HEIGHT, RESIZED_WIDTH = 128, 171
CROP = 112
# torchvision's CenterCrop rounds (171 - 112) / 2 = 29.5 to the even 30.
CROP_TOP, CROP_LEFT = 8, 30

# torchvision's Kinetics constants for R, G, B; the publication applies them in this order to B, G, R frames.
MEAN = np.array([0.43216, 0.394666, 0.37645])
STANDARD_DEVIATION = np.array([0.22803, 0.22145, 0.216989])
# One row of a frame at a time: with the three channels as innermost axis numpy would be many times slower.
_SCALE = np.tile(1.0 / (255.0 * STANDARD_DEVIATION), CROP).astype(np.float32)
_OFFSET = np.tile(-MEAN / STANDARD_DEVIATION, CROP).astype(np.float32)

Frame = npt.NDArray[np.uint8]


class C3D(nn.Module):
    """The network of Tran et al. 2015 with the key names of the published PyTorch port, 22 entries.

    Features are read after the ReLU of fc7. fc8, the classifier, is part of the published file and unused
    here; dropout is left out because it does nothing in inference.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64)
        self.conv2 = _convolution(64, 128)
        self.conv3a = _convolution(128, 256)
        self.conv3b = _convolution(256, 256)
        self.conv4a = _convolution(256, 512)
        self.conv4b = _convolution(512, 512)
        self.conv5a = _convolution(512, 512)
        self.conv5b = _convolution(512, 512)
        self.fc6 = nn.Linear(512 * 4 * 4, 4096)
        self.fc7 = nn.Linear(4096, DIMENSION)
        self.fc8 = nn.Linear(DIMENSION, 487)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features [N, 4096], none negative, of windows [N, 3, 16, 112, 112] in any memory format."""
        x = F.max_pool3d(F.relu(self.conv1(frames)), kernel_size=(1, 2, 2))
        x = F.max_pool3d(F.relu(self.conv2(x)), kernel_size=2)
        x = F.relu(self.conv3a(x))
        x = F.max_pool3d(F.relu(self.conv3b(x)), kernel_size=2)
        x = F.relu(self.conv4a(x))
        x = F.max_pool3d(F.relu(self.conv4b(x)), kernel_size=2)
        x = F.relu(self.conv5a(x))
        x = F.max_pool3d(F.relu(self.conv5b(x)), kernel_size=2, padding=(0, 1, 1))
        # flatten goes by channel, time, height, width in every memory format; the published view() fails.
        x = F.relu(self.fc6(x.flatten(start_dim=1)))
        return F.relu(self.fc7(x))


def _convolution(channels_in: int, channels_out: int) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=1)


def crop_frame(frame: Frame, *, invert_colours: bool) -> Frame:
    """Resize a frame to 128x171, whatever its aspect ratio, and cut out the centre.

    Args:
        frame: uint8 [H, W, 3], RGB.
        invert_colours: replace each value v by (256 - v) mod 256 first: the published scripts for UCF and
            VGGSound multiply values 0..255 by 255 and let them overflow a byte (docs/networks.md, C3D).

    Returns:
        uint8 [112, 112, 3], RGB.
    """
    if invert_colours:
        frame = np.negative(frame)  # of unsigned bytes: wraps, and 0 stays 0
    image = Image.fromarray(frame).resize((RESIZED_WIDTH, RESIZED_HEIGHT), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((CROP_LEFT, CROP_TOP, CROP_LEFT + CROP, CROP_TOP + CROP)))


def window_tensor(frames: list[Frame]) -> torch.Tensor:
    """The network's input for up to 16 cropped frames.

    Args:
        frames: 1 to 16 of uint8 [112, 112, 3], RGB.

    Returns:
        float32 [3, 16, 112, 112], channels B, G, R, normalised; absent frames are zeros, the mean colour. The
        memory is laid out as channels_last_3d, the order in which frames arrive.
    """
    bgr = np.stack(frames)[..., ::-1].reshape(len(frames), CROP, CROP * 3)
    window = np.zeros((WINDOW_FRAMES, CROP, CROP * 3), np.float32)
    present = window[: len(frames)]
    np.multiply(bgr, _SCALE, out=present)
    present += _OFFSET
    return torch.from_numpy(window.reshape(WINDOW_FRAMES, CROP, CROP, 3)).permute(3, 0, 1, 2)


def cut_windows(
    frames: Iterator[Frame], *, stride: int, invert_colours: bool
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Cut a stream of frames into windows of 16, one every `stride` frames (`frame_windows.cut_windows`).

    Yields:
        index of the first frame, index after the last frame, and the tensor of `window_tensor`.
    """
    return frame_windows.cut_windows(
        frames,
        length=WINDOW_FRAMES,
        stride=stride,
        crop=lambda frame: crop_frame(frame, invert_colours=invert_colours),
        to_tensor=window_tensor,
    )


class C3DExtractor(Extractor):
    """C3D features of a clip's pictures: one row per window of 16 frames, averaged over the clip.

    Window i lasts from frame i * stride to 16 frames later or the end of the clip, whichever is first; times
    are frame numbers divided by `rate_hz`.

    Args:
        settings: a colour inversion left open is off, as in `corrected`.
    """

    name = "c3d"
    settings: C3DSettings

    def build_network(self) -> C3D:
        """The untrained network; forward takes float32 [N, 3, 16, 112, 112] and gives [N, 4096]."""
        return C3D().eval()

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode the clip's pictures at `rate_hz` and cut them into windows, float32 [3, 16, 112, 112].

        Raises:
            ClipFailure: too_short for a clip that lasts less than half a frame; no_video and decode_error from
                decoding.
        """
        rate_hz = self.settings.rate_hz
        frames = decode_video(
            clip.path,
            rate_hz=rate_hz,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            orientation="upright",  # as OpenCV, which the publication reads with
        )
        end = 0
        for start, end, tensor in cut_windows(
            frames, stride=self.settings.stride_frames, invert_colours=bool(self.settings.invert_colours)
        ):
            yield Window(STREAM, tensor, start / rate_hz, end / rate_hz)
        if end == 0:
            needed = "one C3D window needs at least 1"
            raise ClipFailure(Reason.TOO_SHORT, f"{clip.path}: 0 frames at {rate_hz:g} Hz; {needed}")
