"""Features that another run of a dataset has made (`features_from`): whether they are what this project would make.

What lies there is compared as planning compares a project's own results: by manifests, sizes and settings. That a file
of the right size has other content is found by the job that reads it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avpipe import versions
from avpipe.io.manifest import digest_json, manifest_path, read_json, read_manifest
from avpipe.io.provenance import PlannedJob, stale_results
from avpipe.plan import features, media
from avpipe.plan.inventory import shard_listings, shards
from avpipe.plan.missing import missing_path
from avpipe.plan.project import Project
from avpipe.registry import EXTRACTORS
from avpipe.sources.settings import Annotation, ClassFolders, ClipTable

_PATHS = {"source", "made_folder", "listing", "weights", "pca", "digests", "state"}
"""Params that name files of another machine; their content is compared."""
_NOT_COMPARED = _PATHS | {"kept", "batch_size", "device", "timeout"}


@functools.cache
def problems(project: Project, dataset: str) -> list[str]:
    """What is lacking, damaged or other than this project's settings want, one problem each; none without the setting.

    Raises:
        AvpipeError: a file there cannot be read.
    """
    given = project.dataset(dataset).features_from
    if given is None:
        return []
    key = f"datasets.{dataset}.features_from"
    folder = Path(features.place(project, dataset))
    if not folder.is_dir():
        return missing_path("the results of another run", given, key, "")
    if folder.resolve().is_relative_to(Path(project.paths.results).resolve()):
        return [f"{key}: {given} lies in the results of this project itself; drop it, or name those of another one"]
    faults = _unlike(project, dataset, folder)
    if not faults:
        faults = {
            fault: [""]
            for extractor in features.extractors(project, dataset)
            for fault in _other_weights(project, dataset, extractor, read_json(folder / f"weights/{extractor}.json"))
        }
        faults |= {fault: [""] for fault in _other_clips(project, dataset, folder)}
    return [_told(given, fault, places) + f". Or drop {key}" for fault, places in faults.items()]


def digests(project: Project, dataset: str) -> dict[str, str] | None:
    """`probe`, and extractor -> digest of what is taken over, all shards together; None where all is made here."""
    if project.dataset(dataset).features_from is None:
        return None
    folder, names = Path(features.place(project, dataset)), shards(project, dataset)
    files = {"probe": [folder / f"probe/{shard}.parquet" for shard in names]}
    for extractor in features.extractors(project, dataset):
        files[extractor] = [folder / f"features/{extractor}/{shard}.h5" for shard in names]
    return {name: digest_json([read_manifest(path).contents for path in paths]) for name, paths in files.items()}


def _told(given: str, fault: str, places: list[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"the features of {given}: {places[0]}{more}{': ' if places[0] else ''}{fault}"


def _unlike(project: Project, dataset: str, folder: Path) -> dict[str, list[str]]:
    """Fault -> the results that have it, as paths below the folder."""
    faults: dict[str, list[str]] = {}
    for job in _jobs(project, dataset, folder):
        for result, fault in _compare(project, dataset, job):
            faults.setdefault(fault, []).append(str(Path(result).relative_to(folder)))
    return faults


def _jobs(project: Project, dataset: str, folder: Path) -> Iterator[PlannedJob]:
    """The jobs that would have made what lies there, with the params of their rules as far as these are compared."""
    settings = project.dataset(dataset)
    probing = settings.model_dump(include={"require_audio", "min_seconds", "max_seconds"})
    weights = {name: str(folder / f"weights/{name}.json") for name in features.extractors(project, dataset)}
    for file in weights.values():
        yield PlannedJob([file], None, versions.CHECK_WEIGHTS, {}, _NOT_COMPARED)
    for shard in shards(project, dataset):
        listing, probe = f"{folder}/inventory/{shard}.parquet", f"{folder}/probe/{shard}.parquet"
        sources = f"{folder}/sources/{shard}.parquet"
        yield PlannedJob([listing], None, versions.INDEX, {"n_shards": settings.n_shards}, _NOT_COMPARED)
        yield PlannedJob([probe], [listing, sources], versions.PROBE, probing, _NOT_COMPARED)
        for extractor, file in weights.items():
            store = f"{folder}/features/{extractor}/{shard}"
            converted = [f"{folder}/converted/{shard}", f"{folder}/converted/{shard}.parquet"]
            is_converted = media.reads_converted(project, dataset, extractor)
            yield PlannedJob(
                outputs=[f"{store}.h5", f"{store}.status.parquet"],
                inputs=[probe, file, *(converted if is_converted else [])],
                stage=EXTRACTORS[extractor].stage,
                settings=_extraction(project, dataset, extractor),
                not_compared=_NOT_COMPARED,
            )


def _extraction(project: Project, dataset: str, extractor: str) -> dict[str, Any]:
    return {
        "settings": features.extractor_settings(project, dataset, extractor),
        "media": media.preparation(project, dataset, extractor),
    }


def _compare(project: Project, dataset: str, job: PlannedJob) -> Iterator[tuple[str, str]]:
    """Results of a job and what is wrong with them."""
    absent = [path for path in job.outputs if not (Path(path).exists() and manifest_path(path).exists())]
    for path in absent:
        what = "its manifest" if Path(path).exists() else "it"
        yield path, f"{what} is not there, for that run has not ended or was copied in part: complete it there"
    for stale in [] if absent else stale_results(job):
        if stale.is_damaged:
            yield stale.result, f"it is not as it was written ({stale.why}): have that run make it again"
        elif "settings" in job.settings and "settings" in stale.why and stale.result.endswith(".h5"):
            yield stale.result, _other_settings(project, dataset, Path(stale.result))
        elif not (stale.result.endswith(".status.parquet") and "settings" in stale.why):
            yield stale.result, f"{stale.why}: use the settings and the avpipe of that run"


def _other_settings(project: Project, dataset: str, store: Path) -> str:
    """Which settings of an extractor differ, with both values."""
    from avpipe.features.store import read_provenance

    extractor, made = store.parent.name, read_provenance(store)
    now = json.loads(json.dumps(_extraction(project, dataset, extractor)))
    keys = {"settings": f"datasets.{dataset}.features.{extractor}", "media": f"datasets.{dataset}.frame_rate"}
    told = [
        f"{keys[part]}: {name} is {now[part].get(name)!r} here and {made[part].get(name)!r} there"
        for part in keys
        for name in sorted(now[part].keys() | made[part].keys())
        if now[part].get(name) != made[part].get(name)
    ]
    return f"it was made with other settings ({'; '.join(told)}): set them to the values there"


def _other_weights(project: Project, dataset: str, extractor: str, record: Mapping[str, Any]) -> Iterator[str]:
    """How the weights that made the features differ from those that are configured, as far as these are known."""
    wanted = {extractor: features.weights(project, dataset, extractor)}
    if (pca := features.pca(project, dataset, extractor)) is not None:
        wanted[f"{extractor}_pca"] = pca
    made = {extractor: record["sha256"], f"{extractor}_pca": record["pca_sha256"]}
    for name, file in wanted.items():
        if file is None:
            continue
        place = f"datasets.{dataset}.weights.{name}"
        label = made[name] or record["label"]
        if file.startswith("random:") or label.startswith("random:"):
            known = [file]
        elif Path(file).is_file():
            with Path(file).open("rb") as stream:
                known = [hashlib.file_digest(stream, "sha256").hexdigest()]
        else:  # of a file of one's own nothing is known then
            is_own = getattr(project.dataset(dataset).weights, name) is not None
            known = [] if is_own else features.digests(project, extractor)[name]
        if known and not any(label.startswith(digest) for digest in known):
            yield f"{name} had the weights {label} there, and {known[0]} are asked for: set {place} to those"


def _other_clips(project: Project, dataset: str, folder: Path) -> Iterator[str]:
    """How the clips differ from those of the source, where that is at hand."""
    from avpipe.io.tables import read_rows

    source = project.dataset(dataset).source
    if isinstance(source, Annotation):
        files: list[str | None] = [*source.paths.values(), *([source.only_in] if source.only_in else [])]
    else:
        files = [source.path] if isinstance(source, ClassFolders | ClipTable) else [None]
    if not all(file and Path(file).exists() for file in files):
        return
    here = {clip.clip_id: clip.size_bytes for shard in shard_listings(project, dataset) for clip in shard}
    tables = (folder / f"probe/{shard}.parquet" for shard in shards(project, dataset))
    there = {row["clip_id"]: row["size_bytes"] for table in tables for row in read_rows(table)}
    sized = {clip for clip in here.keys() & there.keys() if min(here[clip], there[clip]) >= 0}
    differing = {
        "of the source are not there": here.keys() - there.keys(),
        "there are not in the source": there.keys() - here.keys(),
        "have files of another size": {clip for clip in sized if here[clip] != there[clip]},
    }
    told = [f"{len(clips):,} clip(s) {how}, such as {min(clips)}" for how, clips in differing.items() if clips]
    if told:
        yield f"{'; '.join(told)}: set datasets.{dataset}.source to the videos that were extracted, or to null"
