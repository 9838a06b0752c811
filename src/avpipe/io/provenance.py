"""Whether a result is what its job would make now, as far as manifests tell without reading much: asked while planning.

Snakemake's own record of settings and inputs lies in .snakemake/ and stays behind where results are moved or copied
alone; of a folder it knows one time stamp. Manifests lie beside the results and know every file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.io.manifest import (
    Manifest,
    digest_given,
    digest_json,
    find_damage,
    manifest_path,
    name_sources,
    read_manifest,
)

_MOST_BYTES = 1_000_000  # of a given file that is read while planning, as much as Snakemake reads


@dataclass(frozen=True)
class PlannedJob:
    """A job as Snakemake plans it.

    Attributes:
        outputs, inputs: its files and folders, there or not; inputs None: they are not compared.
        stage: name and version of what it runs.
        settings: its params but the stage.
        not_compared: names of those that no result depends on.
    """

    outputs: Sequence[str]
    inputs: Sequence[str] | None
    stage: str
    settings: Mapping[str, Any]
    not_compared: Collection[str]


@dataclass(frozen=True)
class Stale:
    """A result that its job has to make again, and why, in a phrase; `is_damaged`: it is not as it was written."""

    result: str
    why: str
    is_damaged: bool = False


def stale_results(job: PlannedJob) -> list[Stale]:
    """Results of a job that its manifests contradict; none where no manifest says anything."""
    if not has_manifest(job.outputs):
        return []
    return [stale for path in map(Path, job.outputs) if path.exists() for stale in _check(path, job)]


def has_manifest(outputs: Sequence[str]) -> bool:
    """Whether any of a job's results is there with its manifest."""
    return any(path.exists() and manifest_path(path).exists() for path in map(Path, outputs))


def recorded_sha256(outputs: Sequence[str], source: str) -> str | None:
    """What the sha256 of a source is, or has to be, if all of some results were made from it.

    None where one was not, or where a manifest is damaged, which `stale_results` tells.

    Args:
        outputs: the results.
        source: a result, whose sha256 is taken from its manifest; or a given file, which is read if it is small.
    """
    path = Path(source)
    try:
        known = [read_manifest(result) for result in map(Path, outputs) if manifest_path(result).exists()]
        if manifest_path(path).exists():
            digest, sha256 = _contents(path), read_manifest(path).outputs[path.name]["sha256"]
        elif _is_small(path):
            digest, sha256 = digest_given(path), hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            return None
    except AvpipeError:
        return None
    is_source = known and all(digest in {*each.inputs.values(), *each.given.values()} for each in known)
    return sha256 if is_source else None


def _check(result: Path, job: PlannedJob) -> Iterator[Stale]:
    if not manifest_path(result).exists():
        yield Stale(str(result), "its manifest is gone", is_damaged=True)
        return
    try:
        manifest, damage = read_manifest(result), find_damage(result, quick=True)
    except AvpipeError as error:
        yield Stale(str(result), str(error), is_damaged=True)
        return
    yield from (Stale(str(result), phrase, is_damaged=True) for phrase in damage[:1])
    if manifest.stage != job.stage:
        yield Stale(str(result), f"it was made by {manifest.stage}, and now there is {job.stage}")
    if changed := _changed_settings(manifest, job):
        yield Stale(str(result), f"it was made with other settings ({', '.join(changed)})")
    if job.inputs is not None and (changed := _changed_sources(result, manifest, job.inputs)):
        yield Stale(str(result), f"it was made from other files ({', '.join(changed[:3])})")


def _changed_settings(manifest: Manifest, job: PlannedJob) -> list[str]:
    now = {name: digest_json(value) for name, value in job.settings.items() if name not in job.not_compared}
    then = {name: digest for name, digest in manifest.settings.items() if name not in job.not_compared}
    return _differences(then, now)


def _changed_sources(result: Path, manifest: Manifest, inputs: Sequence[str]) -> list[str]:
    results, given = [], []
    for path in map(Path, inputs):
        if not path.exists():  # deleted after use; or a job makes it, and this one after it
            continue
        if manifest_path(path).exists():
            results.append((path, _contents(path)))
        else:
            given.append((path.name, digest_given(path) if _is_small(path) else ""))
    now = name_sources(result, results, given)
    gone = {os.path.relpath(path, result.parent) for path in inputs if not Path(path).exists()}
    then = {name: digest for name, digest in manifest.inputs.items() if name not in gone}
    unread = {name: manifest.given.get(name, "") for name, digest in now["given"].items() if not digest}
    return [*_differences(then, now["inputs"]), *_differences(manifest.given, now["given"] | unread)]


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= _MOST_BYTES


def _contents(result: Path) -> str:
    status = manifest_path(result).stat()
    return _contents_of(result, status.st_ino, status.st_mtime_ns)


@cache
def _contents_of(result: Path, inode: int, modified_ns: int) -> str:
    return read_manifest(result).contents
