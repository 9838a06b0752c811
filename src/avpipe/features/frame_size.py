"""The rules that networks of single frames and 3D ResNeXt-101 share: frame size, crop, unit length.

Source: docs/networks.md, Frame size; ResNet-152; 3D ResNeXt-101.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import ClipFailure, Reason
from avpipe.features.settings import FrameSettings, ResNeXt101Settings
from avpipe.features.types import Extractor
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video
from avpipe.media.frames import ChooseSize, RgbFrame

# A strip of 16x16000 pixels would become 224x224000, and a batch of such frames hundreds of gigabytes inside the
# network. A film of 16:9 has 0.09 megapixels; one megapixel is 20:1 at a short side of 224, 83:1 at one of 112.
MOST_PIXELS = 2**20
_SMALLEST_NORM = 1e-12


def size_by_short_side(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The width and height of a picture whose short side becomes `short_side` pixels.

    The long side is truncated to a whole number, as published, and may be odd.
    """
    if height >= width:
        return short_side, height * short_side // width
    return width * short_side // height, short_side


def size_rule(path: Path, short_side: int) -> ChooseSize:
    """`size_by_short_side` for the pictures of a file.

    Raises:
        ClipFailure: when it is asked; decode_error for a picture so elongated that it would have more than
            `MOST_PIXELS`.
    """

    def choose(width: int, height: int) -> tuple[int, int]:
        size = size_by_short_side(width, height, short_side)
        if size[0] * size[1] > MOST_PIXELS:
            found = f"a picture of {width}x{height}, {size[0]}x{size[1]} = {size[0] * size[1]:,} pixels once resized"
            raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {found}; expected at most {MOST_PIXELS:,}")
        return size

    return choose


def centre_crop(frame: RgbFrame, side: int) -> RgbFrame:
    """The middle of a frame [H, W, 3] with H, W >= side: [side, side, 3]; the offsets are truncated."""
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    return np.ascontiguousarray(frame[top : top + side, left : left + side])


def resized_frames(clip: Clip, settings: FrameSettings | ResNeXt101Settings, short_side: int) -> Iterator[RgbFrame]:
    """Decode a clip's pictures at `settings.rate_hz`, resized bicubically to a short side of so many pixels.

    Yields:
        uint8 [H, W, 3], RGB; a frame that is shown several times is the same array object each time.

    Raises:
        ClipFailure: too_short for a clip with pictures, but for less than half the time of one frame; otherwise
            as `size_rule` and `decode_video`.
    """
    frame = None
    for frame in decode_video(
        clip.path,
        rate_hz=settings.rate_hz,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
        size=size_rule(clip.path, short_side),
        orientation=settings.rotation or "upright",
    ):
        yield frame
    if frame is None:
        needed = f"one needs pictures for at least {0.5 / settings.rate_hz:.3g} s"
        raise ClipFailure(Reason.TOO_SHORT, f"{clip.path}: 0 frames at {settings.rate_hz:g} Hz; {needed}")


class VisualExtractor(Extractor):
    """What AVLnet's two visual networks share: rows of unit length, and the maximum of them over the clip."""

    def finish(self, stream: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The network's rows [T, 2048] at unit length."""
        return unit_length(rows)

    def pool(self, stream: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Maximum over time, [2048]; its length is not 1."""
        return pool_maximum(values)


def unit_length(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows [T, d] divided by their L2 norms; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, np.float32(_SMALLEST_NORM))


def pool_maximum(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The maximum over time of rows [T, d], float32 [d], as AVLnet pools them (docs/methods.md, Visual vectors).

    AVLnet divides by the norm once more when it reads the features; that is left to it.
    """
    return values.max(axis=0).astype(np.float32)
