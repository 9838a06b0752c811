import pytest
from made_results import (
    make_account,
    make_class,
    make_evaluation,
    make_failed,
    make_settings,
    make_shared,
    make_subset,
    make_tree,
    make_weights,
)

from avpipe.report.gzsl import summarise
from avpipe.report.gzsl_notices import find_notices
from avpipe.report.notices import NO_FIGURES

PLACE = "cls_split/cls_features"


def notices(results=(), trees=None, **settings):
    return find_notices(make_settings(**settings), {}, [summarise(each) for each in results], trees)


@pytest.mark.parametrize(
    ("synthetic", "label", "words"),
    [
        (True, "random:3", ["SYNTHETIC", "c3d (random:3)"]),
        (False, "random:3", ["c3d (random:3)"]),
        (False, "x.pth", []),
    ],
)
def test_made_up_data_and_random_weights(synthetic, label, words):
    found = find_notices(make_settings(synthetic=synthetic), {"c3d": make_weights(label)})
    assert len(found) == len(words) and all(word in notice for word, notice in zip(words, found, strict=True))


def test_networks_that_no_benchmark_uses_are_named_apart():
    labels = {"c3d": "random:1", "selavi": "random:2", "spectrogram": "none"}
    weights = {name: make_weights(label) for name, label in labels.items()}
    used, besides = find_notices(make_settings(), weights)
    assert "c3d (random:1)" in used and "selavi" not in used
    assert "selavi (random:2)" in besides and "no figure here rests on them" in besides


def test_weights_that_are_not_the_published_ones_are_named():
    (notice,) = find_notices(make_settings(), {"c3d": make_weights("ab", remarks={"c3d": "not the published file"})})
    assert notice == "OTHER WEIGHTS: c3d is not the published file."


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tree", "a published tree of .h5 files"),
        ("caches", "cache files"),
        ("feature pickle", "a published pickle"),
        ("npz", "npz"),
    ],
)
def test_features_that_were_given_say_what_they_are(kind, words):
    (notice,) = notices(trees={PLACE: make_tree(source={"kind": kind, "path": "some/where"}, subsets={})})
    assert notice.startswith("GIVEN FEATURES") and words in notice and "some/where" in notice and PLACE in notice


def test_given_features_say_what_was_left_out_and_what_nobody_knows():
    source = {"kind": "caches", "merged_duplicates": 3, "dropped_classes": {"Odd": 7}}
    subsets = {
        "stage_1_train": make_subset({}, expected_from="caches"),
        "stage_2_train": make_subset({}, expected_from="csv"),
    }
    (notice,) = notices(trees={PLACE: make_tree(source=source, subsets=subsets)})
    assert "no list has them: Odd (7 clips)" in notice and "3 repeated rows" in notice
    assert "no csv tells which clips of stage_1_train are missing" in notice


def test_given_features_without_a_path():
    (notice,) = notices(trees={PLACE: make_tree(source={"kind": "tree"}, subsets={})})
    assert (
        notice
        == f"GIVEN FEATURES: {PLACE} rests on a published tree of .h5 files; avpipe did not extract them from videos."
    )


def test_extracted_features_need_no_notice():
    assert notices(trees={PLACE: make_tree(source={"kind": "extracted"}, subsets={})}) == []
    assert notices(benchmarks=("given_by_the_user",)) == []


def test_classes_without_clips_are_named_with_their_subset():
    notice, *_ = notices([make_evaluation([1.0])], {PLACE: make_tree()})
    assert notice.startswith("CLASSES WITHOUT CLIPS: cls_split/cls_features: Gone in stage_2_test_seen.")
    (notice,) = notices([make_evaluation([1.0])])
    assert "Gone in the test." in notice


def test_many_classes_without_clips_are_counted():
    empty = {f"c{n:02}": 0 for n in range(23)}
    (notice,) = notices(trees={PLACE: make_tree(subsets={"stage_1_train": make_subset(empty)})})
    assert "c19 and 3 more in stage_1_train" in notice and "c20" not in notice


def shared(seen, unseen):
    return make_shared(stage_2_test_seen=seen, stage_2_test_unseen=unseen, stage_1_val_seen=seen)


def test_clips_from_the_videos_of_training_clips():
    tree = make_tree(subsets={}, shared_sources=shared((791, 1615), (1, 4199)))
    (notice,) = notices(trees={PLACE: tree})
    assert notice.startswith(f"SHARED SOURCE VIDEOS: {PLACE}")
    assert "48.98 % of stage_2_test_seen (791 of 1615 clips), so S and HM overstate" in notice
    assert "0.02 % of stage_2_test_unseen (1 of 4199 clips)" in notice
    (notice,) = notices(trees={PLACE: make_tree(subsets={}, shared_sources=shared((5, 5), (0, 5)))})
    assert "100.00 %" in notice and "unseen" not in notice
    assert notices(trees={PLACE: make_tree(subsets={}, shared_sources=shared((0, 5), (0, 5)))}) == []


def test_the_published_form_says_what_it_switches():
    found = "\n".join(notices([make_evaluation([1.0]), make_evaluation([1.0], form="published")]))
    assert "differ here in: text_alignment (avca)" in found
    assert "attached as its loader does" in found
    assert "form" not in "\n".join(notices([make_evaluation([1.0])]))


def test_figures_chosen_on_the_test_clips_are_named():
    quirks = {"chooses_on_test": True}
    found = notices([make_evaluation([1.0], "fvaegan", "published", quirks=quirks)])
    assert any(each.startswith("CHOSEN ON TEST CLIPS: figures with † (fvaegan, published)") for each in found)


def test_the_control_is_explained_where_there_is_one():
    assert "chance" in notices([make_evaluation([1.0], form="permuted")])[-1]
    assert not any("control" in each for each in notices([make_evaluation([1.0])]))


@pytest.mark.parametrize(
    ("seen", "unseen", "named"),
    [
        ({"a": 60, "b": 40}, {"c": 100}, []),
        ({"a": 60, "b": 39}, {"c": 100}, ["99 clips of 2 classes in stage_2_test_seen"]),
        ({"a": 300}, {"c": 12}, ["12 clips of 1 classes in stage_2_test_unseen"]),
        (dict.fromkeys(map(str, range(20)), 9), {"c": 200}, ["180 clips of 20 classes in stage_2_test_seen"]),
        (
            {"a": 4},
            {"c": 5, "none": 0},
            ["4 clips of 1 classes in stage", "5 clips of 1 classes in stage_2_test_unseen"],
        ),
    ],
)
def test_a_test_of_few_clips_is_said_to_be_one(seen, unseen, named):
    subsets = {"stage_2_test_seen": make_subset(seen), "stage_2_test_unseen": make_subset(unseen)}
    found = [each for each in notices(trees={PLACE: make_tree(subsets=subsets)}) if each.startswith("SMALL TEST SET")]
    assert len(found) == bool(named) and all(f" {words}" in found[0] for words in named)


def thin(**subsets):
    """A tree whose subsets use k of n clips of one class, or have the classes given."""
    counts = {
        name: make_subset(
            each if isinstance(each, dict) else {"A": make_class(each[0], {"missing": each[1] - each[0]})}
        )
        for name, each in subsets.items()
    }
    return make_tree(subsets=counts)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (thin(stage_2_train=(1000, 1000)), None),
        (thin(stage_2_train=(991, 1000)), None),
        (
            thin(stage_2_train=(990, 1000)),
            "Missing clips: here: used are stage_2_train 990 of 1,000 clips (1.0 % missing).",
        ),
        (
            thin(stage_2_train=(901, 1000)),
            "Missing clips: here: used are stage_2_train 901 of 1,000 clips (9.9 % missing).",
        ),
        (
            thin(stage_2_train=(432, 4994), stage_2_test_seen=(99, 100), stage_2_test_unseen=(100, 100)),
            "MISSING CLIPS: here: used are stage_2_train 432 of 4,994 clips (91.3 % missing); stage_2_test_seen 99 of "
            "100 clips (1.0 % missing); less than half of the clips of A (432 of 4994 in stage_2_train); "
            f"{NO_FIGURES}.",
        ),
        (
            thin(stage_2_test_unseen={"A": make_class(999), "B": make_class(1, {"no_audio": 2})}),
            "MISSING CLIPS: here: used are less than half of the clips of B (1 of 3 in stage_2_test_unseen); "
            f"{NO_FIGURES}.",
        ),
    ],
)
def test_missing_clips_are_told_and_in_capitals_where_many_are_missing(tree, expected):
    found = [each for each in notices(trees={"here": tree}) if not each.startswith("SMALL TEST SET")]
    assert found == ([expected] if expected else [])


def test_clips_of_one_content_in_a_given_split_are_named_and_counted():
    again = {"clips": 3, "apart": 1, "examples": [["b", "a"], ["c", "a"]]}
    (notice,) = notices(trees={PLACE: make_tree(subsets={}, repeated=again)})
    assert notice.startswith(f"SAME CLIP TWICE: {PLACE}: 3 clips that the split lists")
    assert "1 of them in another subset or class: b (as a), c (as a) and 1 more." in notice
    assert notices(trees={PLACE: make_tree(subsets={}, repeated=again | {"clips": 0})}) == []


def test_duplicates_of_the_account_are_named():
    failed = [make_failed(clip_id="b", reason="duplicate", detail="the same content as a"), make_failed()]
    (notice,) = find_notices(make_settings(), {}, account=make_account(failed))
    assert notice.startswith("DUPLICATES: 1 clips are left out") and "b (the same content as a)." in notice
    assert find_notices(make_settings(), {}, account=make_account()) == []


@pytest.mark.parametrize(
    "odd", [["the same for two classes: Ant and Bee (1)"], ["of another length: Ant (7) (1)", "x"]]
)
def test_odd_class_vectors_are_told(odd):
    assert notices(trees={PLACE: make_tree(odd_vectors=odd, subsets={})}) == [
        f"CLASS VECTORS: {PLACE}: vectors are {'; '.join(odd)}."
    ]
    assert notices(trees={PLACE: make_tree(subsets={})}) == []
