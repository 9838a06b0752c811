"""From frames of audio features to one vector for a clip (docs/methods.md, Pooling over time)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avpipe.errors import AvpipeError

_STRIDE = 16  # four layers halve the frame rate


def output_frames(window: int) -> int:
    """Frames that the audio network makes of `window` spectrogram frames."""
    return -(-window // _STRIDE)


def counted_frames(n_frames: int, window: int, outputs: int) -> int:
    """How many of the network's output frames belong to a clip, 1 to `outputs`.

    Args:
        n_frames: the clip's spectrogram frames before it was cut or padded.
        window: spectrogram frames that the network was given.
        outputs: frames that the network makes of them, ceil(window / 16).
    """
    return min(outputs, max(1, n_frames // round(window / outputs)))


def mean_of_first(features: Tensor, counts: Sequence[int]) -> Tensor:
    """Mean over each clip's first frames: [B, dim, T] and B counts to [B, dim]; float32 at least."""
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    count = torch.as_tensor(counts, device=features.device)
    counted = torch.arange(features.shape[2], device=features.device) < count[:, None]
    return torch.where(counted[:, None], features, 0).sum(dim=2) / count[:, None]


def pooled(features: Tensor, window: int, n_frames: Sequence[int] | Tensor | None) -> Tensor:
    """Mean over the frames that belong to each clip, as the published code pools in eval mode.

    Args:
        features: [B, dim, T'] of the audio network.
        window: spectrogram frames T that it was given.
        n_frames: [B] frames of each clip before cutting or padding; None: T each.

    Raises:
        AvpipeError: not one count for each clip, or a negative one.
    """
    given = [window] * len(features) if n_frames is None else [int(each) for each in n_frames]
    if len(given) != len(features) or min(given, default=0) < 0:
        raise AvpipeError(
            f"Audio pooling: {len(given)} frame counts, the least {min(given, default=0)}, for {len(features)} clips; "
            "expected one count from 0 for each clip. Give the clips' original numbers of spectrogram frames."
        )
    return mean_of_first(features, [counted_frames(each, window, features.shape[2]) for each in given])
