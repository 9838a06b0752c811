"""What is found, asked for and checked before any job of a zero-shot benchmark runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avpipe.config.models import Config
from avpipe.errors import AvpipeError
from avpipe.gzsl.words import write_names, write_words
from avpipe.plan import Project, gzsl, gzsl_checks, inventory
from avpipe.sources.local import SourceClip

CLIPS = {f"v_{label}_g{n:02d}_c01": label for label in "ABCDE" for n in range(4)}


def extracted(source: dict | None = None, **settings) -> Project:
    values = {
        "source": source or {"kind": "class_folders", "path": "videos"},
        "gzsl": {"benchmarks": [{"split": "main_split"}], **settings},
    }
    return Project(Config.model_validate({"datasets": {"mine": values}}), catalogue={})


def published(path: Path | str = "UCF", **settings) -> Project:
    return extracted({"kind": "published", "path": str(path)}, **settings)


def listed(labels=CLIPS) -> dict[str, SourceClip]:
    """Clips as a source lists them."""
    return {clip: SourceClip(clip, label, f"/videos/{clip}.mp4") for clip, label in labels.items()}


def problems(project: Project) -> list[str]:
    return [problem.split(":")[0] for problem in gzsl_checks.missing(project, "mine")]


def test_extracted_features_need_a_split_and_vectors():
    assert problems(extracted()) == ["the class-split folder", "the class vectors"]


def test_a_split_of_ones_own_needs_no_folder_unless_another_is_published():
    own = {"own_splits": {"drawn": {}}}
    assert problems(extracted(**own, benchmarks=[{"split": "drawn"}])) == ["the class vectors"]
    both = [{"split": "drawn"}, {"split": "main_split"}]
    assert problems(extracted(**own, benchmarks=both)) == ["the class-split folder", "the class vectors"]


def test_a_published_source_brings_split_and_vectors(tmp_path):
    assert problems(published(tmp_path)) == []


def test_a_source_that_is_not_there_is_not_asked_for_twice():
    assert problems(published("nowhere")) == []


def test_without_benchmarks_nothing_but_them_is_asked_for(tmp_path):
    assert problems(published(tmp_path, benchmarks=[])) == ["a benchmark"]


def test_a_word_model_stands_for_vectors_and_both_are_one_too_many(tmp_path):
    model = tmp_path / "glove.txt"
    model.touch()
    assert problems(published(tmp_path, word_model=str(model))) == []
    assert problems(published(tmp_path, word_model="nowhere.txt")) == ["the word model"]
    both = published(tmp_path, word_model=str(model), word_vectors=str(model))
    assert problems(both) == ["one source of class vectors"]


def test_given_trees_and_caches_bring_vectors_and_pickles_do_not(tmp_path):
    (tmp_path / "class-split").mkdir()
    (tmp_path / "features.pkl").touch()
    sets = {"folder": {"path": str(tmp_path)}, "file": {"path": str(tmp_path / "features.pkl")}, "extracted": {}}

    def missing(*names):
        benchmarks = [{"split": "main_split", "features": name} for name in names]
        return problems(extracted(class_split=str(tmp_path), feature_sets=sets, benchmarks=benchmarks))

    assert missing("folder") == []
    assert missing("file") == ["the class vectors"]
    assert missing("folder", "extracted") == ["the class vectors"]


def test_given_features_that_are_not_there_are_named(tmp_path):
    sets = {"cls_features": {"path": "nowhere.pkl"}}
    (problem,) = gzsl_checks.missing(published(tmp_path, feature_sets=sets), "mine")
    assert "nowhere.pkl" in problem and "datasets.mine.gzsl.feature_sets.cls_features.path" in problem


@pytest.mark.parametrize("folder", ["features", *gzsl.CACHE_FOLDERS])
def test_features_are_found_where_the_published_code_puts_them(tmp_path, folder):
    place = tmp_path / folder / "cls_features"
    place.mkdir(parents=True)
    assert gzsl.published_features(published(tmp_path), "mine", "cls_features") == str(place)


def test_a_feature_set_s_own_path_comes_first_and_extracted_ones_have_none(tmp_path):
    (tmp_path / "features" / "cls_features").mkdir(parents=True)
    sets = {"cls_features": {"path": "own.pkl"}}
    assert gzsl.published_features(published(tmp_path, feature_sets=sets), "mine", "cls_features") == "own.pkl"
    assert gzsl.published_features(extracted(), "mine", "cls_features") is None


def test_features_that_the_source_lacks_are_told_with_what_to_do(tmp_path):
    with pytest.raises(AvpipeError, match=r"no features of the set 'cls_features'.*_features_processed.*\.path"):
        gzsl.published_features(published(tmp_path), "mine", "cls_features")


def test_a_listing_sees_names_sizes_times_and_folders_behind_links(tmp_path):
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    (folder / "a.h5").write_text("1")
    (elsewhere / "b.h5").write_text("2")
    (folder / "audio").symlink_to(elsewhere)
    seen = [gzsl.listing_of(folder)]

    def changed() -> bool:
        seen.append(gzsl.listing_of(folder))
        return seen[-1] not in seen[:-1]

    assert gzsl.listing_of(folder) == seen[0]
    (folder / "a.h5").rename(folder / "c.h5")
    assert changed()
    (folder / "c.h5").write_text("12")
    assert changed()
    os.utime(folder / "c.h5", (1e9, 1e9))
    assert changed()
    os.utime(elsewhere / "b.h5", (1e9, 1e9))
    assert changed()


def test_a_listing_comes_to_an_end_where_links_lead_in_circles(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.h5").write_text("1")
    before = gzsl.listing_of(tmp_path)
    for name in ("a/up", "a/b/top", "again"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "a" / "pipe.h5")
    assert gzsl.listing_of(tmp_path) == before  # each of them alone would double the paths 40 times


def test_a_listing_of_one_file(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_text("1")
    before = gzsl.listing_of(path)
    os.utime(path, (1e9, 1e9))
    assert gzsl.listing_of(path) != before


def test_vectors_are_given_made_or_brought(tmp_path):
    assert gzsl.class_vectors(extracted(word_vectors="own.npy"), "mine", "a") == "own.npy"
    assert gzsl.class_vectors(published(), "mine", "a") is None
    made = {gzsl.class_vectors(extracted(word_model="glove.txt"), "mine", split) for split in ("a", "b")}
    assert len(made) == 2, "each split has its own table of names, so its own vectors"


def test_the_table_of_names_is_the_one_that_is_set_or_the_only_one(tmp_path):
    own = {"own_splits": {"drawn": {}}}
    assert gzsl.names_files(published(tmp_path, **own), "mine", "drawn") == []
    assert gzsl.names_files(published(tmp_path, word_names="own.csv", **own), "mine", "drawn") == ["own.csv"]
    folder = tmp_path / "class-split"
    folder.mkdir()
    (folder / "all_class.txt").write_text("A\n")
    with pytest.raises(AvpipeError, match=r"holds 0 files .*Set datasets\.mine\.gzsl\.word_names"):
        gzsl.names_files(published(tmp_path), "mine", "main_split")
    (folder / "ucf_w2v_class_names.csv").touch()
    own = published(tmp_path, word_names="own.csv")
    table = str(folder / "ucf_w2v_class_names.csv")
    assert gzsl.names_files(published(tmp_path), "mine", "main_split") == [table]
    assert gzsl.names_files(own, "mine", "main_split") == [table, "own.csv"]
    (folder / "other_w2v_class_names.csv").touch()
    with pytest.raises(AvpipeError, match="holds 2 files"):
        gzsl.names_files(published(tmp_path), "mine", "main_split")
    assert gzsl.names_files(own, "mine", "main_split") == ["own.csv"]


def test_files_of_a_split_are_its_lists_and_nothing_else(tmp_path):
    folder = tmp_path / "class-split"
    for path in (folder / "main_split/a.txt", folder / "main_split/a.csv", folder / "main_split/notes.md",
                 folder / "other/a.txt", folder / "all_class.txt"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A\n")
    files = gzsl.split_files(published(tmp_path), "mine", "main_split")
    assert [str(Path(each).relative_to(folder)) for each in files] == [
        "all_class.txt", "main_split/a.csv", "main_split/a.txt",
    ]  # fmt: skip
    drawn = extracted(own_splits={"main_split": {}})
    assert gzsl.split_files(drawn, "mine", "main_split") == []


def test_a_split_drawn_from_videos_does_not_go_with_given_features(tmp_path):
    (tmp_path / "features" / "cls_features").mkdir(parents=True)
    project = published(tmp_path, own_splits={"main_split": {}})
    with pytest.raises(AvpipeError, match="is drawn from videos, but the feature set cls_features is published"):
        gzsl_checks.check_splits(project, "mine", None)


class TestOwnSplit:
    """What is checked of a split that will be drawn."""

    def project(self, folder: Path, keys: list[str], **settings) -> Project:
        write_words(folder / "words.npy", {key: np.ones(300, np.float32) for key in keys})
        words = {"word_vectors": str(folder / "words.npy")}
        return extracted(**words, own_splits={"main_split": {}}, **settings)

    def test_all_is_in_order(self, tmp_path):
        gzsl_checks.check_splits(self.project(tmp_path, list("ABCDE")), "mine", listed())

    def test_too_few_classes(self, tmp_path):
        few = {clip: label for clip, label in CLIPS.items() if label in "AB"}
        with pytest.raises(AvpipeError, match="2 classes were found"):
            gzsl_checks.check_splits(self.project(tmp_path, list("AB")), "mine", listed(few))

    def test_a_class_without_a_vector(self, tmp_path):
        with pytest.raises(AvpipeError, match="none for the classes"):
            gzsl_checks.check_splits(self.project(tmp_path, list("ABCD")), "mine", listed())

    @pytest.mark.parametrize("named", ["ABCDE", "AB", "E"])
    def test_names_may_come_from_a_table_of_all_or_some_classes(self, tmp_path, named):
        write_names(tmp_path / "names.csv", {label: f"the {label}" for label in named})
        words = [f"the {label}" if label in named else label for label in "ABCDE"]
        project = self.project(tmp_path, words, word_names=str(tmp_path / "names.csv"))
        gzsl_checks.check_splits(project, "mine", listed())

    def test_nothing_is_known_before_videos_are_made(self, tmp_path):
        gzsl_checks.check_splits(self.project(tmp_path, ["A"]), "mine", None)


def test_planning_loads_no_torch():
    """The Snakefile is read at every start; torch alone takes seconds."""
    rooms = "avpipe.plan.media, avpipe.plan.requirements, avpipe.gzsl.own_split, avpipe.gzsl.tree_files"
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_vectors_of_another_length_are_refused_before_any_work(tmp_path):
    write_words(tmp_path / "words.npy", {"a": np.ones(100, np.float32)})
    (tmp_path / "glove.txt").write_text("a " + " ".join(["0.5"] * 50) + "\n")
    for values, length in (({"word_vectors": "words.npy"}, 100), ({"word_model": "glove.txt"}, 50)):
        project = extracted(**{key: str(tmp_path / name) for key, name in values.items()}, benchmarks=[])
        with pytest.raises(AvpipeError, match=f"vectors of {length} numbers; avca, .* need 300"):
            gzsl_checks.check_splits(project, "mine", None)


def test_what_is_no_clip_is_told_once_and_asked_again_for_the_account(tmp_path):
    for name in ("A/a.avi", "A/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = []
    project = replace(extracted({"kind": "class_folders", "path": str(tmp_path)}), tell=told.append)
    for _ in range(2):
        found = inventory.passed_over(project, "mine")
        assert found == {"no suffix of a video": {"count": 1, "names": ["A/notes.txt"]}}
        inventory.shard_listings(project, "mine")
    assert told == ["mine: passed over in the source: no suffix of a video 1 (A/notes.txt)."]
    assert inventory.source_folder(project, "mine") == str(tmp_path)
    silent = replace(project, tell=None)
    assert inventory.passed_over(silent, "mine") == found


def test_a_given_split_decides_what_is_used_and_an_own_one_does_not(tmp_path):
    own = {"own_splits": {"drawn": {}}}
    assert gzsl.uses_repeats(extracted(), "mine")
    assert not gzsl.uses_repeats(extracted(**own, benchmarks=[{"split": "drawn"}]), "mine")
    assert gzsl.uses_repeats(extracted(**own, benchmarks=[{"split": "drawn"}, {"split": "main_split"}]), "mine")
    assert not gzsl.uses_repeats(extracted(benchmarks=[]), "mine")
