"""Features of one file, without a workflow."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avpipe import registry
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.shard import make_provenance
from avpipe.features.types import Features
from avpipe.formats.weights import WeightsRecord, build_empty, load_weights, random_seed
from avpipe.media.clip import Clip
from avpipe.settings import Fidelity


def extract_file(
    path: str | os.PathLike[str],
    name: str,
    weights: str | os.PathLike[str] | None,
    *,
    device: str,
    start: float | None,
    end: float | None,
    settings: dict[str, Any] | None,
    pca: str | os.PathLike[str] | None,
    fidelity: Fidelity,
) -> tuple[dict[str, Features], dict[str, Any]]:
    """Features of each stream, see `avpipe.features.extract`; and what they rest on, as in a feature store."""
    where = str(resolve_device(device))
    known = registry.extractor(name)
    if known.uses_pca:
        settings = {"postprocess": pca is not None} | (settings or {})
    elif pca is not None:
        raise AvpipeError(f"{name} takes no PCA file; leave `pca` out.")
    extractor = build_extractor(name, settings, pca, fidelity=fidelity)
    network = build_empty(extractor.build_network)
    record = WeightsRecord("none", None)
    if known.has_weights:
        if weights is None:
            raise AvpipeError(f"{name} needs weights: the path of the published file, or random:<seed> to try it.")
        record = load_weights(network, str(weights))
    elif weights is not None and random_seed(str(weights)) is None:
        raise AvpipeError(f"{name} has no network, so {weights} cannot be its weights; leave `weights` out.")
    clip = Clip(Path(path).stem, Path(path), start, end)
    ((_, outcome),) = extract_clips(extractor, prepare_network(network, where), [clip], device=where)
    if isinstance(outcome, ClipFailure):
        raise outcome
    return outcome, make_provenance(name, extractor.settings_record(), asdict(record), {"mode": "stream"})
