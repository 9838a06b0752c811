"""VGGish, 128 numbers per 0.96 s of sound (docs/networks.md, VGGish)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features.resample import FilterName
from avpipe.features.settings import VGGishSettings
from avpipe.features.types import Extractor, Window
from avpipe.features.vggish_frontend import (
    EXAMPLE_BANDS,
    EXAMPLE_FRAMES,
    EXAMPLE_HOP_SECONDS,
    EXAMPLE_SAMPLES,
    EXAMPLE_SECONDS,
    RATE_HZ,
    ExampleStream,
)
from avpipe.formats.digests import file_sha256
from avpipe.formats.npy import read_npz
from avpipe.formats.weights import renamed_prefix
from avpipe.io.reading import reading
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks

DIMENSION = 128
STREAM = "audio"
PCA_URL = "https://storage.googleapis.com/audioset/vggish_pca_params.npz"
_BLOCK_SECONDS = (
    2.0  # the front end is fastest when a block stays in the processor's cache; the values do not depend on it
)
QUANTISE_LOW, QUANTISE_HIGH = -2.0, 2.0


class VGGish(nn.Module):
    """The network of Hershey et al. 2017 with the key names of the published PyTorch port, 18 entries.

    Args:
        final_relu: ReLU on the embedding, as the port has it; Google's current code gives it without.
    """

    def __init__(self, *, final_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, convolutions in ((64, 1), (128, 1), (256, 2), (512, 2)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, DIMENSION),
        )
        self.final_relu = final_relu

    def published_entries(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Entries under this class's names: torchvggish calls the layers `fc` by the name `embeddings`."""
        return renamed_prefix(state_dict, "embeddings.", "fc.")

    def forward(self, examples: torch.Tensor) -> torch.Tensor:
        """Embeddings [N, 128] of log-mel examples, float32 [N, 96, 64] or [N, 1, 96, 64]."""
        maps = self.features(examples.reshape(-1, 1, EXAMPLE_FRAMES, EXAMPLE_BANDS))
        # The weights come from TensorFlow, which flattens as height, width, channels.
        embedding = self.fc(maps.permute(0, 2, 3, 1).flatten(start_dim=1))
        return torch.relu(embedding) if self.final_relu else embedding


def waveform_to_examples(
    waveform: npt.ArrayLike, sample_rate: int, *, resampler: FilterName = "resampy-0.2.2"
) -> npt.NDArray[np.float32]:
    """Log-mel examples of a whole waveform, VGGish's input.

    Args:
        waveform: int16, or float in [-1, 1]; [n] or [n, channels].
        sample_rate: in Hz.
        resampler: filter for the way to 16 kHz (docs/networks.md, Sound of VGGish).

    Returns:
        float32 [examples, 96 frames, 64 mel bands]; one example per 0.96 s. Fewer than 15,600 samples at
        16 kHz (0.975 s) give no example, [0, 96, 64].

    Raises:
        ValueError: another type or number of axes, or a sample rate below 1.
    """
    stream = ExampleStream(sample_rate, resampler)
    examples = [*stream.push(np.asarray(waveform)), *stream.flush()]
    return np.stack(examples) if examples else np.empty((0, EXAMPLE_FRAMES, EXAMPLE_BANDS), np.float32)


@dataclass(frozen=True)
class Postprocessor:
    """AudioSet's PCA and 8-bit quantisation of embeddings (docs/networks.md, PCA and bytes of VGGish).

    Attributes:
        eigenvectors: float64 [128, 128], one component per row.
        means: float64 [128].
        sha256: of the file that they came from.
    """

    eigenvectors: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]
    sha256: str

    @classmethod
    def from_file(cls, path: Path) -> Postprocessor:
        """Read `vggish_pca_params.npz`; nothing in it is executed.

        Raises:
            AvpipeError: no such file, not an npz file, or other contents.
        """
        expected = "VGGish's PCA file, an npz with pca_eigen_vectors and pca_means"
        advice = f"Download it again from {PCA_URL}."
        sha256 = file_sha256(path)
        arrays = read_npz(path, expected, advice)
        with reading(path, expected, advice):
            eigenvectors = np.asarray(arrays["pca_eigen_vectors"], np.float64)
            means = np.asarray(arrays["pca_means"], np.float64).reshape(-1)
        if eigenvectors.shape != (DIMENSION, DIMENSION) or means.shape != (DIMENSION,):
            raise AvpipeError(
                f"{path} holds eigenvectors of shape {list(eigenvectors.shape)} and {means.size} means; "
                f"expected [128, 128] and 128. Download it again from {PCA_URL}."
            )
        return cls(eigenvectors, means, sha256)

    def __call__(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Quantised components, uint8 [N, 128], of embeddings [N, 128].

        A byte can differ by one across machines: the last step truncates, as the publication does.
        """
        components = (embeddings.astype(np.float64) - self.means) @ self.eigenvectors.T
        clipped = np.clip(components, QUANTISE_LOW, QUANTISE_HIGH)
        return ((clipped - QUANTISE_LOW) * (255.0 / (QUANTISE_HIGH - QUANTISE_LOW))).astype(np.uint8)


class VGGishExtractor(Extractor):
    """VGGish features of a clip's sound: one row per 0.96 s, averaged over the clip.

    Example i lasts from 0.96 i to 0.96 i + 0.975 seconds: consecutive examples share 0.015 s, because the
    last of the 96 frames (25 ms each, 10 ms apart) reaches beyond the start of the next example.

    Args:
        settings: defaults to AVCA's, which need the PCA file.
        pca_path: AudioSet's `vggish_pca_params.npz`. Without it an extractor that post-processes can still
            build its network; its settings, windows and features raise AvpipeError.

    Raises:
        AvpipeError: a PCA file that cannot be read.
    """

    name = "vggish"
    pooled_in = np.float64  # as the publication
    settings: VGGishSettings

    def __init__(self, settings: VGGishSettings | None = None, pca_path: str | Path | None = None) -> None:
        super().__init__(settings)
        wants_pca = self.settings.postprocess and pca_path is not None
        self._pca = Postprocessor.from_file(Path(pca_path)) if wants_pca else None  # type: ignore[arg-type]

    def settings_record(self) -> dict[str, Any]:
        """What the values depend on besides weights and stage; includes the sha256 of the PCA file in use.

        Raises:
            AvpipeError: post-processing without a PCA file.
        """
        postprocessor = self._postprocessor()
        return super().settings_record() | {"pca_sha256": postprocessor.sha256 if postprocessor else None}

    def _postprocessor(self) -> Postprocessor | None:
        """None when post-processing is off."""
        if self.settings.postprocess and self._pca is None:
            raise AvpipeError(
                "VGGish: `postprocess: true` needs AudioSet's PCA parameters, and no file was given. "
                f"Download {PCA_URL} (73,020 bytes) and give its path, "
                "or set `postprocess: false` to keep the raw embeddings."
            )
        return self._pca

    def build_network(self) -> VGGish:
        """The untrained network; forward takes float32 [N, 96, 64] and gives [N, 128]."""
        return VGGish(final_relu=self.settings.final_relu).eval()

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode the clip's sound as a stream and cut it into log-mel examples, float32 [96, 64].

        Raises:
            ClipFailure: too_short for less than one example; no_audio and decode_error from decoding.
            AvpipeError: post-processing without a PCA file, before anything is decoded.
        """
        self._postprocessor()
        reader = audio_blocks(
            clip.path,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            block_seconds=_BLOCK_SECONDS,
        )
        stream = ExampleStream(reader.rate_hz, self.settings.resampler)
        index = -1
        for index, example in enumerate(_all_examples(stream, reader)):
            start = index * EXAMPLE_HOP_SECONDS
            yield Window(STREAM, torch.from_numpy(example), start, start + EXAMPLE_SECONDS)
        if index < 0:
            raise ClipFailure(
                Reason.TOO_SHORT,
                f"{clip.path}: {stream.samples:,} samples at 16 kHz ({stream.samples / RATE_HZ:.3f} s); "
                f"one VGGish example needs {EXAMPLE_SAMPLES:,} ({EXAMPLE_SECONDS} s)",
            )

    def finish(self, stream: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings to features, both [T, 128]: whole numbers 0..255 after post-processing, or unchanged."""
        postprocessor = self._postprocessor()
        return rows if postprocessor is None else postprocessor(rows).astype(np.float32)


def _all_examples(stream: ExampleStream, blocks: Iterable[npt.NDArray[np.int16]]) -> Iterator[npt.NDArray[np.float32]]:
    for block in blocks:
        yield from stream.push(block)
    yield from stream.flush()
