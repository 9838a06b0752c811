import pytest
from made_retrieval import PUBLISHED, make_evaluation

from avpipe.errors import AvpipeError
from avpipe.report.retrieval_published import COLUMNS, find_published, read_published_recalls
from avpipe.report.retrieval_summary import summarise_retrieval


def published(dataset, title="", **changes):
    (result,) = summarise_retrieval(make_evaluation([0.1], **changes))
    return find_published(read_published_recalls(PUBLISHED), result, dataset, title)


def test_the_table_holds_what_has_a_source_and_nothing_recalled():
    rows = {(row.dataset, row.model): row for row in read_published_recalls(PUBLISHED)}
    assert len(rows) == 5 and all(row.source and row.regime == "fine-tuned" for row in rows.values())
    assert rows["msrvtt", "avlnet_text_fused"].figures == {"r1": 27.1, "r5": 55.6, "r10": 66.6, "median_rank": 4}
    assert rows["youcook2", "avlnet"].figures == {"r1": 30.7}  # specs/avlnet.md §7 knows no others


def test_figures_go_with_dataset_model_and_regime():
    assert published("youcook2")["r1"] == 30.7 and "VLSA" in published("youcook2")["source"]
    assert published("my_cooking", "YouCook2, my features")["r1"] == 30.7
    assert published("msrvtt_9k", model="avlnet_text_tri")["r10"] == 64.1
    assert published("youcook2_small")["r1"] == 30.7
    assert published("youcook20") == published("youcook2", regime="zero-shot") == published("msrvtt") == {}


def test_a_subset_of_another_dataset_goes_by_its_name():
    assert published("howto100m", subsets=("youcook2/test",))["r1"] == 30.7
    assert published("youcook2", subsets=("crosstask/test",)) == {}


def test_controls_and_diagnostic_subsets_have_none():
    assert published("youcook2", variant="permuted") == published("youcook2", test={"diagnostic": True}) == {}


GOOD = "d,avlnet,fine-tuned,audio,video,1,,,,somewhere"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["dataset,model", "a,b"], "has the columns"),
        ([",".join(COLUMNS), GOOD, GOOD], "row 3 repeats avlnet on d"),
        ([",".join(COLUMNS), GOOD.replace(",1,", ",101,")], "row 2: found"),
        ([",".join(COLUMNS), GOOD.replace(",1,", ",x,")], "row 2: found"),
        ([",".join(COLUMNS), GOOD.replace(",1,", ",,")], "row 2: found"),
        ([",".join(COLUMNS), GOOD.replace("somewhere", "")], "row 2: found"),
        ([",".join(COLUMNS), "d,avlnet,fine-tuned,audio,video,1,,,0.5,somewhere"], "row 2: found"),
        ([",".join(COLUMNS), "d,avlnet"], "row 2: found"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, lines, found):
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(AvpipeError, match=found):
        read_published_recalls(tmp_path / "p.csv")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(AvpipeError, match="were not read"):
        read_published_recalls(tmp_path / "gone.csv")
