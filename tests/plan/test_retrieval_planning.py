"""What retrieval needs is found before any job runs, and named with what to do."""

from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.plan import Project, features, retrieval
from avpipe.plan.requirements import require
from avpipe.plan.retrieval import SubsetName

ROOT = Path(__file__).parents[2]
TABLE = "path,subset,caption\na.mp4,train,stir\nb.mp4,test,fold\nc.mp4,test,cut\n"
VIDEO_WEIGHTS = {"resnet152": "random:0", "resnext101": "random:0"}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(TABLE)
    return path


def project_of(**datasets) -> Project:
    return Project.read({"datasets": datasets}, ROOT)


def required_runs(project: Project, dataset: str = "mine") -> list[str]:
    """What is to run, once all that it needs is there."""
    require(project, dataset)
    return retrieval.runs(project, dataset)


def own(table, **changed):
    settings = {"subsets": {"train": {}, "test": {}}, "runs": {"zero_shot": {"weights": "random:0"}}, **changed}
    return {"source": {"kind": "table", "path": str(table)}, "weights": VIDEO_WEIGHTS, "retrieval": settings}


def test_all_that_is_missing_is_named_at_once_and_once():
    with pytest.raises(AvpipeError) as caught:
        require(project_of(), "youcook2")
    message = str(caught.value)
    for name in ("train", "test", "sounds241", "speech241"):
        assert f"datasets.youcook2.retrieval.subsets.{name}.path" in message
    for model in ("avlnet", "avlnet_text_tri", "avlnet_text_fused"):
        assert message.count(f"the weights of {model}:") == 1
    assert "dropbox.com" in message and "word_vectors" in message


def test_only_what_the_runs_use_is_asked_for(tmp_path):
    pickle = tmp_path / "val.pkl"
    pickle.touch()
    only = {"avlnet_zero_shot": {"weights": "random:0", "tests": ["test"]}}
    others = dict.fromkeys(project_of().dataset("youcook2").retrieval.runs.keys() - only.keys())
    project = project_of(youcook2={"retrieval": {"subsets": {"test": {"path": str(pickle)}}, "runs": only | others}})
    assert required_runs(project, "youcook2") == ["avlnet_zero_shot/main"]
    assert retrieval.tests(project, "youcook2", "avlnet_zero_shot") == {"test": SubsetName("youcook2", "test")}


def test_a_subset_changes_with_its_own_clips_and_captions_alone(table):
    before = project_of(mine=own(table))
    digests = {name: retrieval.subset_digest(before, "mine", name) for name in ("train", "test")}
    table.write_text(TABLE.replace("fold", "knead"))
    after = project_of(mine=own(table))
    assert retrieval.subset_digest(after, "mine", "train") == digests["train"]
    assert retrieval.subset_digest(after, "mine", "test") != digests["test"]


def test_a_training_is_described_without_what_it_does_not_depend_on(table):
    runs = {"scratch": {"weights": "random", "epochs": 1}}
    project = project_of(mine=own(table, runs=runs))
    tested_on_more = {"scratch": runs["scratch"] | {"tests": ["test", "train"], "permuted_control": True}}
    other = project_of(mine=own(table, runs=tested_on_more, long_clips="average"))
    jobs = [retrieval.run_job(each, "mine", "scratch", "main", training=True) for each in (project, other)]
    assert jobs[0] == jobs[1]
    assert required_runs(other) == ["scratch/main", "scratch/permuted"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subsets": {"train": {}, "test": {}, "val": {}}}, "No clip.*'val'.*has test, train"),
        ({"runs": {"x": {"weights": "run:mine/x", "epochs": 1}}}, "goes in a circle"),
        ({"runs": {"x": {"weights": "run:mine/y", "epochs": 1}}}, "no run mine/y"),
        ({"runs": {"x": {"weights": "nowhere.pth"}}}, "the checkpoint: looked for .*nowhere.pth"),
        (
            {"runs": {"x": {"weights": "run:mine/y", "embedding_dim": 8}, "y": {"weights": "random", "epochs": 1}}},
            "mine/y has embedding_dim 4096, not 8",
        ),
        ({"runs": {"x": {"weights": "run:mine/y"}, "y": {"weights": "random:1"}}}, "trains nothing"),
        ({"runs": {"x": {"weights": "random:0", "tests": ["other/test"]}}}, "other/test: no such subset"),
    ],
)
def test_what_does_not_fit_together_is_told_before_anything_runs(table, change, message):
    with pytest.raises(AvpipeError, match=message):
        require(project_of(mine=own(table, **change)), "mine")


def test_clips_without_a_subset_cannot_be_both_trained_and_tested_on(table):
    table.write_text("path\na.mp4\nb.mp4\n")
    with pytest.raises(AvpipeError, match="column `subset`"):
        require(project_of(mine=own(table)), "mine")
    assert required_runs(project_of(mine=own(table, subsets={"test": {}}))) == ["zero_shot/main"]


def test_a_model_that_reads_text_needs_captions(table, tmp_path):
    words = tmp_path / "words.vec"
    words.touch()
    table.write_text(TABLE.replace("cut", ""))
    runs = {"text": {"model": "avlnet_text_tri", "weights": "random:0"}}
    with pytest.raises(AvpipeError, match=r"1 clip\(s\) of test have none, such as c"):
        require(project_of(mine=own(table, runs=runs, word_vectors=str(words))), "mine")


def test_a_dataset_of_videos_extracts_what_avlnet_reads_and_one_of_pickles_nothing(table):
    project = project_of(mine=own(table))
    assert features.extractors(project, "mine") == ["resnet152", "resnext101", "spectrogram"]
    assert features.extractors(project, "youcook2") == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"model": "avlnet_text_tri", "windows": {"drawn": "random"}}, "set drawn: captions"),
        ({"model": "avlnet_text_fused", "embedding_dim": 7}, "even"),
        ({"weights": "run:here"}, "run:<dataset>/<run>"),
        ({"train": "other", "epochs": 1}, "wants the subset"),
    ],
)
def test_settings_that_cannot_be_are_refused(table, run, message):
    with pytest.raises(AvpipeError, match=message):
        project_of(mine=own(table, runs={"x": run}))


def test_the_captions_that_ask_are_a_setting_of_the_tested_dataset(table):
    asked = {}
    for given in ({}, {"test_captions": "all"}):
        project = project_of(mine=own(table, **given), other=own(table, tests=["mine/test"]))
        for dataset, test in (("mine", "test"), ("other", "mine/test")):
            settings = retrieval.test_settings(project, dataset, "zero_shot")[test]
            asked[dataset, len(given)] = settings["captions"]
    assert asked == {("mine", 0): "first", ("other", 0): "first", ("mine", 1): "all", ("other", 1): "all"}
    with pytest.raises(AvpipeError, match="test_captions"):
        project_of(mine=own(table, test_captions="twenty"))


def test_zero_shot_learning_and_retrieval_are_two_datasets(table):
    settings = own(table) | {"gzsl": {"benchmarks": [{"split": "s", "features": "main_features"}]}}
    with pytest.raises(AvpipeError, match="two datasets"):
        project_of(mine=settings)


def test_what_is_not_configured_is_named_with_what_is(table):
    project = project_of(mine=own(table))
    with pytest.raises(AvpipeError, match=r"mine has no 'nope' in retrieval\.runs; it has zero_shot"):
        retrieval.start(project, "mine", "nope")
    with pytest.raises(AvpipeError, match=r"mine has no 'nope' in retrieval\.subsets; it has train, test"):
        retrieval.pack_shards(project, "mine", "nope")
