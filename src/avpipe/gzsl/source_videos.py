"""From which source video a clip was cut, and how many test clips share theirs with training clips."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from avpipe.gzsl.splits import STAGE_2_PARTS, Split
from avpipe.schema.gzsl import RepeatedClips, SharedClips

TRAINED_BEFORE = {
    "stage_1_val_seen": "stage_1_train",
    "stage_1_val_unseen": "stage_1_train",
    "stage_2_test_seen": "stage_2_train",
    "stage_2_test_unseen": "stage_2_train",
}
"""Evaluated subset -> the subset that its stage is trained with."""

# A YouTube id is 64 bits in 11 characters of 6; the last one holds 4 bits, so only 16 characters can stand there.
_YOUTUBE = re.compile(r"([A-Za-z0-9_-]{10}[AEIMQUYcgkosw048])_[0-9]+")
_UCF = re.compile(r"(v_.+_g[0-9]+)_c[0-9]+")
_EXAMPLES = 5


def source_of(clip_id: str) -> str:
    """The source video of a clip, as the published name patterns tell it (docs/methods.md, Class lists).

    `v_<Class>_gNN_cMM` (UCF) gives its group `v_<Class>_gNN`; `<YouTube id>_<number>` (ActivityNet's segments,
    VGGSound's start seconds) gives the YouTube id; any other name is its own source.
    """
    for pattern in (_UCF, _YOUTUBE):
        found = pattern.fullmatch(clip_id)
        if found:
            return found[1]
    return clip_id


def source_videos(clip_ids: Iterable[str], paths: Mapping[str, str] | None = None) -> dict[str, str]:
    """clip id -> its source video, from the names and, where known, from the files.

    Clips belong together if their names say so or if one file serves them, and so does whatever is linked by a
    chain of the two. A source is named after the first, in code-point order, of the sources that the names
    give for its clips, so it does not depend on the folder in which the files lie.

    Args:
        clip_ids: the clips.
        paths: clip id -> its file, or anything else that tells files apart, such as a digest; clips without
            one are known by name only. Paths are compared as text after removing `.` and `..`.
    """
    named = {clip: source_of(clip) for clip in clip_ids}
    parent = {source: source for source in named.values()}

    def root(source: str) -> str:
        while parent[source] != source:
            parent[source] = parent[parent[source]]
            source = parent[source]
        return source

    first_of_file: dict[str, str] = {}
    for clip, path in (paths or {}).items():
        if clip in named:
            one = root(named[clip])
            other = root(first_of_file.setdefault(os.path.normpath(path), one))
            parent[max(one, other)] = min(one, other)
    return {clip: root(source) for clip, source in named.items()}


def shared_sources(split: Split, sources: Mapping[str, str]) -> dict[str, SharedClips]:
    """How many clips of each evaluated subset share a source video with the training clips of their stage.

    In the published splits of UCF and ActivityNet most or many do
    (docs/methods.md, Shared source videos of the splits), so that accuracy on seen classes says little about new
    videos.

    Args:
        split: the split, with the clips that are used (`avpipe.gzsl.splits.only_at_hand`).
        sources: clip id -> source video for every clip of the split, as `source_videos` gives it.

    Returns:
        subset -> its clips.
    """
    record = {}
    for subset, training in TRAINED_BEFORE.items():
        trained = {sources[clip] for clip in split.clips[training]}
        shared = [[clip, sources[clip]] for clip in split.clips[subset] if sources[clip] in trained]
        record[subset] = SharedClips(
            trained_with=training,
            clips=len(split.clips[subset]),
            shared=len(shared),
            share=len(shared) / max(len(split.clips[subset]), 1),
            examples=shared[:_EXAMPLES],
        )
    return record


def repeated_clips(split: Split, repeats: Mapping[str, str]) -> RepeatedClips:
    """The clips of a given split whose content another of its clips has, too; they stay, and are counted.

    Args:
        split: the split, with the clips that are used.
        repeats: clip -> the first clip with its content, as `avpipe.inventory.repeats.find_repeats` gives it.
    """
    parts = (*STAGE_2_PARTS, *(subset for subset in TRAINED_BEFORE if subset.startswith("stage_2")))
    places = {clip: (subset, label) for subset in parts for clip, label in split.clips[subset].items()}
    first: dict[str, str] = {}
    pairs = [(clip, first.setdefault(repeats.get(clip, clip), clip)) for clip in sorted(places)]
    again = [[clip, one] for clip, one in pairs if clip != one]
    return RepeatedClips(
        clips=len(again),
        apart=sum(places[clip] != places[one] for clip, one in again),
        examples=again[:_EXAMPLES],
    )
