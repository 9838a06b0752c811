"""Features of one file, without a workflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from avpipe.devices import resolve_device
from avpipe.errors import ClipFailure
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.registry import build_extractor
from avpipe.features.types import Clip, Features
from avpipe.weights import load_weights


def extract_file(
    path: str | os.PathLike[str],
    name: str,
    weights: str | os.PathLike[str],
    *,
    device: str,
    start: float | None,
    end: float | None,
    settings: dict[str, Any] | None,
    pca: str | os.PathLike[str] | None,
) -> Features | dict[str, Features]:
    """See `avpipe.features.extract`."""
    where = str(resolve_device(device))
    if name == "vggish":
        settings = {"postprocess": pca is not None} | (settings or {})
    extractor = build_extractor(name, settings, pca)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers do not depend on features taken in between
        network = extractor.build_network()
    load_weights(network, str(weights))
    clip = Clip(Path(path).stem, Path(path), start, end)
    ((_, outcome),) = extract_clips(extractor, prepare_network(network, where), [clip], device=where)
    if isinstance(outcome, ClipFailure):
        raise outcome
    return next(iter(outcome.values())) if len(outcome) == 1 else outcome
