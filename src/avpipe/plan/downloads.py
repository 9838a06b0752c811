"""What a dataset needs of published files, and which of it is not there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from avpipe.config.catalogue import read_file_sets
from avpipe.errors import AvpipeError
from avpipe.plan import features
from avpipe.plan.project import Project
from avpipe.sources.file_sets import FileSet


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
    known = _file_sets(project)
    for name in project.dataset(dataset).files:
        if name not in known:
            raise AvpipeError(
                f"{dataset} needs the files {name!r}, and config/files.yaml has {', '.join(known)}. Correct "
                f"datasets.{dataset}.files."
            )
        found = known[name]
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


@functools.cache
def _file_sets(project: Project) -> dict[str, FileSet]:
    return read_file_sets(project.root / "config" / "files.yaml", asdict(project.paths))
