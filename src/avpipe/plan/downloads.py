"""What a dataset needs of published files, which of it is not there, and who fetches that.

Planning reads what `source` and `gzsl` of a dataset name: annotations, splits, class vectors, folders of videos and of
features. A run fetches these before it plans; weights, packs and word vectors are fetched by jobs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.io.manifest import read_json
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
        to_plan: those of them that planning has to read, or that no job would put in place of what lies there.
    """

    name: str
    files: FileSet
    missing: list[Path]
    to_plan: list[Path] = field(default_factory=list)

    @property
    def is_by_hand(self) -> bool:
        """Whether a person has to get some of it."""
        return bool(self.missing) and not self.files.can_be_fetched()

    @property
    def for_jobs(self) -> list[Path]:
        """What jobs fetch."""
        return [path for path in self.missing if path not in self.to_plan]

    def n_bytes(self, missing: list[Path] | None = None) -> int:
        """Bytes still to get, of all that is missing or of some, as far as they are known."""
        chosen = self.missing if missing is None else missing
        return self.files.n_bytes(chosen) if chosen else 0

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
    planning, jobs = _read_by_planning(project, dataset), _read_by_jobs(project, dataset)
    found = []
    for name, files in listed(project, dataset).items():
        if used := files.used([*planning, *jobs]):
            lacking, first = set(files.missing()), files.used(planning)
            missing = [path for path in used if path in lacking]
            # A job makes a file that is read as a whole and that is not there at all.
            to_plan = [path for path in missing if path in first or path not in jobs or path.exists()]
            found.append(Need(name, files, missing, missing if to_plan and files.unpack else to_plan))
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


def _read_by_planning(project: Project, dataset: str) -> list[Path]:
    """Every path that planning reads, as the settings name it; other texts do no harm."""
    configured = project.dataset(dataset)
    is_listed = configured.features_from is None or features.reads_source(project, dataset)
    settings = configured.model_dump(include={"source", "gzsl"} if is_listed else {"gzsl"})
    return [Path(text) for text in _texts(settings) if text]


def _read_by_jobs(project: Project, dataset: str) -> list[Path]:
    """Every other path that a run of a dataset reads."""
    return [Path(path) for path in _for_jobs(project, dataset) if path]


def _for_jobs(project: Project, dataset: str) -> Iterator[str | None]:
    settings = project.dataset(dataset)
    for extractor in features.extracted(project, dataset):
        yield from features.weight_files(project, dataset, extractor)
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
def fetch_to_plan(project: Project, dataset: str) -> None:
    """Fetch the published files that planning a dataset reads; none where a person has to get others first.

    Hosts that were left alone for the rest of an earlier run are asked again.

    Raises:
        AvpipeError: one could not be had, or not be written.
    """
    begin_run(Path(project.paths.hosts()))
    found = needs(project, dataset)
    if any(need.is_by_hand for need in found):
        return  # all that is lacking is named afterwards, before hours of fetching
    for need in found:
        if need.to_plan:
            _log.warning("Fetching %s to %s, which planning reads", need.described(), need.files.folder)
            fetch_set(need.files, pins=pins(project, need.name), products=need.to_plan)


@functools.cache
def awaited(project: Project, dataset: str) -> Mapping[Path, Need]:
    """The missing files that jobs fetch; none where that is not allowed, or a person has to get others first."""
    found = needs(project, dataset) if project.config.allow_download else []
    if any(need.is_by_hand for need in found):
        return {}
    return {path: need for need in found for path in need.for_jobs}


@functools.cache
def tell_awaited(project: Project, dataset: str) -> None:
    """Tell in a line how much jobs fetch."""
    fetched = {need.name: need for need in awaited(project, dataset).values()}
    if fetched and project.tell is not None:
        total = sum(need.n_bytes(need.for_jobs) for need in fetched.values()) / 1e6
        size = f"{total:,.1f} MB as far as lengths are known" if total else "whose lengths are not published"
        project.tell(f"{dataset}: jobs fetch {len(fetched)} set(s) of published files ({', '.join(fetched)}), {size}.")


@dataclass(frozen=True)
class FetchJob:
    """A job that fetches published files: an archive, or a file of a set.

    Attributes:
        rule: its name.
        name: of the set in config/files.yaml.
        files: the set.
        paths: what it puts in place.
    """

    rule: str
    name: str
    files: FileSet
    paths: list[Path]


def fetch_jobs(project: Project, *, is_planning: bool) -> list[FetchJob]:
    """The jobs that may fetch what any dataset lacks; none where fetching is not allowed.

    Args:
        project: the configuration.
        is_planning: whether only what is missing now counts; in a job, the file may have come meanwhile.
    """
    read = {path for dataset in project.config.datasets for path in _read_by_jobs(project, dataset)}
    found = []
    for name, files in project.catalogue.items() if project.config.allow_download else ():
        products, missing = files.products(), [path for path in files.missing() if not path.exists()]
        chosen = products if not (is_planning or missing) else missing
        if not (read & set(chosen) and files.can_be_fetched()):
            continue
        if files.unpack or len(products) == 1:
            found.append(FetchJob(f"fetch_{name}", name, files, chosen))
        else:
            found += [FetchJob(f"fetch_{name}_{products.index(path)}", name, files, [path]) for path in chosen]
    return found


def come_back(project: Project, dataset: str, extractor: str) -> bool:
    """Whether weights that are not there are fetched again just as they were, so that features made with them stay."""
    gone = [path for path in map(Path, features.weight_files(project, dataset, extractor)) if not path.exists()]
    expected = awaited(project, dataset)
    try:
        record = read_json(project.paths.weights(dataset, extractor)) if gone and set(gone) <= set(expected) else {}
    except (OSError, AvpipeError):
        return False
    known = [str(digest) for digest in (record.get("sha256"), record.get("pca_sha256")) if digest]
    return bool(known) and all(_is_known(project, expected[path], path, known) for path in gone)


def _is_known(project: Project, need: Need, path: Path, sha256: list[str]) -> bool:
    """Whether what is fetched for a file has one of some digests; of an archive, whether it is one that is known."""
    files, known = need.files, pins(project, need.name)
    if files.unpack is not None:
        return all(known.of(file) for file in files.without_hash())
    file = str(path.relative_to(files.folder))
    pin = known.of(file)
    digest = next(iter(files.digests(file)), pin.sha256 if pin else None)
    return digest is not None and any(each.startswith(digest) for each in sha256)
