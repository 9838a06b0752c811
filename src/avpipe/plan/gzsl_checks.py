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
from avpipe.plan.features import uses_videos
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
    settings = project.dataset(dataset)
    wanted, key = settings.gzsl, f"datasets.{dataset}.gzsl"
    problems = []
    is_read = any(benchmark.split not in wanted.own_splits for benchmark in wanted.benchmarks) or not wanted.benchmarks
    # Where a published source brings it, it is asked for with the source.
    if is_read and (wanted.class_split or not isinstance(settings.source, PublishedFeatures)):
        folder = gzsl.class_split_folder(project, dataset)
        problems += missing_path("the class-split folder", folder, f"{key}.class_split", wanted.obtain)
    if wanted.word_vectors and wanted.word_model:
        problems.append(f"one source of class vectors: {key}.word_vectors and {key}.word_model are both set")
    if wanted.word_model:
        problems += missing_path("the word model", wanted.word_model, f"{key}.word_model", wanted.obtain)
    elif wanted.word_vectors or not _brings_words(settings):
        hint = wanted.obtain + (f"; or {key}.word_model" if wanted.obtain else "")
        if not isinstance(settings.source, Synthetic):
            problems += missing_path("the class vectors", wanted.word_vectors, f"{key}.word_vectors", hint)
    if wanted.word_names:
        problems += missing_path(
            "the names of the class vectors", wanted.word_names, f"{key}.word_names", wanted.obtain
        )
    if not wanted.methods.enabled():
        problems.append(f"a method: {key}.methods switches every one off")
    if not wanted.benchmarks:
        problems.append(
            f"a benchmark: set {key}.benchmarks to a list such as [{{split: main_split, features: main_features}}]"
        )
    for benchmark in wanted.benchmarks:
        if wanted.feature_sets[benchmark.features].path is not None:
            path = wanted.feature_sets[benchmark.features].path
            problems += missing_path("published features", path, f"{key}.feature_sets.{benchmark.features}.path", "")
    return problems


def _brings_words(settings: Dataset) -> bool:
    """Whether every benchmark's features are published ones, which come with class vectors."""
    paths = [settings.gzsl.feature_sets[benchmark.features].path for benchmark in settings.gzsl.benchmarks]
    published = isinstance(settings.source, PublishedFeatures)
    # A feature pickle has none, unlike a tree and caches, which are folders.
    brings = [published if path is None else not os.path.isfile(path) for path in paths]  # noqa: PTH113
    return all(brings) if brings else published


def listed_clips(project: Project, dataset: str) -> dict[str, SourceClip] | None:
    """Clip id -> clip as the source lists it now; None where it lists none yet, or no video is used.

    Raises:
        AvpipeError: the source does not say of what class its clips are.
    """
    if project.is_synthetic(dataset) or not uses_videos(project, dataset):
        return None
    clips = {clip.clip_id: clip for shard in shard_listings(project, dataset) for clip in shard}
    if any(not clip.class_name for clip in clips.values()):
        path = project.setting(dataset, "source.path")
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
    wanted = project.dataset(dataset).gzsl
    _check_vector_length(wanted)
    for benchmark in wanted.benchmarks:
        if gzsl.published_features(project, dataset, benchmark.features) is not None:
            _check_published(project, dataset, benchmark.split, benchmark.features)
        elif benchmark.split in wanted.own_splits:
            _check_own(wanted, benchmark.split, clips)
        else:
            _check_extracted(project, dataset, benchmark.split, clips)


def _check_published(project: Project, dataset: str, split: str, features: str) -> None:
    from avpipe.gzsl.class_split import read_all_classes
    from avpipe.gzsl.splits import read_classes

    if split in project.dataset(dataset).gzsl.own_splits:
        raise AvpipeError(
            f"{dataset}: the split {split} is drawn from videos, but the feature set {features} is published and has "
            f"no videos. Use a split of the published class-split folder."
        )
    root = gzsl.class_split_folder(project, dataset) or "."
    read_classes(root, split, read_all_classes(root))
    path = Path(gzsl.published_features(project, dataset, features) or ".")
    is_tree = (path / "audio").is_dir() and (path / "video").is_dir()
    brings_words = not is_tree or list((path / "text").glob(WORDS_FILES))
    if gzsl.class_vectors(project, dataset, split) is None and not brings_words:
        raise AvpipeError(
            f"{path} brings no class vectors: there is no text/{WORDS_FILES}. Fetch it as well, or set "
            f"datasets.{dataset}.gzsl.word_vectors."
        )
    gzsl.names_file(project, dataset, split)


def _check_own(wanted: Gzsl, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.generated_split import generate_split, spoken_names
    from avpipe.gzsl.source_videos import source_videos
    from avpipe.gzsl.words import read_names

    if clips is None:
        return
    sources = source_videos(clips, {clip: str(each.path) for clip, each in clips.items()})
    labels = {clip: each.class_name for clip, each in clips.items()}
    split = generate_split(labels, sources, wanted.own_splits[split_name], split_name)
    names = read_names(wanted.word_names) if wanted.word_names else spoken_names(split.all_classes)
    _check_classes(wanted, split, names)


def _check_extracted(project: Project, dataset: str, split_name: str, clips: Mapping[str, SourceClip] | None) -> None:
    from avpipe.gzsl.splits import compare_with_clips, read_split
    from avpipe.gzsl.words import read_names

    names = read_names(gzsl.names_file(project, dataset, split_name) or "")
    split = read_split(gzsl.class_split_folder(project, dataset) or ".", split_name)
    if clips is None:
        return
    wanted = project.dataset(dataset).gzsl
    if not wanted.allow_classes_without_clips:
        compare_with_clips(split, clips)
    _check_classes(wanted, split, names)


def _check_vector_length(wanted: Gzsl) -> None:
    """Methods are made for class vectors of one length; another would be refused only after all extraction."""
    from avpipe.formats.word_files import vector_length
    from avpipe.gzsl.words import read_words

    path = wanted.word_model or wanted.word_vectors
    if path is None or not Path(path).exists():  # the embedded dataset's are made by a job
        return
    length = vector_length(path) if wanted.word_model else len(next(iter(read_words(path).values())))
    unfit = [name for name in wanted.methods.enabled() if METHODS[name].word_dim != length]
    if unfit:
        raise AvpipeError(
            f"{path} has vectors of {length} numbers; {', '.join(unfit)} need {METHODS[unfit[0]].word_dim}. Take "
            "vectors of that length, or switch these methods off (gzsl.methods.<name>: null)."
        )


def _check_classes(wanted: Gzsl, split: Split, names: Mapping[str, str]) -> None:
    """Every class can name a file and has a vector, in each form that is run; vectors to be made are not known yet."""
    from avpipe.gzsl.tree_files import safe_name
    from avpipe.gzsl.words import class_vectors, read_words

    for used in split.used_classes:
        safe_name(used, ".h5")
    if wanted.word_model:
        return
    words = read_words(wanted.word_vectors or "")
    texts = {
        wanted.choice(method, features, form).text
        for split_of, features, method, form in wanted.experiments()
        if split_of == split.name
    }
    for text in sorted(texts):
        class_vectors(words, names, split.all_classes, text, used=split.used_classes)
