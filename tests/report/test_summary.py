import pytest
from made_results import make_evaluation, make_seed

from avpipe.errors import AvpipeError
from avpipe.report.summary import best_result, by_benchmark, chooses_on_test, label, summarise


def test_mean_and_sample_deviation_over_seeds():
    summary = summarise(make_evaluation([10.0, 20.0, 30.0]))
    assert (summary["mean"]["hm"], summary["std"]["hm"], summary["std"]["seen"]) == (20.0, 10.0, 0.0)
    assert summary["n_seeds"] == 3 and [seed["seed"] for seed in summary["seeds"]] == [0, 1, 2]


def test_one_seed_has_no_deviation():
    summary = summarise(make_evaluation([12.5]))
    assert (summary["mean"]["hm"], summary["std"]["hm"]) == (12.5, None)


def test_every_mode_has_its_own_mean():
    figures = {"seen": 1.0, "unseen": 2.0, "hm": 4.0, "zsl": 6.0}
    seeds = [make_seed(n, 10.0, metrics={"audio": figures, "both": {**figures, "hm": n}}) for n in (1, 3)]
    modes = summarise(make_evaluation([], seeds=seeds))["modes"]
    assert modes["audio"]["mean"] == figures
    assert (modes["both"]["mean"]["hm"], modes["both"]["std"]["hm"]) == (2.0, pytest.approx(2**0.5))


def test_a_figure_that_one_seed_lacks_has_no_mean():
    summary = summarise(make_evaluation([], seeds=[make_seed(0, 10.0), make_seed(1, 20.0, zsl=None)]))
    assert summary["mean"]["zsl"] is None and summary["std"]["zsl"] is None and summary["mean"]["hm"] == 15.0
    assert summary["per_class"]["New"]["zsl"] is None and summary["per_class"]["New"]["gzsl"] == 20.0


def test_classes_are_averaged_over_seeds_and_empty_ones_stay_empty():
    seeds = [make_seed(0, 10.0, zsl=20.0), make_seed(1, 20.0, zsl=50.0)]
    classes = summarise(make_evaluation([], seeds=seeds))["per_class"]
    assert classes["New"] == {"gzsl": 20.0, "zsl": 35.0, "clips": 5}
    assert classes["Gone"] == {"gzsl": None, "zsl": None, "clips": 0}


def test_an_older_evaluation_and_one_without_seeds_are_refused():
    old = make_evaluation([1.0])
    del old["form"]
    with pytest.raises(AvpipeError, match=r"a/evaluation\.json lacks form"):
        summarise(old, "a/evaluation.json")
    with pytest.raises(AvpipeError, match="no seed"):
        summarise(make_evaluation([]))


def test_the_switch_is_found_under_its_short_and_its_long_name():
    for name in ("chooses_on_test", "gzsl.methods.fvaegan.chooses_on_test"):
        assert chooses_on_test({"quirks": {name: True}}) and not chooses_on_test({"quirks": {name: False}})
    chosen = make_evaluation([1.0], "fvaegan", "published", quirks={"chooses_on_test": True})
    assert label(chosen) == "fvaegan, published†"


def test_the_best_is_the_first_of_equals_and_neither_a_control_nor_chosen_on_the_test_clips():
    results = [
        summarise(make_evaluation(hm, method, form))
        for hm, method, form in [([9.0], "ale", "permuted"), ([5.0], "sje", "corrected"), ([5.0], "apn", "corrected")]
    ]
    assert best_result(results)["method"] == "sje"
    chosen = summarise(make_evaluation([9.0], "fvaegan", quirks={"chooses_on_test": True}))
    assert best_result([results[0], chosen]) is None


def test_benchmarks_in_order_of_appearance():
    evaluations = [make_evaluation([1.0], features=name) for name in ("b", "a", "b")]
    assert [(key, len(group)) for key, group in by_benchmark(evaluations).items()] == [
        (("cls_split", "b"), 2),
        (("cls_split", "a"), 1),
    ]
