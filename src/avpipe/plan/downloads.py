"""What a dataset needs of published files, and which of it is not there."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avpipe.config.catalogue import read_file_sets
from avpipe.errors import AvpipeError
from avpipe.plan import features
from avpipe.plan.project import Project
from avpipe.sources.file_sets import FileSet, fetch_set
from avpipe.sources.hosts import begin_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """Published files that a dataset needs.

    Attributes:
        name: in config/files.yaml, or the key of a weights file.
        title: what they are.
        place: where they belong.
        files: how they are fetched; None: by hand.
        missing: those that are not there.
        licence: as far as it is stated.
        by_hand: where they can be had.
    """

    name: str
    title: str
    place: str
    files: FileSet | None
    missing: list[Path]
    licence: str
    by_hand: str = ""

    def n_bytes(self) -> int:
        """Bytes still to fetch, as far as they are known."""
        return self.files.n_bytes(self.missing) if self.files else 0


def needs(project: Project, dataset: str) -> list[Need]:
    """What a dataset needs of published files: its sets, and the weights of its networks.

    Raises:
        AvpipeError: it names a set that is not in config/files.yaml.
    """
    return [*_sets(project, dataset), *_weights(project, dataset)]


def _sets(project: Project, dataset: str) -> Iterator[Need]:
    known, settings = _file_sets(project), project.dataset(dataset)
    named = [Path(text) for text in _texts(settings.model_dump(exclude={"weights"}))]
    for name in settings.files:
        if name not in known:
            raise AvpipeError(
                f"{dataset} needs the files {name!r}, and config/files.yaml has {', '.join(known)}. Correct "
                f"datasets.{dataset}.files."
            )
        found = known[name]
        if not any(path.is_relative_to(found.folder) for path in named):  # the user has files of their own instead
            continue
        yield Need(name, found.title, found.folder, found, found.missing(), found.licence, found.obtain)


def _weights(project: Project, dataset: str) -> Iterator[Need]:
    for extractor in features.extractors(project, dataset):
        keys = [extractor] if features.weights(project, dataset, extractor) is not None else []
        keys += [f"{extractor}_pca"] if features.pca(project, dataset, extractor) is not None else []
        for key in keys:
            path, published = project.weights_file(dataset, key), project.catalogue.get(key)
            if published is None or path != published.path:  # random weights, or a file of the user's
                continue
            missing = [] if Path(path).is_file() else [Path(path)]
            title = f"weights of {key}"
            yield Need(key, title, path, published.file_set(), missing, published.licence_weights, published.url)


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


@functools.cache
def fetch_missing(project: Project, dataset: str) -> None:
    """Fetch the published files that a dataset lacks; none where a person has to get others first.

    Hosts that were left alone for the rest of an earlier run are asked again.

    Raises:
        AvpipeError: one could not be had, or not be written.
    """
    begin_run(Path(project.paths.hosts()))
    missing = [need for need in needs(project, dataset) if need.missing]
    files = [need.files for need in missing if need.files]
    if len(files) < len(missing):
        return  # all that is lacking is named afterwards, before hours of fetching
    if total := sum(need.n_bytes() for need in missing):
        _log.warning(
            "%s: %d sets of published files are fetched before planning, %.1f MB as far as lengths are known",
            dataset, len(missing), total / 1e6,
        )  # fmt: skip
    for need, wanted in zip(missing, files, strict=True):
        known = need.n_bytes()
        size = f"{known / 1e6:,.1f} MB" if known else "length unknown"
        _log.warning("Fetching %s to %s (%s; licence: %s)", need.title, need.place, size, need.licence)
        fetch_set(wanted)


@functools.cache
def _file_sets(project: Project) -> dict[str, FileSet]:
    return read_file_sets(project.root / "config" / "files.yaml", asdict(project.paths))
