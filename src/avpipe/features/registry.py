"""The extractors by name. A new one is a module and a line here."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from avpipe import stages
from avpipe.config.features import (
    C3DSettings,
    ExtractorSettings,
    ResNet152Settings,
    ResNeXt101Settings,
    SeLaViSettings,
    SpectrogramSettings,
    VGGishSettings,
)
from avpipe.config.quirks import Fidelity
from avpipe.errors import AvpipeError
from avpipe.features.types import Extractor


@dataclass(frozen=True)
class Entry:
    """What is known of an extractor without importing it (its module imports torch).

    Attributes:
        location: module and class.
        settings: the model of its settings.
        stage: its stage version.
        streams: name of each stream and dimension of its features.
        uses_pca: whether its constructor takes a PCA file.
        has_weights: whether it has a network with published weights.
        follows_conversion: whether it reads clips at the converted frame rate where clips are converted first,
            as the publication did; the others always read the source.
    """

    location: str
    settings: type[ExtractorSettings]
    stage: str
    streams: dict[str, int]
    uses_pca: bool = False
    has_weights: bool = True
    follows_conversion: bool = False


EXTRACTORS = {
    "resnet152": Entry(
        "avpipe.features.resnet152:ResNet152Extractor", ResNet152Settings, stages.RESNET152, {"video": 2048}
    ),
    "resnext101": Entry(
        "avpipe.features.resnext101:ResNeXt101Extractor", ResNeXt101Settings, stages.RESNEXT101, {"video": 2048}
    ),
    "c3d": Entry("avpipe.features.c3d:C3DExtractor", C3DSettings, stages.C3D, {"video": 4096}, follows_conversion=True),
    "vggish": Entry(
        "avpipe.features.vggish:VGGishExtractor",
        VGGishSettings,
        stages.VGGISH,
        {"audio": 128},
        uses_pca=True,
        follows_conversion=True,
    ),
    "selavi": Entry(
        "avpipe.features.selavi:SeLaViExtractor", SeLaViSettings, stages.SELAVI, {"video": 512, "audio": 512}
    ),
    "spectrogram": Entry(
        "avpipe.features.spectrogram:SpectrogramExtractor",
        SpectrogramSettings,
        stages.SPECTROGRAM,
        {"audio": 40},
        has_weights=False,
    ),
}


def names() -> list[str]:
    """The names of all extractors."""
    return list(EXTRACTORS)


def build_extractor(
    name: str,
    settings: ExtractorSettings | dict[str, Any] | None = None,
    pca: str | os.PathLike[str] | None = None,
    *,
    fidelity: Fidelity = "corrected",
) -> Extractor:
    """An extractor with its settings.

    Args:
        name: one of `names()`.
        settings: of the extractor, as a model or as plain values.
        pca: VGGish's PCA file.
        fidelity: decides the quirks that the settings leave open.

    Raises:
        AvpipeError: unknown name, or settings that do not fit it.
    """
    known = entry(name)
    if fidelity not in get_args(Fidelity):
        raise AvpipeError(f"fidelity {fidelity!r}: expected {' or '.join(get_args(Fidelity))}.")
    if not isinstance(settings, ExtractorSettings):
        try:
            settings = known.settings.model_validate(settings or {})
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            keys = ", ".join(known.settings.model_fields)
            raise AvpipeError(f"Settings of {name}: {'; '.join(faults)}. It has {keys} (docs/config.md).") from None
    settings = settings.resolved(fidelity)
    module, _, attribute = known.location.partition(":")
    build = getattr(importlib.import_module(module), attribute)
    return build(settings, pca) if known.uses_pca else build(settings)


def entry(name: str) -> Entry:
    """What is known of an extractor.

    Raises:
        AvpipeError: unknown name.
    """
    if name not in EXTRACTORS:
        raise AvpipeError(f"There is no extractor {name!r}; there are {', '.join(EXTRACTORS)}.")
    return EXTRACTORS[name]
