"""Splits drawn from one's own videos: the published structure, no leak, little movement."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from pydantic import ValidationError

from avpipe.errors import AvpipeError
from avpipe.gzsl.own_split import draw_split, spoken_name, spoken_names
from avpipe.gzsl.settings import OwnSplit
from avpipe.gzsl.source_videos import shared_sources
from avpipe.gzsl.splits import Split, read_split, write_class_split

SEEN = ("stage_1_train", "stage_1_val_seen", "stage_2_test_seen")


def videos(n_classes=12, n_sources=10, n_clips=2):
    """Clips of equal classes, each source video of one class."""
    clips, sources = {}, {}
    for label in range(n_classes):
        for source in range(n_sources):
            for clip in range(n_clips):
                clip_id = f"c{label:02}_{source:03}_{clip}"
                clips[clip_id], sources[clip_id] = f"class{label:02}", f"c{label:02}_{source:03}"
    return clips, sources


def random_videos(seed, shared=0.0):
    """Classes of 1 to 30 source videos of 1 to 5 clips; a share of the videos has clips of two classes."""
    rng = random.Random(seed)
    clips, sources = {}, {}
    labels = [f"class {i}" for i in range(rng.randint(8, 25))]
    for label in labels:
        for source in range(rng.choice([1, 2, 3, rng.randint(6, 30), rng.randint(6, 30), rng.randint(6, 30)])):
            for clip in range(rng.randint(1, 5)):
                name = f"{label}/{source}/{clip}"
                other = rng.choice(labels) if clip and rng.random() < shared else label
                clips[name], sources[name] = other, f"{label}/{source}"
    return clips, sources


def parts(split: Split) -> dict[str, str]:
    """clip -> its subset, of the five that do not overlap."""
    return {clip: subset for subset, clips in split.clips.items() if subset != "stage_2_train" for clip in clips}


@pytest.mark.parametrize("shared", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(25))
def test_split_reads_back_equal_and_no_source_video_is_on_both_sides(tmp_path, seed, shared):
    clips, sources = random_videos(seed, shared)
    few = sum(len({sources[c] for c in clips if clips[c] == label}) < 3 for label in set(clips.values()))
    n_classes = len(set(clips.values()))
    n_train = max(1, (n_classes - few) // 2)
    settings = OwnSplit(seed=seed, train_classes=n_train, val_unseen_classes=1)
    split = draw_split(clips, sources, settings, "own_split")
    write_class_split(split, tmp_path / "own")
    assert read_split(tmp_path / "own", "own_split") == split  # read_split checks the published relations
    assert {found.shared for found in shared_sources(split, sources).values()} == {0}
    assert parts(split).keys() == clips.keys()
    assert all(split.clips[subset][clip] == clips[clip] for clip, subset in parts(split).items())
    assert len(split.classes["stage_1_train"]) == n_train
    n_sources = Counter(clips[clip] for clip in {(clips[c], sources[c]): c for c in clips}.values())
    assert all(n_sources[label] >= 3 for label in split.classes["stage_1_train"])
    assert all(n_sources[label] >= 2 for label in split.classes["stage_1_val_unseen"])


def test_order_of_the_input_has_no_effect_and_the_seed_has():
    clips, sources = random_videos(3, shared=0.1)
    settings = OwnSplit(seed=1, train_classes=3, val_unseen_classes=1, test_unseen_classes=2)
    split = draw_split(clips, sources, settings, "s")
    for seed in range(5):
        order = sorted(clips, key=lambda clip: random.Random(f"{seed}{clip}").random())
        assert draw_split({c: clips[c] for c in order}, sources, settings, "s") == split
    others = [draw_split(clips, sources, settings.model_copy(update={"seed": n}), "s") for n in (2, 3, 4)]
    assert len({one.digest for one in (split, *others)}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_new_source_video_moves_at_most_one_other_over_each_border(seed):
    settings = OwnSplit(seed=seed, seen_share=0.2)
    clips, sources = videos(n_sources=4, n_clips=1)
    before = draw_split(clips, sources, settings, "s")
    for new in range(30):  # the classes grow to 34 videos, over many roundings of the shares
        for label in range(12):
            clips[f"new{new}_{label}"] = f"class{label:02}"
            sources[f"new{new}_{label}"] = f"new{new}_{label}"
            after = draw_split(clips, sources, settings, "s")
            assert after.classes == before.classes
            old, now = parts(before), parts(after)
            moved = [clip for clip in old if old[clip] != now[clip]]
            assert {clips[clip] for clip in moved} <= {f"class{label:02}"}
            borders = [frozenset((old[clip], now[clip])) for clip in moved]
            assert len(set(borders)) == len(borders)
            assert frozenset(("stage_1_train", "stage_2_test_seen")) not in borders
            before = after


def test_a_new_clip_of_a_known_video_joins_it_and_moves_nothing():
    clips, sources = videos()
    before = draw_split(clips, sources, OwnSplit(), "s")
    after = draw_split(clips | {"more": "class03"}, sources | {"more": sources["c03_004_0"]}, OwnSplit(), "s")
    assert parts(after) == parts(before) | {"more": parts(before)["c03_004_0"]}


def test_defaults_are_ucfs_proportions_and_shares():
    clips, sources = videos(n_classes=51, n_sources=25, n_clips=4)
    split = draw_split(clips, sources, OwnSplit(), "s")
    assert [len(split.classes[s]) for s in (*SEEN, "stage_1_val_unseen", "stage_2_test_unseen")] == [30, 30, 42, 12, 9]
    # Of 25 videos 10 % are 2 (rounded), of the other 23 as well.
    per_class = {s: set(Counter(split.clips[s].values()).values()) for s in split.clips}
    assert per_class["stage_2_test_seen"] == per_class["stage_1_val_seen"] == {2 * 4}
    assert per_class["stage_1_train"] == {21 * 4} and per_class["stage_1_val_unseen"] == {23 * 4}


@pytest.mark.parametrize(
    ("n_classes", "asked", "expected"),
    [
        (3, {}, (1, 1, 1)),
        (101, {}, (59, 24, 18)),
        (5, {}, (3, 1, 1)),
        (20, {"train_classes": 5}, (5, 9, 6)),  # 15 left, as 12 to 9: 8.57 and 6.43
        (20, {"train_classes": 18}, (18, 1, 1)),
        (20, {"train_classes": 4, "val_unseen_classes": 3, "test_unseen_classes": 2}, (4, 3, 2)),
    ],
)
def test_numbers_of_classes(n_classes, asked, expected):
    split = draw_split(*videos(n_classes, 3, 1), OwnSplit(**asked), "s")
    subsets = ("stage_1_train", "stage_1_val_unseen", "stage_2_test_unseen")
    assert tuple(len(split.classes[s]) for s in subsets) == expected
    assert len(split.all_classes) == n_classes  # class ids count the unused ones, too
    assert len(split.used_classes) == sum(expected)


def test_scarce_classes_become_unseen_ones():
    clips, sources = videos(n_classes=6, n_sources=5, n_clips=1)
    clips |= {"p1": "one video", "q1": "two videos", "q2": "two videos"}
    sources |= {"p1": "p1", "q1": "q1", "q2": "q2"}
    for seed in range(20):
        settings = OwnSplit(seed=seed, train_classes=6, val_unseen_classes=1, test_unseen_classes=1)
        split = draw_split(clips, sources, settings, "s")
        assert split.classes["stage_1_val_unseen"] == ("two videos",)
        assert split.classes["stage_2_test_unseen"] == ("one video",)
        assert len(split.clips["stage_1_val_unseen"]) == 1


def test_not_enough_classes_are_named_with_their_videos_and_by_source_false_helps():
    clips, sources = videos(n_classes=4, n_sources=2, n_clips=3)
    with pytest.raises(AvpipeError, match=r"2 train classes are wanted, but only 0 of the 4.*class00 \(2\).*by_source"):
        draw_split(clips, sources, OwnSplit(), "s")
    split = draw_split(clips, {}, OwnSplit(by_source=False), "s")
    assert parts(split).keys() == clips.keys()
    with pytest.raises(AvpipeError, match="Each clip counts as its own source video"):
        draw_split({"a": "A", "b": "B", "c": "C"}, {}, OwnSplit(by_source=False), "s")


@pytest.mark.parametrize("asked", [{"train_classes": 11}, {"train_classes": 9, "val_unseen_classes": 4}])
def test_more_classes_than_there_are(asked):
    with pytest.raises(AvpipeError, match=r"12 classes were found, but the own split needs 1[13] as set"):
        draw_split(*videos(), OwnSplit(**asked), "s")


def test_video_of_a_seen_and_an_unseen_class_is_kept_for_test():
    clips, sources = videos(n_classes=3, n_sources=5, n_clips=1)
    plain = draw_split(clips, sources, OwnSplit(), "s")
    (train,), (val,), (test,) = (
        plain.classes[s] for s in ("stage_1_train", "stage_1_val_unseen", "stage_2_test_unseen")
    )
    clips |= {"m1": train, "m2": test, "n1": train, "n2": val}
    sources |= {"m1": "mixed", "m2": "mixed", "n1": "mixed too", "n2": "mixed too"}
    found = parts(draw_split(clips, sources, OwnSplit(), "s"))
    assert (found["m1"], found["m2"]) == ("stage_2_test_seen", "stage_2_test_unseen")
    assert (found["n1"], found["n2"]) in [
        ("stage_1_val_seen", "stage_1_val_unseen"),
        ("stage_2_test_seen", "stage_2_test_seen"),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_large_shares_and_shared_videos_leave_one_video_for_each_part(seed):
    split = draw_split(*videos(n_classes=3, n_sources=3, n_clips=1), OwnSplit(seed=seed, seen_share=0.5), "s")
    # The val_unseen class keeps half of its 3 videos for test: 1.5, rounded to 2.
    assert [len(split.clips[subset]) for subset in SEEN] == [1, 1, 1 + 2]
    # By their numbers of videos A must be trained with, B be val_unseen and C test_unseen. Of A's videos only "a" can
    # be in training, since B is in the others; one of those must serve for test, whichever comes first by hash.
    clips = {"a": "A", "b1": "A", "b2": "A", "c1": "B", "c2": "B", "d": "C"}
    sources = {"a": "a", "b1": "b", "c1": "b", "b2": "c", "c2": "c", "d": "d"}
    split = draw_split(clips, sources, OwnSplit(seed=seed), "s")
    assert split.clips["stage_1_train"] == {"a": "A"}
    assert len(split.clips["stage_1_val_unseen"]) == len(split.clips["stage_1_val_seen"]) == 1


def test_class_whose_videos_others_share_gets_a_later_role_instead():
    for seed in range(20):
        clips, sources = videos(n_classes=4, n_sources=5, n_clips=1)
        for i in range(3):  # a class of three videos, each shared with another class
            clips[f"s{i}"], sources[f"s{i}"] = "shared", f"c{i:02}_000"
        settings = OwnSplit(seed=seed, train_classes=3, val_unseen_classes=1, test_unseen_classes=1)
        split = draw_split(clips, sources, settings, "s")
        assert {found.shared for found in shared_sources(split, sources).values()} == {0}


def test_classes_that_share_all_their_videos_are_refused():
    clips = {f"{label}{i}": label for label in "ABC" for i in range(5)}
    sources = {clip: f"film {clip[1]}" for clip in clips}
    with pytest.raises(AvpipeError, match=r"wanted, but only .*\(5, 5 shared with other classes\)"):
        draw_split(clips, sources, OwnSplit(), "s")


@pytest.mark.parametrize("clips", [{"a": " A"}, {"a": "A\nB"}, {"a\r": "A"}, {"": "A"}, {"a": ""}, {"a": "A\u2028B"}])
def test_names_that_the_lists_cannot_hold(clips):
    with pytest.raises(AvpipeError, match="cannot be written"):
        draw_split(clips, {clip: clip for clip in clips}, OwnSplit(), "s")


def test_settings_are_checked():
    for wrong in ({"seen_share": 0}, {"seen_share": 0.6}, {"train_classes": 0}, {"seed": -1}, {"sead": 1}):
        with pytest.raises(ValidationError):
            OwnSplit(**wrong)


@pytest.mark.parametrize(
    ("label", "spoken"),
    [
        ("PlayingGuitar", "Playing Guitar"),
        ("playing_guitar", "playing guitar"),
        ("playing-guitar", "playing guitar"),
        ("playing guitar (slide-guitar)", "playing guitar (slide-guitar)"),
        ("Playing_AirGuitar", "Playing Air Guitar"),
        ("YoYo", "Yo Yo"),
        ("TaiChi", "Tai Chi"),
        ("Archery", "Archery"),
        ("TVShow", "TV Show"),
        ("watchTV", "watch TV"),
        ("3DPrinting", "3D Printing"),
        ("10PinBowling", "10 Pin Bowling"),
        ("mp3_player", "mp3 player"),
        ("ÉclairBaking", "Éclair Baking"),
        ("__x__", "x"),
        ("_", "_"),
    ],
)
def test_spoken_name(label, spoken):
    assert spoken_name(label) == spoken


def test_two_classes_with_one_spoken_name():
    with pytest.raises(AvpipeError, match=r"'Yo-Yo' and 'YoYo' are both called 'Yo Yo'.*gzsl\.word_names"):
        spoken_names(["YoYo", "Archery", "Yo-Yo"])
