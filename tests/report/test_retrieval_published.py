import pytest
from made_retrieval import PUBLISHED, make_evaluation, make_seed, make_training

from avpipe.errors import AvpipeError
from avpipe.report.published import COLUMNS
from avpipe.report.retrieval import KEYS, published_of, read_table, summarise


def published(dataset, title="", **changes):
    (result,) = summarise(make_evaluation([10.0], **changes))
    figures = published_of(read_table(PUBLISHED), result, dataset, title)
    return {metric: figure.value for metric, figure in figures.items()}


def test_the_table_holds_what_has_a_source_and_nothing_recalled():
    table = read_table(PUBLISHED)
    rows = {key[:2]: {metric: each.value for metric, each in figures.items()} for key, figures in table.items()}
    assert len(rows) == len(table) == 5 and all(key[2] == "fine-tuned" for key in table)
    assert all(each.source for figures in table.values() for each in figures.values())
    assert rows["msrvtt", "avlnet_text_fused"] == {"r1": 27.1, "r5": 55.6, "r10": 66.6, "median_rank": 4}
    assert rows["youcook2", "avlnet"] == {"r1": 30.7}  # docs/methods.md has no others
    assert "VLSA" in table["youcook2", "avlnet", "fine-tuned", "audio", "video"]["r1"].source


def test_figures_go_with_dataset_model_and_regime():
    assert published("youcook2")["r1"] == 30.7
    assert published("my_cooking", "YouCook2, my features")["r1"] == 30.7
    assert published("msrvtt_9k", model="avlnet_text_tri")["r10"] == 64.1
    assert published("youcook2_small")["r1"] == 30.7
    assert published("youcook20") == published("youcook2", regime="zero-shot") == published("msrvtt") == {}


def test_a_subset_of_another_dataset_goes_by_its_name():
    assert published("howto100m", subsets=("youcook2/test",))["r1"] == 30.7
    assert published("youcook2", subsets=("crosstask/test",)) == {}


def test_controls_and_diagnostic_subsets_have_none():
    assert published("youcook2", variant="permuted") == published("youcook2", test={"diagnostic": True}) == {}


def test_other_protocols_have_none():
    def beside(rule, **test):
        captions = rule and {"rule": rule, "used": 968, "total": 20 * 968}
        return published("msrvtt", model="avlnet_text_tri", test={"captions": captions, **test})

    assert beside(None) == beside("only") == beside("fixed") != {}
    assert beside("first") == beside("all") == beside("fixed", averaged_clips=3) == {}
    assert published("youcook2", test={"averaged_clips": 1}) == {}


@pytest.mark.parametrize("gallery", [32, 600, 900])
def test_a_test_that_lacks_many_clips_has_none(gallery):
    assert published("youcook2", test={"gallery": gallery}) == {}
    assert published("youcook2", test={"gallery": 901})["r1"] == 30.7


@pytest.mark.parametrize("left_out", [{"missing": 1}, {"no_audio": 10, "duplicate": 10}, {"timeout": 7}])
def test_a_training_that_lacks_many_clips_has_none(left_out):
    seeds = [make_seed(1, 10.0, training=make_training(items=9, left_out=left_out))]
    assert published("youcook2", seeds=seeds) == {}
    seeds = [make_seed(1, 10.0, training=make_training(items=1000, left_out=left_out))]
    assert published("youcook2", seeds=seeds)["r1"] == 30.7


HEAD = ",".join((*KEYS, *COLUMNS))
GOOD = "d,avlnet,fine-tuned,audio,video,r1,1,somewhere,yes"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["dataset,model", "a,b"], "has the columns"),
        ([HEAD, GOOD, GOOD], "row 3 repeats r1 of d, avlnet"),
        ([HEAD, GOOD.replace(",1,", ",101,")], "row 2: found"),
        ([HEAD, GOOD.replace(",1,", ",x,")], "row 2: found"),
        ([HEAD, GOOD.replace(",1,", ",,")], "row 2: found"),
        ([HEAD, GOOD.replace("somewhere", "")], "row 2: found"),
        ([HEAD, "d,avlnet,fine-tuned,audio,video,median_rank,0.5,somewhere,yes"], "row 2: found"),
        ([HEAD, GOOD.replace("fine-tuned", "")], "row 2: found"),
        ([HEAD, "d,avlnet"], "row 2: found"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, lines, found):
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(AvpipeError, match=found):
        read_table(tmp_path / "p.csv")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(AvpipeError, match="were not read"):
        read_table(tmp_path / "gone.csv")
