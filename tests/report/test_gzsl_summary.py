import pytest
from made_results import make_evaluation, make_seed

from avpipe.errors import AvpipeError
from avpipe.report.gzsl import summarise
from avpipe.report.gzsl_notices import label
from avpipe.report.summary import group_by


def test_mean_and_sample_deviation_over_seeds():
    summary = summarise(make_evaluation([10.0, 20.0, 30.0]))
    assert (summary.mean.hm, summary.std.hm, summary.std.seen) == (20.0, 10.0, 0.0)
    assert summary.n_seeds == 3 and [seed.seed for seed in summary.seeds] == [0, 1, 2]


def test_one_seed_has_no_deviation():
    summary = summarise(make_evaluation([12.5]))
    assert (summary.mean.hm, summary.std.hm) == (12.5, None)


def test_every_mode_has_its_own_mean():
    figures = {"seen": 1.0, "unseen": 2.0, "hm": 4.0, "zsl": 6.0, "ausuc": 8.0}
    mode = {**figures, "beta": 0.2}
    seeds = [make_seed(n, 10.0, metrics={"audio": mode, "both": {**mode, "hm": n}}) for n in (1, 3)]
    modes = summarise(make_evaluation([], seeds=seeds)).modes
    assert modes["audio"].mean.to_json() == figures
    assert (modes["both"].mean.hm, modes["both"].std.hm) == (2.0, pytest.approx(2**0.5))


def test_a_figure_that_one_seed_lacks_has_no_mean():
    summary = summarise(make_evaluation([], seeds=[make_seed(0, 10.0), make_seed(1, 20.0, zsl=None)]))
    assert summary.mean.zsl is None and summary.std.zsl is None and summary.mean.hm == 15.0
    assert summary.per_class["New"].zsl is None and summary.per_class["New"].gzsl == 20.0


def test_classes_are_averaged_over_seeds_and_empty_ones_stay_empty():
    seeds = [make_seed(0, 10.0, zsl=20.0), make_seed(1, 20.0, zsl=50.0)]
    classes = summarise(make_evaluation([], seeds=seeds)).per_class
    assert classes["New"].to_json() == {"gzsl": 20.0, "zsl": 35.0, "clips": 5}
    assert classes["Gone"].to_json() == {"gzsl": None, "zsl": None, "clips": 0}


def test_an_evaluation_without_seeds_is_refused():
    with pytest.raises(AvpipeError, match=r"a/evaluation\.json holds no seed"):
        summarise(make_evaluation([]), "a/evaluation.json")


def test_the_switch_is_found_under_its_short_and_its_long_name():
    for name in ("chooses_on_test", "gzsl.methods.fvaegan.chooses_on_test"):
        for value in (True, False):
            assert summarise(make_evaluation([1.0], quirks={name: value})).chooses_on_test is value
    chosen = make_evaluation([1.0], "fvaegan", "published", quirks={"chooses_on_test": True})
    assert label(summarise(chosen)) == "fvaegan, published†"


def test_benchmarks_in_order_of_appearance():
    evaluations = [make_evaluation([1.0], features=name) for name in ("b", "a", "b")]
    assert [
        (key, len(group)) for key, group in group_by(evaluations, lambda each: (each.split, each.features)).items()
    ] == [
        (("cls_split", "b"), 2),
        (("cls_split", "a"), 1),
    ]
