import json

import pytest
from made_retrieval import collect, make_evaluation, make_pack

from avpipe.errors import AvpipeError
from avpipe.report.tasks import write_report
from avpipe.schema.gzsl import GzslRecord
from avpipe.schema.reading import read_any_record, read_record
from avpipe.schema.retrieval import RetrievalRecord


def write_record(folder, *arguments, **changes):
    record = collect(folder, *arguments, **changes)
    write_report(record, folder / "eval.json", table=folder / "eval.md", figure=folder / "eval.svg")
    return record


def test_the_file_is_what_was_returned_and_reads_back(tmp_path):
    evaluations = [make_evaluation([10.0, 20.0]), make_evaluation([1.0], variant="permuted")]
    record = write_record(tmp_path, evaluations, dataset="youcook2")
    assert read_any_record(tmp_path / "eval.json") == read_record(tmp_path / "eval.json", RetrievalRecord) == record
    stored = json.loads((tmp_path / "eval.json").read_text())
    assert (stored["schema_version"], stored["kind"]) == (1, "retrieval")
    assert json.loads(json.dumps(stored, allow_nan=False)) == record.to_json()
    assert record.packs["test"].used == 968 and record.clips.requested == 3
    provenance = record.provenance
    assert provenance.weights["resnet152"].label == "cd" * 32 and provenance.ffmpeg
    assert provenance.settings.title == "Some dataset" and provenance.libraries["torch"]
    assert record.fidelity["word"] == "corrected" and record.fidelity["features.resnet152.rotation"] == "upright"
    main, control = record.results
    assert main.published["r1"].value == 30.7 and control.published == {}


def test_made_up_data_have_no_published_figures(tmp_path):
    record = write_record(tmp_path, [make_evaluation([10.0])], dataset="youcook2", synthetic=True)
    assert record.results[0].published == {} and record.notices[0].startswith("SYNTHETIC DATA")


def test_given_packs_have_no_account_of_clips_and_no_weights(tmp_path):
    given = make_pack(origin="published pickle", provenance={"file": "clips.pkl"})
    packs = {"test": given, "other/test": given}
    record = write_record(tmp_path, [make_evaluation([10.0])], extracted=False, packs=packs)
    assert record.clips is record.provenance.weights is record.provenance.ffmpeg is None
    assert record.packs["test"].provenance == {"file": "clips.pkl"} and record.packs["test"].weights() == []
    assert list(record.packs) == ["test", "other/test"] and record.fidelity == {"word": "corrected"}


def test_a_table_of_zero_shot_learning_refuses_it(tmp_path):
    write_record(tmp_path, [make_evaluation([10.0])])
    with pytest.raises(AvpipeError, match="kind 'retrieval'; expected 'gzsl'"):
        read_record(tmp_path / "eval.json", GzslRecord)


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "retrieval"}',
        '{"schema_version": 1, "kind": "retrieval"}',
        '{"schema_version": 1, "kind": "other"}',
        '{"schema_version": 1, "kind": []}',
        "[1]",
    ],
)
def test_something_else_is_no_record(tmp_path, text):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(AvpipeError, match="is not a result of this version"):
        read_any_record(tmp_path / "eval.json")
