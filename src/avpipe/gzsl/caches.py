"""The caches of the published AVCA-GZSL code as benchmarks: which subsets each holds, and what must agree in them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, listed
from avpipe.formats.avca_pickles import CachedSubset, read_cache
from avpipe.formats.pickle_writing import write_pickle
from avpipe.gzsl.benchmark import Benchmark, join
from avpipe.gzsl.splits import STAGE_2_PARTS
from avpipe.gzsl.tree_files import MODALITIES, safe_name
from avpipe.gzsl.words import correct_keys, published_keys

StrPath = str | os.PathLike[str]
CACHE_PARTS = {
    "training": ("stage_1_train",),
    "val": ("stage_1_val_seen", "stage_1_val_unseen"),
    "train_val": STAGE_2_PARTS,
    "test": ("stage_2_test_seen", "stage_2_test_unseen"),
}
"""Cache -> the subsets in it, in this order (docs/methods.md, Caches and pickles)."""

_NEEDED = ("training", "val", "test")


def cache_path(folder: StrPath, cache: str, split: str) -> Path:
    """Where the published code has a cache, such as `trainingmain_split.pkl`."""
    return Path(folder) / safe_name(f"{cache}{split}", ".pkl")


def read_caches(folder: StrPath, split: str) -> dict[str, CachedSubset]:
    """ "training", "val" and "test" -> its cache, from the folder …/_features_processed/<feature set>.

    train_val holds nothing that training and val do not; if it is there, it must hold exactly the same, since
    half-renewed folders of caches are known to break runs (docs/methods.md, Caches and pickles).

    Raises:
        AvpipeError: a cache is absent or malformed, its audio and video do not list the same clips, or the
            caches contradict each other; the message names the file.
    """
    paths = {cache: cache_path(folder, cache, split) for cache in CACHE_PARTS}
    lacking = [paths[cache].name for cache in _NEEDED if not paths[cache].is_file()]
    if lacking:
        there = listed(path.name for path in Path(folder).glob("*.pkl"))
        raise AvpipeError(
            f"{folder} lacks {', '.join(lacking)} of the caches of {split}; it has {there}. Expected "
            "training, val and test of one split; check the folder and the split's name."
        )
    caches = {cache: read_cache(paths[cache]) for cache in _NEEDED}
    first = caches["training"]
    for cache in ("val", "test"):
        _check_same_kind(paths[cache], caches[cache], paths["training"], first)
    if paths["train_val"].is_file():
        _check_train_val(paths["train_val"], caches["training"], caches["val"])
    return caches


def write_caches(
    benchmark: Benchmark,
    names: Mapping[str, str],
    words: Mapping[str, npt.NDArray[np.float32]],
    folder: StrPath,
    split: str,
) -> None:
    """Write the four caches of a split as the published code makes them; it then reads no other feature file.

    Args:
        benchmark: the features; its own class vectors are not used, since they may be aligned otherwise.
        names: class name -> word2vec name, one for every class (`avpipe.gzsl.words.read_names`).
        words: word2vec name -> float32 [d], one for every class (`avpipe.gzsl.words.read_words`).
        folder: …/_features_processed/<feature set>.
        split: such as main_split.

    Raises:
        AvpipeError: a class has no name or vector; the published code indexes the rows by class id, so that
            none may be lacking.
    """
    keys, word_class_ids = _text_rows(names, benchmark.class_names)
    lacking = [key for key in keys if key not in words]
    if lacking:
        raise AvpipeError(f"{len(words)} word vectors, but none for {listed(lacking)}; complete the vectors.")
    text = {
        "data": np.stack([np.asarray(words[key], np.float32) for key in keys]),
        "target": word_class_ids,
        "url": np.empty(0, "U1"),
    }
    for cache, parts in CACHE_PARTS.items():
        subsets = [benchmark.subsets[part] for part in parts]
        shared = {
            "target": join([subset.class_ids for subset in subsets]),
            "url": np.array([clip for subset in subsets for clip in subset.clip_ids], np.str_),
        }
        contents: dict[str, Any] = {
            modality: {"data": join([getattr(subset, modality) for subset in subsets]), **shared}
            for modality in MODALITIES
        }
        write_pickle(cache_path(folder, cache, split), {**contents, "text": text})


def cached_words(
    cache: CachedSubset, names: Mapping[str, str], class_names: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """word2vec name -> float32 [d], recovered from the text rows of a cache.

    Args:
        cache: any of a folder's, all have the same rows.
        names: class name -> word2vec name, the table that the cache was made with.
        class_names: all classes of the source dataset in code-point order.

    Raises:
        AvpipeError: the rows do not belong to these names: their number or the classes written beside them differ.
    """
    keys, class_ids = _text_rows(names, class_names)
    if not np.array_equal(cache.word_class_ids, class_ids):
        raise AvpipeError(
            f"The {len(cache.word_class_ids)} text rows of the caches are not those of the name table's {len(keys)} "
            "word2vec names in sorted order: the classes written beside them differ. Give the name table that the "
            "caches were made with, or the file of word vectors."
        )
    return dict(zip(keys, cache.words, strict=True))


def _text_rows(names: Mapping[str, str], class_names: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The sorted word2vec names and the id of the class that each one really belongs to."""
    keys = [key for key in published_keys(names, class_names) if key is not None]
    class_of = {key: class_id for class_id, key in enumerate(correct_keys(names, class_names))}
    unknown = [key for key in keys if key not in class_of]
    if unknown:
        raise AvpipeError(f"The name table has rows of no class of all_class.txt: {listed(unknown)}; correct it.")
    return keys, np.array([class_of[key] for key in keys], np.int64)


def _check_same_kind(path: Path, cache: CachedSubset, other_path: Path, other: CachedSubset) -> None:
    widths = [(each.audio.shape[1], each.video.shape[1]) for each in (cache, other)]
    if widths[0] != widths[1]:
        raise AvpipeError(
            f"{path} has features of the widths {widths[0]} and {other_path.name} of {widths[1]}; "
            "expected one feature set. Make the caches again."
        )
    if not np.array_equal(cache.words, other.words) or not np.array_equal(cache.word_class_ids, other.word_class_ids):
        raise AvpipeError(f"{path} has other text rows than {other_path.name}; make the caches again.")


def _check_train_val(path: Path, training: CachedSubset, val: CachedSubset) -> None:
    whole = read_cache(path)
    _check_same_kind(path, whole, path.with_name("training"), training)
    clip_ids = training.clip_ids + val.clip_ids
    mine = sorted(range(len(clip_ids)), key=clip_ids.__getitem__)
    theirs = sorted(range(len(whole.clip_ids)), key=whole.clip_ids.__getitem__)
    same = [clip_ids[row] for row in mine] == [whole.clip_ids[row] for row in theirs]
    for field in ("class_ids", *MODALITIES):
        ours = join([getattr(training, field), getattr(val, field)])
        same = same and np.array_equal(ours[mine], getattr(whole, field)[theirs])
    if not same:
        raise AvpipeError(
            f"{path} has {len(whole.clip_ids)} clips and is not training + val with {len(clip_ids)}; expected the same "
            "clips, classes and features. The caches are of different ages; make them again, or remove this file "
            "(training, val and test suffice)."
        )
