"""An extractor with its settings, by name."""

from __future__ import annotations

import os
from typing import Any, cast, get_args

from pydantic import ValidationError

from avpipe import registry
from avpipe.errors import AvpipeError
from avpipe.features.settings import ExtractorSettings
from avpipe.features.types import Extractor
from avpipe.settings import Fidelity


def build_extractor(
    name: str,
    settings: ExtractorSettings | dict[str, Any] | None = None,
    pca: str | os.PathLike[str] | None = None,
    *,
    fidelity: Fidelity = "corrected",
) -> Extractor:
    """An extractor with its settings.

    Args:
        name: one of `avpipe.features.names()`.
        settings: of the extractor, as a model or as plain values.
        pca: VGGish's PCA file.
        fidelity: decides the quirks that the settings leave open.

    Raises:
        AvpipeError: unknown name, or settings that do not fit it.
    """
    known = registry.extractor(name)
    if fidelity not in get_args(Fidelity):
        raise AvpipeError(f"fidelity {fidelity!r}: expected {' or '.join(get_args(Fidelity))}.")
    if not isinstance(settings, ExtractorSettings):
        try:
            settings = cast(ExtractorSettings, known.settings.model_validate(settings or {}))
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            keys = ", ".join(known.settings.model_fields)
            raise AvpipeError(f"Settings of {name}: {'; '.join(faults)}. It has {keys} (docs/config.md).") from None
    resolved = settings.resolved(fidelity)
    build = registry.load(known.implementation)
    return build(resolved, pca) if known.uses_pca else build(resolved)
