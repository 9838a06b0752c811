"""What every extractor consumes and produces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Features:
    """The features of one stream of one clip.

    Attributes:
        values: float32 [T, d], one row per window.
        pooled: float32 [d], the rows pooled over time as the extractor's publication does.
        times: float64 [T, 2], start and end of each window in seconds from the start of the clip.
    """

    values: npt.NDArray[np.float32]
    pooled: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """A stretch of a media file.

    Attributes:
        clip_id: unique name in its dataset.
        path: the media file.
        start_seconds, end_seconds: the stretch, from the file's first time stamp; None: from its start, to its end.
    """

    clip_id: str
    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Window:
    """One network input, cut out of a clip.

    Attributes:
        stream: which of the extractor's streams it belongs to.
        tensor: the network's input for one item, without the batch axis.
        start_seconds, end_seconds: where it lies in the clip.
    """

    stream: str
    tensor: torch.Tensor
    start_seconds: float
    end_seconds: float


class Extractor(Protocol):
    """One published feature extractor: how to cut a clip into windows and what to do with the network's rows."""

    name: str
    stage: str
    streams: dict[str, int]
    """Name of each stream and the dimension of its features, such as {"video": 4096}."""
    batch_size: int

    def settings_record(self) -> dict[str, Any]:
        """Everything besides weights and stage version that the values depend on, as plain JSON."""

    def build_network(self) -> torch.nn.Module:
        """The untrained network; forward takes a batch of windows' tensors and gives [N, d]."""

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode a clip as a stream and cut it; memory does not grow with the clip's length.

        Raises:
            ClipFailure: with a reason from the closed list.
        """

    def finish(self, stream: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From the network's rows [T, d] to the feature rows [T, d] of the clip."""

    def pool(self, stream: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From feature rows [T, d] to one row [d]."""
