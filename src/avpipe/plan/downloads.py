"""What a dataset needs of published files, and which of it is not there."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.plan import features, retrieval
from avpipe.plan.project import Project
from avpipe.plan.retrieval import SubsetName
from avpipe.retrieval.settings import PUBLISHED
from avpipe.sources.file_sets import FileSet, fetch_set
from avpipe.sources.hosts import begin_run
from avpipe.sources.lock_file import LOCK_FILE, Pins

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """Published files that a dataset needs.

    Attributes:
        name: in config/files.yaml.
        files: what they are, and how they are to be had.
        missing: those that are not there.
    """

    name: str
    files: FileSet
    missing: list[Path]

    @property
    def is_by_hand(self) -> bool:
        """Whether a person has to get some of it."""
        return bool(self.missing) and not self.files.can_be_fetched()

    def n_bytes(self) -> int:
        """Bytes still to get, as far as they are known."""
        return self.files.n_bytes(self.missing) if self.missing else 0

    def described(self) -> str:
        """What it is, how large, and under which licence."""
        size = f"{self.n_bytes() / 1e6:,.1f} MB" if self.n_bytes() else "size not published"
        return f"{self.name}: {self.files.title} ({size}; licence: {self.files.licence})"


def needs(project: Project, dataset: str) -> list[Need]:
    """What a dataset needs of published files: of its sets, and the weights of its networks.

    Of a set for which the settings name files elsewhere, nothing is needed.

    Raises:
        AvpipeError: it names a set that is not in config/files.yaml.
    """
    named = [Path(path) for path in _named(project, dataset) if path]
    found = []
    for name, files in listed(project, dataset).items():
        if used := files.used(named):
            missing = set(files.missing())
            found.append(Need(name, files, [path for path in used if path in missing]))
    return found


def listed(project: Project, dataset: str) -> dict[str, FileSet]:
    """The sets that a dataset lists, and those with weights.

    Raises:
        AvpipeError: it lists one that is not in config/files.yaml.
    """
    known, names = project.catalogue, project.dataset(dataset).files
    for name in names:
        if name not in known:
            raise AvpipeError(
                f"{dataset} needs the files {name!r}, and config/files.yaml has {', '.join(known)}. Correct "
                f"datasets.{dataset}.files."
            )
    return {name: known[name] for name in names} | {name: files for name, files in known.items() if files.weights}


def pins(project: Project, name: str) -> Pins:
    """What the files of a set were when they were first fetched, where nobody publishes their hash."""
    return Pins(Path(project.paths.resources) / LOCK_FILE, name)


def _named(project: Project, dataset: str) -> Iterator[str | None]:
    """Every path that a run of a dataset reads, as the settings name it; other texts do no harm."""
    settings = project.dataset(dataset)
    yield from _texts(settings.model_dump(include={"source", "gzsl"}))
    for extractor in features.extractors(project, dataset):
        yield features.weights(project, dataset, extractor)
        yield features.pca(project, dataset, extractor)
    subsets = [] if settings.retrieval.runs else [SubsetName(dataset, each) for each in settings.retrieval.subsets]
    for name in settings.retrieval.runs:
        subsets += retrieval.subsets_of(project, dataset, name)
        for place in retrieval.starts(project, dataset, name):
            run = retrieval.run_settings(project, *place)
            trained = retrieval.training_subset(project, *place) if run.epochs else None
            subsets += [trained] if trained else []
            yield project.weights_file(place[0], run.model) if run.weights == PUBLISHED else None
            yield project.dataset(place[0]).retrieval.word_vectors if run.uses_text else None
    for other, subset in subsets:
        known = project.config.datasets[other].retrieval.subsets if other in project.config.datasets else {}
        yield known[subset].path if subset in known else None


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
    if any(need.is_by_hand for need in missing):
        return  # all that is lacking is named afterwards, before hours of fetching
    if total := sum(need.n_bytes() for need in missing):
        _log.warning(
            "%s: %d sets of published files are fetched before planning, %.1f MB as far as lengths are known",
            dataset, len(missing), total / 1e6,
        )  # fmt: skip
    for need in missing:
        _log.warning("Fetching %s to %s", need.described(), need.files.folder)
        fetch_set(need.files, pins=pins(project, need.name), products=need.missing)
