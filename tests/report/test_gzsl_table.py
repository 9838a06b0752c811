import csv

import pytest
from made_results import make_class, make_evaluation, make_record, make_subset, make_tree, make_weights

from avpipe.errors import AvpipeError
from avpipe.io.manifest import write_json
from avpipe.report.gzsl import KEYS
from avpipe.report.gzsl_table import write_gzsl_table
from avpipe.report.published import COLUMNS

PUBLISHED = "\n".join(
    [
        ",".join((*KEYS, *COLUMNS)),
        "ucf_gzsl,cls_split,cls_features,ale,hm,35.37,README,yes",
        "ucf_gzsl,cls_split,cls_features,avca,hm,41.34,README,yes",
        "ucf_gzsl,cls_split,cls_features,avca,zsl,37.72,README,yes",
        "ucf_gzsl,cls_split,cls_features,avca,seen,63.15,recalled,no",
        "vggsound_gzsl,cls_split,cls_features,ale,hm,3.23,README,yes",
    ]
)


@pytest.fixture
def write(tmp_path):
    """Writes the table of some records and of datasets that were not run; gives the CSV's rows and the page."""
    (tmp_path / "published.csv").write_text(PUBLISHED + "\n")

    def run(records, names=()):
        paths = []
        for number, record in enumerate(records):
            paths.append(tmp_path / f"{number}.json")
            write_json(paths[-1], record if isinstance(record, dict) else record.to_json())
        targets = tmp_path / "t.csv", tmp_path / "t.md"
        write_gzsl_table(paths, tmp_path / "published.csv", *targets, names)
        with targets[0].open(newline="") as file:
            return list(csv.DictReader(file)), targets[1].read_text()

    return run


def line(page, start):
    (found,) = [each for each in page.splitlines() if each.startswith(start)]
    return found


def test_ours_beside_the_published(write):
    _, page = write([make_record([make_evaluation([40.0, 42.0])], dataset="ucf_gzsl")])
    assert "| method | form | ucf_gzsl, cls_split: HM | ucf_gzsl, cls_split: ZSL |" in page
    row = line(page, "| avca |")
    assert row == "| avca | corrected | 41.00 ± 1.41 (41.34) [1] | 30.00 ± 0.00 (37.72) [1] |"


def test_what_was_not_run_shows_what_was_published(write):
    rows, page = write([make_record([make_evaluation([40.0])], dataset="ucf_gzsl")], ["vggsound_gzsl", "new_data"])
    assert line(page, "| ale |") == "| ale | – | not run (35.37) | – | not run (3.23) | – |"
    (row,) = [row for row in rows if row["dataset"] == "vggsound_gzsl"]
    assert (row["mean"], row["n_seeds"], row["published"], row["rests_on"]) == ("", "0", "3.23", "")


def test_a_dataset_that_was_run_is_not_also_not_run(write):
    record = make_record([make_evaluation([40.0])], dataset="ucf_gzsl")
    assert write([record], ["ucf_gzsl"]) == write([record])


def test_the_csv_has_every_metric_and_what_it_rests_on(write):
    weights = {"c3d": make_weights("random:0"), "vggish": make_weights("cd" * 32)}
    evaluation = make_evaluation([40.0, 42.0], quirks={"chooses_on_test": True})
    rows, page = write([make_record([evaluation], dataset="ucf_gzsl", weights=weights)])
    ours = {row["metric"]: row for row in rows if row["method"] == "avca"}
    assert list(ours) == ["seen", "unseen", "hm", "zsl"]
    expected = {
        "mean": "41.0000",
        "sd": "1.4142",
        "n_seeds": "2",
        "published": "41.34",
        "published_source": "README",
        "rests_on": f"c3d random:0 weights, vggish published weights sha256 {'cd' * 32}",
        "synthetic": "false",
        "train_used": "199",
        "train_expected": "200",
        "test_used": "9",
        "test_expected": "9",
        "expected_from": "csv",
        "text": "correct",
        "chosen_on_test": "true",
        "control": "false",
        "split_digest": "0123456789abcdef",
        "git_commit": "f" * 40 + "+changes",
    }
    assert {key: ours["hm"][key] for key in expected} == expected
    assert (ours["seen"]["published"], ours["seen"]["published_confirmed"]) == ("63.15", "false")
    assert "41.00 ± 1.41† (41.34) [1]" in page
    note = line(page, "- [1]")
    for words in (
        "expected by the csv: training 199 of 200, test 9 of 9",
        "2 seeds",
        "form corrected, class vectors correct",
        "0123456789ab;",
    ):
        assert words in note
    assert f"avpipe {'f' * 12}+changes" in note and "epoch chosen on the test clips" in note


@pytest.mark.parametrize(
    ("weights", "source", "words"),
    [
        ({}, {"kind": "caches"}, "the cache files of the published code"),
        ({"c3d": make_weights("ab", remarks={"c3d": "odd"})}, None, "c3d other weights sha256 ab, vggish with unknown"),
    ],
)
def test_what_features_rest_on(write, weights, source, words):
    tree = make_tree(source=source) if source else make_tree()
    rows, _ = write([make_record([make_evaluation([1.0])], weights=weights, tree=tree)])
    assert rows[0]["rests_on"].startswith(words)


def test_controls_stand_in_the_csv_alone(write):
    evaluations = [make_evaluation([40.0]), make_evaluation([5.0], form="permuted")]
    rows, page = write([make_record(evaluations, dataset="ucf_gzsl")])
    control = [row for row in rows if row["form"] == "permuted"]
    assert len(control) == 4 and all(row["control"] == "true" and row["published"] == "" for row in control)
    assert "permuted" not in page and "5.00" not in page


def test_synthetic_data_are_named_and_have_no_published_figures(write):
    rows, page = write([make_record([make_evaluation([40.0])], dataset="ucf_gzsl", synthetic=True)])
    assert "SYNTHETIC DATA" in line(page, "- [1]") and all(row["published"] == "" for row in rows)


def test_forms_have_rows_and_notes_of_their_own(write):
    both = make_record([make_evaluation([40.0]), make_evaluation([30.0], form="published")], dataset="a")
    one = make_record([make_evaluation([20.0])], dataset="ucf_gzsl")
    _, page = write([both, one])
    assert line(page, "| avca | corrected |").startswith(
        "| avca | corrected | 40.00 [1] | 30.00 [1] | 20.00 (41.34) [2] |"
    )
    assert line(page, "| avca | published |").endswith("| 30.00 [3] | 30.00 [3] | not run (41.34) | not run (37.72) |")


def test_the_order_of_the_inputs_does_not_matter(write):
    records = [make_record([make_evaluation([n])], dataset=name) for n, name in enumerate(("b", "ucf_gzsl", "a"))]
    assert write(records, ["vggsound_gzsl", "x"]) == write(records[::-1], ["x", "vggsound_gzsl"])
    rows, _ = write(records)
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == ["a", "b", "ucf_gzsl"]
    assert list(dict.fromkeys(row["method"] for row in rows if row["dataset"] == "ucf_gzsl")) == ["ale", "avca"]


def test_nothing_was_run(write):
    rows, page = write([], ["ucf_gzsl"])
    assert len(rows) == 4 and "not run (41.34)" in page and "[1]" not in page


def test_an_older_result_is_refused(write):
    with pytest.raises(AvpipeError, match="not a result of this version"):
        write([{"dataset": "a", "notices": [], "results": []}])


@pytest.mark.parametrize("used", [8, 89, 90])
def test_nothing_published_stands_beside_figures_that_lack_many_clips(write, used):
    tree = make_tree(
        subsets=make_tree().subsets | {"stage_2_train": make_subset({"A": make_class(used, {"missing": 100 - used})})}
    )
    rows, page = write([make_record([make_evaluation([40.0])], dataset="ucf_gzsl", tree=tree)], ["vggsound_gzsl"])
    ours = [row for row in rows if row["dataset"] == "ucf_gzsl"]
    assert {row["method"] for row in ours} == {"avca"} and all(row["published"] == "" for row in ours)
    assert {row["comparable"] for row in ours} == {"false"} and "41.34" not in page and "35.37" not in page
    assert "MISSING CLIPS, no published figure" in line(page, "- [1]") and "not run (3.23)" in page
