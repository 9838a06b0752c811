"""A class split with the published structure, drawn from classes and clips of the user's own."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType

from avpipe.errors import AvpipeError, listed
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.settings import OwnSplit
from avpipe.gzsl.splits import STAGE_2_PARTS, Split
from avpipe.gzsl.words import laid_over

# Parts of the source videos, and roles of the classes. A class of a role has clips in the part of that number and in
# all later ones: a training class in all three, a test_unseen class in the test part only.
_TRAINING, _VALIDATION, _TEST = range(3)
_PARTS = ("training", "validation", "test")
_ROLES = ("train", "val_unseen", "test_unseen")
_SUBSET_OF = {
    (0, _TRAINING): "stage_1_train",
    (0, _VALIDATION): "stage_1_val_seen",
    (0, _TEST): "stage_2_test_seen",
    (1, _VALIDATION): "stage_1_val_unseen",
    (1, _TEST): "stage_2_test_seen",
    (2, _TEST): "stage_2_test_unseen",
}
_UCF_PROPORTIONS = (30, 12, 9)  # docs/methods.md, Split counts


def draw_split(clips: Mapping[str, str], sources: Mapping[str, str], settings: OwnSplit, name: str) -> Split:
    """Draw a split; equal clips, sources and seed give an equal split, in whatever order they come.

    Each source video goes as a whole into one of three parts, training, validation or test, so none is on both
    sides of what a stage is trained with and what it is evaluated on. A video with clips of several classes goes no
    earlier than its latest class: one with a val_unseen class is never in training, one with a test_unseen class is
    always in test (as test_seen for its seen classes).

    What changes when clips come: a clip of a known video joins it, nothing else. A new video of a class moves at
    most one other of that class from test to validation or back and one from validation to training or back, since
    videos are ordered by a hash of seed and name and the parts are cut from that order. (Videos that several
    classes share can carry such a move on to those classes.) A new class, or a class that gets its second or third
    video, can change the classes' roles: those are cut from an order by hash, too. So can a video shared by classes
    of which one is left without a video for some part: such a class gets a later role.

    Args:
        clips: clip id -> class, every clip that may be used.
        sources: clip id -> source video, see `avpipe.gzsl.source_videos`; not looked at if not by_source.
        settings: numbers of classes, shares and seed.
        name: of the split.

    Raises:
        AvpipeError: classes or source videos do not suffice, or a name cannot be written to the lists.
    """
    _check_names(clips)
    source_of = {clip: sources[clip] if settings.by_source else clip for clip in clips}
    by_class: dict[str, set[str]] = {}
    for clip, label in clips.items():
        by_class.setdefault(label, set()).add(source_of[clip])
    roles, parts = _draw(by_class, settings, name)
    subsets: dict[str, dict[str, str]] = {subset: {} for subset in SUBSETS}
    for clip, label in sorted(clips.items()):
        if label in roles:
            subset = _SUBSET_OF[roles[label], parts[source_of[clip]]]
            subsets[subset][clip] = label
            if subset in STAGE_2_PARTS:
                subsets["stage_2_train"][clip] = label
    classes = {subset: tuple(sorted(set(rows.values()))) for subset, rows in subsets.items()}
    return Split(name, tuple(sorted(by_class)), classes, subsets)


def spoken_name(class_name: str) -> str:
    """A class's name as words: "PlayingGuitar" -> "Playing Guitar", "playing_guitar" -> "playing guitar".

    A name with a space in it stays as it is. Underscores and hyphens become spaces; a capital starts a word,
    unless it goes on with capitals (TVShow: TV Show). Digits stay with what is before them, and go with a single
    capital after them (3DPrinting: 3D Printing).
    """
    if any(letter.isspace() for letter in class_name):
        return class_name
    parts = class_name.replace("-", "_").split("_")
    return " ".join(word for part in parts for word in _camel_words(part)) or class_name


def spoken_names(class_names: Iterable[str], own: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """class -> its name in `own`, which may have some of the classes and others, or its name as words; all different.

    Raises:
        AvpipeError: two classes have the same name as words.
    """
    names = laid_over({label: spoken_name(label) for label in sorted(class_names)}, own)
    first: dict[str, str] = {}
    for label, spoken in names.items():
        if first.setdefault(spoken, label) != label:
            raise AvpipeError(
                f"The classes {first[spoken]!r} and {label!r} are both called {spoken!r} for the word vectors; "
                "expected a name of its own for each. Write a table original,manual (class, name) with a row for "
                "one of them, or for both, and set datasets.<name>.gzsl.word_names to it."
            )
    return names


def _camel_words(part: str) -> list[str]:
    starts = [0]
    for i, letter in enumerate(part[1:], 1):
        goes_on_small = part[i + 1 : i + 2].islower()
        before = part[i - 1]
        if letter.isupper() and (before.islower() or (goes_on_small and (before.isupper() or before.isdigit()))):
            starts.append(i)
    return [part[start:end] for start, end in pairwise([*starts, len(part)]) if start < end]


def _check_names(clips: Mapping[str, str]) -> None:
    """Lists are read line by line, without the blanks around a class name."""
    labels = set(clips.values())
    bad = {repr(label) for label in labels if label.splitlines() != [label.strip()]}
    bad |= {repr(clip) for clip in clips if not clip or "\r" in clip or "\n" in clip}
    if bad:
        raise AvpipeError(
            f"Names that cannot be written to the split's lists: {listed(bad)}; expected one line each, not empty, and "
            "no blanks around a class name. Rename the clips or classes."
        )


def _rank(seed: int, kind: str, name: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, kind, name]).encode()).digest()


def _class_numbers(n_classes: int, settings: OwnSplit) -> list[int]:
    """Classes of each role; what is not set shares the rest in UCF's proportions, at least one each."""
    asked = (settings.train_classes, settings.val_unseen_classes, settings.test_unseen_classes)
    rest = n_classes - sum(number or 0 for number in asked)
    unset = [role for role, number in enumerate(asked) if number is None]
    if rest < len(unset):
        raise AvpipeError(
            f"{n_classes} classes were found, but the own split needs {n_classes - rest} as set and at least one more "
            f"for each number of classes that is not set ({len(unset)}). Set train_classes, val_unseen_classes and "
            "test_unseen_classes lower, or add classes."
        )
    numbers = [number or 0 for number in asked]
    total = sum(_UCF_PROPORTIONS[role] for role in unset)
    exact = {role: rest * _UCF_PROPORTIONS[role] / total for role in unset}
    for role in unset:
        numbers[role] = math.floor(exact[role])
    by_remainder = sorted(unset, key=lambda role: numbers[role] - exact[role])
    for role in by_remainder[: n_classes - sum(numbers)] if unset else []:
        numbers[role] += 1
    for role in unset:
        if not numbers[role]:
            numbers[role] = 1
            numbers[max(unset, key=lambda other: numbers[other])] -= 1
    return numbers


def _draw(by_class: Mapping[str, set[str]], settings: OwnSplit, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """class -> role and source video -> part, such that each class has a video in each part that its role needs.

    A class that lacks one, because others share its videos, is drawn again with a later role; roles only rise, so
    this ends.
    """
    first_role = {label: len(_ROLES) - min(len(sources), len(_ROLES)) for label, sources in by_class.items()}
    while True:
        roles = _draw_roles(by_class, first_role, settings, name)
        parts = _draw_parts({label: by_class[label] for label in roles}, roles, settings)
        lacking = [
            label
            for label, role in roles.items()
            if not {*range(role, _TEST + 1)} <= {parts[source] for source in by_class[label]}
        ]
        if not lacking:
            return roles, parts
        first_role |= {label: roles[label] + 1 for label in lacking}


def _draw_roles(
    by_class: Mapping[str, set[str]], first_role: Mapping[str, int], settings: OwnSplit, name: str
) -> dict[str, int]:
    """class -> role; classes that no role needs are left out.

    Roles that ask for more source videos choose first, in an order of all classes by hash. Without scarce classes
    that is the same as cutting the order in three.
    """
    left = sorted(by_class, key=lambda label: _rank(settings.seed, "class", label))
    roles: dict[str, int] = {}
    for role, number in enumerate(_class_numbers(len(by_class), settings)):
        fit = [label for label in left if first_role[label] <= role]
        if len(fit) < number:
            scarce = [label for label in left if first_role[label] > role]
            raise AvpipeError(
                f"{name}: {number} {_ROLES[role]} classes are wanted, but only {len(fit)} of the {len(left)} classes "
                f"left for them have the {len(_ROLES) - role} source videos that one needs at least, one for each of "
                f"{', '.join(_PARTS[role:])}. Too few have: {_listed_videos(scarce, by_class)}. {_next_step(settings)}"
            )
        roles |= dict.fromkeys(fit[:number], role)
        left = [label for label in left if label not in roles]
    return roles


def _listed_videos(labels: Iterable[str], by_class: Mapping[str, set[str]]) -> str:
    """Classes with their numbers of source videos, and how many of them other classes share."""
    n_classes = Counter(source for sources in by_class.values() for source in sources)
    texts = []
    for label in labels:
        shared = sum(n_classes[source] > 1 for source in by_class[label])
        texts.append(f"{label} ({len(by_class[label])}{f', {shared} shared with other classes' if shared else ''})")
    return listed(texts)


def _draw_parts(by_class: Mapping[str, set[str]], roles: Mapping[str, int], settings: OwnSplit) -> dict[str, int]:
    """source video -> part; later parts are filled first, up to each class's share."""
    classes_of: dict[str, list[str]] = {}
    for label, sources in by_class.items():
        for source in sources:
            classes_of.setdefault(source, []).append(label)
    parts = {source: max(roles[label] for label in labels) for source, labels in classes_of.items()}
    order = sorted(parts, key=lambda source: _rank(settings.seed, "source", source))
    for part in (_TEST, _VALIDATION):
        _fill_part(part, order, parts, classes_of, by_class, roles, settings.seen_share)
    return parts


def _fill_part(
    part: int,
    order: list[str],
    parts: dict[str, int],
    classes_of: Mapping[str, list[str]],
    by_class: Mapping[str, set[str]],
    roles: Mapping[str, int],
    share: float,
) -> None:
    """Move source videos to `part`, in order, as long as one of their classes wants more and none would lack any."""
    counts = {label: Counter(parts[source] for source in by_class[label]) for label in roles}
    # What lies in later parts is not shared any more: 10 % for test, then 10 % of the rest, as in the published splits.
    open_sources = {label: sum(n for at, n in count.items() if at <= part) for label, count in counts.items()}
    quota = {label: max(1, round(share * n)) for label, n in open_sources.items()}

    def can_spare(label: str, source: str) -> bool:
        before = sum(n for at, n in counts[label].items() if at < part)
        is_last_of_its_own = parts[source] == roles[label] and counts[label][roles[label]] == 1
        return before > part - roles[label] and not is_last_of_its_own

    for source in order:
        labels = classes_of[source]
        if parts[source] < part and any(counts[label][part] < quota[label] for label in labels):
            if not all(can_spare(label, source) for label in labels):
                continue
            for label in labels:
                counts[label].update({part: 1, parts[source]: -1})
            parts[source] = part


def _next_step(settings: OwnSplit) -> str:
    if not settings.by_source:
        return "Each clip counts as its own source video (by_source: false). Add clips, or set fewer classes."
    return (
        "A video with clips of several classes goes as a whole where the most restricted of them must be. Add videos, "
        "set fewer classes (train_classes, val_unseen_classes, test_unseen_classes), or set by_source: false, which "
        "counts each clip as its own source video, so that seen accuracy says little about new videos."
    )
