import json

import pytest
from made_results import make_evaluation, make_record, make_tree

from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json
from avpipe.report.published import COLUMNS
from avpipe.report.results import read_record, write_results
from avpipe.report.tables import to_markdown

PUBLISHED = ",".join(COLUMNS) + "\nucf_gzsl,cls_split,cls_features,avca,hm,41.34,README,yes\n"


@pytest.fixture
def write(tmp_path):
    """Writes eval.json of three methods' forms; `extracted`: whether there are an account of clips and weights."""

    def run(*, dataset="ucf_gzsl", synthetic=False, extracted=True, **changes):
        benchmark = {"split": "cls_split", "features": "cls_features"}
        source = {"kind": "class_folders", "path": "videos"}
        values = {"title": "Mine", "synthetic": synthetic, "source": source, "gzsl": {"benchmarks": [benchmark]}}
        settings = Dataset.model_validate({**values, "n_shards": 1}).resolved("corrected").model_dump()
        evaluations = []
        for method, form in (("avca", "corrected"), ("ale", "corrected"), ("avca", "permuted")):
            evaluations.append(str(tmp_path / f"{method}-{form}.json"))
            write_json(evaluations[-1], make_evaluation([10.0, 20.0], method, form))
        write_json(tmp_path / "gzsl/cls_split/cls_features.json", make_tree(**changes))
        (tmp_path / "published.csv").write_text(PUBLISHED)
        write_json(tmp_path / "accounting.json", {"requested": 1, "ok": 1, "reasons": {}, "failed": []})
        write_json(tmp_path / "c3d.json", {"label": "random:0", "sha256": None, "remarks": {}})
        return write_results(
            dataset=dataset,
            settings=settings,
            fidelity="corrected",
            evaluations=evaluations,
            trees=[str(tmp_path / "gzsl/cls_split/cls_features.json")],
            accounting=str(tmp_path / "accounting.json") if extracted else None,
            weights=[str(tmp_path / "c3d.json")] if extracted else [],
            target=tmp_path / "eval.json",
            published=str(tmp_path / "published.csv"),
        )

    return run


def test_the_file_is_what_was_returned_and_reads_back(write, tmp_path):
    record = write()
    assert read_record(tmp_path / "eval.json") == json.loads(json.dumps(record, allow_nan=False)) == record
    assert any(notice.startswith("RANDOM WEIGHTS: c3d") for notice in record["notices"])
    assert record["provenance"]["weights"]["c3d"]["label"] == "random:0" and record["provenance"]["ffmpeg"]
    (pair,) = record["comparisons"]["pairs"]
    assert (pair["first"], pair["second"], pair["n"]) == ("avca", "ale", 2)
    assert "not a population" in record["comparisons"]["note"]
    assert list(record["benchmarks"]) == ["cls_split/cls_features"]


def test_published_figures_stand_beside_ours_but_not_beside_controls(write):
    avca, ale, control = write()["results"]
    assert avca["published"] == {"hm": {"value": 41.34, "source": "README", "confirmed": True}}
    assert ale["published"] == control["published"] == {}


@pytest.mark.parametrize("changes", [{"dataset": "mine"}, {"synthetic": True}])
def test_other_data_have_no_published_figures(write, changes):
    assert all(result["published"] == {} for result in write(**changes)["results"])


def test_given_features_have_no_account_of_clips_and_no_weights(write, tmp_path):
    record = write(extracted=False, source={"kind": "tree"})
    assert "clips" not in record and not {"weights", "ffmpeg"} & record["provenance"].keys()
    assert any(notice.startswith("GIVEN FEATURES") for notice in record["notices"])
    assert record["fidelity"].keys() == {"word"}  # a method's switches depend on its form: each result has its own
    assert read_record(tmp_path / "eval.json") == record
    page = to_markdown(record)
    assert "requested" not in page and "without features" not in page and "| stage_2_train |" in page


@pytest.mark.parametrize(("text", "found"), [("{}", "it lacks benchmarks"), ("[1]", "not a result"), ("x", "as JSON")])
def test_something_else_is_no_record(tmp_path, text, found):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(AvpipeError, match=found) as error:
        read_record(tmp_path / "eval.json")
    assert "Expected an eval.json" in str(error.value)


def test_the_made_record_has_the_keys_of_a_written_one(write):
    assert make_record([make_evaluation([1.0])]).keys() == write().keys() - {"fidelity"}
