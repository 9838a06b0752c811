"""Features that somebody published instead of videos: nothing is decoded, and what they hold is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from project import Project
from published_source import add_caches, published_project, write_pickle

from avpipe.gzsl.splits import read_split

TREE, CACHES = "small, main_split, cls_features", "small, bare_split, main_features"
METHODS = ("avca", "ale")
EVAL = {"Writing results/small/eval.json"}


def jobs_below(place: str) -> set[str]:
    """The import of a benchmark's features and what rests on it, but for eval.json."""
    runs = {f"{verb} {method} (corrected) on {place}" for method in METHODS for verb in ("Training", "Testing")}
    return {f"Building the folder tree of {place}"} | runs


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time stamp of everything below a folder."""
    found = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {str(path): (each.st_size, each.st_mtime_ns) for path, each in found.items()}


def shift_time(path: Path) -> None:
    """Another time stamp, older than any result: newer would be seen without the digest."""
    os.utime(path, (1e9, 1e9))


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Project:
    """A tree, and caches of a split without csv files, run to the end from a folder that cannot be written to."""
    folder = tmp_path_factory.mktemp("imported") / "project"
    benchmarks = [{"split": "main_split"}, {"split": "bare_split", "features": "main_features"}]
    project = published_project(folder, benchmarks=benchmarks)
    source = folder / "UCF"
    add_caches(source, "bare_split", "_features_processed/main_features")
    before = state(source)
    for path in [source, *source.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    project.run()
    for path in [source, *source.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert state(source) == before, "the source was written to"  # a test by root may write to it all the same
    return project


@pytest.fixture
def project(imported, tmp_path) -> Project:
    return imported.copy(tmp_path / "project")


def test_neither_videos_nor_weights_are_asked_for(imported):
    results = imported.folder / "results/small"
    assert {path.name for path in results.iterdir() if path.is_dir()} == {"gzsl", "runs"}
    record = json.loads((results / "eval.json").read_text())
    assert record["clips"] is None and record["provenance"]["weights"] is None
    assert {(each["split"], each["features"], each["method"]) for each in record["results"]} == {
        (split, features, method)
        for split, features in (("main_split", "cls_features"), ("bare_split", "main_features"))
        for method in METHODS
    }


def test_what_was_given_is_told(imported):
    record = json.loads((imported.folder / "results/small/eval.json").read_text())
    given = [notice for notice in record["notices"] if notice.startswith("GIVEN FEATURES")]
    assert len(given) == 2
    assert "main_split/cls_features rests on a published tree" in given[0] and "UCF/features/cls_features" in given[0]
    assert "bare_split/main_features rests on the cache files" in given[1] and "no csv tells" in given[1]
    tree, caches = (record["benchmarks"][key] for key in ("main_split/cls_features", "bare_split/main_features"))
    assert tree["dimensions"] == caches["dimensions"] == {"audio": 8, "video": 12}
    assert tree["split_digest"] == caches["split_digest"]  # the caches alone say what clips there are
    # Clips 4 and 5 of a training class are one group, of which 5 is tested and 4 trained with.
    assert tree["shared_sources"]["stage_2_test_seen"]["shared"] == 5
    assert any(notice.startswith("SHARED SOURCE VIDEOS: main_split") for notice in record["notices"])


def test_a_second_run_has_nothing_to_do(project):
    assert "Nothing to be done" in project.run()


def test_a_file_of_the_tree_that_changes_imports_the_tree_again_and_nothing_else(project):
    shift_time(next((project.folder / "UCF/features/cls_features/audio/stage_1_train").iterdir()))
    assert project.planned() == jobs_below(TREE) | EVAL


def test_a_cache_that_changes_imports_the_caches_again_and_nothing_else(project):
    shift_time(project.folder / "UCF/_features_processed/main_features/testbare_split.pkl")
    assert project.planned() == jobs_below(CACHES) | EVAL


def test_another_dataset_changes_nothing(project):
    settings = project.settings()
    settings["datasets"]["other"] = settings["datasets"]["small"] | {"title": "Other", "source": {"kind": "published"}}
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    assert project.planned() == set()


def test_a_pickle_by_path_takes_the_place_of_the_tree(project):
    path = project.folder / "features.pkl"
    words = project.folder / "word_embeddings_ucf_normed.npy"
    next((project.folder / "UCF/features/cls_features/text").iterdir()).rename(words)
    write_pickle(path, read_split(project.folder / "UCF", "main_split"))
    before = project.digests()
    project.change_settings(
        feature_sets={"cls_features": {"path": "features.pkl"}},
        word_vectors=words.name,
        benchmarks=[{"split": "main_split"}],
    )
    assert "Building the folder tree of small, main_split, cls_features" in project.run()
    record = json.loads((project.folder / "results/small/eval.json").read_text())
    source = record["benchmarks"]["main_split/cls_features"]["source"]
    assert (source["kind"], source["path"]) == ("feature pickle", "features.pkl")
    # The same features, so the same files of the tree and the same checkpoints.
    after = project.digests()
    same = [name for name in after if "main_split" in name and name.endswith((".h5", "checkpoint.pt"))]
    assert same and all(after[name] == before[name] for name in same)
    shift_time(path)
    assert project.planned() == jobs_below(TREE) | EVAL
