"""Splits drawn from the videos at hand, class vectors made from a word model, and given features beside extracted."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from project import Project
from published_source import write_pickle
from test_incremental import ACCOUNT, EVAL, FEATURES, clips_by_class, shard_jobs, split_jobs

from avpipe.gzsl.own_split import spoken_name
from avpipe.gzsl.splits import read_split
from avpipe.sources.local import shard_of

SPLITS = ("first", "second")
# Of the seven classes three have the three source videos that a training class needs.
NUMBERS = {"train_classes": 3, "val_unseen_classes": 2, "test_unseen_classes": 2}


def own_jobs(split: str) -> set[str]:
    return split_jobs(split, methods=("ale",)) | {f"Making class vectors of small, {split}, from glove.txt"}


def write_glove(project: Project, without: str = "") -> None:
    """A GloVe file with a vector of 300 numbers for every word of a class name."""
    words = sorted({word.lower() for label in clips_by_class(project) for word in spoken_name(label).split()})
    generator = np.random.default_rng(0)
    rows = [" ".join([word, *(f"{x:.4f}" for x in generator.standard_normal(300))]) for word in words]
    kept = [row for row in rows if row.split()[0] != without]
    (project.folder / "glove.txt").write_text("\n".join(kept) + "\n")


def use_own_splits(project: Project, **settings) -> None:
    write_glove(project)
    project.change_settings(**{
        "class_split": None,
        "word_vectors": None,
        "word_model": "glove.txt",
        "own_splits": {split: {**NUMBERS, "seed": seed} for seed, split in enumerate(SPLITS)},
        "benchmarks": [{"split": split} for split in SPLITS],
        "methods": project.settings()["datasets"]["small"]["gzsl"]["methods"] | {"avca": None},
        **settings,
    })  # fmt: skip


@pytest.fixture(scope="module")
def drawn(finished, tmp_path_factory) -> Project:
    """The small dataset's videos with two splits of one's own, run from the features that are there to the end."""
    project = finished.copy(tmp_path_factory.mktemp("drawn") / "project")
    use_own_splits(project)
    # A given split keeps clips of one content, own ones do not, so they are accounted for again.
    assert project.ran() == own_jobs("first") | own_jobs("second") | ACCOUNT | EVAL
    return project


@pytest.fixture
def own(drawn, tmp_path) -> Project:
    return drawn.copy(tmp_path / "project")


def test_the_splits_are_run_and_told(drawn):
    record = json.loads((drawn.folder / "results/small/eval.json").read_text())
    assert {each["split"] for each in record["results"]} == set(SPLITS)
    first, second = (record["benchmarks"][f"{split}/{FEATURES}"] for split in SPLITS)
    assert first["split_digest"] != second["split_digest"]
    # Clips of one source video stay on one side, so nothing is shared.
    assert {counts["shared"] for counts in first["shared_sources"].values()} == {0}
    assert record["provenance"]["settings"]["gzsl"]["own_splits"]["second"]["seed"] == 1
    split = read_split(drawn.folder / "results/small/gzsl/first/class-split", "first")
    assert set(split.all_classes) == set(clips_by_class(drawn))
    account = json.loads(next((drawn.folder / "results/small/gzsl/first").glob("word_embeddings_*.json")).read_text())
    assert account["kind"] == "glove" and set(account["classes"]) == set(split.all_classes)


def test_a_second_run_has_nothing_to_do(own):
    assert "Nothing to be done" in own.run()


def test_another_seed_of_a_split_draws_that_split_again_and_leaves_the_other(own):
    own.change_settings(own_splits={"first": {**NUMBERS, "seed": 5}, "second": {**NUMBERS, "seed": 1}})
    assert own.planned() == own_jobs("first") | EVAL


def test_a_new_video_draws_the_splits_again(own):
    label, clips = next(iter(clips_by_class(own).items()))
    source = next((own.folder / "videos" / label).glob(f"{clips[0]}.*"))
    new = f"v_{label}_g99_c01"
    shutil.copyfile(source, source.with_name(new + source.suffix))
    expected = shard_jobs(shard_of(new, 2)) | ACCOUNT | own_jobs("first") | own_jobs("second") | EVAL
    assert own.planned() == expected


def refusal(project: Project) -> str:
    """What is said instead of a run, in which no job starts."""
    done = project.snakemake("results/small/eval.json", "--cores", "1", check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 1 and "\nJob " not in output and "Traceback (most recent call last)" not in output, output
    return output


def test_too_few_classes_are_told_before_any_job(own):
    own.change_settings(own_splits={"first": {"train_classes": 6, "val_unseen_classes": 2}, "second": NUMBERS})
    assert "7 classes were found, but the own split needs 8 as set and at least one more" in refusal(own)


def test_too_few_source_videos_are_told_before_any_job(own):
    for path in (own.folder / "videos").rglob("*_g0[3-9]_*"):
        path.unlink()
    output = refusal(own)
    assert "train classes are wanted, but only" in output and "source videos that one needs" in output


def test_a_class_without_a_vector_of_ones_own_file_is_told_before_any_job(own):
    names = [f"the {label}" for label in clips_by_class(own)]
    np.save(own.folder / "own_normed.npy", {name: np.ones(300, np.float32) for name in names})
    own.change_settings(word_model=None, word_vectors="own_normed.npy")
    assert "none for" in refusal(own)


def test_a_published_and_an_own_split_each_get_vectors_for_their_own_names(own):
    own.change_settings(
        class_split="split", benchmarks=[{"split": "main_split"}, {"split": "first"}], word_model="words.txt"
    )
    # Names of the published table are "word of <class>", those of one's own split the class's words.
    glove = (own.folder / "glove.txt").read_text()
    vector = " ".join(["0.5"] * 300)
    more = [f"{name} {vector}" for name in ("of", *(f"word_of_{label}" for label in clips_by_class(own)))]
    (own.folder / "words.txt").write_text(glove + "\n".join(more) + "\n")
    own.run()
    record = json.loads((own.folder / "results/small/eval.json").read_text())
    assert {each["split"] for each in record["results"]} == {"main_split", "first"}


def test_a_given_feature_set_beside_an_extracted_one(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    write_pickle(project.folder / "given.pkl", read_split(project.folder / "split", "main_split"))
    sets = {"cls_features": {}, "given": {"path": "given.pkl"}}
    benchmarks = [{"split": "main_split"}, {"split": "other_split"}, {"split": "main_split", "features": "given"}]
    project.change_settings(feature_sets=sets, benchmarks=benchmarks)
    given = "small, main_split, given"
    jobs = {f"{verb} {method} (corrected) on {given}" for method in ("avca", "ale") for verb in ("Training", "Testing")}
    assert project.ran() == jobs | {f"Building the folder tree of {given}"} | EVAL
    record = json.loads((project.folder / "results/small/eval.json").read_text())
    kinds = {name: tree["source"]["kind"] for name, tree in record["benchmarks"].items()}
    assert kinds == {
        "main_split/cls_features": "extracted",
        "other_split/cls_features": "extracted",
        "main_split/given": "feature pickle",
    }
    assert record["clips"]["requested"] and set(record["provenance"]["weights"]) == {"c3d", "vggish"}
    assert len([notice for notice in record["notices"] if notice.startswith("GIVEN FEATURES: main_split/given")]) == 1
    assert project.planned() == set()


def test_videos_are_not_asked_for_where_every_feature_set_is_given(project, tmp_path):
    write_pickle(project.folder / "given.pkl", read_split(project.folder / "split", "main_split"))
    shutil.rmtree(project.folder / "videos")
    settings = project.settings()
    small = settings["datasets"]["small"]
    small |= {"source": {"kind": "class_folders"}, "weights": {}}
    small["gzsl"] |= {"feature_sets": {"cls_features": {"path": "given.pkl"}}, "benchmarks": [{"split": "main_split"}]}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    planned = {job for job in project.planned() if "class split" not in job}
    assert planned == {job for job in split_jobs("main_split") if "class split" not in job} | EVAL
