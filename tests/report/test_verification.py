"""What `avpipe verify` finds in a small finished result, and what it says to delete."""

import json
import re
from pathlib import Path

import pytest
from made_results import make_account, make_evaluation, make_seed, make_tree, make_weights
from made_retrieval import make_evaluation as make_retrieval_evaluation
from made_retrieval import write_inputs

from avpipe import versions
from avpipe.cli import main
from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.io.manifest import made_by, manifest_path, write_json, write_text
from avpipe.report import retrieval
from avpipe.report.gzsl import collect_record
from avpipe.report.verification import check_evaluations, check_figures, verify_results

HM = 2 * 50 * 20 / 70


def write_gzsl(folder: Path, evaluation=None) -> Path:
    """results/mine as its jobs leave it."""
    results = folder / "results/mine"
    evaluation = evaluation or make_evaluation([HM, HM])
    account = make_account().to_json() | {"shards": {"0000": {"requested": 3}}}
    write_text(results / "features/c3d/0000.h5", "features")
    run = results / "runs/cls_split/cls_features/avca/corrected"
    with made_by("account", [results / "features/c3d/0000.h5"], {}):
        write_json(results / "accounting.json", account)
        write_json(results / "gzsl/cls_split/cls_features.json", make_tree().to_json())
    (run / "seed0/stage2").mkdir(parents=True)
    (run / "seed0/stage2/checkpoint.pt").write_text("weights")
    write_json(run / "seed0/stage2/stage.json", {"beta": 1}, beside=[run / "seed0/stage2/checkpoint.pt"])
    with made_by("train", [results / "gzsl/cls_split/cls_features.json"], {}):
        write_json(run / "training.json", {"seeds": {}})
    with made_by("evaluate", [run / "training.json"], {}):
        write_json(run / "evaluation.json", evaluation.to_json())
    write_json(results / "weights/c3d.json", make_weights("ab" * 32).to_json())
    write_eval(results)
    return results


def write_eval(results: Path) -> None:
    evaluations = [str(path) for path in sorted(results.rglob("evaluation.json"))]
    trees = [str(results / "gzsl/cls_split/cls_features.json")]
    common = {"accounting": str(results / "accounting.json"), "weights": [str(results / "weights/c3d.json")]}
    record = collect_record(
        evaluations=evaluations, trees=trees, dataset="mine", settings=whole_settings(), fidelity="corrected", **common
    )
    with made_by("write_eval/4", [*evaluations, *trees, common["accounting"], *common["weights"]], {}):
        write_json(results / "eval.json", record.to_json())
        write_text(results / "eval.md", "# Results\n")


def whole_settings():
    source = {"kind": "class_folders", "path": "videos"}
    return Dataset.model_validate({"title": "Some dataset", "source": source}).resolved("corrected").model_dump()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path: Path, change) -> None:
    """Change a JSON file and write a manifest that fits it, made from the same."""
    record = json.loads(manifest_path(path).read_text())
    inputs = [path.parent / name for name in record["inputs"]]
    values = json.loads(path.read_text())
    change(values)
    with made_by(record["stage"], inputs, {}):
        write_json(path, values)


def faults(results: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in verify_results(results).findings:
        found.setdefault(each.result.relative_to(results).as_posix(), []).append(each.fault)
    return found


def test_a_whole_result_is_whole(tmp_path, capsys):
    results = write_gzsl(tmp_path)
    found = verify_results(results)
    assert (found.findings, found.to_delete, found.unchecked, found.checked) == ([], [], [], 9)
    assert main(["verify", str(results)]) == 0
    assert "is whole: 9 results" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["features/c3d/0000.h5", "accounting.json", "eval.json", "eval.md", "weights/c3d.json"]
)
@pytest.mark.parametrize("where", ["file", "manifest"])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path, name, where):
    results = write_gzsl(tmp_path)
    flip(results / name if where == "file" else manifest_path(results / name))
    found = verify_results(results)
    assert {each.result for each in found.findings} == {results / name}
    assert results / name in found.to_delete


def test_what_was_made_from_it_is_deleted_too_but_no_finished_seed(tmp_path):
    results = write_gzsl(tmp_path)
    flip(results / "features/c3d/0000.h5")
    run = "runs/cls_split/cls_features/avca/corrected"
    names = ["accounting.json", "eval.json", "eval.md", "features/c3d/0000.h5", "gzsl/cls_split/cls_features.json"]
    expected = sorted(results / name for name in [*names, f"{run}/evaluation.json", f"{run}/training.json"])
    assert verify_results(results).to_delete == expected


def test_a_damaged_checkpoint_is_trained_again(tmp_path):
    results = write_gzsl(tmp_path)
    run = results / "runs/cls_split/cls_features/avca/corrected"
    flip(run / "seed0/stage2/checkpoint.pt")
    found = verify_results(results)
    assert [each.result for each in found.findings] == [run / "seed0/stage2/stage.json"]
    assert {run / "seed0/stage2/stage.json", run / "training.json", results / "eval.json"} <= set(found.to_delete)


def test_the_command_names_file_fault_and_what_to_do(tmp_path, capsys):
    results = write_gzsl(tmp_path)
    flip(results / "accounting.json")
    (results / "notes.txt").touch()
    assert main(["verify", str(results)]) == 1
    out = capsys.readouterr().out
    assert f"{results}/accounting.json: the sha256 of accounting.json is" in out
    assert f"rm -rf {results}/accounting.json {results}/accounting.json.manifest {results}/eval.json" in out
    assert f"snakemake --cores all {results}/eval.json" in out and "1 files have no manifest" in out
    assert main(["verify", str(tmp_path / "gone")]) == 1
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["seen", "unseen", "hm", "zsl"])
@pytest.mark.parametrize("value", [49.999, 99.0])
def test_an_edited_figure_is_found_though_its_manifest_fits(tmp_path, metric, value):
    results = write_gzsl(tmp_path)
    path = results / "runs/cls_split/cls_features/avca/corrected/evaluation.json"
    edit(path, lambda values: values["seeds"][1].update({metric: value}))
    (fault,) = faults(results)["runs/cls_split/cls_features/avca/corrected/evaluation.json"]
    assert f"seed 1, {metric} is {value}, and its classes give" in fault
    assert "it was made from another" in faults(results)["eval.json"][0]


def test_figures_that_do_not_follow_reach_no_eval_json(tmp_path):
    write_json(tmp_path / "evaluation.json", make_evaluation([HM, 30.0]).to_json())
    with pytest.raises(AvpipeError, match=r"evaluation\.json contradicts itself: seed 1, hm is 30\.0, .*Delete it"):
        check_evaluations([tmp_path / "evaluation.json"])
    write_json(tmp_path / "evaluation.json", make_evaluation([HM]).to_json())
    check_evaluations([tmp_path / "evaluation.json"])


def test_figures_follow_from_the_classes():
    assert check_figures(make_seed(0, HM)) == []
    assert len(check_figures(make_seed(0, 30.0))) == 2  # of the seed and of its mode
    assert check_figures(make_seed(0, 30.0, per_class={})) == []


@pytest.mark.parametrize(
    ("change", "told"),
    {
        "ok": (lambda account: account.update(ok=3), "3 ok and 1 failed of 3 requested"),
        "reasons": (lambda account: account.update(reasons={}), "2 ok and 0 failed"),
        "shards": (lambda account: account["shards"]["0000"].update(requested=4), "4 requested in the shards, 3"),
        "listed": (lambda account: account.update(failed=[]), "0 clips listed as failed, and 1 counted"),
    }.values(),
)
def test_sums_of_the_account_are_checked(tmp_path, change, told):
    results = write_gzsl(tmp_path)
    edit(results / "accounting.json", change)
    write_eval(results)
    assert any(told in fault for fault in faults(results)["accounting.json"])


@pytest.mark.parametrize(
    ("change", "told"),
    {
        "figure": (lambda record: record["results"][0]["mean"].update(hm=99.0), "does not say what .*evaluation.json"),
        "class": (lambda record: record["results"][0]["per_class"].popitem(), "does not say what .*evaluation.json"),
        "account": (lambda record: record["clips"].update(ok=1), "does not say what .*accounting.json"),
        "tree": (lambda record: record["benchmarks"].clear(), "does not say what .*cls_features.json"),
        "weights": (lambda record: record["provenance"]["weights"]["c3d"].update(label="x"), "what .*c3d.json says"),
        "more": (lambda record: record["results"].append(record["results"][0]), "it has 2 results, and .* 1"),
    }.values(),
)
def test_eval_json_says_what_its_files_say(tmp_path, change, told):
    results = write_gzsl(tmp_path)
    edit(results / "eval.json", change)
    (fault,) = faults(results)["eval.json"]
    assert re.search(told, fault)


def test_a_result_made_from_something_else_than_is_there_now(tmp_path):
    results = write_gzsl(tmp_path)
    write_text(results / "features/c3d/0000.h5", "other features")
    assert set(faults(results)) == {"accounting.json", "gzsl/cls_split/cls_features.json"}


def test_missing_manifests_files_and_results_are_found(tmp_path):
    results = write_gzsl(tmp_path)
    manifest_path(results / "accounting.json").unlink()
    assert "No such file" in faults(results)["accounting.json"][0]
    (results / "eval.md").unlink()
    assert faults(results)["eval.md"] == ["eval.md is gone"]
    manifest_path(results / "eval.json").unlink()
    assert faults(results)["eval.json"] == ["it, or its manifest, is not there"]


def test_what_was_made_from_another_dataset_is_followed_there(tmp_path):
    results, other = write_gzsl(tmp_path), tmp_path / "results/other/retrieval/packs/test.h5"
    write_text(other, "pack")
    with made_by("evaluate/1", [other], {}):
        write_json(results / "retrieval/x.json", {})
    assert faults(results) == {}
    flip(other)
    found = verify_results(results)
    assert [each.result for each in found.findings] == [other]
    assert found.to_delete == sorted([other, results / "retrieval/x.json"])


def test_cut_clips_are_deleted_after_use(tmp_path):
    results = write_gzsl(tmp_path)
    for stage, expected in ((versions.TRIM, {}), ("other/1", {"trimmed/x.mov": ["x.mov is gone"]})):
        with made_by(stage, [], {}):
            write_text(results / "trimmed/x.mov", "clip")
        (results / "trimmed/x.mov").unlink()
        assert faults(results) == expected


def test_retrieval_counts_whole_queries(tmp_path):
    inputs = write_inputs(tmp_path, [make_retrieval_evaluation([12.5], test={"backwards": 12.5})])
    results = tmp_path / "mine"
    evaluation = results / "retrieval/runs/r/main/evaluation.json"
    write_json(evaluation, json.loads(Path(inputs["evaluations"][0]).read_text()))
    record = retrieval.collect_record(**{**inputs, "evaluations": [str(evaluation)]})
    with made_by("write_retrieval_eval/2", [evaluation, *inputs["packs"]], {}):
        write_json(results / "eval.json", record.to_json())
    assert faults(results) == {}
    edit(evaluation, lambda values: values["seeds"][0]["tests"]["test"]["language_to_video"].update(r1=12.65))
    (fault, *_) = faults(results)["retrieval/runs/r/main/evaluation.json"]
    assert "r1 is" in fault


def test_an_empty_folder_is_not_a_finished_result(tmp_path):
    assert set(faults(tmp_path)) == {"eval.json"}
    with pytest.raises(AvpipeError, match="is no folder"):
        verify_results(tmp_path / "x")
