import pytest
from made_results import make_evaluation, make_seed

from avpipe.report.comparison import best_result, compare, compare_methods, compare_with_best, describe_differences
from avpipe.report.gzsl import summarise


def results(*settings):
    return [summarise(make_evaluation(*each)) for each in settings]


def test_the_interval_by_hand():
    # Differences 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, variance 7, standard error sqrt(7 / 3) = 1.527525;
    # Student's t at 0.975 with 2 degrees of freedom, from a printed table: 4.30265. Half width 6.572408.
    found = describe_differences([1.0, 2.0, 6.0])
    assert (found.mean, found.std) == (3.0, pytest.approx(7**0.5))
    # the table has six digits
    assert found.low == pytest.approx(3 - 6.572408, abs=1e-5)
    assert found.high == pytest.approx(3 + 6.572408, abs=1e-5)


def test_wins_ties_and_losses():
    # 0.3 - 0.1 - 0.2 is not 0 in floating point; that is a tie all the same
    found = describe_differences([1.0, 0.3 - 0.1 - 0.2, -2.0, 3.0])
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


def test_equal_methods_have_an_interval_without_width():
    found = describe_differences([0.0, 0.0])
    assert (found.mean, found.low, found.high, found.ties) == (0.0, 0.0, 0.0, 2)


@pytest.mark.parametrize("differences", [[], [1.0]])
def test_fewer_than_two_seeds_say_nothing(differences):
    assert describe_differences(differences) is None


def test_only_common_seeds_are_paired():
    one, other = results([{1: 10.0, 2: 20.0, 3: 30.0}], [{3: 26.0, 1: 8.0, 9: 0.0}, "ale"])
    found = compare(one, other)
    assert (found.first, found.second, found.seeds, found.n) == ("avca", "ale", [1, 3], 2)
    assert (found.hm.mean, found.hm.wins) == (3.0, 2)  # 10 - 8 and 30 - 26
    assert found.zsl.ties == 2


def test_too_few_common_seeds():
    found = compare(*results([{1: 10.0, 2: 20.0}], [{2: 26.0, 3: 8.0}, "ale"]))
    assert (found.seeds, found.hm, found.zsl) == ([2], None, None)


def test_a_figure_that_a_seed_lacks_is_not_compared():
    one = summarise(make_evaluation([], seeds=[make_seed(0, 1.0, zsl=None), make_seed(1, 2.0)]))
    found = compare(one, *results([[0.0, 0.0], "ale"]))
    assert found.zsl is None and found.hm.wins == 2


def test_all_pairs_within_a_form_without_controls():
    each = [([1.0, 2.0], method) for method in ("avca", "ale", "sje")]
    each += [([1.0, 2.0], "avca", "published"), ([1.0, 2.0], "ale", "published"), ([1.0, 2.0], "avca", "permuted")]
    pairs = compare_methods(results(*each))
    assert [(pair.form, pair.first, pair.second) for pair in pairs] == [
        ("corrected", "avca", "ale"),
        ("corrected", "avca", "sje"),
        ("corrected", "ale", "sje"),
        ("published", "avca", "ale"),
    ]


def test_benchmarks_are_not_mixed():
    one, other = (summarise(make_evaluation([1.0, 2.0], method, features=method)) for method in ("avca", "ale"))
    assert compare_methods([one, other]) == []


def test_the_best_against_the_others():
    found = compare_with_best(
        results([[1.0, 2.0]], [[5.0, 6.0], "ale"], [[3.0, 3.0], "sje"], [[9.0], "ale", "permuted"])
    )
    assert [(each.first, each.second) for each in found] == [("ale", "avca"), ("ale", "sje")]
    assert found[0].hm.mean == 4.0
    assert compare_with_best([]) == []


def test_the_best_is_the_first_of_equals_and_neither_a_control_nor_chosen_on_the_test_clips():
    found = results([[9.0], "ale", "permuted"], [[5.0], "sje"], [[5.0], "apn"])
    assert best_result(found).method == "sje"
    chosen = summarise(make_evaluation([9.0], "fvaegan", quirks={"chooses_on_test": True}))
    assert best_result([found[0], chosen]) is None
