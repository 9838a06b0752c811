"""What rules/gzsl.smk asks: splits, class vectors, features and experiments of a zero-shot dataset."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.plan.inventory import shards
from avpipe.plan.project import Project
from avpipe.sources.settings import PublishedFeatures

CACHE_FOLDERS = ("_features_processed", "_features_preprocessed")
"""The code that was published writes the first; its README says the second."""


def class_split_folder(project: Project, dataset: str) -> str | None:
    """The class-split folder, or the one that it lies in: as configured, else the published source."""
    settings = project.dataset(dataset)
    if settings.gzsl.class_split is None and isinstance(settings.source, PublishedFeatures):
        return settings.source.path
    return settings.gzsl.class_split


def own_split(project: Project, dataset: str, split: str) -> dict[str, Any] | None:
    """How a split is drawn from the videos at hand; None for a published one."""
    settings = project.dataset(dataset).gzsl.own_splits.get(split)
    return None if settings is None else settings.model_dump()


def class_split(project: Project, dataset: str, split: str) -> str | None:
    """Where a published split lies; None for one that is drawn from the videos at hand."""
    return None if own_split(project, dataset, split) else class_split_folder(project, dataset)


def split_files(project: Project, dataset: str, split: str) -> list[str]:
    """Every file that a published split consists of; none for a split of one's own."""
    from avpipe.gzsl.class_split import find_folder

    if own_split(project, dataset, split):
        return []
    folder = find_folder(class_split_folder(project, dataset) or ".")
    files = sorted([*(folder / split).glob("*.txt"), *(folder / split).glob("*.csv")])
    return [str(path) for path in [folder / "all_class.txt", *files]]


def uses_repeats(project: Project, dataset: str) -> bool:
    """Whether a given split says which clips are used, so that those with one content stay."""
    settings = project.dataset(dataset).gzsl
    return any(each.split not in settings.own_splits for each in settings.benchmarks)


def split_shards(project: Project, dataset: str, split: str) -> list[str]:
    """The shards whose clips a split is drawn from; none for a published split."""
    return shards(project, dataset) if own_split(project, dataset, split) else []


def class_vectors(project: Project, dataset: str, split: str) -> str | None:
    """The file of class vectors: given, made by a job from a word model, or None: the published features' own.

    A word model gives each split vectors of its own, since each split has its own table of names.
    """
    gzsl = project.dataset(dataset).gzsl
    return project.paths.class_vectors(dataset, split) if gzsl.word_model else gzsl.word_vectors


def names_files(project: Project, dataset: str, split: str) -> list[str]:
    """The CSVs from class names to names of word vectors: the split's, over which lies the configured one.

    A split of one's own brings none: its classes are called by their names.

    Raises:
        AvpipeError: the class-split folder has none, or several, and none is configured.
    """
    from avpipe.gzsl.class_split import find_folder

    own = [project.dataset(dataset).gzsl.word_names or ""]
    if own_split(project, dataset, split):
        return [*filter(None, own)]
    folder = find_folder(class_split_folder(project, dataset) or ".")
    found = sorted(folder.glob("*_w2v_class_names.csv"))
    if len(found) != 1 and not own[0]:
        raise AvpipeError(
            f"{folder} holds {len(found)} files *_w2v_class_names.csv, expected one. "
            f"Set datasets.{dataset}.gzsl.word_names to the one to use."
        )
    return [*filter(None, [str(found[0]) if len(found) == 1 else "", *own])]


def published_features(project: Project, dataset: str, features: str) -> str | None:
    """The published features of a feature set: its own path, else where the published source has them.

    None where the feature set is extracted.

    Raises:
        AvpipeError: the source has none.
    """
    settings = project.dataset(dataset)
    own = settings.gzsl.feature_sets[features].path
    if own is not None or not isinstance(settings.source, PublishedFeatures):
        return own
    root = Path(settings.source.path or ".")
    places = [root / "features" / features, *(root / folder / features for folder in CACHE_FOLDERS)]
    for place in places:
        if place.is_dir():
            return str(place)
    there = sorted({path.name for place in places for path in place.parent.glob("*") if path.is_dir()})
    over_time = [name for name in there if name.endswith(("_non_averaged", "_no_averaged"))]
    which = f" ({', '.join(over_time)}: features over time, which TCaF reads; no method here does)" if over_time else ""
    raise AvpipeError(
        f"{root} has no features of the set {features!r}; looked for {', '.join(map(str, places))}; there are "
        f"{', '.join(there) or 'none'}{which}. Unpack the "
        f"benchmark's features there, set datasets.{dataset}.gzsl.feature_sets.{features}.path, or remove the "
        f"benchmark from datasets.{dataset}.gzsl.benchmarks."
    )


def published_state(project: Project, dataset: str, features: str) -> str | None:
    """A digest of names, sizes and time stamps of published features, which are too many to be inputs."""
    path = published_features(project, dataset, features)
    return None if path is None else listing_of(Path(path))


def listing_of(path: Path) -> str:
    """A digest of names, sizes and time stamps of a file, or of all files below a folder, links followed."""
    files = [path] if path.is_file() else sorted(each for each in _below(path) if each.is_file())
    digest = hashlib.sha256()
    for each in files:
        status = each.stat()
        digest.update(f"{each.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _below(path: Path) -> Iterator[Path]:
    """What lies below a folder; no folder twice, since links may lead in a circle."""
    seen = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(folder) / name for name in names)


def extractors_of(project: Project, dataset: str, features: str) -> list[str]:
    """The extractors of a feature set, each once."""
    chosen = project.dataset(dataset).gzsl.feature_sets[features]
    return list(dict.fromkeys([chosen.video, chosen.audio]))


def extracted_shards(project: Project, dataset: str, features: str) -> list[str]:
    """The shards that a feature set is extracted from; none where it is published."""
    return [] if published_features(project, dataset, features) else shards(project, dataset)


def experiment(project: Project, dataset: str, features: str, method: str, form: str) -> dict[str, Any]:
    """A method's settings in one form on a feature set, with the seeds, as plain values.

    Raises:
        AvpipeError: the dataset does not run that method.
    """
    gzsl = project.dataset(dataset).gzsl
    if getattr(gzsl.methods, method) is None:
        raise AvpipeError(f"datasets.{dataset}.gzsl.methods.{method} is null, so {method} is not run.")
    chosen = gzsl.choice(method, features, form)
    return {
        "text": chosen.text,
        "hyperparameters": chosen.hyperparameters.model_dump(),
        "training": chosen.training.model_dump(),
        "seeds": gzsl.seeds,
    }


def experiments(project: Project, dataset: str) -> list[str]:
    """<split>/<feature set>/<method>/<form> of everything to run, controls included."""
    return ["/".join(each) for each in project.dataset(dataset).gzsl.experiments()]


def benchmarks(project: Project, dataset: str) -> list[str]:
    """<split>/<feature set> of every benchmark."""
    return [f"{each.split}/{each.features}" for each in project.dataset(dataset).gzsl.benchmarks]
