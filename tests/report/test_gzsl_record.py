import json

import pytest
from made_results import (
    make_account,
    make_class,
    make_evaluation,
    make_record,
    make_subset,
    make_tree,
    make_weights,
)

from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.io.manifest import write_json
from avpipe.report.gzsl import KEYS, collect_record, to_document
from avpipe.report.markdown import to_markdown
from avpipe.report.published import COLUMNS
from avpipe.report.tasks import write_report
from avpipe.schema.gzsl import GzslEvaluation, GzslRecord
from avpipe.schema.reading import read_any_record, read_evaluation, read_record
from avpipe.schema.stored import Account

PUBLISHED = ",".join((*KEYS, *COLUMNS)) + "\nucf_gzsl,cls_split,cls_features,avca,hm,41.34,README,yes\n"


@pytest.fixture
def write(tmp_path):
    """Writes eval.json of three methods' forms; `extracted`: whether there are an account of clips and weights."""

    def run(*, dataset="ucf_gzsl", synthetic=False, extracted=True, notes=(), **changes):
        benchmark = {"split": "cls_split", "features": "cls_features"}
        source = {"kind": "class_folders", "path": "videos"}
        values = {
            "title": "Mine",
            "synthetic": synthetic,
            "notes": [*notes],
            "source": source,
            "gzsl": {"benchmarks": [benchmark]},
        }
        settings = Dataset.model_validate({**values, "n_shards": 1}).resolved("corrected").model_dump()
        evaluations = []
        for method, form in (("avca", "corrected"), ("ale", "corrected"), ("avca", "permuted")):
            evaluations.append(str(tmp_path / f"{method}-{form}.json"))
            write_json(evaluations[-1], make_evaluation([10.0, 20.0], method, form).to_json())
        write_json(tmp_path / "gzsl/cls_split/cls_features.json", make_tree(**changes).to_json())
        (tmp_path / "published.csv").write_text(PUBLISHED)
        write_json(tmp_path / "accounting.json", make_account([]).to_json())
        write_json(tmp_path / "c3d.json", make_weights("random:0").to_json())
        record = collect_record(
            dataset=dataset,
            settings=settings,
            fidelity="corrected",
            evaluations=evaluations,
            trees=[str(tmp_path / "gzsl/cls_split/cls_features.json")],
            accounting=str(tmp_path / "accounting.json") if extracted else None,
            weights=[str(tmp_path / "c3d.json")] if extracted else [],
            published=str(tmp_path / "published.csv"),
        )
        write_report(record, tmp_path / "eval.json", table=tmp_path / "eval.md", figure=tmp_path / "eval.svg")
        return record

    return run


def test_the_file_is_what_was_returned_and_reads_back(write, tmp_path):
    record = write()
    assert read_record(tmp_path / "eval.json", GzslRecord) == read_any_record(tmp_path / "eval.json") == record
    stored = json.loads((tmp_path / "eval.json").read_text())
    assert json.loads(json.dumps(stored, allow_nan=False)) == record.to_json()
    assert (stored["schema_version"], stored["kind"]) == (1, "gzsl")
    assert any(notice.startswith("RANDOM WEIGHTS: c3d") for notice in record.notices)
    assert record.provenance.weights["c3d"].label == "random:0" and record.provenance.ffmpeg
    (pair,) = record.comparisons.pairs
    assert (pair.first, pair.second, pair.n) == ("avca", "ale", 2)
    assert "not a population" in record.comparisons.note
    assert list(record.benchmarks) == ["cls_split/cls_features"]
    assert (tmp_path / "eval.md").read_text() == to_markdown(to_document(record))
    assert "<svg" in (tmp_path / "eval.svg").read_text()


def test_settings_are_kept_whole(write):
    settings = write().to_json()["provenance"]["settings"]
    assert settings["n_shards"] == 1 and settings["source"]["path"] == "videos"


def test_published_figures_stand_beside_ours_but_not_beside_controls(write):
    avca, ale, control = write().to_json()["results"]
    assert avca["published"] == {"hm": {"value": 41.34, "source": "README", "confirmed": True}}
    assert ale["published"] == control["published"] == {}


@pytest.mark.parametrize("changes", [{"dataset": "mine"}, {"synthetic": True}])
def test_other_data_have_no_published_figures(write, changes):
    assert all(result.published == {} for result in write(**changes).results)


def test_given_features_have_no_account_of_clips_and_no_weights(write, tmp_path):
    record = write(extracted=False, source={"kind": "tree"})
    assert record.clips is record.provenance.weights is record.provenance.ffmpeg is None
    assert any(notice.startswith("GIVEN FEATURES") for notice in record.notices)
    assert record.fidelity.keys() == {"word"}  # a method's switches depend on its form: each result has its own
    assert read_record(tmp_path / "eval.json", GzslRecord) == record
    page = (tmp_path / "eval.md").read_text()
    assert "requested" not in page and "not used" not in page and "| stage_2_train |" in page


@pytest.mark.parametrize(
    ("text", "found"), [("{}", "schema_version is none"), ("[1]", "not a result"), ("x", "as JSON")]
)
def test_something_else_is_no_record(tmp_path, text, found):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(AvpipeError, match=found) as error:
        read_record(tmp_path / "eval.json", GzslRecord)
    assert "Expected an eval.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"schema_version": 2}, "its schema_version is 2, expected 1"),
        ({"benchmarks": None}, "benchmarks: Input should be a valid dictionary"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_result_of_another_version_is_refused_with_its_name_and_what_to_do(write, tmp_path, change, found):
    write_json(tmp_path / "changed.json", write().to_json() | change)
    with pytest.raises(AvpipeError, match=rf"changed\.json is not a result of this version.*{found}") as error:
        read_record(tmp_path / "changed.json", GzslRecord)
    assert "make it again with Snakemake" in str(error.value)


def test_an_older_evaluation_is_refused_with_its_name_and_what_to_do(tmp_path):
    old = make_evaluation([1.0]).to_json()
    del old["schema_version"], old["kind"]
    write_json(tmp_path / "evaluation.json", old)
    with pytest.raises(AvpipeError, match=r"evaluation\.json is not a result of this version.*schema_version is none"):
        read_evaluation(tmp_path / "evaluation.json", GzslEvaluation)
    lacking = make_evaluation([1.0]).to_json()
    del lacking["form"]
    write_json(tmp_path / "evaluation.json", lacking)
    with pytest.raises(AvpipeError, match=r"evaluation\.json .*form: Field required\. .*Delete it and run the same"):
        read_evaluation(tmp_path / "evaluation.json", GzslEvaluation)


@pytest.mark.parametrize(
    "subsets",
    [
        {"stage_2_train": make_subset({"A": make_class(432, {"missing": 4562})})},
        {"stage_2_test_seen": make_subset({"A": make_class(90, {"no_audio": 10})})},
        {"stage_2_test_unseen": make_subset({"A": 999, "B": make_class(1, {"timeout": 2})})},
    ],
)
def test_no_published_figure_beside_a_result_that_lacks_many_clips(write, tmp_path, subsets):
    record = write(subsets=subsets)
    assert all(result.published == {} for result in record.results)
    page = (tmp_path / "eval.md").read_text()
    assert "**MISSING CLIPS: cls_split/cls_features: used are " in page and "41.34" not in page


def test_a_few_missing_clips_are_told_beside_the_published_figure(write, tmp_path):
    record = write(subsets={"stage_2_train": make_subset({"A": make_class(95, {"missing": 5})})})
    assert record.results[0].published["hm"].value == 41.34
    assert any(each.startswith("Missing clips: cls_split") for each in record.notices)


def test_what_the_source_holds_besides_is_in_the_file_and_on_the_page(write, tmp_path):
    account = make_account().to_json() | {"passed_over": {"hidden": {"count": 7, "names": [".a", ".b"]}}}
    record = make_record([make_evaluation([1.0])], clips=Account.model_validate(account))
    page = to_markdown(to_document(record))
    assert "Passed over in the source, which are no clips: hidden 7 (.a, .b, …)." in page


def test_absolute_paths_of_settings_do_not_reach_the_files(write, tmp_path):
    record = write(source={"kind": "tree", "path": "/users/somebody/UCF"}, notes=["See /users/somebody/notes.txt."])
    for name in ("eval.json", "eval.md"):
        text = (tmp_path / name).read_text()
        assert "somebody" not in text and "UCF" in text and "See notes.txt." in text
    assert record.provenance.settings.notes == ["See /users/somebody/notes.txt."]
