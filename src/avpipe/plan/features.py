"""What rules/features.smk asks: which features a dataset needs, with which settings and weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from avpipe.config.models import Dataset, ExtractorName
from avpipe.devices import wants_gpu
from avpipe.plan.project import Project
from avpipe.registry import EXTRACTORS
from avpipe.settings import Settings
from avpipe.sources.settings import HowTo100M, Packs, PublishedFeatures

RETRIEVAL_EXTRACTORS: tuple[ExtractorName, ...] = ("resnet152", "resnext101", "spectrogram")
"""Their features are what AVLnet reads."""


def extractors(project: Project, dataset: str) -> list[str]:
    """The extractors whose features the dataset's benchmarks and packs use, and those asked for besides."""
    settings = project.dataset(dataset)
    if isinstance(settings.source, PublishedFeatures):
        return []
    sets = [settings.gzsl.feature_sets[benchmark.features] for benchmark in settings.gzsl.benchmarks]
    used = {name for each in sets if each.path is None for name in (each.video, each.audio)}
    used |= set(settings.extract_also)
    if retrieval_reads_videos(settings):
        used |= set(RETRIEVAL_EXTRACTORS)
    return [name for name in EXTRACTORS if name in used]


def retrieval_reads_videos(settings: Dataset) -> bool:
    """Whether packs or windows are made of the source's videos."""
    if isinstance(settings.source, Packs | HowTo100M | PublishedFeatures):
        return False
    retrieval = settings.retrieval
    trains_on_windows = any(run.windows is not None and run.epochs for run in retrieval.runs.values())
    return trains_on_windows or any(subset.path is None for subset in retrieval.subsets.values())


def uses_videos(project: Project, dataset: str) -> bool:
    """Whether any feature is extracted, so that clips are probed and accounted for."""
    return bool(extractors(project, dataset))


def extracted(project: Project, dataset: str) -> list[str]:
    """The extractors that run here: none where another run's features are used (`features_from`)."""
    return [] if project.dataset(dataset).features_from else extractors(project, dataset)


def reads_source(project: Project, dataset: str) -> bool:
    """Whether clips are listed: to be extracted, or for what packs take from their table."""
    return bool(extracted(project, dataset)) or retrieval_reads_videos(project.dataset(dataset))


def place(project: Project, dataset: str) -> str:
    """The folder of a dataset's listing, weights' records and features: its results, or those of `features_from`.

    The latter is absolute where results are relative, and the other way round: manifests then name what lies there by
    its name alone, so that no folder of a machine stands in them and either can be moved.
    """
    results, other = project.paths.results, project.dataset(dataset).features_from
    if other is None:
        return f"{results}/{dataset}"
    return os.path.relpath(other) if os.path.isabs(results) else os.path.abspath(other)  # noqa: PTH100, PTH117


def extractor_settings(project: Project, dataset: str, extractor: str) -> dict[str, Any]:
    """What the rows of an extractor depend on, quirks decided: its settings but for the batch size."""
    settings: Settings = project.setting(dataset, "features", extractor)
    return settings.model_dump(exclude={"batch_size"})


def batch_size(project: Project, dataset: str, extractor: str) -> int | None:
    """Windows per forward pass; None for an extractor without a network."""
    return getattr(project.setting(dataset, "features", extractor), "batch_size", None)


def weights(project: Project, dataset: str, extractor: str) -> str | None:
    """Weights of an extractor: a path or random:<seed>; None for one without a network."""
    return project.weights_file(dataset, extractor) if EXTRACTORS[extractor].has_weights else None


def pca(project: Project, dataset: str, extractor: str) -> str | None:
    """VGGish's PCA file where its settings use one."""
    uses_pca = EXTRACTORS[extractor].uses_pca and project.setting(dataset, "features", extractor).postprocess
    return project.weights_file(dataset, f"{extractor}_pca") if uses_pca else None


def weight_files(project: Project, dataset: str, extractor: str) -> list[str]:
    """The files among an extractor's weights and PCA."""
    files = [weights(project, dataset, extractor), pca(project, dataset, extractor)]
    return [file for file in files if file is not None and not file.startswith("random:")]


def weights_state(project: Project, dataset: str, extractor: str) -> list[tuple[str, int, int]]:
    """Path, size and time stamp of those that are there; a file that replaces one may be older than it."""
    paths = [path for path in map(Path, weight_files(project, dataset, extractor)) if path.exists()]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def digests(project: Project, extractor: str) -> dict[str, list[str]]:
    """What is known of the digests of an extractor's published weights and PCA."""
    entry = EXTRACTORS[extractor]
    keys = [extractor] * entry.has_weights + [f"{extractor}_pca"] * entry.uses_pca
    known = {key: project.published(key) for key in keys}
    return {key: files.digests(files.weights[key]) if files else [] for key, files in known.items()}


def gpus(project: Project) -> int:
    """1 where a job would compute on a GPU, else 0, so that a profile's limit binds only then."""
    return int(wants_gpu(project.config.device))
