"""Cutting a stream of frames into windows, for the networks that see several frames at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from avpipe.media.frames import RgbFrame


def cut_windows(
    frames: Iterator[RgbFrame],
    *,
    length: int,
    stride: int,
    crop: Callable[[RgbFrame], RgbFrame],
    to_tensor: Callable[[list[RgbFrame]], torch.Tensor],
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Cut a stream into windows of `length` frames, one every `stride` frames, up to the last frame.

    At most `length` cropped frames are held. Frames between windows (a stride above the length) are not cropped.

    Args:
        frames: uint8 [H, W, 3]; a frame that is repeated as the same object is cropped once.
        length, stride: in frames.
        crop: from a frame to what the window keeps of it.
        to_tensor: from 1 to `length` of those to the network's input; it fills up what is absent at the end.

    Yields:
        index of the first frame, index after the last frame, and the tensor.
    """
    start = 0
    held: list[RgbFrame] = []
    previous: RgbFrame | None = None
    cropped: RgbFrame
    for index, frame in enumerate(frames):
        if index < start:
            continue
        if frame is not previous:  # the decoder repeats one object where the rate is raised
            previous, cropped = frame, crop(frame)
        held.append(cropped)
        if len(held) == length:
            yield start, start + length, to_tensor(held)
            held = held[stride:]
            start += stride
    while held:
        yield start, start + len(held), to_tensor(held)
        held = held[stride:]
        start += stride
