"""What a dataset needs from outside, all of it checked before any job runs, and everything missing named at once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.features.checks import find_faults
from avpipe.plan import downloads, features, features_from, gzsl_checks, retrieval, retrieval_checks, videos
from avpipe.plan.inventory import look_through, source_folder
from avpipe.plan.missing import WITHOUT_WEIGHTS, Problem, missing_path, missing_weights
from avpipe.plan.project import Project
from avpipe.registry import EXTRACTORS
from avpipe.sources.listing import has_video_folder
from avpipe.sources.settings import Annotation, ClassFolders, ClipTable, PublishedFeatures


@functools.cache
def require(project: Project, dataset: str) -> None:
    """Check all that a run of a dataset needs from outside, and name everything that is missing at once.

    What jobs fetch (`downloads.awaited`) is checked by those that read it.

    A dataset without benchmarks, whose features alone are asked for (`extract_also`), needs no split.

    Raises:
        AvpipeError: what is missing, where it was looked for, what to set and where it can be had; or the
            source or a split is not in order.
    """
    fetched = downloads.awaited(project, dataset)
    lacking = [each for each in missing(project, dataset) if not (isinstance(each, Problem) and each.file in fetched)]
    _refuse(project, dataset, lacking or _unfit_weights(project, dataset))
    if _has_gzsl(project, dataset):
        gzsl_checks.check_splits(project, dataset, gzsl_checks.listed_clips(project, dataset))
    if retrieval.is_used(project.dataset(dataset)):
        retrieval_checks.check_subsets(project, dataset)


def missing(project: Project, dataset: str) -> list[str]:
    """All that a run of a dataset needs from outside and that is not there, one problem each."""
    problems = [*_missing_source(project, dataset), *_missing_weights(project, dataset)]
    problems += features_from.problems(project, dataset)
    problems += gzsl_checks.missing(project, dataset) if _has_gzsl(project, dataset) else []
    problems += retrieval_checks.missing(project, dataset) if retrieval.is_used(project.dataset(dataset)) else []
    return problems


def missing_elsewhere(project: Project, dataset: str) -> list[str]:
    """Those of them that are in no set of published files."""
    held = [need.files for need in downloads.needs(project, dataset)]
    return [
        problem
        for problem in missing(project, dataset)
        if not (isinstance(problem, Problem) and any(files.used([problem.file]) for files in held))
    ]


def _has_gzsl(project: Project, dataset: str) -> bool:
    settings = project.dataset(dataset)
    return bool(settings.gzsl.benchmarks) or not (settings.extract_also or retrieval.is_used(settings))


def require_gzsl(project: Project, dataset: str) -> None:
    """Check that a dataset has what a zero-shot benchmark needs, too.

    Raises:
        AvpipeError: as `require`.
    """
    require(project, dataset)
    _refuse(project, dataset, gzsl_checks.missing(project, dataset))


def require_features_from(project: Project, dataset: str) -> None:
    """As `require`, for a dataset whose features another run has made; of others the jobs that make them ask.

    Raises:
        AvpipeError: as `require`.
    """
    if project.dataset(dataset).features_from is not None:
        require(project, dataset)


def require_to_make(project: Project, dataset: str) -> None:
    """As `require`, for jobs that list, probe or extract.

    Raises:
        AvpipeError: as `require`; or another run has made all that, and nothing of it is made here.
    """
    require(project, dataset)
    if (other := project.dataset(dataset).features_from) is not None:
        raise AvpipeError(
            f"{dataset} has its clips and features from {other}, so they are not made here. Ask for what is made from "
            f"them, such as {project.paths.results}/{dataset}/eval.json, or drop datasets.{dataset}.features_from."
        )


def ready_datasets(project: Project) -> list[str]:
    """Zero-shot datasets whose data are at hand; embedded ones only where there is nothing else."""
    ready = [name for name in _with_benchmarks(project) if _is_ready(project, name)]
    return [name for name in ready if not project.is_synthetic(name)] or ready


def lacking_datasets(project: Project) -> list[str]:
    """Zero-shot datasets some of whose data are not there."""
    return [name for name in _with_benchmarks(project) if not _is_ready(project, name)]


def _with_benchmarks(project: Project) -> list[str]:
    return [name for name in project.config.datasets if project.dataset(name).gzsl.benchmarks]


@functools.cache
def _is_ready(project: Project, dataset: str) -> bool:
    checks = (_missing_source, _missing_weights, features_from.problems, gzsl_checks.missing)
    return not any(check(project, dataset) for check in checks)


def _refuse(project: Project, dataset: str, problems: list[str]) -> None:
    if problems:
        raise AvpipeError(
            f"{dataset} cannot run yet: {len(problems)} thing(s) are missing or do not fit.\n"
            + "\n".join(f"  - {problem}" for problem in problems)
            + "\nSet them in config/config.yaml, or in a file of yours given with --configfile."
            + _fetchable(project, dataset)
            + _other_ways(project, dataset)
        )


def _fetchable(project: Project, dataset: str) -> str:
    """How some of what is missing is to be had: the command that fetches it, and what a person has to do."""
    missing = [need for need in downloads.needs(project, dataset) if need.missing]
    fetched = [f"\n  - {need.described()}" for need in missing if not need.is_by_hand]
    by_hand = [f"\n  - {need.described()}: {need.files.by_hand()}" for need in missing if need.is_by_hand]
    told = ""
    if fetched:
        told += f"\n`avpipe sources fetch {dataset}`, or a run with allow_download: true, fetches{''.join(fetched)}"
    if fetched and by_hand:
        told += (
            "\nSuch a run begins nothing, neither fetching nor training, before the following is there or the settings "
            "named above ask for it no more:" + "".join(by_hand)
        )
    elif by_hand:
        told += "\nBy hand:" + "".join(by_hand)
    return told


def _other_ways(project: Project, dataset: str) -> str:
    """What to do where features are at hand instead of videos and networks."""
    has_benchmarks = bool(project.dataset(dataset).gzsl.benchmarks)
    if not has_benchmarks or not features.extracted(project, dataset) or project.is_synthetic(dataset):
        return ""
    return (
        "\nWith the published features instead of videos and networks, set "
        f"datasets.{dataset}.source: {{kind: published, path: ...}} (docs/datasets.md)."
    )


def _missing_source(project: Project, dataset: str) -> list[str]:
    source, key = project.dataset(dataset).source, f"datasets.{dataset}.source.path"
    if isinstance(source, PublishedFeatures):
        # Not source.obtain: in the committed datasets that says where the videos are.
        obtain = project.dataset(dataset).gzsl.obtain or source.obtain
        return missing_path("the published features", source.path, key, obtain)
    if not isinstance(source, ClassFolders | ClipTable | Annotation) or not features.reads_source(project, dataset):
        return []
    if isinstance(source, Annotation):
        key = f"datasets.{dataset}.source.paths"
        problems = [
            problem
            for name, path in source.paths.items()
            for problem in missing_path("the annotation", path, f"{key}.{name}", source.obtain)
        ]
        if source.only_in is not None:
            key = f"datasets.{dataset}.source.only_in"
            problems += missing_path("the lists of clips", source.only_in, key, project.dataset(dataset).gzsl.obtain)
    else:
        what = "the table of clips" if isinstance(source, ClipTable) else "the videos"
        problems = missing_path(what, source.path, key, source.obtain)
    return problems or (_missing_videos(project, dataset) if features.extracted(project, dataset) else [])


def _missing_videos(project: Project, dataset: str) -> list[str]:
    """A problem if no video of an annotation is there and none can be fetched."""
    if not has_video_folder(project.dataset(dataset).source):
        return []
    wanted, left = videos.videos(project, dataset), videos.left(project, dataset)
    folder, key = source_folder(project, dataset), f"datasets.{dataset}.source.videos"
    if project.config.allow_download and left:
        from avpipe.sources.youtube.video import require_yt_dlp

        try:
            require_yt_dlp()
        except AvpipeError as error:
            return [f"{len(left):,} of {len(wanted):,} videos: {error}"]
    is_there = any(clip.size_bytes >= 0 for clip in look_through(project, dataset).clips)
    if is_there or (project.config.allow_download and left):
        return []
    fetch = (
        f"; or set allow_download: true, which fetches {len(left):,} of them, at the pauses of downloads.pause_seconds "
        f"in {videos.days(project, left):.1f} days or more"
    )
    return [f"the videos: none of {len(wanted):,} is in {folder}; set {key}{fetch if left else ''}"]


def _missing_weights(project: Project, dataset: str) -> list[str]:
    problems = []
    for extractor in features.extracted(project, dataset):
        if features.weights(project, dataset, extractor) is not None:
            what = f"the weights of {extractor}"
            problems += missing_weights(project, dataset, extractor, what, WITHOUT_WEIGHTS)
        if features.pca(project, dataset, extractor) is not None:
            what, otherwise = (
                f"{EXTRACTORS[extractor].title}'s PCA",
                f"set datasets.{dataset}.features.{extractor}.postprocess: false",
            )
            problems += missing_weights(project, dataset, f"{extractor}_pca", what, otherwise)
    return problems


def _unfit_weights(project: Project, dataset: str) -> list[str]:
    """Weight files that are not those of their networks; known before anything is decoded."""
    requests: list[dict[str, Any]] = []
    for extractor in features.extracted(project, dataset):
        files = features.weight_files(project, dataset, extractor)
        if files and all(Path(file).exists() for file in files):  # a job checks what a job fetches
            # Random weights need no check; beside them the PCA file does.
            weights = features.weights(project, dataset, extractor)
            file = None if weights is None or weights.startswith("random:") else weights
            pca, digests = features.pca(project, dataset, extractor), features.digests(project, extractor)
            requests.append({"extractor": extractor, "weights": file, "pca": pca, "digests": digests})
    return [
        f"weights: {fault.removeprefix('Weights: ')}"
        for fault in find_faults(requests, Path(".snakemake") / "avpipe_weights")
    ]
