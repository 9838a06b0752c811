"""One clear message for each kind of bad input, before work is wasted, and an exit status that is not zero."""

import json
import shutil

import pytest
import torch
import yaml
from conftest import build
from project import TARGET, jobs_in
from published_source import published_project, tree_words, write_pickle

from avpipe.gzsl.splits import read_split


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project in which nothing has run."""
    return build(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture
def project(fresh, tmp_path):
    return fresh.copy(tmp_path / "project")


# What Snakemake adds to an exception of a function that it calls.
OF_A_TRACEBACK = ("Traceback", "Exception", "WorkflowError", '.smk"', 'File "', "Wildcards:")


def refusal(project, *arguments) -> str:
    done = project.snakemake(TARGET, "--cores", "2", *arguments, check=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert not any(words in output for words in OF_A_TRACEBACK), output
    return output


def set_keys(project, **values):
    settings = project.settings()
    settings["datasets"]["small"] |= values
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))


def assert_nothing_ran(project):
    assert not list((project.folder / "results").rglob("*.parquet")) if (project.folder / "results").exists() else True


def test_an_unknown_key(project):
    set_keys(project, n_shard=3)
    assert "datasets.small.n_shard: unknown key; did you mean n_shards?" in refusal(project)
    assert_nothing_ran(project)


YAML_FAULTS = {
    "a bracket": ("datasets: {small: [1\n", "small.yaml, line 2: not valid YAML"),
    "a tab": ("datasets:\n\tsmall: {}\n", "small.yaml, line 2: not valid YAML: a tab indents the line"),
    "a key twice": ("fidelity: corrected\nfidelity: published\n", "small.yaml, line 2: not valid YAML: the key"),
    "no key": ("- datasets\n", "small.yaml must hold keys and values"),
    "the wrong level": (
        "fidelity: corrected\nseeds: [1]\n",
        "small.yaml, line 2: seeds: unknown key here; it belongs in",
    ),
}


@pytest.mark.parametrize("fault", YAML_FAULTS)
@pytest.mark.parametrize("name", ["small.yaml", "config/config.yaml", "config/datasets/demo.yaml"])
def test_a_fault_of_yaml_has_a_file_and_a_line(project, fault, name):
    text, words = YAML_FAULTS[fault]
    if fault == "the wrong level" and "datasets/" in name:
        text, words = "title: x\nseeds: [1]\n", words.replace("seeds: unknown", "datasets.demo.seeds: unknown")
    (project.folder / name).write_text(text)
    assert words.replace("small.yaml", name) in refusal(project)
    assert_nothing_ran(project)


def test_a_dataset_a_run_and_a_shard_that_are_not_there(project):
    for target, words in {
        "results/smal/eval.json": "there is no dataset 'smal'; the configuration has",
        "results/demo_retrieval/retrieval/runs/x/main/training.json": "demo_retrieval has no 'x' in retrieval.runs",
        "results/small/inventory/0007.parquet": "small has the shards 0000 to 0001 (n_shards), not 0007",
        "results/small/runs/main_split/cls_features/sje/corrected/training.json": "so sje is not run",
    }.items():
        done = project.snakemake(target, "-n", check=False)
        output = done.stdout + done.stderr
        assert done.returncode == 1 and words in output
        assert not any(each in output for each in OF_A_TRACEBACK), output


def test_nothing_stays_locked(project):
    set_keys(project, n_shards="two")
    refusal(project)
    set_keys(project, n_shards=2, weights={})
    assert "2 thing(s) are missing" in refusal(project)
    assert not list((project.folder / ".snakemake" / "locks").glob("*"))


def test_a_value_of_the_wrong_type(project):
    set_keys(project, n_shards="two")
    assert "datasets.small.n_shards" in refusal(project)
    assert_nothing_ran(project)


def test_missing_sources_are_all_named_with_what_to_set(project):
    set_keys(project, source={"kind": "class_folders", "path": "nowhere", "obtain": "the moon"}, weights={})
    output = refusal(project)
    assert "3 thing(s) are missing or do not fit" in output
    looked = f"looked for {project.folder}/nowhere; put it there or set datasets.small.source.path"
    assert f"{looked}; to be had from the moon" in output
    assert "set weights.c3d" in output and "set weights.vggish" in output
    assert_nothing_ran(project)


def test_a_class_that_no_clip_has(project):
    unseen = sorted((project.folder / "videos").iterdir())[-1]
    shutil.rmtree(unseen)
    output = refusal(project)
    assert unseen.name in output and "no clip" in output
    assert_nothing_ran(project)


def test_two_clips_with_one_id(project):
    folders = sorted((project.folder / "videos").iterdir())
    clip = next(folders[0].iterdir())
    shutil.copyfile(clip, folders[1] / clip.name)
    output = refusal(project)
    assert "occur more than once" in output and f"'{clip.stem}'" in output
    assert_nothing_ran(project)


def test_subsets_that_overlap(project):
    split = project.folder / "split" / "main_split"
    trained = (split / "stage_1_train.txt").read_text()
    name = trained.splitlines()[0]
    with (split / "stage_2_test_unseen.txt").open("a") as stream:
        stream.write(name + "\n")
    output = refusal(project)
    assert name in output and "stage_2_test_unseen" in output
    assert_nothing_ran(project)


@pytest.mark.parametrize("wrong", ["keys", "text"])
def test_a_weights_file_that_does_not_fit(project, wrong):
    path = project.folder / "vggish.pth"
    if wrong == "keys":
        torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3), "surplus": torch.zeros(1)}, path)
    else:
        path.write_text("not a weights file")
    set_keys(project, weights={"c3d": "random:0", "vggish": "vggish.pth"})
    output = refusal(project)
    if wrong == "keys":
        assert "fc.4.bias" in output and "surplus" in output
    assert "vggish.pth" in output
    assert_nothing_ran(project)


def test_a_pca_file_that_is_none(project):
    (project.folder / "pca.npz").write_text("not an npz")
    settings = {"c3d": "random:0", "vggish": "random:0", "vggish_pca": "pca.npz"}
    set_keys(project, weights=settings, features={"vggish": {"postprocess": True}})
    output = refusal(project)
    assert "pca.npz was not read" in output and "Expected VGGish's PCA file" in output
    assert_nothing_ran(project)


# What is said of the zero-shot part: (changes of datasets.small.gzsl, words of the message).
BENCHMARK = {"split": "main_split"}
GZSL_FAULTS = {
    "an unknown method": ({"methods": {"avac": {}}}, "gzsl.methods.avac: unknown key; did you mean avca?"),
    "an unknown method in a feature set": (
        {"feature_sets": {"cls_features": {"methods": {"avac": {}}}}},
        "there is no method 'avac'; known: avca,",
    ),
    "an unknown setting in a feature set": (
        {"feature_sets": {"cls_features": {"methods": {"avca": {"momentun": 1}}}}},
        "gzsl.feature_sets.cls_features.methods.avca.momentun: unknown key",
    ),
    "a control of an unknown method": ({"permuted_control": ["avac"]}, "there is no method 'avac'; known: avca,"),
    "two sources of class vectors": (
        {"word_vectors": "words.npy", "word_model": "glove.txt"},
        "datasets.small.gzsl.word_vectors and datasets.small.gzsl.word_model are both set",
    ),
    "features that the source lacks": (
        {"benchmarks": [BENCHMARK | {"features": "main_features"}]},
        "UCF has no features of the set 'main_features'; looked for UCF/features/main_features",
    ),
    "a split of one's own for given features": (
        {"own_splits": {"main_split": {}}},
        "the split main_split is drawn from videos, but the feature set cls_features is published",
    ),
    "a split that is not there": ({"benchmarks": [{"split": "nope"}]}, "has no split 'nope'; there are: main_split"),
    "no method": ({"methods": {"avca": None, "ale": None}}, "a method: datasets.small.gzsl.methods"),
    "given features that are not there": (
        {"feature_sets": {"cls_features": {"path": "nope.pkl"}}},
        "nope.pkl; put it there or set datasets.small.gzsl.feature_sets.cls_features.path",
    ),
    "a pickle without class vectors": (
        {"feature_sets": {"cls_features": {"path": "features.pkl"}}},
        "the class vectors: no path is set; set datasets.small.gzsl.word_vectors",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A project with given features in which nothing has run."""
    project = published_project(tmp_path_factory.mktemp("given") / "project")
    write_pickle(project.folder / "features.pkl", read_split(project.folder / "UCF", "main_split"), shift=1)
    for name in ("words.npy", "glove.txt"):
        (project.folder / name).touch()
    return project


@pytest.mark.parametrize("fault", GZSL_FAULTS)
def test_a_fault_of_the_zero_shot_part(given, tmp_path, fault):
    project = given.copy(tmp_path / "given")
    changes, words = GZSL_FAULTS[fault]
    gzsl = project.settings()["datasets"]["small"]["gzsl"]
    project.change_settings(**changes | {"methods": gzsl["methods"] | changes.get("methods", {})})
    done = project.snakemake(TARGET, "--cores", "1", check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 1 and words in output and output.count(words) == 1
    assert "Traceback (most recent call last)" not in output and not jobs_in(output)


def test_a_pickle_with_the_labels_of_others(given, tmp_path):
    """Only its own job opens it; nothing is trained on it."""
    project = given.copy(tmp_path / "given")
    tree_words(project.folder / "UCF").rename(project.folder / "words_normed.npy")
    sets = {"cls_features": {"path": "features.pkl"}}
    project.change_settings(feature_sets=sets, word_vectors="words_normed.npy")
    done = project.snakemake(TARGET, "--cores", "1", check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 1 and "features.pkl has labels that are not the class ids of main_split" in output
    assert not list((project.folder / "results/small").rglob("cls_features.json"))
    assert not any("Training" in job for job in jobs_in(output))


def test_a_class_that_no_clip_has_may_be_left_out(finished, tmp_path):
    project = finished.copy(tmp_path / "finished")
    absent = sorted((project.folder / "videos").iterdir())[-1]
    shutil.rmtree(absent)
    methods = project.settings()["datasets"]["small"]["gzsl"]["methods"] | {"avca": None}
    changes = {"benchmarks": [{"split": "main_split"}], "methods": methods}
    project.change_settings(**changes, allow_classes_without_clips=True)
    project.run()
    record = json.loads((project.folder / TARGET).read_text())
    (notice,) = (each for each in record["notices"] if each.startswith("CLASSES WITHOUT CLIPS"))
    assert f"{absent.name} in stage_2_test_unseen" in notice
    assert record["results"][0]["seeds"][0]["classes_without_clips"] == [absent.name]
    assert absent.name not in [each["clip_id"] for each in record["clips"]["failed"]]
