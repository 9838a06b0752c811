"""Feature extractors: one module each, and one engine that streams clips through any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avpipe.features.types import Features
from avpipe.registry import EXTRACTORS

if TYPE_CHECKING:
    import os

    import torch

    from avpipe.settings import Fidelity

__all__ = ["Features", "build_network", "extract", "names"]


def names() -> list[str]:
    """The names of all extractors."""
    return list(EXTRACTORS)


def build_network(name: str) -> torch.nn.Module:
    """The architecture of an extractor's network in evaluation mode, untrained: with the weights of random:0.

    Its forward takes the published input tensor (docs/extractors.md) with a batch axis in front.

    Args:
        name: one of `names()`.

    Raises:
        AvpipeError: unknown name.
    """
    from avpipe.features.build import build_extractor
    from avpipe.formats.weights import build_empty, load_published, random_state_dict

    network = build_empty(build_extractor(name).build_network)
    load_published(network, random_state_dict(network, 0))
    return network


def extract(
    path: str | os.PathLike[str],
    name: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "cpu",
    start: float | None = None,
    end: float | None = None,
    settings: dict[str, object] | None = None,
    pca: str | os.PathLike[str] | None = None,
    fidelity: Fidelity = "corrected",
) -> Features | dict[str, Features]:
    """Features of one file, or of a segment of it.

    Args:
        path: a video or sound file.
        name: one of `names()`.
        weights: path of the published weights, or "random:<seed>"; not needed for "spectrogram", which has no
            network.
        device: "cpu" or "cuda".
        start, end: the segment in seconds; None: from the file's start, to its end.
        settings: settings of the extractor as in the config, over the defaults.
        pca: VGGish's PCA file: with it the published PCA and quantisation are applied, without it they are not,
            unless `settings` says otherwise.
        fidelity: what quirks that `settings` leaves open do: what is right, or what was published.

    Returns:
        Features: values [T, d], pooled [d], times [T, 2] in seconds; for an extractor with several streams
        a dict from the stream's name to its features.

    Raises:
        ClipFailure: the file has no features, for a reason from the closed list.
        AvpipeError: unknown name, wrong settings or weights, or a device that is not there.
        ValueError: a segment that makes no sense.
    """
    from avpipe.features.single import extract_file

    outcome, _ = extract_file(
        path, name, weights, device=device, start=start, end=end, settings=settings, pca=pca, fidelity=fidelity
    )
    return next(iter(outcome.values())) if len(outcome) == 1 else outcome
