"""What a zero-shot benchmark needs from outside, found and checked before any job runs. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.gzsl.settings import Gzsl
from avpipe.plan.missing import missing_path
from avpipe.registry import METHODS
from avpipe.sources.local import SourceClip
from avpipe.sources.settings import PublishedFeatures, Synthetic

if TYPE_CHECKING:
    from avpipe.gzsl.splits import Split

WORDS_FILES = "word_embeddings_*_normed.npy"
CACHE_FOLDERS = ("_features_processed", "_features_preprocessed")
"""The code that was published writes the first; its README says the second."""


def missing(settings: Dataset, name: str) -> list[str]:
    """All that a dataset's benchmarks need and that is not there, one problem each."""
    gzsl, key = settings.gzsl, f"datasets.{name}.gzsl"
    problems = []
    is_read = any(benchmark.split not in gzsl.own_splits for benchmark in gzsl.benchmarks) or not gzsl.benchmarks
    # Where a published source brings it, it is asked for with the source.
    if is_read and (gzsl.class_split or not isinstance(settings.source, PublishedFeatures)):
        problems += missing_path(
            "the class-split folder", class_split_folder(settings), f"{key}.class_split", gzsl.obtain
        )
    if gzsl.word_vectors and gzsl.word_model:
        problems.append(f"one source of class vectors: {key}.word_vectors and {key}.word_model are both set")
    if gzsl.word_model:
        problems += missing_path("the word model", gzsl.word_model, f"{key}.word_model", gzsl.obtain)
    elif gzsl.word_vectors or not _brings_words(settings):
        hint = gzsl.obtain + (f"; or {key}.word_model" if gzsl.obtain else "")
        if not isinstance(settings.source, Synthetic):
            problems += missing_path("the class vectors", gzsl.word_vectors, f"{key}.word_vectors", hint)
    if gzsl.word_names:
        problems += missing_path("the names of the class vectors", gzsl.word_names, f"{key}.word_names", gzsl.obtain)
    if not gzsl.methods.enabled():
        problems.append(f"a method: {key}.methods switches every one off")
    if not gzsl.benchmarks:
        problems.append(
            f"a benchmark: set {key}.benchmarks to a list such as [{{split: main_split, features: main_features}}]"
        )
    for benchmark in gzsl.benchmarks:
        if gzsl.feature_sets[benchmark.features].path is not None:
            path = gzsl.feature_sets[benchmark.features].path
            problems += missing_path("published features", path, f"{key}.feature_sets.{benchmark.features}.path", "")
    return problems


def _brings_words(settings: Dataset) -> bool:
    """Whether every benchmark's features are published ones, which come with class vectors."""
    paths = [settings.gzsl.feature_sets[benchmark.features].path for benchmark in settings.gzsl.benchmarks]
    published = isinstance(settings.source, PublishedFeatures)
    # A feature pickle has none, unlike a tree and caches, which are folders.
    brings = [published if path is None else not os.path.isfile(path) for path in paths]  # noqa: PTH113
    return all(brings) if brings else published


def class_split_folder(settings: Dataset) -> str | None:
    """The class-split folder, or the one that it lies in: as configured, else the published source."""
    if settings.gzsl.class_split is None and isinstance(settings.source, PublishedFeatures):
        return settings.source.path
    return settings.gzsl.class_split


def find_features(settings: Dataset, name: str, features: str) -> str | None:
    """The published features of a feature set: its own path, else where the published source has them.

    Raises:
        AvpipeError: the source has none.
    """
    own = settings.gzsl.feature_sets[features].path
    if own is not None or not isinstance(settings.source, PublishedFeatures):
        return own
    root = Path(settings.source.path or ".")
    places = [root / "features" / features, *(root / folder / features for folder in CACHE_FOLDERS)]
    for place in places:
        if place.is_dir():
            return str(place)
    there = sorted({path.name for place in places for path in place.parent.glob("*") if path.is_dir()})
    raise AvpipeError(
        f"{root} has no features of the set {features!r}; looked for {', '.join(map(str, places))}; there are "
        f"{', '.join(there) or 'none'}. Unpack the "
        f"benchmark's features there, set datasets.{name}.gzsl.feature_sets.{features}.path, or remove the benchmark "
        f"from datasets.{name}.gzsl.benchmarks."
    )


def listing_of(path: Path) -> str:
    """A digest of names, sizes and time stamps of a file, or of all files below a folder, links followed."""
    below = (Path(folder) / file for folder, _, names in os.walk(path, followlinks=True) for file in names)
    files = [path] if path.is_file() else sorted(each for each in below if each.is_file())
    digest = hashlib.sha256()
    for each in files:
        status = each.stat()
        digest.update(f"{each.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def words_file(settings: Dataset, name: str, split: str) -> str | None:
    """The file of class vectors: given, made by a job from a word model, or None: the published features' own.

    A word model gives each split vectors of its own, since each split has its own table of names.
    """
    if settings.gzsl.word_model:
        return f"results/{name}/gzsl/{split}/word_embeddings_{name}_normed.npy"
    return settings.gzsl.word_vectors


def names_file(settings: Dataset, name: str, split: str) -> str | None:
    """The CSV from class names to names of word vectors; None where a split of one's own brings it.

    Raises:
        AvpipeError: the class-split folder has none, or several.
    """
    from avpipe.gzsl.class_split import find_folder

    if settings.gzsl.word_names:
        return settings.gzsl.word_names
    if split in settings.gzsl.own_splits:
        return None
    folder = find_folder(class_split_folder(settings) or ".")
    found = sorted(folder.glob("*_w2v_class_names.csv"))
    if len(found) != 1:
        raise AvpipeError(
            f"{folder} holds {len(found)} files *_w2v_class_names.csv, expected one. "
            f"Set datasets.{name}.gzsl.word_names to the one to use."
        )
    return str(found[0])


def split_files(settings: Dataset, split: str) -> list[str]:
    """Every file that a published split consists of; none for a split of one's own."""
    from avpipe.gzsl.class_split import find_folder

    if split in settings.gzsl.own_splits:
        return []
    folder = find_folder(class_split_folder(settings) or ".")
    files = sorted([*(folder / split).glob("*.txt"), *(folder / split).glob("*.csv")])
    return [str(path) for path in [folder / "all_class.txt", *files]]


def check_splits(settings: Dataset, name: str, clips: Mapping[str, SourceClip] | None) -> None:
    """Read every benchmark's split and compare it with the clips at hand and with the class vectors.

    Args:
        settings: of the dataset, forms decided.
        name: of the dataset.
        clips: clip id -> clip as the source lists it now; None where it lists none yet, or no video is used.

    Raises:
        AvpipeError: a split is not in order, has no clip at all of a class, or a class has no vector.
    """
    gzsl = settings.gzsl
    _check_vector_length(gzsl)
    for benchmark in gzsl.benchmarks:
        if find_features(settings, name, benchmark.features) is not None:
            _check_published(settings, name, benchmark.split, benchmark.features)
        elif benchmark.split in gzsl.own_splits:
            _check_own(settings, benchmark.split, clips)
        else:
            _check_extracted(settings, name, benchmark.split, clips)


def _check_published(settings: Dataset, name: str, split: str, features: str) -> None:
    from avpipe.gzsl.class_split import read_all_classes
    from avpipe.gzsl.splits import read_classes

    if split in settings.gzsl.own_splits:
        raise AvpipeError(
            f"{name}: the split {split} is drawn from videos, but the feature set {features} is published and has no "
            f"videos. Use a split of the published class-split folder."
        )
    root = class_split_folder(settings) or "."
    read_classes(root, split, read_all_classes(root))
    path = Path(find_features(settings, name, features) or ".")
    is_tree = (path / "audio").is_dir() and (path / "video").is_dir()
    if is_tree and words_file(settings, name, split) is None and not list((path / "text").glob(WORDS_FILES)):
        raise AvpipeError(
            f"{path} brings no class vectors: there is no text/{WORDS_FILES}. Fetch it as well, or set "
            f"datasets.{name}.gzsl.word_vectors."
        )
    names_file(settings, name, split)


def _check_own(settings: Dataset, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.generated_split import generate_split, spoken_names
    from avpipe.gzsl.source_videos import source_videos
    from avpipe.gzsl.words import read_names

    if clips is None:
        return
    gzsl = settings.gzsl
    sources = source_videos(clips, {clip: str(each.path) for clip, each in clips.items()})
    labels = {clip: each.class_name for clip, each in clips.items()}
    split = generate_split(labels, sources, gzsl.own_splits[split_name], split_name)
    names = read_names(gzsl.word_names) if gzsl.word_names else spoken_names(split.all_classes)
    _check_classes(gzsl, split, names)


def _check_extracted(settings: Dataset, name: str, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.splits import compare_with_clips, read_split
    from avpipe.gzsl.words import read_names

    names = read_names(names_file(settings, name, split_name) or "")
    split = read_split(class_split_folder(settings) or ".", split_name)
    if clips is None:
        return
    if not settings.gzsl.allow_classes_without_clips:
        compare_with_clips(split, clips)
    _check_classes(settings.gzsl, split, names)


def _check_vector_length(gzsl: Gzsl) -> None:
    """Methods are made for class vectors of one length; another would be refused only after all extraction."""
    from avpipe.formats.word_vectors import vector_length
    from avpipe.gzsl.words import read_words

    path = gzsl.word_model or gzsl.word_vectors
    if path is None or not Path(path).exists():  # the embedded dataset's are made by a job
        return
    length = vector_length(path) if gzsl.word_model else len(next(iter(read_words(path).values())))
    unfit = [name for name in gzsl.methods.enabled() if METHODS[name].word_dim != length]
    if unfit:
        raise AvpipeError(
            f"{path} has vectors of {length} numbers; {', '.join(unfit)} need {METHODS[unfit[0]].word_dim}. Take "
            "vectors of that length, or switch these methods off (gzsl.methods.<name>: null)."
        )


def _check_classes(gzsl: Gzsl, split: Split, names: Mapping[str, str]) -> None:
    """Every class can name a file and has a vector, in each form that is run; vectors to be made are not known yet."""
    from avpipe.gzsl.tree_files import safe_name
    from avpipe.gzsl.words import class_vectors, read_words

    for used in split.used_classes:
        safe_name(used, ".h5")
    if gzsl.word_model:
        return
    words = read_words(gzsl.word_vectors or "")
    texts = {
        gzsl.choice(method, features, form).text
        for split_of, features, method, form in gzsl.experiments()
        if split_of == split.name
    }
    for text in sorted(texts):
        class_vectors(words, names, split.all_classes, text, used=split.used_classes)
