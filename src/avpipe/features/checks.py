"""Check a weights file before any clip is decoded: does it fit the network, and what is its digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from avpipe.io.atomic import write_json


def check_weights(
    extractor: str,
    weights: str,
    pca: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
) -> None:
    """Load weights into their network once and write what they are.

    Args:
        extractor: its name.
        weights: path of the published file, or random:<seed>.
        pca: VGGish's PCA file, if its settings use one.
        target: the JSON file to write: label and sha256 of the weights, and the PCA's sha256.

    Raises:
        AvpipeError: the file is not readable, or its keys or shapes are not the network's.
    """
    pca_sha256 = hashlib.sha256(Path(pca).read_bytes()).hexdigest() if pca else None
    label, sha256 = (weights, None) if weights.startswith("random:") else _load(extractor, weights, pca)
    write_json(target, {"label": label, "sha256": sha256, "pca_sha256": pca_sha256})


def _load(extractor: str, weights: str, pca: str | os.PathLike[str] | None) -> tuple[str, str | None]:
    """Label and digest of a file that fits; imports torch, which random weights need not wait for."""
    from avpipe.features.registry import build_extractor
    from avpipe.weights import load_weights

    built = build_extractor(extractor, pca=pca)
    record = load_weights(built.build_network(), weights)
    if pca is not None:
        built.settings_record()  # reads the PCA file, and says what is wrong with it
    return record.label, record.sha256
