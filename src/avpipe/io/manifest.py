"""Manifests: beside every result lies what was written, what it was made from and with which settings.

`x.h5` has `x.h5.manifest`, and so has a folder, whose manifest lists every file in it. Fields: `format` and
`version`; `stage`, the name and version of what made it; `outputs`, file -> {sha256, bytes}; `inputs`, result -> digest
of its manifest's outputs; `given`, the same for files that avpipe did not make, by their names alone; `settings`, name
-> digest of the value; `digest`, of all the rest. Paths are relative to the folder that the manifest lies in, so that
results can be moved.

A manifest is written just before its file appears: where a process is killed in between, the older file is not what the
manifest says, and is made again. Readers call `verified`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.io import atomic
from avpipe.io.reading import MAKE_AGAIN, reading

StrPath = str | os.PathLike[str]
Outputs = dict[str, dict[str, Any]]

SUFFIX = ".manifest"  # not .json: whoever looks for JSON files must not find manifests
_FORMAT, _VERSION = "avpipe manifest", 1
_SNAKEMAKES = ".snakemake_timestamp"  # which it puts into folders
_FRESH_NS = 2_000_000_000  # a file that changed within it may change again without another time stamp
_hashed: dict[tuple[Path, int, int, int], str] = {}


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; the fields are those of the file."""

    stage: str
    outputs: Outputs
    inputs: dict[str, str]
    given: dict[str, str]
    settings: dict[str, str]

    @property
    def contents(self) -> str:
        """Digest of the outputs, by which other manifests name this result."""
        return digest_json(self.outputs)


@dataclass(frozen=True)
class _Job:
    stage: str = ""
    inputs: tuple[tuple[Path, str], ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


_job: ContextVar[_Job | None] = ContextVar("_job", default=None)


def digest_json(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def manifest_path(result: StrPath) -> Path:
    """Where the manifest of a file or folder lies."""
    result = Path(result)
    return result.with_name(result.name + SUFFIX)


@contextmanager
def made_by(stage: str, inputs: Iterable[StrPath], settings: Mapping[str, Any]) -> Iterator[None]:
    """Whatever is written inside names these in its manifest.

    Args:
        stage: name and version of what writes.
        inputs: files and folders that it reads; those that have a manifest are compared with it.
        settings: plain values that the result depends on.

    Raises:
        AvpipeError: an input is not what was written.
    """
    ours, given = [], []
    for path in map(Path, inputs):
        if manifest_path(path).exists():
            ours.append((path, read_manifest(verified(path)).contents))
        else:
            given.append((path.name, digest_given(path)))
    digests = tuple((name, digest_json(value)) for name, value in settings.items())
    token = _job.set(_Job(stage, tuple(ours), tuple(given), digests))
    try:
        yield
    finally:
        _job.reset(token)


@contextmanager
def result_file(target: StrPath, *, beside: Iterable[Path] = ()) -> Iterator[Path]:
    """`avpipe.io.atomic.atomic_path` with a manifest.

    Args:
        target: the file.
        beside: files of the same folder, written before, that belong to it and stand in its manifest.
    """
    with atomic.atomic_path(target) as temporary:
        yield temporary
        atomic.flush(temporary)  # takes longest, so before the manifest: nothing but a renaming shall come after it
        outputs = _describe(temporary, Path(target))
        for path in beside:
            outputs |= _describe(path, path)
        _write_manifest(Path(target), outputs)


@contextmanager
def result_directory(target: StrPath) -> Iterator[Path]:
    """`avpipe.io.atomic.atomic_directory` with a manifest of all files in it."""
    with atomic.atomic_directory(target) as temporary:
        yield temporary
        _write_manifest(Path(target), _describe(temporary, Path(target)))


def write_bytes(target: StrPath, data: bytes, *, beside: Iterable[Path] = ()) -> None:
    """Write `data` to `target`, whole or not at all, with its manifest; `beside` as in `result_file`."""
    with result_file(target, beside=beside) as temporary:
        temporary.write_bytes(data)


def write_text(target: StrPath, text: str, *, beside: Iterable[Path] = ()) -> None:
    """Write `text` as UTF-8 to `target` with its manifest; `beside` as in `result_file`."""
    write_bytes(target, text.encode("utf-8"), beside=beside)


def write_json(target: StrPath, value: Any, *, beside: Iterable[Path] = ()) -> None:
    """As `avpipe.io.atomic.write_json`, with a manifest; `beside` as in `result_file`."""
    write_text(target, atomic.to_json(value), beside=beside)


def read_json(source: StrPath) -> Any:
    """What `write_json` wrote.

    Raises:
        AvpipeError: it is damaged, or nobody wrote its manifest.
        FileNotFoundError: there is no such file.
    """
    with reading(verified(source), "JSON", MAKE_AGAIN):
        return json.loads(Path(source).read_text(encoding="utf-8"))


def verified(source: StrPath, *, may_be_given: bool = False) -> Path:
    """A result that was compared with its manifest; a file's digest is computed once as long as it stays the same.

    Args:
        source: a file or folder.
        may_be_given: whether it may come from elsewhere: without a manifest it is taken as it is, there or not.

    Raises:
        AvpipeError: it, or its manifest, is not what was written, or there is no manifest.
        FileNotFoundError: there is no such file.
    """
    source = Path(source)
    if not source.exists():
        if may_be_given:
            return source
        raise FileNotFoundError(source)
    if manifest_path(source).exists():
        damage = find_damage(source)
        if damage:
            raise AvpipeError(f"{source} is not as it was written: {damage[0]}. {MAKE_AGAIN}")
    elif not may_be_given:
        raise AvpipeError(
            f"{source} has no {source.name}{SUFFIX} beside it: an earlier version of avpipe wrote it, or it was copied "
            f"alone, and nobody can tell whether it is as it was written. {MAKE_AGAIN}"
        )
    return source


def find_damage(result: StrPath, *, quick: bool = False) -> list[str]:
    """How a result's files differ from its manifest, a phrase for each, those that matter most first.

    Args:
        result: a file or folder.
        quick: read no file but those of a folder that are newer than its manifest.

    Raises:
        AvpipeError: the manifest itself is damaged.
    """
    result = Path(result)
    expected = read_manifest(result).outputs
    not_read = math.inf if result.is_file() else manifest_path(result).stat().st_mtime_ns
    damage = []
    for name, each in expected.items():
        path = result.parent / name
        if not path.is_file():
            damage.append(f"{name} is gone")
        elif path.stat().st_size != each["bytes"]:
            damage.append(f"{name} has {path.stat().st_size:,} bytes, and {each['bytes']:,} were written")
        elif quick and path.stat().st_mtime_ns <= not_read:
            continue
        elif (sha256 := _sha256(path)) != each["sha256"]:
            damage.append(f"the sha256 of {name} is {sha256}, and {each['sha256']} was written")
    if result.is_dir():
        surplus = sorted(name for path in _files(result) if (name := _name(path, result, result)) not in expected)
        damage += [f"{name} was not written with it" for name in surplus]
    return damage


def read_manifest(result: StrPath) -> Manifest:
    """The manifest of a result.

    Raises:
        AvpipeError: there is none, or it is damaged or of another version.
    """
    path = manifest_path(result)
    with reading(path, f"the manifest of {Path(result).name}", f"Delete {result}, and run the same command again"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if digest_json({name: value for name, value in record.items() if name != "digest"}) != record["digest"]:
            raise ValueError("it is not as it was written (digest)")
        if (record["format"], record["version"], type(record["outputs"])) != (_FORMAT, _VERSION, dict):
            raise ValueError(f"it is {record['format']!r} of version {record['version']}")
        return Manifest(**{name: record[name] for name in Manifest.__dataclass_fields__})


def set_time(place: Path, modified_ns: int) -> None:
    """Give a file, or a folder and all that is in it, a time stamp in nanoseconds."""
    for path in [place, *(place.rglob("*") if place.is_dir() else [])]:
        os.utime(path, ns=(modified_ns, modified_ns), follow_symlinks=False)


def remove(result: Path) -> None:
    """Remove a file and its manifest, if they are there."""
    manifest_path(result).unlink(missing_ok=True)
    result.unlink(missing_ok=True)


def _write_manifest(target: Path, outputs: Outputs) -> None:
    job = _job.get() or _Job()
    record: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "stage": job.stage,
        "outputs": outputs,
        **name_sources(target, job.inputs, job.given),
        "settings": dict(job.settings),
    }
    atomic.write_json(manifest_path(target), {**record, "digest": digest_json(record)})


def name_sources(
    target: Path, results: Iterable[tuple[Path, str]], given: Iterable[tuple[str, str]]
) -> dict[str, dict[str, str]]:
    """`inputs` and `given` of a manifest.

    Args:
        target: what the manifest is about.
        results: what it was made from, with the digests of their outputs.
        given: names and digests of files that have no manifest.
    """
    # From another place of the machine: its path, relative or not, would name folders that are nobody's business.
    far = [(path.name, digest) for path, digest in results if path.is_absolute() != target.is_absolute()]
    near = [each for each in results if each[0].is_absolute() == target.is_absolute()]
    inputs = {Path(os.path.relpath(path, target.parent)).as_posix(): digest for path, digest in near}
    return {"inputs": inputs, "given": _by_name([*given, *far])}


def digest_given(path: Path) -> str:
    """Digest of a file or folder that has no manifest, as manifests have it in `given`."""
    return digest_json(_describe(path, path))


def _by_name(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Files by their names; one whose name is taken gets a number."""
    named: dict[str, str] = {}
    for name, digest in given:
        number = sum(each == name or each.startswith(f"{name} (") for each in named)
        named[f"{name} ({number + 1})" if number else name] = digest
    return named


def _describe(written: Path, target: Path) -> Outputs:
    """Digest and size of every file of `written`, under the names that they have once it is `target`."""
    return {
        _name(path, written, target): {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(_files(written))
    }


def _files(place: Path) -> Iterator[Path]:
    found = place.rglob("*") if place.is_dir() else [place]
    return (path for path in found if path.is_file() and path.name != _SNAKEMAKES)


def _name(path: Path, written: Path, target: Path) -> str:
    """A file's name as manifests have it: relative to the folder in which `target` lies."""
    return (Path(target.name) / path.relative_to(written)).as_posix()


def _sha256(path: Path) -> str:
    stat = path.stat()
    key = path.absolute(), stat.st_ino, stat.st_size, stat.st_mtime_ns
    if key in _hashed:
        return _hashed[key]
    with reading(path, "a file that can be read", "Check its permissions and the disk."), path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if time.time_ns() - stat.st_mtime_ns > _FRESH_NS:
        _hashed[key] = sha256
    return sha256
