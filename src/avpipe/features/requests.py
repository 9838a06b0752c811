"""What an extraction job is asked for, and what of it is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.features.registry import entry
from avpipe.features.store import read_provenance, read_source_keys
from avpipe.inventory.probing import ProbedClip
from avpipe.inventory.status import ClipStatus


@dataclass(frozen=True)
class ShardRequest:
    """One shard to extract.

    Attributes:
        extractor: name of the extractor.
        settings: its settings, all quirks decided.
        weights: path or random:<seed>; None for an extractor without a network.
        weights_record: what `avpipe.features.checks` found out about the weights.
        pca: VGGish's PCA file, if any.
        media: how the clips were prepared, such as {"mode": "stream"}; part of the provenance.
        clips: the clips that the probe let through.
        prepared: folder of the converted clips in file mode; None: decode the sources.
        failed_before: clips that failed in a stage between probe and here.
    """

    extractor: str
    settings: Mapping[str, Any]
    weights: str | None
    weights_record: Mapping[str, Any]
    pca: str | None
    media: Mapping[str, Any]
    clips: list[ProbedClip]
    prepared: Path | None
    failed_before: Mapping[str, ClipStatus]

    def provenance(self) -> dict[str, Any]:
        """Everything besides the clips that the values depend on."""
        return make_provenance(self.extractor, self.settings, self.weights_record, self.media)


@dataclass(frozen=True)
class Companion:
    """Another extractor that may be fed from the same decode.

    Attributes:
        request: what it would extract from the same shard.
        store: its feature store, which its own job writes; what is computed here is saved beside it.
    """

    request: ShardRequest
    store: Path


def make_provenance(
    extractor: str, settings: Mapping[str, Any], weights_record: Mapping[str, Any], media: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything besides a clip's content that its features depend on."""
    return {
        "extractor": extractor,
        "stage": entry(extractor).stage,
        "settings": {key: value for key, value in settings.items() if key != "batch_size"},
        "weights": {key: value for key, value in weights_record.items() if key != "remarks"},
        "media": dict(media),
    }


def stale_clips(store: Path, clips: list[ProbedClip], provenance: Mapping[str, Any]) -> list[ProbedClip]:
    """The clips that a store does not hold, or holds from other content or settings; reads no features."""
    try:
        if not store.exists() or read_provenance(store) != provenance:
            return clips
        keys = read_source_keys(store)
    except AvpipeError:
        return clips
    return [clip for clip in clips if keys.get(clip.clip_id) != clip.source_key()]
