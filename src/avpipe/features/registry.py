"""The extractors by name. A new one is a module and a line here."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

from avpipe import stages
from avpipe.config.features import C3DSettings, VGGishSettings
from avpipe.config.quirks import Settings
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
    """

    location: str
    settings: type[Settings]
    stage: str
    streams: dict[str, int]
    uses_pca: bool = False


EXTRACTORS = {
    "c3d": Entry("avpipe.features.c3d:C3DExtractor", C3DSettings, stages.C3D, {"video": 4096}),
    "vggish": Entry("avpipe.features.vggish:VGGishExtractor", VGGishSettings, stages.VGGISH, {"audio": 128}, True),
}


def names() -> list[str]:
    """The names of all extractors."""
    return list(EXTRACTORS)


def build_extractor(
    name: str, settings: Settings | dict[str, Any] | None = None, pca: str | os.PathLike[str] | None = None
) -> Extractor:
    """An extractor with its settings; quirks left open are decided as corrected.

    Args:
        name: one of `names()`.
        settings: of the extractor, as a model or as plain values.
        pca: VGGish's PCA file.

    Raises:
        AvpipeError: unknown name, or settings that do not fit it.
    """
    known = entry(name)
    if not isinstance(settings, Settings):
        try:
            settings = known.settings.model_validate(settings or {})
        except ValueError as error:
            raise AvpipeError(f"Settings of {name} are not valid: {error}") from None
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
