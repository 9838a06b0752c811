"""Ready-made features from elsewhere: into the folder tree of a split, with an account of what they hold.

Rules that the three kinds of sources share:

- Which clips belong to a subset is said by its csv; where that is lacking (copies without large files), by the source.
- A clip that the csv of its subset does not list is refused, and so is one that lies in two subsets: the
  published code would train or test on it without a word, and the result would be of no split that has a name. A
  feature pickle covers a whole dataset, so there clips outside the split are left out and counted.
- Clips of classes that no txt lists are left out, as the published class filter does; that alone makes cls_split
  differ. In caches they are counted; files of a tree with them are not opened. Clips of a class that belongs to
  another subset are refused.
- Rows that repeat a clip with the same contents are merged and counted; with other contents they are refused.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.errors import AvpipeError, listed
from avpipe.formats.avca_pickles import CachedSubset, read_feature_pickle, unique_rows
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.caches import CACHE_PARTS, cache_path, cached_words, read_caches
from avpipe.gzsl.class_split import ClassNames, find_folder, read_all_classes, read_clip_list
from avpipe.gzsl.source_videos import repeated_clips, shared_sources, source_videos
from avpipe.gzsl.splits import STAGE_2_PARTS, Split, match_clips, only_at_hand, read_classes, read_split
from avpipe.gzsl.tree import NAMES_SUFFIX, PooledFeatures, write_features
from avpipe.gzsl.tree_files import MODALITIES, only_file, refuse_features_over_time
from avpipe.gzsl.tree_reading import list_subset, read_modality
from avpipe.gzsl.words import read_names, read_words, write_words
from avpipe.io.manifest import write_json
from avpipe.schema.gzsl import BenchmarkSummary, FeatureSource

StrPath = str | os.PathLike[str]
Members = dict[str, dict[str, str]]
"""subset -> {clip id: class}, of the subsets that are stored (stage_2_train is three of them)."""

STORED = tuple(subset for subset in SUBSETS if subset != "stage_2_train")


@dataclass
class _Source:
    """What a source holds, in whatever form it came.

    Attributes:
        kind: "tree", "caches" or "feature pickle".
        clip_ids: of the rows of `arrays`, each once.
        arrays: modality -> float32 [n, d].
        members: which clip lies in which subset, where the source says so.
        class_ids: clip id -> class id, where the source says so without saying the subset.
        merged: rows that repeated another.
        dropped: class that no txt lists -> clips left out.
        cache: the cache whose text rows may stand in for word vectors.
    """

    kind: str
    clip_ids: tuple[str, ...]
    arrays: dict[str, Any]
    members: Members | None = None
    class_ids: dict[str, int] = field(default_factory=dict)
    merged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    cache: CachedSubset | None = None


def import_features(
    source: StrPath,
    *,
    class_split: StrPath,
    split: str,
    words: StrPath | None,
    names: StrPath,
    tree: StrPath,
    summary: StrPath,
) -> None:
    """Convert published features into a feature-set folder of our tree and say what it rests on.

    Args:
        source: a folder with audio/ and video/ (an .h5 tree); a folder with training<split>.pkl and so on (the
            caches of the published code); or a file (the input of its splitting scripts).
        class_split: the folder that has class-split/, or that folder. Only a feature pickle needs every csv.
        split: such as main_split.
        words: the word vectors; None: those of the source, a tree's text folder or the text rows of caches.
        names: the `<dataset>_w2v_class_names.csv`.
        tree: the feature-set folder to write, as `avpipe.gzsl.tree.write_features` does.
        summary: the JSON file to write, a `BenchmarkSummary`; a subset's `expected_from` is "csv" or the source's kind.

    Raises:
        AvpipeError: the source is none of these, is malformed, or holds what the rules of this module refuse.
    """
    source = Path(source)
    all_classes = read_all_classes(class_split)
    classes = read_classes(class_split, split, all_classes)
    found = _read_source(source, split, all_classes, classes)
    if found.members is None:
        expected, origins = read_split(class_split, split), dict.fromkeys(SUBSETS, "csv")
        _check_labels(source, found, expected)
    else:
        expected, origins = _expected(class_split, split, found.members, found.kind)
        _check_members(source, found.members, expected)
    with tempfile.TemporaryDirectory() as scratch:
        words_file = _words_file(source, found, words, Path(names), all_classes, Path(scratch))
        text_rows_agree = None if found.cache is None else _text_rows_agree(found.cache, words_file)
        audio, video = (PooledFeatures(found.clip_ids, found.arrays[modality]) for modality in MODALITIES)
        result = write_features(tree, expected, audio, video, words_file=words_file, names_file=names)
    used = only_at_hand(expected, found.clip_ids)
    subsets = {
        subset: each.model_copy(update={"expected_from": origins[subset]}) for subset, each in result.subsets.items()
    }
    benchmark = BenchmarkSummary(
        **{**dict(result), "subsets": subsets},
        source=FeatureSource(
            kind=found.kind,
            path=str(source),
            merged_duplicates=found.merged,
            dropped_classes=found.dropped,
            unlisted_clips=len(found.clip_ids) - sum(len(used.clips[subset]) for subset in STORED),
            text_rows_agree=text_rows_agree,
        ),
        shared_sources=shared_sources(used, source_videos(set().union(*used.clips.values()))),
        repeated=repeated_clips(used, _equal_rows(found)),
    )
    write_json(summary, benchmark.to_json())


def _read_source(source: Path, split: str, all_classes: ClassNames, classes: Mapping[str, tuple[str, ...]]) -> _Source:
    if source.is_file():
        features = read_feature_pickle(source)
        arrays = {"audio": features.audio, "video": features.video}
        class_ids = dict(zip(features.clip_ids, features.class_ids.tolist(), strict=True))
        return _Source("feature pickle", features.clip_ids, arrays, class_ids=class_ids, merged=features.merged)
    refuse_features_over_time(source)
    if all((source / modality).is_dir() for modality in MODALITIES):
        return _read_tree(source, all_classes, classes)
    if any(cache_path(source, cache, split).is_file() for cache in CACHE_PARTS):
        return _read_cached(source, split, all_classes, classes)
    there = listed(path.name for path in source.iterdir()) if source.is_dir() else "nothing: it does not exist"
    raise AvpipeError(
        f"{source} has {there}. Expected a folder with audio/ and video/ (a feature set of a tree), a folder with "
        f"{cache_path('', 'training', split)} (the caches of the published code), or a pickle of features; check the "
        "path and the split."
    )


def _read_tree(source: Path, all_classes: ClassNames, classes: Mapping[str, tuple[str, ...]]) -> _Source:
    listings = {subset: list_subset(source, subset, all_classes, classes[subset]) for subset in STORED}
    clip_ids: list[str] = []
    where: list[tuple[str, str]] = []
    for subset, listing in listings.items():
        for name, each in zip(classes[subset], listing, strict=True):
            clip_ids += each.clip_ids
            where += [(subset, name)] * len(each.clip_ids)
    arrays = {modality: read_modality(listings, modality) for modality in MODALITIES}
    return _gathered("tree", source, clip_ids, where, arrays)


def _read_cached(source: Path, split: str, all_classes: ClassNames, classes: Mapping[str, tuple[str, ...]]) -> _Source:
    caches = read_caches(source, split)
    used = set().union(*classes.values())
    clip_ids: list[str] = []
    where: list[tuple[str, str]] = []
    kept: dict[str, list[int]] = {}
    dropped: Counter[str] = Counter()
    foreign: set[str] = set()
    for cache, contents in caches.items():
        subset_of = {name: subset for subset in CACHE_PARTS[cache] for name in classes[subset]}
        names = _class_names(cache_path(source, cache, split), contents, all_classes)
        kept[cache] = [row for row, name in enumerate(names) if name in subset_of]
        clip_ids += [contents.clip_ids[row] for row in kept[cache]]
        where += [(subset_of[names[row]], names[row]) for row in kept[cache]]
        left_out = [name for name in names if name not in subset_of]
        dropped.update(name for name in left_out if name not in used)
        foreign |= {f"{name} in {cache}" for name in left_out if name in used}
    if foreign:
        raise AvpipeError(
            f"{source} has clips of classes that {split} has in another subset: {listed(foreign)}. Expected caches of "
            "this split; check the class lists and the folder."
        )
    arrays = {
        modality: np.concatenate([getattr(caches[cache], modality)[rows] for cache, rows in kept.items()])
        for modality in MODALITIES
    }
    found = _gathered("caches", source, clip_ids, where, arrays)
    found.dropped, found.cache = dict(sorted(dropped.items())), caches["training"]
    return found


def _class_names(path: Path, cache: CachedSubset, all_classes: ClassNames) -> list[str]:
    """The class of each row."""
    if cache.class_ids.min() < 0 or cache.class_ids.max() >= len(all_classes.names):
        raise AvpipeError(
            f"{path} has class ids from {cache.class_ids.min()} to {cache.class_ids.max()}, all_class.txt "
            f"{len(all_classes.names)} classes; expected caches of the same dataset."
        )
    return [all_classes.names[class_id] for class_id in cache.class_ids]


def _gathered(
    kind: str, source: Path, clip_ids: list[str], where: list[tuple[str, str]], arrays: dict[str, Any]
) -> _Source:
    """A source whose rows lie in subsets: each clip in one of them, rows that repeat one merged."""
    places: dict[str, set[tuple[str, str]]] = {}
    for clip, place in zip(clip_ids, where, strict=True):
        places.setdefault(clip, set()).add(place)
    several = {clip for clip, found in places.items() if len(found) > 1}
    if several:
        raise AvpipeError(f"{source} has clips in two subsets or classes: {listed(several)}; each belongs to one.")
    kept = unique_rows(source, clip_ids, list(arrays.values()))
    merged = len(clip_ids) - len(kept)
    if merged:
        arrays = {modality: values[kept] for modality, values in arrays.items()}
    members: Members = {subset: {} for subset in STORED}
    for clip, ((subset, name),) in places.items():
        members[subset][clip] = name
    return _Source(kind, tuple(places), arrays, members, merged=merged)


def _expected(class_split: StrPath, name: str, members: Members, kind: str) -> tuple[Split, dict[str, str]]:
    """The split, with the clips of a source for subsets without a csv, and where each subset's clips are from."""
    folder = find_folder(class_split) / name
    origins = {subset: "csv" if (folder / f"{subset}.csv").is_file() else kind for subset in STORED}
    if set(origins.values()) == {"csv"}:
        return read_split(class_split, name), dict.fromkeys(SUBSETS, "csv")
    all_classes = read_all_classes(class_split)
    classes = read_classes(class_split, name, all_classes)
    clips = {}
    for subset, origin in origins.items():
        rows = read_clip_list(class_split, name, subset, all_classes) if origin == "csv" else members[subset]
        clips[subset] = {clip: label for clip, label in sorted(rows.items()) if label in classes[subset]}
    union = {clip: label for part in STAGE_2_PARTS for clip, label in clips[part].items()}
    clips["stage_2_train"] = dict(sorted(union.items()))
    origins["stage_2_train"] = "csv" if all(origins[part] == "csv" for part in STAGE_2_PARTS) else kind
    return Split(name, all_classes.names, classes, {subset: clips[subset] for subset in SUBSETS}), origins


def _check_members(source: StrPath, members: Members, expected: Split) -> None:
    """Every clip of the source lies where the split has it, and nowhere else."""
    here = {clip for clips in members.values() for clip in clips}
    present = match_clips(expected, here).present
    places: dict[str, list[tuple[str, str]]] = {}
    for subset in STORED:
        for clip, at_hand in present[subset].items():
            places.setdefault(at_hand, []).append((subset, expected.clips[subset][clip]))
    for subset, clips in members.items():
        unlisted = [clip for clip in clips if clip not in places]
        elsewhere = [clip for clip, name in clips.items() if clip in places and places[clip] != [(subset, name)]]
        for problem, offenders in (
            ("that the split does not list", unlisted),
            ("that the split has in another subset or class", elsewhere),
        ):
            if offenders:
                raise AvpipeError(
                    f"{source} has clips in {subset} {problem}: {listed(offenders)}. Expected only clips of "
                    f"{expected.name}/{subset}.csv; use the split that the features were made for, or remove them."
                )


def _check_labels(source: StrPath, found: _Source, expected: Split) -> None:
    """A feature pickle's labels are the class ids of the split; otherwise names and rows do not belong together."""
    ids = {name: class_id for class_id, name in enumerate(expected.all_classes)}
    present = match_clips(expected, found.clip_ids).present
    wrong = [
        f"{at_hand} has {found.class_ids[at_hand]}, not {ids[expected.clips[subset][clip]]}"
        for subset in STORED
        for clip, at_hand in present[subset].items()
        if found.class_ids[at_hand] != ids[expected.clips[subset][clip]]
    ]
    if wrong:
        raise AvpipeError(
            f"{source} has labels that are not the class ids of {expected.name}: {listed(wrong)}. Expected positions "
            "in the sorted all_class.txt; check that names and rows belong together."
        )


def _equal_rows(found: _Source) -> dict[str, str]:
    """Clip -> the first clip, by clip id, that has the same features; only clips that have an earlier one."""
    first: dict[bytes, str] = {}
    repeats = {}
    for clip_id, row in sorted(zip(found.clip_ids, range(len(found.clip_ids)), strict=True)):
        features = b"".join(found.arrays[modality][row].tobytes() for modality in MODALITIES)
        one = first.setdefault(hashlib.sha256(features).digest(), clip_id)
        if one != clip_id:
            repeats[clip_id] = one
    return repeats


def _words_file(
    source: Path, found: _Source, words: StrPath | None, names: Path, all_classes: ClassNames, scratch: Path
) -> Path:
    """The file of word vectors: the given one, a tree's own, or one made of the text rows of caches."""
    if words is not None:
        return Path(words)
    if found.kind == "tree":
        return only_file(source / "text", "word_embeddings_*_normed.npy")
    if found.cache is None:
        raise AvpipeError(f"{source} has no word vectors; give the file word_embeddings_<dataset>_normed.npy.")
    target = scratch / f"word_embeddings_{names.name.removesuffix(NAMES_SUFFIX)}_normed.npy"
    write_words(target, cached_words(found.cache, read_names(names), all_classes.names))
    return target


def _text_rows_agree(cache: CachedSubset, words_file: Path) -> bool:
    """Whether the caches were made with these word vectors."""
    vectors = read_words(words_file)
    rows = [vectors[key] for key in sorted(vectors)]
    return len(rows) == len(cache.words) and all(map(np.array_equal, rows, cache.words))
