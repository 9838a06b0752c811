"""Features from elsewhere become a tree of ours, and nothing of them goes unaccounted."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_caches import (
    NAMES,
    UCF,
    WORDS,
    needs_shared,
    rename_clip,
    repeat_clip,
    replace,
    without_clip,
    write_as_published,
)
from test_tree import CLASSES, SHARED, as_of_others, bytes_of, read_class_file, rewrite, small_split

from avpipe.config.models import Config
from avpipe.errors import AvpipeError
from avpipe.formats.avca_pickles import NamedFeatures, write_feature_pickle
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.caches import write_caches
from avpipe.gzsl.class_split import read_all_classes, read_class_list, read_clip_list
from avpipe.gzsl.import_features import import_features
from avpipe.gzsl.splits import STAGE_2_PARTS, read_split, write_class_split
from avpipe.gzsl.tree_files import refuse_features_over_time
from avpipe.gzsl.tree_reading import read_features
from avpipe.gzsl.words import read_names, read_words, write_names, write_words
from avpipe.plan import Project, gzsl


@pytest.fixture
def bench(tmp_path):
    """A folder with the small split, its name table and its vectors, in which to import."""
    return Bench(tmp_path)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.split = folder, small_split()
        write_class_split(self.split, folder / "own")
        self.lists = folder / "own/class-split/main_split"
        self.names = self.lists.parent / "own_w2v_class_names.csv"
        self.words = folder / "word_embeddings_own_normed.npy"
        write_names(self.names, NAMES)
        write_words(self.words, WORDS)

    def run(self, source: Path, words: Path | None = None, target="tree") -> dict:
        tree, summary = self.folder / target, self.folder / f"{target}.json"
        files = {"words": words, "names": self.names, "tree": tree, "summary": summary}
        import_features(source, class_split=self.folder / "own", split="main_split", **files)
        return json.loads(summary.read_text())

    def read(self, target="tree"):
        return read_features(self.folder / "own", self.folder / target, "main_split")

    def without_csv(self, *subsets: str) -> None:
        for subset in subsets:
            (self.lists / f"{subset}.csv").unlink()

    def tree_of_elsewhere(self) -> Path:
        root = as_of_others(self.folder / "elsewhere")
        shutil.copyfile(self.words, next((root / "features/main_features/text").iterdir()))
        return root / "features/main_features"

    def caches(self, change=lambda caches: None) -> Path:
        write_as_published(self.folder / "caches", change)
        return self.folder / "caches"

    def feature_pickle(self, benchmark, change=lambda rows: None) -> Path:
        rows = {}
        for subset in SUBSETS:
            part = benchmark.subsets[subset]
            columns = (part.class_ids.tolist(), part.audio, part.video)
            rows |= dict(zip(part.clip_ids, zip(*columns, strict=True), strict=True))
        rows["of no subset"] = (3, np.ones(4, np.float32), np.ones(6, np.float32))
        change(rows)
        labels, audio, video = (np.array(column) for column in zip(*rows.values(), strict=True))
        write_feature_pickle(self.folder / "features.pkl", NamedFeatures(tuple(rows), labels, audio, video))
        return self.folder / "features.pkl"


def assert_same(one, other) -> None:
    assert one.class_names == other.class_names and np.array_equal(one.words, other.words)
    for subset in SUBSETS:
        mine, theirs = one.subsets[subset], other.subsets[subset]
        assert mine.clip_ids == theirs.clip_ids, subset
        for field in ("audio", "video", "class_ids"):
            assert np.array_equal(getattr(mine, field), getattr(theirs, field)), (subset, field)


def test_all_three_kinds_give_the_same_tree(bench):
    source = bench.tree_of_elsewhere()
    records = {"tree": bench.run(source, target="from tree")}
    benchmark = bench.read("from tree")
    assert_same(benchmark, read_features(bench.folder / "own", source, "main_split"))
    write_caches(benchmark, NAMES, WORDS, bench.folder / "caches", "main_split")
    records["caches"] = bench.run(bench.folder / "caches", target="from caches")
    records["feature pickle"] = bench.run(bench.feature_pickle(benchmark), bench.words, target="from pickle")
    for modality in ("audio", "video"):
        files = [bytes_of(bench.folder / f"from {kind}" / modality) for kind in ("tree", "caches", "pickle")]
        assert files[0] == files[1] == files[2] and len(files[0]) == 12  # classes of the six subsets
    for kind, record in records.items():
        assert record["source"]["kind"] == kind
        assert record["split_digest"] == bench.split.digest and record["dimensions"] == {"audio": 4, "video": 6}
        for subset in SUBSETS:
            counts, n = record["subsets"][subset], len(bench.split.clips[subset])
            assert (counts["expected"], counts["used"], counts["missing"]) == (n, n, {})
            assert counts["expected_from"] == "csv"
    assert records["feature pickle"]["source"]["unlisted_clips"] == 1
    assert records["caches"]["source"] == {
        "path": "caches",  # results tell no folder of the machine
        "kind": "caches",
        "merged_duplicates": 0,
        "dropped_classes": {},
        "unlisted_clips": 0,
        "text_rows_agree": True,
    }


def test_caches_without_csv_say_themselves_what_is_where(bench):
    source = bench.caches()
    whole = bench.run(source, target="whole")
    bench.without_csv("stage_1_train", "stage_2_train")  # as copies of VGGSound that leave out large files
    record = bench.run(source)
    assert bytes_of(bench.folder / "tree") == bytes_of(bench.folder / "whole")
    assert record["split_digest"] == whole["split_digest"]  # since no clip is missing
    origins = {subset: record["subsets"][subset]["expected_from"] for subset in SUBSETS}
    lacking = ("stage_1_train", "stage_2_train")
    assert origins == {subset: "caches" if subset in lacking else "csv" for subset in SUBSETS}
    bench.without_csv(*(subset for subset in SUBSETS if subset not in lacking))
    bench.run(source, target="no csv")
    assert bytes_of(bench.folder / "no csv") == bytes_of(bench.folder / "whole")


def test_word_vectors_of_caches_are_recovered_under_their_published_name(bench):
    bench.run(bench.caches())
    words = read_words(bench.folder / "tree/text/word_embeddings_own_normed.npy")
    assert words.keys() == WORDS.keys() and all(np.array_equal(words[name], WORDS[name]) for name in WORDS)
    assert bench.read().words[:, 0].tolist() == [1, 2, 3, 4]  # each class its own, though the rows are sorted otherwise


def test_given_word_vectors_win_and_the_difference_is_told(bench):
    other = bench.folder / "word_embeddings_other_normed.npy"
    write_words(other, {name: vector + 1 for name, vector in WORDS.items()})
    assert bench.run(bench.caches(), other)["source"]["text_rows_agree"] is False
    assert bench.read().words[:, 0].tolist() == [2, 3, 4, 5]


def test_feature_pickle_needs_word_vectors(bench):
    source = bench.feature_pickle(read_features(bench.folder / "own", bench.tree_of_elsewhere(), "main_split"))
    with pytest.raises(AvpipeError, match="has no word vectors"):
        bench.run(source)


def test_clips_of_classes_that_the_split_drops_are_left_out_and_counted(bench):
    bench.without_csv(*SUBSETS)
    # The split tests on Fig and lists Éclair nowhere; the caches have clips of both, as made before it was dropped.
    (bench.lists / "stage_2_test_unseen.txt").write_text("Fig\n", encoding="utf-8")
    (bench.lists.parent / "all_class.txt").write_text("\n".join([*CLASSES, "Fig"]) + "\n", encoding="utf-8")
    names = {**NAMES, "Fig": "zz"}
    write_names(bench.names, names)
    write_words(bench.words, {**WORDS, "zz": np.full(5, 9, np.float32)})

    def add_fig(caches):
        row = {"audio": torch.ones(1, 4), "video": torch.ones(1, 6)}
        # Fig sorts before Éclair, whose id becomes 4.
        for cache in caches.values():
            for part, data in row.items():
                target = cache[part]["target"].clone()
                target[target == 3] = 4
                cache[part]["target"] = target
                if cache is caches["test"]:
                    cache[part]["data"] = torch.cat([cache[part]["data"], data])
                    cache[part]["target"] = torch.cat([target, torch.LongTensor([3])])
                    cache[part]["url"] = np.append(cache[part]["url"], "f1")

    record = bench.run(bench.caches(add_fig), bench.words)
    assert record["source"]["dropped_classes"] == {"Éclair": 2}
    assert record["subsets"]["stage_2_test_unseen"]["classes"].keys() == {"Fig"}
    assert bench.read().subsets["stage_2_test_unseen"].clip_ids == ("f1",)


def test_clips_that_the_csv_expects_are_counted_as_missing(bench):
    record = bench.run(bench.caches(without_clip("t2")))
    assert record["subsets"]["stage_1_train"]["missing"] == {"missing": 1}
    assert record["subsets"]["stage_1_train"]["classes"]["Bow, long"] == {
        "expected": 2,
        "used": 1,
        "missing": {"missing": 1},
    }
    assert record["subsets"]["stage_2_train"]["missing"] == {"missing": 1}
    assert record["split_digest"] == bench.split.digest


def test_rows_that_repeat_a_clip_are_merged_if_equal(bench):
    assert bench.run(bench.caches(repeat_clip("training", 0)))["source"]["merged_duplicates"] == 1
    assert bench.read().subsets["stage_1_train"].clip_ids == ("t2", "ü t1", "t3", "日本_1")
    with pytest.raises(AvpipeError, match=r"more than once, with different labels or features: 日本_1 \(1\)"):
        bench.run(bench.caches(repeat_clip("training", 0, change=1.0)))


def test_a_clip_in_two_subsets_is_refused(bench):
    with pytest.raises(AvpipeError, match=r"in two subsets or classes: 日本_1 \(1\)"):
        bench.run(bench.caches(repeat_clip("training", 0, into="val")))


def test_a_class_of_another_subset_is_refused(bench):
    with pytest.raises(AvpipeError, match=r"has in another subset: Éclair in training \(1\)"):
        bench.run(bench.caches(repeat_clip("test", 0, into="training")))


def test_clips_that_the_csv_does_not_list_are_refused(bench):
    with pytest.raises(AvpipeError, match=r"in stage_1_train that the split does not list: t9 \(1\)"):
        bench.run(bench.caches(rename_clip("t2", "t9")))
    assert not (bench.folder / "tree").exists() and not (bench.folder / "tree.json").exists()


def test_clips_that_the_csv_has_elsewhere_are_refused(bench):
    bench.without_csv("stage_1_train", "stage_2_train")

    def change(caches):
        without_clip("e1")(caches)
        rename_clip("t2", "e1")(caches)

    with pytest.raises(AvpipeError, match=r"in stage_1_train that the split has in another subset or class: e1 \(1\)"):
        bench.run(bench.caches(change))


def test_caches_of_another_dataset_are_refused(bench):
    def change(caches):
        for part in ("audio", "video"):
            replace("test", part, "target", caches["test"][part]["target"] + 90)(caches)

    with pytest.raises(AvpipeError, match=r"testmain_split\.pkl has class ids from 90 to 93, all_class\.txt 4 classes"):
        bench.run(bench.caches(change))


def test_labels_of_a_feature_pickle_must_be_the_class_ids(bench):
    benchmark = read_features(bench.folder / "own", bench.tree_of_elsewhere(), "main_split")

    def change(rows):
        rows["t2"] = (2, *rows["t2"][1:])

    with pytest.raises(AvpipeError, match=r"not the class ids of main_split: t2 has 2, not 0 \(1\)"):
        bench.run(bench.feature_pickle(benchmark, change), bench.words)


def test_a_feature_pickle_needs_every_csv(bench):
    source = bench.feature_pickle(read_features(bench.folder / "own", bench.tree_of_elsewhere(), "main_split"))
    bench.without_csv("stage_1_train")
    with pytest.raises(AvpipeError, match=r"stage_1_train\.csv does not exist"):
        bench.run(source, bench.words)


@pytest.mark.parametrize(
    "make", [lambda folder: folder / "none", lambda folder: folder], ids=["absent", "other folder"]
)
def test_sources_of_no_kind_are_told_what_was_expected(bench, make):
    with pytest.raises(AvpipeError, match=r"Expected a folder with audio/ and video/.*trainingmain_split\.pkl"):
        bench.run(make(bench.folder))


def test_summary_of_a_tree_with_a_clip_missing(bench):
    source = bench.tree_of_elsewhere()
    for modality in ("audio", "video"):
        path = source / modality / "stage_1_train/Bow, long.h5"
        clip_ids, values = read_class_file(path)
        rewrite(path, data=values[1:], urls=list(clip_ids[1:]))
        shutil.rmtree(source / modality / "stage_2_train")  # nobody reads it
    before = bytes_of(source)
    record = bench.run(source)
    assert bytes_of(source) == before
    assert record["split_digest"] == bench.split.digest and record["dimensions"] == {"audio": 4, "video": 6}
    subsets = record["subsets"]
    assert {s: (subsets[s]["expected"], subsets[s]["used"], subsets[s]["missing"]) for s in SUBSETS} == {
        "stage_1_train": (4, 3, {"missing": 1}),
        "stage_1_val_seen": (2, 2, {}),
        "stage_1_val_unseen": (2, 2, {}),
        "stage_2_train": (8, 7, {"missing": 1}),
        "stage_2_test_seen": (3, 3, {}),
        "stage_2_test_unseen": (2, 2, {}),
    }
    assert subsets["stage_1_train"]["classes"]["Bow, long"] == {"expected": 2, "used": 1, "missing": {"missing": 1}}
    shared = record["shared_sources"]["stage_2_test_seen"]
    assert (shared["clips"], shared["shared"]) == (3, 0) and record["source"]["path"] == source.name


def test_summary_without_csv_counts_what_is_there(bench):
    source = bench.tree_of_elsewhere()
    whole = bench.run(source)
    bench.without_csv(*SUBSETS)
    record = bench.run(source)
    assert {counts["expected_from"] for counts in record["subsets"].values()} == {"tree"}
    assert record["split_digest"] == whole["split_digest"]
    for modality in ("audio", "video"):
        rewrite(source / modality / "stage_1_val_seen/Bow, long.h5", urls=["s3"])
    other = bench.run(source)
    assert other["subsets"] == record["subsets"] and other["split_digest"] != record["split_digest"]


TREE_FAULTS = {
    "listed twice": (["t2", "t2"], r"has clips more than once, with different labels or features: t2 \(1\)"),
    "not in the csv": (["t2", "t9"], r"in stage_1_train that the split does not list: t9 \(1\)"),
    "in two subsets": (["t2", "s1"], r"has clips in two subsets or classes: s1 \(1\); each belongs to one"),
}


@pytest.mark.parametrize(("urls", "message"), TREE_FAULTS.values(), ids=TREE_FAULTS)
def test_trees_with_clips_that_do_not_belong_there_are_refused(bench, urls, message):
    source = bench.tree_of_elsewhere()
    for modality in ("audio", "video"):
        rewrite(source / modality / "stage_1_train/Bow, long.h5", urls=urls)
    with pytest.raises(AvpipeError, match=message):
        bench.run(source)


@pytest.mark.slow
@needs_shared
def test_real_splits_through_a_feature_pickle_and_caches(tmp_path):
    """UCF's cls_split from a pickle of all clips of main_split, by the names that the scripts have."""
    main, split = (read_split(SHARED / "UCF", name) for name in ("main_split", "cls_split"))
    labels = {clip: name for subset in SUBSETS for clip, name in main.clips[subset].items()}
    ids = {name: class_id for class_id, name in enumerate(main.all_classes)}
    clips = sorted(labels)
    values = np.random.default_rng(0).random((len(clips), 3), np.float32)
    rows = [
        [values[i].tolist(), ids[labels[clip]], values[i, :2].tolist(), f"{clip}.avi"] for i, clip in enumerate(clips)
    ]
    (tmp_path / "ucf.pkl").write_bytes(pickle.dumps(rows))
    options = {"class_split": SHARED / "UCF", "split": "cls_split", **UCF, "summary": tmp_path / "summary.json"}
    import_features(tmp_path / "ucf.pkl", tree=tmp_path / "a", **options)
    record = json.loads((tmp_path / "summary.json").read_text())
    assert [record["subsets"][subset]["used"] for subset in SUBSETS] == [3174, 353, 1467, 4994, 555, 845]
    assert record["split_digest"] == split.digest
    assert record["source"]["unlisted_clips"] == 1267 - 845
    benchmark = read_features(SHARED / "UCF", tmp_path / "a", "cls_split")
    row = benchmark.subsets["stage_2_test_unseen"].clip_ids.index(
        clip := next(iter(split.clips["stage_2_test_unseen"]))
    )
    assert np.array_equal(benchmark.subsets["stage_2_test_unseen"].video[row], values[clips.index(clip)])


@pytest.mark.slow
@needs_shared
def test_caches_of_vggsound_need_no_csv_that_a_copy_lacks(tmp_path):
    """A copy without stage_1_train.csv; its clips are those of the training cache."""
    root = SHARED / "VGGSound"
    words = SHARED / "w2v_features/word_embeddings_vggsound_normed.npy"
    names = root / "class-split/vggsound_w2v_class_names.csv"
    assert not (root / "class-split/main_split/stage_1_train.csv").exists()
    caches = vggsound_caches(root, names, words)
    for cache, contents in caches.items():
        (tmp_path / f"{cache}main_split.pkl").write_bytes(pickle.dumps(contents))
    files = {"tree": tmp_path / "tree", "summary": tmp_path / "summary.json"}
    import_features(tmp_path, class_split=root, split="main_split", words=None, names=names, **files)
    record = json.loads((tmp_path / "summary.json").read_text())
    counts = {s: (record["subsets"][s]["used"], record["subsets"][s]["expected_from"]) for s in SUBSETS}
    assert counts["stage_1_train"] == (276, "caches") and counts["stage_2_train"] == (276 + 7817 + 3102, "caches")
    assert counts["stage_2_test_unseen"] == (3450, "csv")
    recovered, published = read_words(next((tmp_path / "tree/text").iterdir())), read_words(words)
    assert recovered.keys() == published.keys()
    assert all(np.array_equal(recovered[name], published[name]) for name in published)


def vggsound_caches(root: Path, names: Path, words: Path) -> dict:
    """Caches with the clips of the public csv files, and two made-up clips a class for training."""
    all_classes = read_all_classes(root)
    ids = {name: class_id for class_id, name in enumerate(all_classes.names)}
    of_word = {word: ids[name] for name, word in read_names(names).items()}
    vectors = read_words(words)
    text = {
        "data": torch.stack([torch.from_numpy(vectors[word]) for word in sorted(of_word)]),
        "target": torch.LongTensor([of_word[word] for word in sorted(of_word)]),
        "url": np.array([]),
    }
    train = read_class_list(root, "main_split", "stage_1_train", all_classes)
    clips = {
        "training": [(f"{name} {i}", name) for name in train for i in range(2)],
        "val": [c for s in STAGE_2_PARTS[1:] for c in read_clip_list(root, "main_split", s, all_classes).items()],
        "test": [c for s in SUBSETS[4:] for c in read_clip_list(root, "main_split", s, all_classes).items()],
    }
    caches = {}
    for cache, rows in clips.items():
        part = {
            "data": torch.rand(len(rows), 2),
            "target": torch.LongTensor([ids[name] for _, name in rows]),
            "url": np.array([clip for clip, _ in rows]),
        }
        caches[cache] = {"audio": part, "video": part, "text": text}
    return caches


class TestFeaturesOverTime:
    """TCaF's features are not averaged: a pickle for each class, which are named as what they are."""

    CLASS = {"features": [np.ones((3, 4), np.float32)], "video_names": [b"t1"], "fps": [25]}  # noqa: RUF012

    def write(self, folder, modality="audio", subset="stage_1_train", name="Ant.pkl"):
        path = folder / modality / subset / name
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(self.CLASS))
        return path

    @pytest.mark.parametrize(
        ("modality", "subset"), [("audio", "stage_1_train"), ("video", "stage_2_test_seen"), ("video", "training")]
    )
    def test_a_tree_of_pickles(self, bench, tmp_path, modality, subset):
        folder = tmp_path / "features" / "cls_features_non_averaged"
        self.write(folder, modality, subset)
        with pytest.raises(AvpipeError, match=rf"{modality}/{subset}/Ant\.pkl: features over time, which TCaF reads"):
            bench.run(folder)

    def test_one_of_its_pickles(self, bench, tmp_path):
        with pytest.raises(AvpipeError, match=r"Ant\.pkl was not read: it holds features over time of one class"):
            bench.run(self.write(tmp_path))

    def test_a_tree_that_has_averaged_ones_beside_them_is_one(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "audio" / "stage_1_train" / "Ant.h5").touch()
        refuse_features_over_time(tmp_path)

    def test_they_are_named_while_planning_and_where_a_set_is_looked_for(self, tmp_path):
        folder = tmp_path / "features" / "cls_features_non_averaged"
        self.write(folder)
        (tmp_path / "class-split" / "main_split").mkdir(parents=True)
        values = {
            "source": {"kind": "published", "path": str(tmp_path)},
            "gzsl": {"benchmarks": [{"split": "main_split", "features": "cls_features"}]},
        }
        project = Project(Config.model_validate({"datasets": {"mine": values}}), catalogue={})
        with pytest.raises(AvpipeError, match=r"cls_features_non_averaged \(.*: features over time, which TCaF reads"):
            gzsl.published_features(project, "mine", "cls_features")


def test_clips_with_the_same_features_are_counted(bench):
    source = bench.tree_of_elsewhere()
    assert bench.run(source)["repeated"] == {"clips": 0, "apart": 0, "examples": []}
    for modality in ("audio", "video"):
        path = source / modality / "stage_1_train/Bow, long.h5"
        clip_ids, values = read_class_file(path)
        rewrite(path, data=values[[0] * len(values)], urls=list(clip_ids))
        last = source / modality / "stage_2_test_seen/Bow, long.h5"
        test_ids, tested = read_class_file(last)
        rewrite(last, data=values[[0] * len(tested)], urls=list(test_ids))
    repeated = bench.run(source)["repeated"]
    n_equal = len(clip_ids) + len(test_ids)
    assert (repeated["clips"], len(repeated["examples"])) == (n_equal - 1, min(n_equal - 1, 5))
    first = min((*clip_ids, *test_ids))
    assert {one for _, one in repeated["examples"]} == {first}
    assert repeated["apart"] == (len(test_ids) if first in clip_ids else len(clip_ids))
