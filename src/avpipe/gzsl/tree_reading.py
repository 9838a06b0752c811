"""Reading a published folder tree, ours or one from elsewhere, into one resident copy of its features."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.formats.class_files import list_class_file, read_class_values
from avpipe.gzsl.benchmark import SUBSETS, Benchmark, Subset, join
from avpipe.gzsl.class_split import ClassNames, find_folder, read_all_classes
from avpipe.gzsl.models.settings import TextAlignment
from avpipe.gzsl.splits import STAGE_2_PARTS, read_classes
from avpipe.gzsl.tree_files import MODALITIES, find_class_files, only_file, safe_name
from avpipe.gzsl.words import class_vectors, read_names, read_words
from avpipe.io.manifest import verified

StrPath = str | os.PathLike[str]
STORED = (*STAGE_2_PARTS, "stage_2_test_seen", "stage_2_test_unseen")
"""The subsets whose files are read, in the order in which they lie in memory: whatever a stage trains on or evaluates
is a run of neighbours, so none of it is copied."""


def read_tree(
    root: StrPath,
    feature_set: str,
    split_name: str,
    *,
    alignment: TextAlignment = "correct",
    permutation_seed: int = 0,
) -> Benchmark:
    """Read a feature set of a tree, with the classes of a split's txt files; see `read_features`.

    Args:
        root: the folder of the benchmark, with class-split/ and features/.
        feature_set: such as main_features.
        split_name: such as main_split.
        alignment, permutation_seed: which vector each class gets, see `avpipe.gzsl.words.class_vectors`.
    """
    folder = Path(root) / "features" / safe_name(feature_set)
    return read_features(root, folder, split_name, alignment=alignment, permutation_seed=permutation_seed)


def read_features(
    class_split: StrPath,
    folder: StrPath,
    split_name: str,
    *,
    alignment: TextAlignment = "correct",
    permutation_seed: int = 0,
) -> Benchmark:
    """Read a feature-set folder (…/features/<feature_set>) with the classes of a split's txt files.

    Clips of a subset come sorted by class and clip id. stage_2_train is the three stage-1 subsets one after the
    other, as the published loader has it, so its folder need not exist. Files of classes that a subset does not
    list are ignored. All subsets are views of one array a modality.

    Args:
        class_split: the class-split folder or the one that it lies in.
        folder: of the feature set, with audio/, video/ and text/.
        split_name: such as main_split.
        alignment, permutation_seed: which vector each class gets, see `avpipe.gzsl.words.class_vectors`.

    Raises:
        AvpipeError: a file is absent or malformed, audio and video do not list the same clips in the same order,
            or a subset has no clip at all.
    """
    folder = Path(folder)
    names = read_all_classes(class_split)
    classes = read_classes(class_split, split_name, names)
    words = read_class_vectors(class_split, folder, split_name, alignment=alignment, permutation_seed=permutation_seed)
    ids = {name: class_id for class_id, name in enumerate(names.names)}
    class_ids = {subset: np.array([ids[name] for name in classes[subset]], np.int64) for subset in SUBSETS}
    listings = {subset: list_subset(folder, subset, names, classes[subset]) for subset in STORED}
    arrays = {modality: read_modality(listings, modality) for modality in MODALITIES}
    subsets, start = {}, 0
    for subset, listing in listings.items():
        counts = [len(each.clip_ids) for each in listing]
        stop = start + sum(counts)
        labels = np.repeat(class_ids[subset], counts)
        clips = tuple(clip for each in listing for clip in each.clip_ids)
        subsets[subset] = Subset(arrays["audio"][start:stop], arrays["video"][start:stop], labels, clips)
        start = stop
    subsets["stage_2_train"] = _joined([subsets[part] for part in STAGE_2_PARTS])
    return Benchmark(names.names, words, class_ids, {subset: subsets[subset] for subset in SUBSETS})


def read_class_vectors(
    class_split: StrPath,
    folder: StrPath,
    split_name: str,
    *,
    alignment: TextAlignment = "correct",
    permutation_seed: int = 0,
) -> npt.NDArray[np.float32]:
    """The class vectors alone, float32 [n_classes, d]; arguments and errors as for `read_features`."""
    names = read_all_classes(class_split)
    return class_vectors(
        read_words(only_file(verified(folder, may_be_given=True) / "text", "word_embeddings_*_normed.npy")),
        read_names(only_file(find_folder(class_split), "*_w2v_class_names.csv")),
        names.names,
        alignment,
        used=sorted(set().union(*read_classes(class_split, split_name, names).values())),
        seed=permutation_seed,
    )


@dataclass(frozen=True)
class ClassFiles:
    """The two files of a class: their clips sorted, the order that sorts the rows, and the rows' widths."""

    paths: dict[str, Path]
    clip_ids: tuple[str, ...]
    order: list[int]
    widths: dict[str, int]


def list_subset(folder: Path, subset: str, names: ClassNames, classes: tuple[str, ...]) -> list[ClassFiles]:
    """The files of every class of a subset, without their features.

    Raises:
        AvpipeError: a file is absent or malformed, the modalities differ in clips, or there is no clip at all.
    """
    files = {modality: find_class_files(folder / modality / subset, names, classes) for modality in MODALITIES}
    listing = [_list_class({modality: files[modality][name] for modality in MODALITIES}) for name in classes]
    if not any(each.clip_ids for each in listing):
        raise AvpipeError(f"{folder} has no clip in {subset}; extract or fetch the features again.")
    return listing


def _list_class(paths: dict[str, Path]) -> ClassFiles:
    (audio_ids, audio_width), (video_ids, video_width) = (list_class_file(paths[each]) for each in MODALITIES)
    if audio_ids != video_ids:
        raise AvpipeError(
            f"{paths['audio']} lists {len(audio_ids)} clips and {paths['video']} "
            f"{len(video_ids)}{_difference(audio_ids, video_ids)}; expected the same clips in the same "
            "order. Build or fetch the tree again."
        )
    order = sorted(range(len(audio_ids)), key=audio_ids.__getitem__)
    widths = {"audio": audio_width, "video": video_width}
    return ClassFiles(paths, tuple(audio_ids[row] for row in order), order, widths)


def _difference(audio_ids: tuple[str, ...], video_ids: tuple[str, ...]) -> str:
    """Where two clip lists first differ, for the message."""
    for row, (one, other) in enumerate(zip(audio_ids, video_ids, strict=False)):
        if one != other:
            return f", which differ first in row {row} ({one!r} and {other!r})"
    return ""


def read_modality(listings: dict[str, list[ClassFiles]], modality: str) -> npt.NDArray[np.float32]:
    """All rows of a modality in one array, each file read into its place."""
    files = [each for listing in listings.values() for each in listing]
    widths = sorted({each.widths[modality] for each in files if each.clip_ids})
    if len(widths) != 1:
        raise AvpipeError(
            f"{modality} features of the widths {widths} in one tree; expected one feature set. Build or fetch it "
            "again."
        )
    values = np.empty((sum(len(each.clip_ids) for each in files), widths[0]), np.float32)
    start = 0
    for each in files:
        rows = values[start : start + len(each.clip_ids)]
        read_class_values(each.paths[modality], rows)
        if each.order != sorted(each.order):
            rows[:] = rows[each.order]
        start += len(rows)
    return values


def _joined(parts: list[Subset]) -> Subset:
    return Subset(
        join([part.audio for part in parts]),
        join([part.video for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
        tuple(clip for part in parts for clip in part.clip_ids),
    )
