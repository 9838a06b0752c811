"""All that AVLnet reads of a set of clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FRAMES_PER_SECOND = 100
_NORM_FLOOR = 1e-12  # of torch.nn.functional.normalize


class ClipSource(NamedTuple):
    """Where a clip lies.

    Attributes:
        path: the media file; "" if unknown.
        start_seconds, end_seconds: the segment of it; None: from its start, to its end.
    """

    path: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class PackInfo:
    """Where a pack's clips are from, and which are not in it.

    Attributes:
        origin: "published pickle" or "extracted".
        expected: clips that the set should have, those without features too.
        missing: clips that are known and not in the pack: `clip_id`, `reason` (an `avpipe.errors.Reason`), `detail`.
        sha256: of the pickle; of extracted packs, of the clips' ids and the digests of their files.
        provenance: all that the values depend on besides the clips, such as each extractor's settings.
        warnings: one line for each oddity that was found and kept.
    """

    origin: str
    expected: int
    missing: list[dict[str, str]] = field(default_factory=list)
    sha256: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def random_extractors(provenance: Mapping[str, Any]) -> list[str]:
    """Extractors with untrained networks among what a pack's features were made with, as "resnet152 (random:0)"."""
    parts = [part for part in provenance.values() if isinstance(part, Mapping)]
    labels = [(part.get("extractor", "?"), (part.get("weights") or {}).get("label", "")) for part in parts]
    return [f"{name} ({label})" for name, label in labels if label.startswith("random:")]


@dataclass(frozen=True, eq=False)
class Pack:
    """Clips that have sound and both visual vectors, n of them.

    Attributes:
        ids: unique names.
        video_2d, video_3d: float32 [n, 2048], ResNet-152 and ResNeXt-101 features, pooled over time.
        audio: float32 or float16 [sum of T, 40], the spectrograms one after the other, in decibels; read-only where
            it is mapped from a file.
        offsets: int64 [n + 1]; clip i owns the rows offsets[i]:offsets[i + 1] of `audio`.
        n_frames: int64 [n], frames of each clip's whole spectrogram, which may be more than are stored.
        captions: of each clip, as many as there are.
        eval_captions: the caption to test with, where the set fixes one; else "".
        sources: where each clip lies.
        info: where the clips are from.
        stored_digest: `digest` of the file, which the contents were found to have; "" for a pack that was not read
            from one.
    """

    ids: list[str]
    video_2d: npt.NDArray[np.float32]
    video_3d: npt.NDArray[np.float32]
    audio: npt.NDArray[np.floating]
    offsets: npt.NDArray[np.int64]
    n_frames: npt.NDArray[np.int64]
    captions: list[tuple[str, ...]]
    eval_captions: list[str]
    sources: list[ClipSource]
    info: PackInfo
    stored_digest: str = ""

    def __len__(self) -> int:
        """Clips."""
        return len(self.ids)

    def spectrogram(self, index: int) -> npt.NDArray[np.floating]:
        """The frames of one clip, [T, 40], a view of `audio`."""
        return self.audio[self.offsets[index] : self.offsets[index + 1]]

    def visual(self) -> npt.NDArray[np.float32]:
        """What the networks take, float32 [n, 4096]: both vectors at length 1, 2-D first.

        Source: docs/methods.md, Clip pickles.
        """
        return np.hstack([_normalised(self.video_2d), _normalised(self.video_3d)])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, captions and features; not of `sources` and `info`, which no result depends on."""
        return self.stored_digest or digest_of_contents(self, map(sha256_of, map(self.spectrogram, range(len(self)))))


def _normalised(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return (vectors / np.maximum(lengths, _NORM_FLOOR)[:, None]).astype(np.float32)


def sha256_of(values: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data).hexdigest()


def digest_of_contents(pack: Pack, spectrograms: Iterator[str]) -> str:
    """Of the digests of the parts."""
    parts: list[Any] = [pack.ids, pack.captions, pack.eval_captions, pack.n_frames.tolist()]
    parts += [sha256_of(np.asarray(video, np.float32)) for video in (pack.video_2d, pack.video_3d)]
    return hashlib.sha256(json.dumps([*parts, *spectrograms]).encode()).hexdigest()
