import pytest
from made_results import make_account, make_failed, make_weights
from made_retrieval import make_evaluation, make_pack, make_seed, make_settings, make_training

from avpipe.report.notices import NO_FIGURES
from avpipe.report.retrieval import summarise
from avpipe.report.retrieval_notices import find_notices
from avpipe.schema.stored import DatasetSettings

ALL_THERE = {"metrics": {"n_queries": 968}, "missing": {}, "absent": 0, "expected": 968}


def notices(*evaluations, weights=None, packs=None, **settings):
    results = [result for each in evaluations for result in summarise(each)]
    chosen = DatasetSettings.model_validate(make_settings(**settings))
    return find_notices(chosen, weights or {}, results, packs)


def test_nothing_to_say_of_a_full_subset():
    assert notices(make_evaluation([10.0], test=ALL_THERE), packs={"test": make_pack(expected=968)}) == []


def test_made_up_data_and_notes():
    first, note = notices(synthetic=True, notes=["Mind this."])
    assert first.startswith("SYNTHETIC DATA") and note == "Mind this."


def test_untrained_extractors_and_other_weights():
    weights = {"resnet152": make_weights("random:1"), "spectrogram": make_weights("none")}
    weights["resnext101"] = make_weights("ab", remarks={"resnext101": "not the published file"})
    random, other = notices(weights=weights)
    assert random.startswith("RANDOM WEIGHTS: resnet152 (random:1);") and other.startswith("OTHER WEIGHTS: resnext101")


def test_packs_of_other_datasets_say_what_they_were_made_with():
    made_with = [("resnet152", "random:1"), ("resnext101", "random:2"), ("spectrogram", "none")]
    parts = {name: {"extractor": name, "weights": make_weights(label)} for name, label in made_with}
    packs = {"test": make_pack(expected=968, provenance=parts), "other/test": make_pack(expected=968, provenance=parts)}
    (notice,) = notices(weights={"resnet152": make_weights("random:1")}, packs=packs)
    assert notice.startswith("RANDOM WEIGHTS: resnet152 (random:1), resnext101 (random:2);")


def test_untrained_models_are_named_and_trained_ones_are_not():
    start = {"spec": "random:3", "label": "random:3", "sha256": None}
    untrained = make_evaluation([], run="raw", start=start, seeds=[make_seed(None, 10.0, **ALL_THERE)])
    (notice,) = notices(untrained, make_evaluation([10.0], run="scratch", start=start, test=ALL_THERE))
    assert notice.startswith("RANDOM WEIGHTS") and "raw (random:3)" in notice and "scratch" not in notice


def test_a_training_that_starts_from_a_stand_in_is_named():
    start = {"spec": "published", "label": "random:0", "sha256": None}
    (notice,) = notices(make_evaluation([10.0], run="tuned", start=start, test=ALL_THERE))
    assert notice == "RANDOM WEIGHTS: tuned (random:0): trained from random weights in place of published ones."


def test_clips_that_no_training_saw_are_counted():
    training = make_training(items=8, left_out={"missing": 2, "no_audio": 1, "too_short": 0})
    seeds = [make_seed(1, 10.0, training=training, **ALL_THERE)]
    (notice,) = notices(*(make_evaluation([], run=run, seeds=seeds) for run in ("one", "two")))
    said = "LEFT OUT OF TRAINING: one, two: 3 beside the 8 used (missing 2, no_audio 1)"
    assert notice == f"{said}; {NO_FIGURES}."
    few = [seeds[0].model_copy(update={"training": make_training(items=80, left_out={"missing": 2})})]
    (notice,) = notices(make_evaluation([], run="one", seeds=few))
    assert notice == "LEFT OUT OF TRAINING: one: 2 beside the 80 used (missing 2)."


def test_given_features_and_what_packs_warn_of():
    packs = {"test": make_pack(expected=968, origin="published pickle", warnings=["7 clips have no id"])}
    given, warning = notices(packs=packs)
    assert given.startswith("GIVEN FEATURES: test rests on a published pickle")
    assert warning == "PACK: test: 7 clips have no id"


def test_missed_queries_say_why_and_what_is_left():
    (notice,) = notices(make_evaluation([10.0]), make_evaluation([20.0], run="other"))
    assert notice.startswith("MISSED QUERIES: test: 32 of 1000 queries")
    assert "(no_audio 30, unlisted 2)" in notice and "gallery of 968" in notice


def test_runs_that_differ_are_named():
    one, other = notices(
        make_evaluation([10.0]), make_evaluation([20.0], run="other", test=ALL_THERE | {"cut_clips": 3})
    )
    assert one.startswith("MISSED QUERIES: test (fine_tuned): 32 of")
    assert other.startswith("CUT CLIPS: test (other): 3 clips are longer than the 30.72 s")


def test_clips_that_are_read_window_by_window():
    (notice,) = notices(make_evaluation([10.0], test=ALL_THERE | {"averaged_clips": 3}))
    assert notice.startswith("Clips of several windows: test: 3 clips are longer than 30.72 s") and "mean" in notice


@pytest.mark.parametrize(("rule", "used"), [("first", 3), ("all", 60), ("fixed", None), ("only", None)])
def test_captions_that_ask_otherwise_than_in_benchmarks(rule, used):
    test = ALL_THERE | {"captions": {"rule": rule, "used": used or 3, "total": 60}}
    found = notices(
        make_evaluation([10.0], model="avlnet_text_tri", test=test), packs={"test": make_pack(expected=968)}
    )
    if used is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith("CAPTIONS: test: ")
        assert f"({used} of 60; datasets.<name>.retrieval.test_captions: {rule}); not to be compared" in found[0]


def test_unknown_words():
    words = {"known": 90, "tokens": 120, "captions_without": 4}
    (notice,) = notices(make_evaluation([10.0], model="avlnet_text_tri", test=ALL_THERE | {"known_words": words}))
    assert "25.0 % of the captions' words (30 of 120)" in notice and "4 captions have no known word" in notice
    empty = {"known": 0, "tokens": 0, "captions_without": 2}
    (notice,) = notices(make_evaluation([10.0], model="avlnet_text_tri", test=ALL_THERE | {"known_words": empty}))
    assert "2 captions have no known word" in notice


def test_ties_by_direction():
    tied = ALL_THERE | {"metrics": {"n_queries": 968, "n_tied": 5}}
    (notice,) = notices(make_evaluation([10.0], test=tied))
    assert notice.startswith("TIES: test:") and "5 (audio → video), 5 (video → audio)" in notice


def test_small_galleries_and_diagnostic_subsets():
    small = {"metrics": {"n_queries": 12, "n_ranked": 12, "gallery": 12}, "gallery": 12, "missing": {}, "absent": 0}
    chance = {"test": {"r1": 100 / 12, "r5": 500 / 12, "r10": 1000 / 12}}
    (notice,) = notices(make_evaluation([10.0], test=small, chance=chance))
    assert notice == (
        "SMALL TEST SET: test: 12 queries among 12 candidates; guessing has R@10 83.3 %, and one query moves R@k by "
        "8.3 points."
    )
    (notice,) = notices(make_evaluation([10.0], test=small | {"diagnostic": True}, chance=chance))
    assert notice.startswith("DIAGNOSTIC: test: not to be used")


@pytest.mark.parametrize(("variant", "n"), [("main", 0), ("permuted", 1)])
def test_controls(variant, n):
    found = notices(make_evaluation([10.0], variant=variant, test=ALL_THERE))
    assert len(found) == n and all("pictures permuted" in each for each in found)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (1000, None),
        (991, None),
        (990, "Missing clips: used are test 990 of 1,000 clips (1.0 % missing)."),
        (900, f"MISSING CLIPS: used are test 900 of 1,000 clips (10.0 % missing); {NO_FIGURES}."),
    ],
)
def test_missing_clips_are_told_and_in_capitals_where_many_are_missing(used, expected):
    assert notices(packs={"test": make_pack(used=used)}) == ([expected] if expected else [])


def test_duplicates_of_the_account_are_named():
    failed = [make_failed(clip_id="b", reason="duplicate", detail="the same content as a")]
    chosen = DatasetSettings.model_validate(make_settings())
    (notice,) = find_notices(chosen, {}, account=make_account(failed))
    assert notice.startswith("DUPLICATES: 1 clips are left out") and "b (the same content as a)." in notice
