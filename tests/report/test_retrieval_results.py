import json

import pytest
from made_retrieval import make_evaluation, make_pack, write_record

from avpipe.errors import AvpipeError
from avpipe.report.results import RETRIEVAL, read_record


def test_the_file_is_what_was_returned_and_reads_back(tmp_path):
    evaluations = [make_evaluation([0.1, 0.2]), make_evaluation([0.01], variant="permuted")]
    record = write_record(tmp_path, evaluations, dataset="youcook2")
    assert record["kind"] == RETRIEVAL
    assert read_record(tmp_path / "eval.json", None) == json.loads(json.dumps(record, allow_nan=False)) == record
    assert read_record(tmp_path / "eval.json", RETRIEVAL) == record
    assert record["packs"]["test"]["used"] == 968 and record["clips"]["requested"] == 3
    provenance = record["provenance"]
    assert provenance["weights"]["resnet152"]["label"] == "cd" * 32 and provenance["ffmpeg"]
    assert provenance["settings"]["title"] == "Some dataset" and provenance["libraries"]["torch"]
    assert record["fidelity"]["word"] == "corrected" and record["fidelity"]["features.resnet152.rotation"] == "upright"
    main, control = record["results"]
    assert main["published"]["r1"] == 30.7 and control["published"] == {}


def test_made_up_data_have_no_published_figures(tmp_path):
    record = write_record(tmp_path, [make_evaluation([0.1])], dataset="youcook2", synthetic=True)
    assert record["results"][0]["published"] == {} and record["notices"][0].startswith("SYNTHETIC DATA")


def test_given_packs_have_no_account_of_clips_and_no_weights(tmp_path):
    packs = {"test": make_pack(origin="published pickle"), "other/test": make_pack(origin="published pickle")}
    record = write_record(tmp_path, [make_evaluation([0.1])], extracted=False, packs=packs)
    assert "clips" not in record and not {"weights", "ffmpeg"} & record["provenance"].keys()
    assert list(record["packs"]) == ["test", "other/test"] and record["fidelity"] == {"word": "corrected"}


def test_a_table_of_zero_shot_learning_refuses_it(tmp_path):
    write_record(tmp_path, [make_evaluation([0.1])])
    with pytest.raises(AvpipeError, match="kind 'retrieval'; expected 'gzsl'"):
        read_record(tmp_path / "eval.json")


@pytest.mark.parametrize("text", ['{"kind": "retrieval"}', '{"kind": "other"}', '{"kind": []}', "[1]"])
def test_something_else_is_no_record(tmp_path, text):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(AvpipeError, match="is not a result of this version"):
        read_record(tmp_path / "eval.json", None)
