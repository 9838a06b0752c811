"""The pickles of the published AVCA-GZSL code: its caches, and the input of its splitting scripts.

The formats are in docs/methods.md, Caches and pickles. Files from elsewhere are read without running what they hold
(`avpipe.formats.pickles`); files written here are what the published code unpickles, the same bytes for the same
contents.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, listed
from avpipe.formats.npy import numbers
from avpipe.formats.pickle_writing import write_pickle
from avpipe.formats.pickles import read_pickle
from avpipe.io.reading import reading

StrPath = str | os.PathLike[str]
_MODALITIES = ("audio", "video")
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


def read_cache(path: StrPath) -> CachedSubset:
    """A cache (training, val, train_val or test).

    Raises:
        AvpipeError: it is absent or malformed, or its audio and video do not list the same clips.
    """
    contents = read_pickle(path)
    with reading(path, "a cache of the published code (training, val, train_val or test)", "Make it again."):
        parts = {}
        for name in (*_MODALITIES, "text"):
            part = contents.get(name) if isinstance(contents, dict) else None
            if not isinstance(part, dict) or not {"data", "target", "url"} <= part.keys():
                raise ValueError(f"it has no {name} with data, target and url")
            parts[name] = part
        clip_ids = {each: _texts(f"{each} url", parts[each]["url"]) for each in _MODALITIES}
        n = len(clip_ids["audio"])
        targets = {each: _integers(f"{each} target", parts[each]["target"], n) for each in _MODALITIES}
        if clip_ids["audio"] != clip_ids["video"] or not np.array_equal(targets["audio"], targets["video"]):
            raise ValueError("audio and video differ in url or target")
        audio, video = (_matrix(each, parts[each]["data"], n) for each in _MODALITIES)
        words = _matrix("text", parts["text"]["data"], len(parts["text"]["data"]))
        word_ids = _integers("text target", parts["text"]["target"], len(words))
        return CachedSubset(audio, video, targets["audio"], clip_ids["audio"], words, word_ids)


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
    forms = f"a dict with {', '.join(_FIELDS)}, a list of these four, or a list of rows [video, class id, audio, name]"
    with reading(path, forms, "Convert it to one of them."):
        if isinstance(contents, dict) and set(_FIELDS) <= contents.keys():
            video, labels, audio, names = (contents[field] for field in _FIELDS)
        elif isinstance(contents, list | tuple) and len(contents) == 4 and _are_names(contents[3]):
            video, labels, audio, names = contents
        elif isinstance(contents, list | tuple) and contents and all(map(_is_row, contents)):
            video, labels, audio, names = ([row[i] for row in contents] for i in range(4))
        elif isinstance(contents, dict) and {"features", "video_names"} <= contents.keys():
            raise ValueError("it holds features over time of one class, which TCaF reads (…_non_averaged)")
        else:
            raise ValueError(f"it holds a {type(contents).__name__} of another form")
        clip_ids = _texts("the file names", names)
        if not isinstance(contents, dict):
            clip_ids = tuple(_clip_of_file(name) for name in clip_ids)
        n = len(clip_ids)
        class_ids = _integers("the labels", labels, n)
        audio, video = _matrix("audio", audio, n), _matrix("video", video, n)
    kept = unique_rows(path, clip_ids, (class_ids, audio, video))
    if len(kept) < n:
        clip_ids = tuple(clip_ids[row] for row in kept)
        class_ids, audio, video = class_ids[kept], audio[kept], video[kept]
    return NamedFeatures(clip_ids, class_ids, audio, video, n - len(kept))


def write_feature_pickle(path: StrPath, features: NamedFeatures) -> None:
    """Write the dict that the published splitting scripts read, with CPU tensors and a list of names."""
    contents = (features.video, features.class_ids, features.audio, list(features.clip_ids))
    write_pickle(path, dict(zip(_FIELDS, contents, strict=True)))


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


def _clip_of_file(name: str) -> str:
    """The clip id of a path: without folders, cut at the first dot as the published reader does."""
    return name.replace("\\", "/").rpartition("/")[2].partition(".")[0]


def _are_names(value: Any) -> bool:
    is_text = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "US"
    return is_text or (isinstance(value, list | tuple) and all(isinstance(each, str | bytes) for each in value))


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and isinstance(value[3], str | bytes)


def _texts(what: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not _are_names(value) or not value:
        raise ValueError(f"{what} are not a list of names, or there are none")
    return tuple(each.decode("utf-8") if isinstance(each, bytes) else str(each) for each in value)


def _integers(what: str, value: Any, n: int) -> npt.NDArray[np.int64]:
    array = numbers(value)
    if array.shape != (n,) or array.dtype.kind not in "iuf" or not np.array_equal(array, np.rint(array)):
        raise ValueError(f"{what} are {array.dtype} {array.shape}; expected {n} whole numbers")
    return array.astype(np.int64)


def _matrix(what: str, value: Any, n: int) -> npt.NDArray[np.float32]:
    array = numbers(value)
    if array.ndim != 2 or len(array) != n or not array.shape[1] or array.dtype.kind not in "iuf":
        raise ValueError(f"{what} is {array.dtype} {array.shape}; expected numbers [{n}, d], a row per clip")
    return array.astype(np.float32, copy=False)
