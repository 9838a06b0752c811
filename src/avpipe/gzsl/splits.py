"""Class splits of zero-shot benchmarks: which classes and clips each subset of the two-stage protocol has."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from avpipe.errors import AvpipeError, listed
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.class_split import (
    ClassNames,
    find_folder,
    read_all_classes,
    read_class_list,
    read_clip_list,
    write_lists,
)

STAGE_2_PARTS = ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen")
"""stage_2_train is their union, exactly (docs/methods.md, Split counts)."""

_READ_SUBSETS = tuple(subset for subset in SUBSETS if subset != "stage_2_train")


@dataclass(frozen=True)
class Split:
    """A validated class split.

    Attributes:
        name: of the split, such as main_split.
        all_classes: every class of the source dataset in code-point order; a class id is a position in it.
        classes: subset -> its classes, sorted.
        clips: subset -> {clip id: class}, sorted by clip id; only clips of the subset's classes.
    """

    name: str
    all_classes: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    clips: dict[str, dict[str, str]]

    @property
    def used_classes(self) -> tuple[str, ...]:
        """The classes of any subset, sorted."""
        return tuple(sorted(set(itertools.chain.from_iterable(self.classes.values()))))

    @property
    def digest(self) -> str:
        """sha256 of the contents, whatever the order, quoting and column order of the files; the name is not in it."""
        contents = {
            "all_classes": sorted(self.all_classes),
            "classes": {subset: sorted(self.classes[subset]) for subset in SUBSETS},
            "clips": {subset: sorted(self.clips[subset].items()) for subset in SUBSETS},
        }
        return hashlib.sha256(json.dumps(contents, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class Availability:
    """What of a split is at hand.

    Attributes:
        expected: subset -> number of clips listed.
        present: subset -> {clip id as listed: clip id at hand}; they differ in case only, if at all.
        missing: subset -> clip ids that are not at hand, sorted.
    """

    expected: dict[str, int]
    present: dict[str, dict[str, str]]
    missing: dict[str, tuple[str, ...]]


def read_split(root: str | os.PathLike[str], name: str) -> Split:
    """Read and check a split in the published layout (docs/methods.md, Feature files; Class lists).

    Clips whose class is not in their subset's txt are dropped; that alone makes cls_split differ from
    main_split. stage_2_train.txt and .csv may be absent; if present they must be the union of the three
    stage-1 subsets.

    Args:
        root: the folder that has class-split/ (or class_split, class_splits), or that folder itself.
        name: of the split.

    Raises:
        AvpipeError: a file is absent or malformed, or subsets contradict each other; the message names the
            offenders.
    """
    names = read_all_classes(root)
    classes = read_classes(root, name, names)
    clips = {subset: _read_clips(root, name, subset, names, classes[subset]) for subset in _READ_SUBSETS}
    clips["stage_2_train"] = {clip: label for part in STAGE_2_PARTS for clip, label in clips[part].items()}
    if _has(root, name, "stage_2_train.csv"):
        written = _read_clips(root, name, "stage_2_train", names, classes["stage_2_train"])
        differing = written.items() ^ clips["stage_2_train"].items()
        _refuse(f"stage_2_train.csv of {name} is not the union of the stage-1 subsets; differing", dict(differing))
    clips = {subset: dict(sorted(clips[subset].items())) for subset in SUBSETS}
    split = Split(name, names.names, classes, clips)
    _check_clips(split)
    return split


def read_classes(root: str | os.PathLike[str], name: str, names: ClassNames) -> dict[str, tuple[str, ...]]:
    """The classes of each subset from the txt files alone, checked against each other.

    This is all that reading features needs, so published features can be used where csv files are lacking.

    Raises:
        AvpipeError: as `read_split`.
    """
    classes = {subset: read_class_list(root, name, subset, names) for subset in _READ_SUBSETS}
    stage_2 = set(classes["stage_1_train"]) | set(classes["stage_1_val_unseen"])
    classes["stage_2_train"] = tuple(sorted(stage_2))
    if _has(root, name, "stage_2_train.txt"):
        written = read_class_list(root, name, "stage_2_train", names)
        _refuse(
            f"stage_2_train.txt of {name} is not stage_1_train + stage_1_val_unseen; differing",
            stage_2 ^ set(written),
        )
    train, val_unseen = set(classes["stage_1_train"]), set(classes["stage_1_val_unseen"])
    test_seen, test_unseen = set(classes["stage_2_test_seen"]), set(classes["stage_2_test_unseen"])
    for problem, offenders in (
        ("stage_1_val_unseen and stage_1_train share classes", val_unseen & train),
        ("stage_2_test_unseen has classes that stage 2 is trained with", test_unseen & stage_2),
        (
            "stage_1_val_seen and stage_1_train have different classes",
            set(classes["stage_1_val_seen"]) ^ train,
        ),
        ("stage_2_test_seen and stage_2_train have different classes", test_seen ^ stage_2),
    ):
        _refuse(f"{name}: {problem}", offenders)
    return {subset: classes[subset] for subset in SUBSETS}


def compare_with_clips(split: Split, clip_ids: Iterable[str]) -> Availability:
    """Like `match_clips`, but a class without any clip is refused, before work is wasted on the others.

    Raises:
        AvpipeError: a class of a subset has no clip at all, so that its accuracy would be undefined.
    """
    clip_ids = set(clip_ids)
    available = match_clips(split, clip_ids)
    for subset in SUBSETS:
        here = {split.clips[subset][clip] for clip in available.present[subset]}
        _refuse(
            f"{split.name}: classes of {subset} of which no clip is at hand",
            set(split.classes[subset]) - here,
            f"{len(clip_ids)} clips were found; check the source folder and the names of its files against "
            f"{subset}.csv, or remove the classes from the split's txt files",
        )
    return available


def match_clips(split: Split, clip_ids: Iterable[str]) -> Availability:
    """Which clips of a split are at hand, and which are missing.

    A clip id is looked up exactly. Names in UCF's manner, `v_<Class>_gNN_cMM`, are also found if the class is
    spelled with other capitals; other names never are, since YouTube ids that differ in case are different
    videos.
    """
    at_hand = set(clip_ids)
    by_key: dict[str, list[str]] = {}
    if not all(at_hand.issuperset(split.clips[subset]) for subset in SUBSETS):
        for clip in at_hand:
            by_key.setdefault(_case_key(clip), []).append(clip)
    present: dict[str, dict[str, str]] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for subset in SUBSETS:
        found = {clip: _find_clip(clip, at_hand, by_key) for clip in split.clips[subset]}
        present[subset] = {clip: there for clip, there in found.items() if there is not None}
        missing[subset] = tuple(clip for clip, there in found.items() if there is None)
    expected = {subset: len(split.clips[subset]) for subset in SUBSETS}
    return Availability(expected, present, missing)


def only_at_hand(split: Split, clip_ids: Iterable[str]) -> Split:
    """A split with those of its clips that are at hand, under the names that it lists."""
    present = match_clips(split, clip_ids).present
    clips = {subset: {clip: split.clips[subset][clip] for clip in present[subset]} for subset in SUBSETS}
    return replace(split, clips=clips)


def write_class_split(split: Split, root: str | os.PathLike[str]) -> None:
    """Write a split as `root`/class-split/… in the published layout; reading it gives an equal split."""
    write_lists(root, split.name, split.all_classes, split.classes, split.clips)


def _read_clips(
    root: str | os.PathLike[str], name: str, subset: str, names: ClassNames, classes: tuple[str, ...]
) -> dict[str, str]:
    wanted = set(classes)
    rows = read_clip_list(root, name, subset, names)
    return {clip: label for clip, label in rows.items() if label in wanted}


def _check_clips(split: Split) -> None:
    for subset in SUBSETS:
        empty = set(split.classes[subset]) - set(split.clips[subset].values())
        _refuse(f"{split.name}: classes in {subset}.txt without a row in {subset}.csv", empty)
    for one, other in itertools.combinations(_READ_SUBSETS, 2):
        shared = split.clips[one].keys() & split.clips[other].keys()
        _refuse(f"{split.name}: {one} and {other} share clips", shared)


def _refuse(problem: str, offenders: Iterable[str], next_step: str = "correct the files of the split") -> None:
    offenders = list(offenders)
    if offenders:
        raise AvpipeError(f"{problem}: {listed(offenders)}. Next: {next_step}.")


def _has(root: str | os.PathLike[str], name: str, file: str) -> bool:
    return (find_folder(root) / name / file).is_file()


def _case_key(clip: str) -> str:
    """`clip` with the class in lower case where it is a name in UCF's manner, else unchanged."""
    if not clip.startswith("v_"):
        return clip
    parts = clip.split("_")
    is_ucf = len(parts) == 4 and parts[2].startswith("g") and parts[3].startswith("c")
    return clip.lower() if is_ucf else clip


def _find_clip(clip: str, at_hand: set[str], by_key: dict[str, list[str]]) -> str | None:
    if clip in at_hand:
        return clip
    alike = by_key.get(_case_key(clip), [])
    return alike[0] if len(alike) == 1 else None
