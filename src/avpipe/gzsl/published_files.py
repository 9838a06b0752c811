"""The pickles of the published AVCA-GZSL code, read and written: four caches, and the input of its splitting scripts.

The formats are in specs/avca.md §1.5 and §1.7. Files from elsewhere are read without running what they hold
(`avpipe.formats.pickles`); files written here are what the published code unpickles, the same bytes for the
same contents.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, listed
from avpipe.formats.pickle_writing import write_pickle
from avpipe.formats.pickles import read_pickle
from avpipe.gzsl.data import Benchmark, join
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
"""Cache -> the subsets in it, in this order (specs/avca.md §1.5)."""

_NEEDED = ("training", "val", "test")
_FIELDS = ("video", "labels", "audio", "filenames")


@dataclass(frozen=True)
class CachedSubset:
    """The contents of one cache, in the order of the file.

    Attributes:
        audio: float32 [n, d_a], one row per clip.
        video: float32 [n, d_v].
        class_ids: int64 [n].
        clip_ids: n names ("url" in the file); the file may have one twice.
        words: float32 [n_classes, d_w], row i is the vector of the i-th of the sorted word2vec names.
        word_class_ids: int64 [n_classes], the class that each row of `words` really belongs to.
    """

    audio: npt.NDArray[np.float32]
    video: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    clip_ids: tuple[str, ...]
    words: npt.NDArray[np.float32]
    word_class_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class NamedFeatures:
    """The features of a dataset by clip, as the splitting scripts take them.

    Attributes:
        clip_ids: n unique names.
        class_ids: int64 [n].
        audio: float32 [n, d_a].
        video: float32 [n, d_v].
        merged: number of rows of the file that repeated an earlier one and were left out.
    """

    clip_ids: tuple[str, ...]
    class_ids: npt.NDArray[np.int64]
    audio: npt.NDArray[np.float32]
    video: npt.NDArray[np.float32]
    merged: int = 0


def cache_path(folder: StrPath, cache: str, split: str) -> Path:
    """Where the published code has a cache, such as `trainingmain_split.pkl`."""
    return Path(folder) / safe_name(f"{cache}{split}", ".pkl")


def read_caches(folder: StrPath, split: str) -> dict[str, CachedSubset]:
    """ "training", "val" and "test" -> its cache, from the folder …/_features_processed/<feature set>.

    train_val holds nothing that training and val do not; if it is there, it must hold exactly the same, since
    half-renewed folders of caches are known to break runs (specs/avca.md §8.1).

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
    caches = {cache: _read_cache(paths[cache]) for cache in _NEEDED}
    first = caches["training"]
    for cache in ("val", "test"):
        _check_same_kind(paths[cache], caches[cache], paths["training"], first)
    if paths["train_val"].is_file():
        _check_train_val(paths["train_val"], caches["training"], caches["val"])
    return caches


def read_feature_pickle(path: StrPath) -> NamedFeatures:
    """The features in a pickle that the splitting scripts or the extraction scripts wrote, in any of three forms.

    A dict {"video" [n, d_v], "labels" [n], "audio" [n, d_a], "filenames" [n]}, whose names are taken as they
    are; the list [video, labels, audio, filenames]; or a list of rows [video, class id, audio, file name]. In the
    lists, which come straight from an extraction, folders and what follows the first dot are cut off the names.
    Rows with equal name and contents are merged and counted.

    Raises:
        AvpipeError: the file is none of these, its parts disagree in length, or rows with the same name differ.
    """
    contents = read_pickle(path)
    if isinstance(contents, dict) and set(_FIELDS) <= contents.keys():
        video, labels, audio, names = (contents[field] for field in _FIELDS)
    elif isinstance(contents, list | tuple) and len(contents) == 4 and _are_names(contents[3]):
        video, labels, audio, names = contents
    elif isinstance(contents, list | tuple) and contents and all(map(_is_row, contents)):
        video, labels, audio, names = ([row[i] for row in contents] for i in range(4))
    else:
        raise AvpipeError(
            f"{path} holds a {type(contents).__name__} of another form. Expected a dict with {', '.join(_FIELDS)}, "
            "a list of these four, or a list of rows [video, class id, audio, file name]; convert it to one of them."
        )
    clip_ids = _texts(path, "the file names", names)
    if not isinstance(contents, dict):
        clip_ids = tuple(_clip_of_file(name) for name in clip_ids)
    n = len(clip_ids)
    class_ids = _integers(path, "the labels", labels, n)
    audio, video = (_matrix(path, each, values, n) for each, values in (("audio", audio), ("video", video)))
    kept = unique_rows(path, clip_ids, (class_ids, audio, video))
    if len(kept) < n:
        clip_ids = tuple(clip_ids[row] for row in kept)
        class_ids, audio, video = class_ids[kept], audio[kept], video[kept]
    return NamedFeatures(clip_ids, class_ids, audio, video, n - len(kept))


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


def write_feature_pickle(path: StrPath, features: NamedFeatures) -> None:
    """Write the dict that the published splitting scripts read, with CPU tensors and a list of names."""
    contents = (features.video, features.class_ids, features.audio, list(features.clip_ids))
    write_pickle(path, dict(zip(_FIELDS, contents, strict=True)))


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


def unique_rows(source: StrPath, clip_ids: Sequence[str], arrays: Sequence[npt.NDArray[Any]]) -> list[int]:
    """The rows with each clip's first occurrence, in order.

    Raises:
        AvpipeError: a later row of a clip differs from the first in any of the arrays.
    """
    first: dict[str, int] = {}
    differing = set()
    for row, clip in enumerate(clip_ids):
        other = first.setdefault(clip, row)
        if other != row and any(array[row].tobytes() != array[other].tobytes() for array in arrays):
            differing.add(clip)
    if differing:
        raise AvpipeError(
            f"{source} has clips more than once, with different labels or features: {listed(differing)}. Expected one "
            "row a clip; find out which is right and remove the others."
        )
    return [*first.values()]


def _text_rows(names: Mapping[str, str], class_names: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The sorted word2vec names and the id of the class that each one really belongs to."""
    keys = [key for key in published_keys(names, class_names) if key is not None]
    class_of = {key: class_id for class_id, key in enumerate(correct_keys(names, class_names))}
    unknown = [key for key in keys if key not in class_of]
    if unknown:
        raise AvpipeError(f"The name table has rows of no class of all_class.txt: {listed(unknown)}; correct it.")
    return keys, np.array([class_of[key] for key in keys], np.int64)


def _read_cache(path: Path) -> CachedSubset:
    contents = read_pickle(path)
    parts = {}
    for name in (*MODALITIES, "text"):
        part = contents.get(name) if isinstance(contents, dict) else None
        if not isinstance(part, dict) or not {"data", "target", "url"} <= part.keys():
            raise AvpipeError(
                f"{path} has no {name} with data, target and url; expected a cache of the published code "
                "(training, val, train_val or test). Make it again."
            )
        parts[name] = part
    clip_ids = {each: _texts(path, f"{each} url", parts[each]["url"]) for each in MODALITIES}
    n = len(clip_ids["audio"])
    targets = {each: _integers(path, f"{each} target", parts[each]["target"], n) for each in MODALITIES}
    if clip_ids["audio"] != clip_ids["video"] or not np.array_equal(targets["audio"], targets["video"]):
        raise AvpipeError(f"{path}: audio and video differ in url or target; expected the same clips. Make it again.")
    audio, video = (_matrix(path, each, parts[each]["data"], n) for each in MODALITIES)
    words = _matrix(path, "text", parts["text"]["data"], len(parts["text"]["data"]))
    word_ids = _integers(path, "text target", parts["text"]["target"], len(words))
    return CachedSubset(audio, video, targets["audio"], clip_ids["audio"], words, word_ids)


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
    whole = _read_cache(path)
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


def _clip_of_file(name: str) -> str:
    """The clip id of a path: without folders, cut at the first dot as the published reader does."""
    return name.replace("\\", "/").rpartition("/")[2].partition(".")[0]


def _are_names(value: Any) -> bool:
    is_text = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "US"
    return is_text or (isinstance(value, list | tuple) and all(isinstance(each, str | bytes) for each in value))


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and isinstance(value[3], str | bytes)


def _texts(path: StrPath, what: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not _are_names(value) or not value:
        raise AvpipeError(f"{path}: {what} are not a list of names, or there are none; make the file again.")
    try:
        return tuple(each.decode("utf-8") if isinstance(each, bytes) else str(each) for each in value)
    except UnicodeDecodeError as error:
        raise AvpipeError(f"{path}: {what} are not UTF-8: {error}.") from error


def _integers(path: StrPath, what: str, value: Any, n: int) -> npt.NDArray[np.int64]:
    array = _array(path, what, value)
    if array.shape != (n,) or array.dtype.kind not in "iuf" or not np.array_equal(array, np.rint(array)):
        raise AvpipeError(f"{path}: {what} are {array.dtype} {array.shape}; expected {n} whole numbers.")
    return array.astype(np.int64)


def _matrix(path: StrPath, what: str, value: Any, n: int) -> npt.NDArray[np.float32]:
    array = _array(path, what, value)
    if array.ndim != 2 or len(array) != n or not array.shape[1] or array.dtype.kind not in "iuf":
        raise AvpipeError(f"{path}: {what} is {array.dtype} {array.shape}; expected numbers [{n}, d], a row per clip.")
    return array.astype(np.float32, copy=False)


def _array(path: StrPath, what: str, value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise AvpipeError(f"{path}: {what} has rows of different lengths ({error}); expected one length.") from error
