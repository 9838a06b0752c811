from made_results import (
    make_account,
    make_class,
    make_evaluation,
    make_failed,
    make_published,
    make_record,
    make_seed,
    make_shared,
    make_subset,
    make_tree,
    make_weights,
)

from avpipe.report import markdown
from avpipe.report.gzsl import to_document

READ = make_published(hm=41.34, zsl=37.72, seen={"value": 63.15, "source": "recalled", "confirmed": False})


def to_markdown(record):
    return markdown.to_markdown(to_document(record))


def test_a_row_per_method_and_form():
    page = to_markdown(make_record([make_evaluation([10.0, 20.0, 30.0]), make_evaluation([12.5], "ale", "published")]))
    figures = "50.00 ± 0.00 | 20.00 ± 0.00 | 20.00 ± 10.00 | 30.00 ± 0.00 | 12.50 ± 0.00"
    assert f"| avca | corrected | correct | {figures} | 16.7 | 3 |" in page
    assert "| ale | published | published | 50.00 | 20.00 | 12.50 | 30.00 | 12.50 | 16.7 | 1 |" in page
    assert "published HM / ZSL" not in page


def test_each_benchmark_has_its_table():
    page = to_markdown(make_record([make_evaluation([1.0]), make_evaluation([2.0], features="main_features")]))
    one, other = page.index("## cls_split, cls_features"), page.index("## cls_split, main_features")
    assert one < page.index("| 1.00 |") < other < page.index("| 2.00 |")


def test_published_figures_beside_ours():
    page = to_markdown(make_record([make_evaluation([1.0])], published=READ))
    assert "| 41.34 / 37.72 | 63.15 / – (unconfirmed) |" in page


def test_figures_chosen_on_the_test_clips_have_a_dagger_and_a_footnote():
    evaluation = make_evaluation([1.0], "fvaegan", "published", quirks={"chooses_on_test": True})
    page = to_markdown(make_record([evaluation]))
    assert "| published | 50.00† | 20.00† | 1.00† | 30.00† |" in page
    assert "\n† The epoch is the one that did best" in page
    assert "†" not in to_markdown(make_record([make_evaluation([1.0], "fvaegan")]))


def test_modes_of_methods_that_have_several():
    audio = {"seen": 1.0, "unseen": 2.0, "hm": 3.0, "zsl": 4.0, "beta": 0.2}
    seed = make_seed(0, 10.0)
    seed = make_seed(0, 10.0, metrics={**seed.metrics, "audio": audio})
    page = to_markdown(make_record([make_evaluation([], seeds=[seed]), make_evaluation([1.0], "ale")]))
    assert "| avca, corrected | audio | 1.00 | 2.00 | 3.00 | 4.00 |" in page
    assert "| avca, corrected | both (reported) | 50.00 |" in page
    assert "| ale, corrected | both" not in page


def test_classes_of_the_best_method_in_a_fold():
    page = to_markdown(make_record([make_evaluation([1.0], "ale"), make_evaluation([2.0])]))
    assert "<summary>Each class: avca, corrected" in page
    assert "| Kept | seen | 4 | 50.00 | – |" in page and "| New | unseen | 5 | 20.00 | 30.00 |" in page
    assert "| Gone | seen | 0 | – | – |" in page
    assert "Classes without test clips, left out of all averages: Gone." in page


def test_an_unseen_class_without_clips_is_still_unseen():
    unseen = make_subset({"New": 5, "Gone": make_class(0, {"missing": 1})})
    tree = make_tree(subsets=make_tree().subsets | {"stage_2_test_unseen": unseen})
    assert "| Gone | unseen | 0 | – | – |" in to_markdown(make_record([make_evaluation([1.0])], tree=tree))


def test_the_best_is_compared_with_each_other_one():
    page = to_markdown(make_record([make_evaluation([1.0, 2.0, 6.0]), make_evaluation([0.0, 0.0, 0.0], "ale")]))
    # as in test_comparison: mean 3, deviation sqrt(7), half width 6.57
    assert "| avca − ale | 3 | +3.00 ± 2.65 | -3.57 to +9.57 | 3 / 0 / 0 | +0.00 ± 0.00 |" in page
    assert "not a population of datasets" in page


def test_figures_chosen_on_the_test_clips_are_compared_but_never_the_best():
    chosen = make_evaluation([9.0, 9.0], "fvaegan", "published", quirks={"chooses_on_test": True})
    page = to_markdown(make_record([chosen, make_evaluation([1.0, 2.0], form="published")]))
    assert "| avca − fvaegan† | 2 | -7.50 ± 0.71 |" in page and "Each class: avca, published" in page


def test_without_a_second_seed_there_is_no_interval_and_without_a_second_method_no_comparison():
    page = to_markdown(make_record([make_evaluation([1.0]), make_evaluation([0.0], "ale")]))
    assert "| avca − ale | 1 | – | – | – | – | – | – |" in page
    assert "compared" not in to_markdown(make_record([make_evaluation([1.0, 2.0])]))


def test_the_page_says_what_the_numbers_rest_on():
    page = to_markdown(make_record([make_evaluation([1.0])], weights={"c3d": make_weights("random:0")}))
    assert "> **RANDOM WEIGHTS" in page and "| stage_2_train | too_short 1 | 200 | 199 |" in page
    assert "| a\\|b | no_audio | probe_clips | line break |" in page
    assert "source video" not in page


def test_shared_source_videos_are_counted_for_each_subset():
    shared = make_shared(stage_2_test_seen=(3, 4))
    page = to_markdown(make_record([make_evaluation([1.0])], tree=make_tree(shared_sources=shared)))
    assert "| stage_2_test_seen | none | 4 | 4 | 3 |" in page
    assert "| stage_2_train | too_short 1 | 200 | 199 | – |" in page


def test_a_long_list_of_failed_clips_is_cut():
    record = make_record([make_evaluation([1.0])], clips=make_account([make_failed()] * 53))
    assert to_markdown(record).endswith("\nand 3 more in eval.json.\n")


def test_figures_without_a_value_are_dashes():
    page = to_markdown(make_record([make_evaluation([], seeds=[make_seed(0, None, zsl=None)])]))
    assert "| 50.00 | 20.00 | – | – | 12.50 | 16.7 | 1 |" in page and "<details>" not in page
