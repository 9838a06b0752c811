"""What retrieval needs is found before any job runs, and named with what to do."""

from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.plan import Plan
from avpipe.plan.retrieval import Place, RetrievalPlan

ROOT = Path(__file__).parents[2]
TABLE = "path,subset,caption\na.mp4,train,stir\nb.mp4,test,fold\nc.mp4,test,cut\n"
VIDEO_WEIGHTS = {"resnet152": "random:0", "resnext101": "random:0"}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(TABLE)
    return path


def plan_of(**datasets):
    return RetrievalPlan(Plan({"datasets": datasets}, ROOT))


def own(table, **retrieval):
    retrieval = {"subsets": {"train": {}, "test": {}}, "runs": {"zero_shot": {"weights": "random:0"}}, **retrieval}
    return {"source": {"kind": "table", "path": str(table)}, "weights": VIDEO_WEIGHTS, "retrieval": retrieval}


def test_all_that_is_missing_is_named_at_once_and_once():
    with pytest.raises(AvpipeError) as caught:
        plan_of().runs("youcook2")
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
    others = dict.fromkeys(plan_of().settings("youcook2").runs.keys() - only.keys())
    plan = plan_of(youcook2={"retrieval": {"subsets": {"test": {"path": str(pickle)}}, "runs": only | others}})
    assert plan.runs("youcook2") == [("avlnet_zero_shot", "main")]
    assert plan.tests("youcook2", "avlnet_zero_shot") == {"test": Place("youcook2", "test")}


def test_a_subset_changes_with_its_own_clips_and_captions_alone(table):
    before = plan_of(mine=own(table))
    digests = {name: before.subset_digest(Place("mine", name)) for name in ("train", "test")}
    table.write_text(TABLE.replace("fold", "knead"))
    after = plan_of(mine=own(table))
    assert after.subset_digest(Place("mine", "train")) == digests["train"]
    assert after.subset_digest(Place("mine", "test")) != digests["test"]


def test_a_training_is_described_without_what_it_does_not_depend_on(table):
    runs = {"scratch": {"weights": "random", "epochs": 1}}
    plan = plan_of(mine=own(table, runs=runs))
    tested_on_more = {"scratch": runs["scratch"] | {"tests": ["test", "train"], "permuted_control": True}}
    other = plan_of(mine=own(table, runs=tested_on_more, long_clips="average"))
    jobs = [each.job("mine", "scratch", "main", training=True) for each in (plan, other)]
    assert jobs[0] == jobs[1]
    assert other.runs("mine") == [("scratch", "main"), ("scratch", "permuted")]


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
        plan_of(mine=own(table, **change)).runs("mine")


def test_clips_without_a_subset_cannot_be_both_trained_and_tested_on(table):
    table.write_text("path\na.mp4\nb.mp4\n")
    with pytest.raises(AvpipeError, match="column `subset`"):
        plan_of(mine=own(table)).runs("mine")
    assert plan_of(mine=own(table, subsets={"test": {}})).runs("mine") == [("zero_shot", "main")]


def test_a_model_that_reads_text_needs_captions(table, tmp_path):
    words = tmp_path / "words.vec"
    words.touch()
    table.write_text(TABLE.replace("cut", ""))
    runs = {"text": {"model": "avlnet_text_tri", "weights": "random:0"}}
    with pytest.raises(AvpipeError, match=r"1 clip\(s\) of test have none, such as c"):
        plan_of(mine=own(table, runs=runs, word_vectors=str(words))).runs("mine")


def test_a_dataset_of_videos_extracts_what_avlnet_reads_and_one_of_pickles_nothing(table):
    plan = plan_of(mine=own(table)).plan
    assert plan.extractors("mine") == ["resnet152", "resnext101", "spectrogram"]
    assert plan.extractors("youcook2") == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"model": "avlnet_text_tri", "windows": {"drawn": "random"}}, "windows.drawn: captions"),
        ({"model": "avlnet_text_fused", "embedding_dim": 7}, "even"),
        ({"weights": "run:here"}, "run:<dataset>/<run>"),
        ({"train": "other", "epochs": 1}, "wants the subset"),
    ],
)
def test_settings_that_cannot_be_are_refused(table, run, message):
    with pytest.raises(AvpipeError, match=message):
        plan_of(mine=own(table, runs={"x": run}))


def test_zero_shot_learning_and_retrieval_are_two_datasets(table):
    settings = own(table) | {"gzsl": {"benchmarks": [{"split": "s", "features": "main_features"}]}}
    with pytest.raises(AvpipeError, match="two datasets"):
        plan_of(mine=settings)
