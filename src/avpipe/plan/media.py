"""What rules/media.smk asks: which clips are prepared as files (file mode) and who reads them."""

from __future__ import annotations

from typing import Any

from avpipe import versions
from avpipe.plan.features import extractors
from avpipe.plan.project import Project
from avpipe.registry import EXTRACTORS
from avpipe.sources.settings import Annotation, ClipTable


def is_trimmed(project: Project, dataset: str) -> bool:
    """Whether clips are cut out of their files before conversion (file mode; stream mode cuts while decoding)."""
    settings = project.dataset(dataset)
    return settings.frame_rate.mode == "file" and isinstance(settings.source, ClipTable | Annotation)


def reads_converted(project: Project, dataset: str, extractor: str) -> bool:
    """Whether an extractor reads clips at the converted frame rate (file mode), not the sources."""
    return project.dataset(dataset).frame_rate.mode == "file" and EXTRACTORS[extractor].follows_conversion


def converted_extractors(project: Project, dataset: str) -> list[str]:
    """The extractors that read converted clips."""
    return [each for each in extractors(project, dataset) if reads_converted(project, dataset, each)]


def preparation(project: Project, dataset: str, extractor: str) -> dict[str, Any]:
    """How the clips that an extractor reads are prepared, part of what its features depend on."""
    if not reads_converted(project, dataset, extractor):
        return {"mode": "stream"}
    trim = {"trim": versions.TRIM} if is_trimmed(project, dataset) else {}
    crf = project.dataset(dataset).frame_rate.crf
    return {"mode": "file", "crf": crf, "convert": versions.CONVERT_FPS, **trim}


def consumers(project: Project, dataset: str, shard: str) -> dict[str, dict[str, Any]]:
    """Feature stores that are made of a shard's converted clips, by extractor."""
    return {
        extractor: {
            "store": project.paths.store(dataset, extractor, shard),
            "settings": project.setting(dataset, "features", extractor).model_dump(),
            "media": preparation(project, dataset, extractor),
        }
        for extractor in converted_extractors(project, dataset)
    }
