"""What every extractor consumes and produces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from avpipe import registry
from avpipe.features.settings import ExtractorSettings, NetworkSettings
from avpipe.media.clip import Clip
from avpipe.settings import Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Features:
    """The features of one stream of one clip.

    Attributes:
        values: float32 [T, d], one row per window; float16 where the settings say so.
        pooled: float32 [d], the rows pooled over time as the extractor's publication does.
        times: float64 [T, 2], start and end of each window in seconds from the start of the clip.
    """

    values: npt.NDArray[np.floating]
    pooled: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Rows:
    """Feature rows that need no network.

    Attributes:
        stream: which of the extractor's streams they belong to.
        values: float32 [n, d].
        times: float64 [n, 2], start and end of each row in seconds from the start of the clip.
    """

    stream: str
    values: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]


class Extractor(ABC):
    """One published feature extractor: how to cut a clip into windows and what to do with the network's rows.

    Args:
        settings: the default: those of the registry; quirks left open are decided as `corrected`.

    Attributes:
        name: its name in the registry.
        settings: with every quirk decided.
        pooled_in: the arithmetic of `pool`.
    """

    name: ClassVar[str]
    settings: ExtractorSettings
    pooled_in: ClassVar[type[np.floating]] = np.float32

    def __init__(self, settings: ExtractorSettings | None = None) -> None:
        self.settings = (settings or registry.extractor(self.name).settings()).resolved("corrected")

    @property
    def streams(self) -> Mapping[str, int]:
        """Name of each stream and dimension of its features, such as {"video": 4096}, as the registry has them."""
        return registry.extractor(self.name).streams

    @property
    def batch_size(self) -> int:
        """Windows per forward pass."""
        return self.settings.batch_size if isinstance(self.settings, NetworkSettings) else 1

    @property
    def precision(self) -> Precision:
        """Arithmetic of the network."""
        return self.settings.precision if isinstance(self.settings, NetworkSettings) else "float32"

    def settings_record(self) -> dict[str, Any]:
        """Everything besides weights and stage version that the values depend on, as plain JSON."""
        return self.settings.model_dump(mode="json", exclude={"batch_size"})

    @abstractmethod
    def build_network(self) -> torch.nn.Module:
        """The untrained network, in evaluation mode."""

    def forward(self, network: torch.nn.Module, stream: str, batch: torch.Tensor) -> torch.Tensor:
        """The network's rows [N, d] for a batch of one stream's windows."""
        return network(batch)

    @abstractmethod
    def windows(self, clip: Clip) -> Iterator[Window | Rows]:
        """Decode a clip as a stream and cut it; memory does not grow with the clip's length.

        Raises:
            ClipFailure: with a reason from the closed list.
        """

    def finish(self, stream: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From the network's rows [T, d] to the feature rows [T, d] of the clip."""
        return rows

    def pool(self, stream: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """From feature rows [T, d] to one row [d]: their mean."""
        return values.mean(axis=0, dtype=self.pooled_in).astype(np.float32, copy=False)
