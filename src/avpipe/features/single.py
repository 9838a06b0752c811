"""Features of one file, without a workflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from avpipe import registry
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.types import Features
from avpipe.formats.weights import build_empty, load_weights
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
) -> Features | dict[str, Features]:
    """See `avpipe.features.extract`."""
    where = str(resolve_device(device))
    known = registry.extractor(name)
    if known.uses_pca:
        settings = {"postprocess": pca is not None} | (settings or {})
    elif pca is not None:
        raise AvpipeError(f"{name} takes no PCA file; leave `pca` out.")
    extractor = build_extractor(name, settings, pca, fidelity=fidelity)
    network = build_empty(extractor.build_network)
    if known.has_weights:
        if weights is None:
            raise AvpipeError(f"{name} needs weights: the path of the published file, or random:<seed> to try it.")
        load_weights(network, str(weights))
    elif weights is not None and not str(weights).startswith("random:"):
        raise AvpipeError(f"{name} has no network, so {weights} cannot be its weights; leave `weights` out.")
    clip = Clip(Path(path).stem, Path(path), start, end)
    ((_, outcome),) = extract_clips(extractor, prepare_network(network, where), [clip], device=where)
    if isinstance(outcome, ClipFailure):
        raise outcome
    return next(iter(outcome.values())) if len(outcome) == 1 else outcome
