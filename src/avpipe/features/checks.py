"""Check a weights file before any clip is decoded: does it fit the network, and what is its digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from avpipe.features.registry import build_extractor
from avpipe.io.atomic import write_json
from avpipe.weights import load_weights


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
    network = build_extractor(extractor, {"postprocess": False} if pca is None and extractor == "vggish" else None, pca)
    record = load_weights(network.build_network(), weights)
    write_json(
        target,
        {
            "label": record.label,
            "sha256": record.sha256,
            "pca_sha256": hashlib.sha256(Path(pca).read_bytes()).hexdigest() if pca else None,
        },
    )
