"""What a zero-shot benchmark needs from outside, found and checked before any job runs. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.gzsl.settings import Gzsl
from avpipe.plan import gzsl
from avpipe.plan.features import extracted
from avpipe.plan.inventory import shard_listings
from avpipe.plan.missing import missing_path
from avpipe.plan.project import Project
from avpipe.registry import METHODS
from avpipe.sources.local import SourceClip
from avpipe.sources.settings import PublishedFeatures, Synthetic

if TYPE_CHECKING:
    from avpipe.gzsl.splits import Split

WORDS_FILES = "word_embeddings_*_normed.npy"


def missing(project: Project, dataset: str) -> list[str]:
    """All that a dataset's benchmarks need and that is not there, one problem each."""
    configured = project.dataset(dataset)
    settings, key = configured.gzsl, f"datasets.{dataset}.gzsl"
    problems = []
    is_read = (
        any(benchmark.split not in settings.own_splits for benchmark in settings.benchmarks) or not settings.benchmarks
    )
    # Where a published source brings it, it is asked for with the source.
    if is_read and (settings.class_split or not isinstance(configured.source, PublishedFeatures)):
        folder = gzsl.class_split_folder(project, dataset)
        problems += missing_path("the class-split folder", folder, f"{key}.class_split", settings.obtain)
    if settings.word_vectors and settings.word_model:
        problems.append(f"one source of class vectors: {key}.word_vectors and {key}.word_model are both set")
    if settings.word_model:
        problems += missing_path("the word model", settings.word_model, f"{key}.word_model", settings.obtain)
    elif settings.word_vectors or not _brings_words(configured):
        hint = settings.obtain + (f"; or {key}.word_model" if settings.obtain else "")
        if not isinstance(configured.source, Synthetic):
            problems += missing_path("the class vectors", settings.word_vectors, f"{key}.word_vectors", hint)
    if settings.word_names:
        problems += missing_path(
            "the names of the class vectors", settings.word_names, f"{key}.word_names", settings.obtain
        )
    if not settings.methods.enabled():
        problems.append(f"a method: {key}.methods switches every one off")
    if not settings.benchmarks:
        problems.append(
            f"a benchmark: set {key}.benchmarks to a list such as [{{split: main_split, features: main_features}}]"
        )
    for benchmark in settings.benchmarks:
        if settings.feature_sets[benchmark.features].path is not None:
            path = settings.feature_sets[benchmark.features].path
            problems += missing_path("published features", path, f"{key}.feature_sets.{benchmark.features}.path", "")
    return problems


def _brings_words(configured: Dataset) -> bool:
    """Whether every benchmark's features are published ones, which come with class vectors."""
    paths = [configured.gzsl.feature_sets[benchmark.features].path for benchmark in configured.gzsl.benchmarks]
    published = isinstance(configured.source, PublishedFeatures)
    # A feature pickle has none, unlike a tree and caches, which are folders.
    brings = [published if path is None else not os.path.isfile(path) for path in paths]  # noqa: PTH113
    return all(brings) if brings else published


def listed_clips(project: Project, dataset: str) -> dict[str, SourceClip] | None:
    """Clip id -> clip as the source lists it now; None where it lists none yet, or no video is read.

    Raises:
        AvpipeError: the source does not say of what class its clips are.
    """
    if project.is_synthetic(dataset) or not extracted(project, dataset):
        return None
    clips = {clip.clip_id: clip for shard in shard_listings(project, dataset) for clip in shard}
    if any(not clip.class_name for clip in clips.values()):
        path = project.setting(dataset, "source", "path")
        raise AvpipeError(f"{path} lacks the column class, which zero-shot learning needs. Add it.")
    return clips


def check_splits(project: Project, dataset: str, clips: Mapping[str, SourceClip] | None) -> None:
    """Read every benchmark's split and compare it with the clips at hand and with the class vectors.

    Args:
        project: the configuration.
        dataset: its name.
        clips: as of `listed_clips`.

    Raises:
        AvpipeError: a split is not in order, has no clip at all of a class, or a class has no vector.
    """
    settings = project.dataset(dataset).gzsl
    _check_vector_length(settings)
    for benchmark in settings.benchmarks:
        if gzsl.published_features(project, dataset, benchmark.features) is not None:
            _check_published(project, dataset, benchmark.split, benchmark.features)
        elif benchmark.split in settings.own_splits:
            _check_own(settings, benchmark.split, clips)
        else:
            _check_extracted(project, dataset, benchmark.split, clips)


def _check_published(project: Project, dataset: str, split: str, features: str) -> None:
    from avpipe.gzsl.class_split import read_all_classes
    from avpipe.gzsl.splits import read_classes
    from avpipe.gzsl.tree_files import refuse_features_over_time

    if split in project.dataset(dataset).gzsl.own_splits:
        raise AvpipeError(
            f"{dataset}: the split {split} is drawn from videos, but the feature set {features} is published and has "
            f"no videos. Use a split of the published class-split folder."
        )
    root = gzsl.class_split_folder(project, dataset) or "."
    read_classes(root, split, read_all_classes(root))
    path = Path(gzsl.published_features(project, dataset, features) or ".")
    refuse_features_over_time(path)
    is_tree = (path / "audio").is_dir() and (path / "video").is_dir()
    brings_words = not is_tree or list((path / "text").glob(WORDS_FILES))
    if gzsl.class_vectors(project, dataset, split) is None and not brings_words:
        raise AvpipeError(
            f"{path} brings no class vectors: there is no text/{WORDS_FILES}. Fetch it as well, or set "
            f"datasets.{dataset}.gzsl.word_vectors."
        )
    gzsl.names_files(project, dataset, split)


def _check_own(settings: Gzsl, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.own_split import draw_split, spoken_names
    from avpipe.gzsl.source_videos import source_videos
    from avpipe.gzsl.words import read_tables

    if clips is None:
        return
    sources = source_videos(clips, {clip: str(each.path) for clip, each in clips.items()})
    labels = {clip: each.class_name for clip, each in clips.items()}
    split = draw_split(labels, sources, settings.own_splits[split_name], split_name)
    names = spoken_names(split.all_classes, read_tables([settings.word_names] if settings.word_names else []))
    _check_classes(settings, split, names)


def _check_extracted(project: Project, dataset: str, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.splits import compare_with_clips, read_split
    from avpipe.gzsl.words import read_tables

    names = read_tables(gzsl.names_files(project, dataset, split_name))
    split = read_split(gzsl.class_split_folder(project, dataset) or ".", split_name)
    if clips is None:
        return
    settings = project.dataset(dataset).gzsl
    if not settings.allow_classes_without_clips:
        compare_with_clips(split, clips)
    _check_classes(settings, split, names)


def _check_vector_length(settings: Gzsl) -> None:
    """Methods are made for class vectors of one length; another would be refused only after all extraction."""
    from avpipe.formats.word_vectors import vector_length
    from avpipe.gzsl.words import read_words

    path = settings.word_model or settings.word_vectors
    if path is None or not Path(path).exists():  # the embedded dataset's are made by a job
        return
    length = vector_length(path) if settings.word_model else len(next(iter(read_words(path).values())))
    unfit = [name for name in settings.methods.enabled() if METHODS[name].word_dim != length]
    if unfit:
        raise AvpipeError(
            f"{path} has vectors of {length} numbers; {', '.join(unfit)} need {METHODS[unfit[0]].word_dim}. Take "
            "vectors of that length, or switch these methods off (null under datasets.<name>.gzsl.methods)."
        )


def _check_classes(settings: Gzsl, split: Split, names: Mapping[str, str]) -> None:
    """Every class can name a file and has a vector, in each form that is run; vectors to be made are not known yet."""
    from avpipe.gzsl.tree_files import safe_name
    from avpipe.gzsl.words import class_vectors, read_words

    for used in split.used_classes:
        safe_name(used, ".h5")
    if settings.word_model:
        return
    words = read_words(settings.word_vectors or "")
    texts = {
        settings.choice(method, features, form).text
        for split_of, features, method, form in settings.experiments()
        if split_of == split.name
    }
    for text in sorted(texts):
        class_vectors(words, names, split.all_classes, text, used=split.used_classes)
