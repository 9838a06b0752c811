"""Methods, their settings and their forms: each run is what was asked for, and a change runs what it concerns."""

from __future__ import annotations

import json

import pytest
import yaml
from project import Project
from published_source import published_project

from avpipe.training import checkpoint

PLACE = "small, main_split, cls_features"
RUNS = "results/small/runs/main_split/cls_features"
EVAL = {"Writing results/small/eval.json"}


def jobs_of(method: str, *forms: str) -> set[str]:
    return {f"{verb} {method} ({form}) on {PLACE}" for form in forms for verb in ("Training", "Testing")}


@pytest.fixture(scope="module")
def both_forms(tmp_path_factory) -> Project:
    """Two methods in both forms, a control for one of them, and a setting of the feature set's own."""
    project = published_project(
        tmp_path_factory.mktemp("forms") / "project",
        forms=["corrected", "published"],
        permuted_control=["avca"],
        feature_sets={"cls_features": {"methods": {"avca": {"momentum": 0.5, "batch_size": 6}}}},
        methods={"ale": {"dropout": 0.1}},
    )
    project.run()
    return project


@pytest.fixture
def project(both_forms, tmp_path) -> Project:
    return both_forms.copy(tmp_path / "project")


def record_of(project: Project) -> dict:
    return json.loads((project.folder / "results/small/eval.json").read_text())


def test_both_forms_and_the_control_stand_side_by_side(both_forms):
    results = record_of(both_forms)["results"]
    assert {(each["method"], each["form"], each["text"], each["control"]) for each in results} == {
        ("avca", "corrected", "correct", False),
        ("avca", "published", "published", False),
        ("avca", "permuted", "permuted", True),
        ("ale", "corrected", "correct", False),
        ("ale", "published", "published", False),
    }
    table = (both_forms.folder / "results/small/eval.md").read_text()
    assert "corrected" in table and "published" in table


@pytest.mark.parametrize("form", ["corrected", "published", "permuted"])
def test_settings_of_a_benchmark_reach_every_form(both_forms, form):
    stored = checkpoint.load(both_forms.folder / RUNS / "avca" / form / "seed3/stage2/checkpoint.pt")["settings"]
    assert (stored["method"]["momentum"], stored["training"]["batch_size"]) == (0.5, 6)
    # Beside it the settings of gzsl.methods hold, and gzsl.training's where a method has none.
    assert (stored["method"]["decoder_hidden_size"], stored["training"]["epochs"]) == (16, 2)


def test_settings_of_a_benchmark_are_one_method_s(both_forms):
    stored = checkpoint.load(both_forms.folder / RUNS / "ale/corrected/seed3/stage2/checkpoint.pt")["settings"]
    assert (stored["method"]["dropout"], stored["training"]["batch_size"]) == (0.1, 8)


def test_another_setting_of_a_method_runs_that_method_in_every_form(project):
    project.change_settings(methods=project.settings()["datasets"]["small"]["gzsl"]["methods"] | {"ale": {}})
    assert project.planned() == jobs_of("ale", "corrected", "published") | EVAL


def test_another_setting_of_the_feature_set_runs_that_method_and_its_control(project):
    project.change_settings(feature_sets={"cls_features": {"methods": {"avca": {"momentum": 0.4}}}})
    assert project.planned() == jobs_of("avca", "corrected", "published", "permuted") | EVAL


def test_a_method_that_is_switched_off_is_gone(project):
    project.change_settings(methods=project.settings()["datasets"]["small"]["gzsl"]["methods"] | {"ale": None})
    assert project.ran() == EVAL
    assert {each["method"] for each in record_of(project)["results"]} == {"avca"}
    assert project.planned() == set()


def test_a_method_that_joins_is_trained_alone(project):
    project.change_settings(methods=project.settings()["datasets"]["small"]["gzsl"]["methods"] | {"sje": {}})
    assert project.planned() == jobs_of("sje", "corrected", "published") | EVAL


def test_a_control_for_all_methods_trains_what_lacks_one(project):
    project.change_settings(permuted_control=True)
    assert project.planned() == jobs_of("ale", "permuted") | EVAL


def test_one_word_asks_for_the_published_form_alone(project):
    settings = project.settings() | {"fidelity": "published"}
    settings["datasets"]["small"]["gzsl"] |= {"forms": None, "permuted_control": False}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    assert project.ran() == EVAL, "the published form has been run before, whichever key asked for it"
    record = record_of(project)
    assert {each["form"] for each in record["results"]} == {"published"}
    assert record["fidelity"]["word"] == "published"


def test_the_table_of_all_datasets_also_has_those_that_were_not_run(project):
    # The embedded datasets' data are always at hand; they would be run.
    for name in ("demo", "demo_gzsl"):
        (project.folder / f"config/datasets/{name}.yaml").unlink()
    assert project.ran(target="results/gzsl_table.md") == {"Writing results/gzsl_table.md"}
    table = (project.folder / "results/gzsl_table.md").read_text()
    assert "small, main_split: HM" in table and "ucf_gzsl, cls_split: HM" in table
    assert "not run (41.34" in table, "AVCA's published HM on UCF with cls_features"
