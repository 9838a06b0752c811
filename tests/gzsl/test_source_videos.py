"""Which source video a clip comes from, and what the published splits share."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.source_videos import repeated_clips, shared_sources, source_of, source_videos
from avpipe.gzsl.splits import Split, only_at_hand, read_split

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published splits are not at hand")


@pytest.mark.parametrize(
    ("clip", "source"),
    [
        ("v_HandStandPushups_g01_c04", "v_HandStandPushups_g01"),
        ("v_Tai_Chi_g12_c10", "v_Tai_Chi_g12"),
        ("v_Archery_g01", "v_Archery_g01"),
        ("-2VNLsk1s34_2", "-2VNLsk1s34"),
        ("a_b-c_d_e_8_000016", "a_b-c_d_e_8"),
        ("-0iEMffOYwo", "-0iEMffOYwo"),
        ("PlayingDhol_001", "PlayingDhol_001"),  # 11 letters, but no YouTube id ends in l
        ("dQw4w9WgXcQ_a", "dQw4w9WgXcQ_a"),
        ("dQw4w9WgXcQx_1", "dQw4w9WgXcQx_1"),
        ("holiday 3", "holiday 3"),
    ],
)
def test_source_by_name(clip, source):
    assert source_of(clip) == source


def test_names_and_files_join_clips_together_in_chains():
    clips = ["dQw4w9WgXcQ_1", "dQw4w9WgXcQ_2", "talk_1", "talk_2", "alone", "unknown"]
    paths = {
        "dQw4w9WgXcQ_1": "a/x.mp4",
        "dQw4w9WgXcQ_2": "a/y.mp4",
        "talk_1": "a/b/../y.mp4",
        "talk_2": "a/z.mp4",
        "alone": "a/w.mp4",
        "not asked for": "a/z.mp4",
    }
    sources = source_videos(clips, paths)
    assert sources == {
        "dQw4w9WgXcQ_1": "dQw4w9WgXcQ",
        "dQw4w9WgXcQ_2": "dQw4w9WgXcQ",
        "talk_1": "dQw4w9WgXcQ",
        "talk_2": "talk_2",
        "alone": "alone",
        "unknown": "unknown",
    }
    elsewhere = {clip: f"/moved/{path}" for clip, path in paths.items()}
    assert source_videos(reversed(clips), dict(reversed(elsewhere.items()))) == sources


def test_shared_sources_compare_each_stage_with_its_own_training():
    rows = {
        "stage_1_train": {"t": "A"},
        "stage_1_val_seen": {"v": "A"},
        "stage_1_val_unseen": {"u": "B", "w": "B"},
        "stage_2_train": {"t": "A", "v": "A", "u": "B", "w": "B"},
        "stage_2_test_seen": {"e": "A", "f": "B"},
        "stage_2_test_unseen": {"x": "C"},
    }
    split = Split("s", ("A", "B", "C"), {s: tuple(sorted(set(rows[s].values()))) for s in SUBSETS}, rows)
    sources = {"t": "1", "v": "2", "u": "1", "w": "3", "e": "2", "f": "4", "x": "5"}
    assert {name: each.to_json() for name, each in shared_sources(split, sources).items()} == {
        "stage_1_val_seen": _shared("stage_1_train", 1, []),
        "stage_1_val_unseen": _shared("stage_1_train", 2, [["u", "1"]]),
        "stage_2_test_seen": _shared("stage_2_train", 2, [["e", "2"]]),
        "stage_2_test_unseen": _shared("stage_2_train", 1, []),
    }


def _shared(training, clips, examples):
    share = len(examples) / clips
    return {"trained_with": training, "clips": clips, "shared": len(examples), "share": share, "examples": examples}


@needs_shared
@pytest.mark.parametrize(
    ("dataset", "percent"),
    # Docs/methods.md, Shared source videos of the splits.
    [("UCF", [100, 0, 100, 0]), ("ActivityNet", [54, 0, 49, 0.02])],
)
def test_published_splits_share_what_the_specification_counts(dataset, percent):
    split = read_split(SHARED / dataset, "main_split")
    sources = source_videos(itertools.chain.from_iterable(split.clips.values()))
    shares = [100 * found.share for found in shared_sources(split, sources).values()]
    # The specification rounds: to whole percent, and 0.02 to two decimals.
    assert [round(share, 2 if share < 1 else 0) for share in shares] == percent


@needs_shared
def test_every_published_youtube_clip_is_recognised():
    """The narrow pattern for ids is a rule of YouTube's encoding; no published name may fall through it."""
    lists = [path for name in ("ActivityNet", "VGGSound") for path in (SHARED / name).glob("class-split/*/*.csv")]
    clips = set()
    for path in lists:
        with path.open(encoding="utf-8") as stream:
            clips |= {row["filename"] for row in csv.DictReader(stream)}
    assert len(clips) > 40_000
    assert {clip for clip in clips if source_of(clip) != clip[:11]} == set()


def made_split(**clips):
    rows = {subset: clips.get(subset, {}) for subset in SUBSETS}
    parts = ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen")
    rows["stage_2_train"] = {clip: label for part in parts for clip, label in rows[part].items()}
    return Split("s", ("A", "B"), {s: tuple(sorted(set(rows[s].values()))) for s in SUBSETS}, rows)


@pytest.mark.parametrize(
    ("at_hand", "clips", "shared"),
    [
        ({"v_A_g01_c01", "v_A_g01_c02", "v_A_g02_c01"}, 2, 1),
        ({"v_A_g01_c02", "v_A_g02_c01"}, 2, 0),  # the training clip of the group is not used
        ({"v_A_g01_c01", "v_A_g01_c02"}, 1, 1),
        ({"v_A_g01_c01"}, 0, 0),
    ],
)
def test_shared_source_videos_count_the_clips_that_are_used(at_hand, clips, shared):
    test_seen = {"v_A_g01_c02": "A", "v_A_g02_c01": "A"}
    split = only_at_hand(made_split(stage_1_train={"v_A_g01_c01": "A"}, stage_2_test_seen=test_seen), at_hand)
    found = shared_sources(split, source_videos(set().union(*split.clips.values())))["stage_2_test_seen"]
    assert (found.clips, found.shared) == (clips, shared)


@pytest.mark.parametrize(
    ("repeats", "clips", "apart", "examples"),
    [
        ({}, 0, 0, []),
        ({"b": "a"}, 1, 0, [["b", "a"]]),
        ({"t": "a"}, 1, 1, [["t", "a"]]),
        ({"b": "unlisted", "t": "unlisted", "u": "unlisted"}, 2, 2, [["t", "b"], ["u", "b"]]),
    ],
)
def test_clips_of_one_content_that_a_split_lists_are_counted(repeats, clips, apart, examples):
    split = made_split(stage_1_train={"a": "A", "b": "A"}, stage_2_test_seen={"t": "A"}, stage_2_test_unseen={"u": "B"})
    found = repeated_clips(split, repeats)
    assert (found.clips, found.apart, found.examples) == (clips, apart, examples)
