"""What is told while Snakemake plans, before any job; the videos are not even opened."""

import re

import numpy as np
import pytest
import yaml
from project import ROOT, jobs_in, new_project, small_settings, write_split, write_words
from published_source import published_project

from avpipe.errors import AvpipeError
from avpipe.plan import Project, features, inventory
from avpipe.plan.requirements import require
from avpipe.registry import METHODS

ROLES = {"a": "train", "b": "val_unseen", "c": "test_unseen"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = new_project(tmp_path / "project", small_settings(benchmarks=[{"split": "main_split"}]))
    clips = {label: [f"{label}{number}" for number in range(4)] for label in ROLES}
    for label, names in clips.items():
        (made.folder / "videos" / label).mkdir(parents=True)
        for name in names:
            (made.folder / "videos" / label / f"{name}.mp4").touch()
    write_split(made.folder / "split", "main_split", clips, ROLES)
    write_words(made.folder, list(ROLES))
    monkeypatch.chdir(made.folder)
    return made


def refusal(project) -> str:
    with pytest.raises(AvpipeError) as error:
        require(Project.read(project.settings(), project.folder), "small")
    return str(error.value)


def replace_class(project, old, new):
    """Another name for a class in all files of the split, and a table of clips in place of the folders."""
    table = [f"{label}{n},videos/{label}/{label}{n}.mp4,{label.replace(old, new)}" for label in ROLES for n in range(4)]
    (project.folder / "clips.csv").write_text("\n".join(["clip_id,path,class", *table]))
    for path in (project.folder / "split").rglob("*"):
        if path.suffix == ".txt":
            path.write_text(path.read_text().replace(old, new))
        elif path.suffix == ".csv":
            path.write_text(path.read_text().replace(f"{old},word", f"{new},word").replace(f",{old},", f",{new},"))
    settings = project.settings()["datasets"]["small"]
    settings["source"] = {"kind": "table", "path": "clips.csv"}
    return {"datasets": {"small": settings}}


def test_all_is_in_order(project):
    require(Project.read(project.settings(), project.folder), "small")


def test_a_class_without_a_vector(project):
    words = np.load("words_normed.npy", allow_pickle=True).item()
    np.save("words_normed.npy", {name: row for name, row in words.items() if name != "word of b"})
    assert "none for the classes b (1)" in refusal(project)


def test_a_class_without_a_row_in_the_table_of_names(project):
    names = project.folder / "split" / "small_w2v_class_names.csv"
    names.write_text(names.read_text().replace("c,word of c\n", ""))
    assert "none for the classes c (1)" in refusal(project)


def test_a_class_that_cannot_name_a_file(project):
    settings = replace_class(project, "b", "b/d")
    with pytest.raises(AvpipeError, match="'b/d' cannot be the name of a file"):
        require(Project.read(settings, project.folder), "small")


def test_no_method(project):
    project.change_settings(methods=dict.fromkeys(METHODS))
    assert "a method: datasets.small.gzsl.methods" in refusal(project)


def test_a_path_that_no_file_system_takes(project):
    project.change_settings(word_vectors="x" * 5000)
    assert "the class vectors: looked for" in refusal(project)


def test_the_demo_is_small():
    plan = Project.read({}, ROOT)
    assert features.extractors(plan, "demo") == ["c3d", "vggish"] and inventory.shards(plan, "demo") == ["0000"]
    assert [experiment[1:] for experiment in plan.dataset("demo").gzsl.experiments()] == [
        ("cls_features", "avca", "corrected"),
        ("cls_features", "avca", "permuted"),
        ("cls_features", "apn", "corrected"),
        ("cls_features", "avgzslnet", "corrected"),
    ]
    assert plan.dataset("demo").gzsl.seeds == [0, 1, 2]


def test_every_job_of_the_demo_which_is_what_runs_unasked(project):
    """Every job takes seconds to start, so the demo has no more than these."""
    benchmark = "demo, main_split, cls_features"
    experiments = ("avca (corrected)", "avca (permuted)", "apn (corrected)", "avgzslnet (corrected)")
    done = project.snakemake("-n")
    assert jobs_in(done.stdout + done.stderr) == {
        "Making the videos of the embedded dataset demo",
        "Listing the clips of demo, shard 0000",
        "Probing the files of demo, shard 0000",
        "Checking the weights of c3d for demo",
        "Checking the weights of vggish for demo",
        "Extracting C3D features of demo, shard 0000",
        "Extracting VGGish features of demo, shard 0000",
        "Accounting for every clip of demo",
        "Checking how many clips of demo are missing or damaged",
        "Writing the class split main_split of demo",
        f"Building the folder tree of {benchmark}",
        *(f"Training {experiment} on {benchmark}" for experiment in experiments),
        *(f"Testing {experiment} on {benchmark}" for experiment in experiments),
        "Writing results/demo/eval.json",
    }


def test_a_dataset_that_does_not_exist(project):
    with pytest.raises(AvpipeError, match=r"no dataset 'nope'; the configuration has .*small"):
        Project.read(project.settings(), project.folder).dataset("nope")


def test_a_project_in_a_folder_with_braces(project, tmp_path):
    with pytest.raises(AvpipeError, match="rename the folder"):
        Project.read(project.settings(), tmp_path / "{x}")


def test_pathvars_move_every_file(project):
    """The same jobs make what was asked for elsewhere, and none reads or makes a file where they usually lie."""
    targets = [
        *(f"{name}/eval.json" for name in ("demo", "demo_gzsl", "demo_retrieval", "demo_pretraining", "small")),
        "gzsl_table.md",
        "demo/gzsl/main_split/published/cls_features",
        "demo_retrieval/retrieval/index/text_tri/test.h5",
        "demo_retrieval/retrieval/published/test.pkl",
    ]
    pathvars = {"results": "made/here", "resources": "given"}
    usual = project.snakemake(*(f"results/{each}" for each in targets), "-n")
    moved = project.snakemake(*(f"made/here/{each}" for each in targets), "-n", "--config", f"pathvars={pathvars}")
    output = moved.stdout + moved.stderr
    assert len(jobs_in(output)) > 100 and not re.findall(r"results/|resources/", output)
    assert jobs_in(output.replace("made/here/", "results/")) == jobs_in(usual.stdout + usual.stderr)


def test_a_run_elsewhere_leaves_nothing_in_the_usual_folders(tmp_path):
    project = published_project(tmp_path / "project", methods={"avca": None})
    pathvars = {"pathvars": {"results": "made/here", "resources": "given"}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(project.settings() | pathvars))
    before = {path.name for path in project.folder.iterdir()}
    project.run(target="made/here/small/eval.json")
    assert {path.name for path in project.folder.iterdir()} - before == {".snakemake", "made"}
    for kind, suffix in (("logs", "log"), ("benchmarks", "tsv")):
        assert (project.folder / f"made/here/{kind}/write_eval/small.{suffix}").exists()
    assert project.planned(target="made/here/small/eval.json") == set()


def test_pathvars_may_start_at_home(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.folder / "own"))
    target = f"{project.folder}/own/made/demo/accounting.json"
    output = project.snakemake(target, "-n", "--config", "pathvars={'results': '~/made'}").stdout
    assert len(jobs_in(output)) > 5 and "~" not in output.replace("'~/made'", "")
