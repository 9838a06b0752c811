"""The published folder tree, written and read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.formats.class_files import list_class_file, read_class_values, write_class_file
from avpipe.gzsl.benchmark import SUBSETS, join
from avpipe.gzsl.splits import STAGE_2_PARTS, Split, read_split
from avpipe.gzsl.tree import PooledFeatures, publish_class_split, write_tree
from avpipe.gzsl.tree_files import safe_name
from avpipe.gzsl.tree_reading import read_tree
from avpipe.gzsl.words import write_names, write_words

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl"
CLASSES = ("Bow, long", 'Cat "meow"', "Dog's", "Éclair")  # in code-point order
CLIPS = {
    "stage_1_train": {"ü t1": 0, "t2": 0, "t3": 1, "日本_1": 1},
    "stage_1_val_seen": {"s1": 0, "s2": 1},
    "stage_1_val_unseen": {"a1": 2, "u2": 2},
    "stage_2_test_seen": {"e1": 0, "e2": 1, "e3": 2},
    "stage_2_test_unseen": {"x1": 3, "x2": 3},
}


def small_split(classes=CLASSES) -> Split:
    clips = {subset: {clip: classes[i] for clip, i in rows.items()} for subset, rows in CLIPS.items()}
    parts = ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen")
    clips["stage_2_train"] = {clip: name for part in parts for clip, name in clips[part].items()}
    clips = {subset: dict(sorted(clips[subset].items())) for subset in SUBSETS}
    return Split(
        "main_split",
        tuple(sorted(classes)),
        {subset: tuple(sorted(set(clips[subset].values()))) for subset in SUBSETS},
        clips,
    )


def features(split, d, *, without=(), seed=0) -> PooledFeatures:
    """Features in random order; a clip outside the split is among them."""
    clips = [*sorted({clip for rows in split.clips.values() for clip in rows} - set(without)), "unasked"]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips))
    return PooledFeatures(tuple(clips[i] for i in order), rng.standard_normal((len(clips), d)).astype(np.float32))


def word_files(folder: Path, split: Split, d=5) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"words_file": folder / "word_embeddings_own_normed.npy", "names_file": folder / "own_w2v_class_names.csv"}
    names = {name: f"the {name}" for name in split.all_classes}
    write_names(files["names_file"], names)
    write_words(files["words_file"], {w: np.full(d, i + 1, np.float32) for i, w in enumerate(names.values())})
    return files


def write_small(tmp_path: Path, split=None, root="tree", audio=None, video=None, **options):
    split = split or small_split()
    audio, video = audio or features(split, 4), video or features(split, 6, seed=1)
    files = word_files(tmp_path / "words", split)
    summary = write_tree(tmp_path / root, split, "main_features", audio, video, **files, **options)
    return tmp_path / root, audio, video, summary


def as_of_others(tmp_path: Path, *arguments) -> Path:
    """A small tree without its manifests, as trees of others are."""
    root, *_ = write_small(tmp_path, *arguments)
    for path in root.rglob("*.manifest"):
        path.unlink()
    return root


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_written_is_read_back(tmp_path):
    split = small_split()
    root, audio, video, _ = write_small(tmp_path, split)
    benchmark = read_tree(root, "main_features", "main_split")
    assert benchmark.class_names == CLASSES
    assert benchmark.words[:, 0].tolist() == [1, 2, 3, 4]
    for subset in SUBSETS:
        got = benchmark.subsets[subset]
        parts = STAGE_2_PARTS if subset == "stage_2_train" else (subset,)
        expected = [
            each
            for part in parts
            for each in sorted((CLASSES.index(name), clip) for clip, name in split.clips[part].items())
        ]
        assert list(zip(got.class_ids.tolist(), got.clip_ids, strict=True)) == expected
        assert (got.audio == audio.values[[audio.rows()[clip] for clip in got.clip_ids]]).all()
        assert (got.video == video.values[[video.rows()[clip] for clip in got.clip_ids]]).all()
        assert got.audio.dtype == got.video.dtype == np.float32 and got.class_ids.dtype == np.int64
        assert [CLASSES[i] for i in benchmark.classes[subset]] == list(split.classes[subset])
    assert read_split(root, "main_split") == split


def test_subsets_lie_in_one_copy_of_the_features(tmp_path):
    """What a stage trains on or evaluates is a stretch of it, so nothing is copied."""
    root, *_ = write_small(tmp_path)
    subsets = read_tree(root, "main_features", "main_split").subsets
    whole = subsets["stage_2_train"].audio.base
    assert whole is not None and all(subset.audio.base is whole for subset in subsets.values())
    parts = [subsets[part].audio for part in STAGE_2_PARTS]
    assert np.shares_memory(join(parts), whole) and (join(parts) == np.concatenate(parts)).all()
    apart = [parts[0], parts[2]]
    assert not np.shares_memory(join(apart), whole) and (join(apart) == np.concatenate(apart)).all()


def test_layout_is_the_published_one(tmp_path):
    root, *_ = write_small(tmp_path)
    files = set(bytes_of(root))
    assert {
        "class-split/all_class.txt",
        "class-split/own_w2v_class_names.csv",
        "features/main_features/text/word_embeddings_own_normed.npy",
    } < files
    for subset in SUBSETS:
        assert {f"class-split/main_split/{subset}.{suffix}" for suffix in ("txt", "csv")} < files
        for modality in ("audio", "video"):
            found = {path.stem for path in (root / "features/main_features" / modality / subset).iterdir()}
            assert found == set(small_split().classes[subset])
    # As the published loader reads a file (docs/methods.md, Feature files): clips in order of their names.
    with h5py.File(root / "features/main_features/audio/stage_1_train/Bow, long.h5") as file:
        assert [url.decode("utf-8") for url in file["video_urls"]] == ["t2", "ü t1"]
        assert file["data"].dtype == np.float32 and file["data"].shape == (2, 4)
        kind = h5py.check_string_dtype(file["video_urls"].dtype)
        assert (kind.encoding, kind.length) == ("utf-8", None)


def test_equal_input_gives_equal_bytes_even_in_another_process_and_order(tmp_path):
    root, *_ = write_small(tmp_path)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_tree; test_tree.write_again(sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)], check=True)
    assert bytes_of(root) == bytes_of(tmp_path / "again")


def write_again(folder: str) -> None:
    audio, video = features(small_split(), 4), features(small_split(), 6, seed=1)
    reverse = [PooledFeatures(f.clip_ids[::-1], f.values[::-1]) for f in (audio, video)]
    write_small(Path(folder), root="again", audio=reverse[0], video=reverse[1])


def test_only_clips_with_both_modalities_are_used_and_the_rest_accounted(tmp_path):
    split = small_split()
    root, *_, summary = write_small(
        tmp_path,
        split,
        audio=features(split, 4, without=["t2", "x1", "e9", "s9", "t3"]),
        video=features(split, 6, without=["t2", "u2"]),
        reasons={"t2": "decode_error", "t3": "too_short", "unasked": "blocked"},
    )
    record = summary.to_json()
    lengths, close = record["odd_vectors"]  # those of `word_files` point one way
    assert "another length than 1" in lengths and "(6)" in close
    assert record["split_digest"] == split.digest and record["dimensions"] == {"audio": 4, "video": 6}
    subsets = record["subsets"]
    assert {s: (subsets[s]["expected"], subsets[s]["used"], subsets[s]["missing"]) for s in SUBSETS} == {
        "stage_1_train": (4, 2, {"decode_error": 1, "too_short": 1}),
        "stage_1_val_seen": (2, 2, {}),
        "stage_1_val_unseen": (2, 1, {"no_video": 1}),
        "stage_2_train": (8, 5, {"decode_error": 1, "no_video": 1, "too_short": 1}),
        "stage_2_test_seen": (3, 3, {}),
        "stage_2_test_unseen": (2, 1, {"no_audio": 1}),
    }
    assert subsets["stage_1_train"]["classes"]["Bow, long"] == {
        "expected": 2,
        "used": 1,
        "missing": {"decode_error": 1},
    }
    got = read_tree(root, "main_features", "main_split").subsets
    assert got["stage_1_train"].clip_ids == ("ü t1", "日本_1")
    assert got["stage_2_test_unseen"].clip_ids == ("x2",)


def test_class_without_usable_clip_is_written_empty_and_counted(tmp_path):
    split = small_split()
    root, _, _, summary = write_small(tmp_path, audio=features(split, 4, without=["t3", "日本_1"]))
    counts = summary.to_json()["subsets"]["stage_1_train"]["classes"][CLASSES[1]]
    assert (counts["expected"], counts["used"], counts["missing"]) == (2, 0, {"no_audio": 2})
    got = read_tree(root, "main_features", "main_split")
    assert 1 in got.classes["stage_1_train"] and 1 not in got.subsets["stage_1_train"].class_ids


def test_subset_without_usable_clip_is_refused_with_its_reasons(tmp_path):
    split = small_split()
    with pytest.raises(AvpipeError, match=r"No clip of stage_2_test_unseen .* \(1 blocked, 1 no_audio\)"):
        write_small(tmp_path, audio=features(split, 4, without=["x1", "x2"]), reasons={"x1": "blocked"})
    assert not (tmp_path / "tree").exists()


def test_features_must_be_finite(tmp_path):
    audio = features(small_split(), 4)
    audio.values[audio.rows()["t2"], 1] = np.inf
    with pytest.raises(AvpipeError, match=r"audio features of these clips are not finite: t2 \(1\)"):
        write_small(tmp_path, audio=audio)


def test_other_feature_sets_stay_and_an_older_one_is_replaced(tmp_path):
    root, *_ = write_small(tmp_path)
    other = root / "features/cls_features/audio/x.h5"
    stale = root / "features/main_features/audio/stage_1_train/Stale.h5"
    other.parent.mkdir(parents=True)
    other.touch()
    stale.touch()
    write_small(tmp_path)
    assert other.exists() and not stale.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", ".", "", "a\nb", "a\0b", "é" * 128])
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(AvpipeError, match="cannot be the name of a file"):
        safe_name(name)
    if name not in ("..", ".", ""):  # these would not be class names of a split that was read
        with pytest.raises(AvpipeError, match="cannot be the name of a file"):
            write_small(tmp_path, small_split((*CLASSES[:3], name)))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["words"]
    with pytest.raises(AvpipeError, match="cannot be the name of a file"):
        read_tree(tmp_path, name, "main_split")


def read_class_file(path: Path):
    """Clip ids and float32 [n, d]."""
    clip_ids, width = list_class_file(path)
    values = np.empty((len(clip_ids), width), np.float32)
    read_class_values(path, values)
    return clip_ids, values


def rewrite(path: Path, *, data=None, urls=None, dtype=None) -> None:
    clip_ids, values = read_class_file(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values if data is None else data)
        file.create_dataset("video_urls", data=list(clip_ids) if urls is None else urls, dtype=dtype)


def test_published_variants_are_read(tmp_path):
    """S80 names, float64 data, other order of rows, capitals of file names, surplus files, no stage_2_train."""
    root = as_of_others(tmp_path)
    ours = read_tree(root, "main_features", "main_split")
    for modality in ("audio", "video"):
        folder = root / "features/main_features" / modality
        path = folder / "stage_1_train/Bow, long.h5"
        clip_ids, values = read_class_file(path)
        urls = np.array([clip.encode("utf-8") for clip in clip_ids[::-1]], "S80")
        rewrite(path, data=values[::-1].astype(np.float64), urls=urls, dtype="S80")
        path.rename(path.with_name("bow, LONG.h5"))
        write_class_file(folder / "stage_1_train/Éclair.h5", ["x1"], np.ones((1, 9), np.float32))
        (folder / "stage_1_train/notes.txt").touch()
        for file in (folder / "stage_2_train").iterdir():
            file.unlink()
        (folder / "stage_2_train").rmdir()
    theirs = read_tree(root, "main_features", "main_split")
    for subset in SUBSETS:
        one, other = ours.subsets[subset], theirs.subsets[subset]
        assert one.clip_ids == other.clip_ids and (one.audio == other.audio).all() and (one.video == other.video).all()


def test_two_classes_that_differ_in_case_only_are_not_confused(tmp_path):
    split = small_split(("Bow", "bow", "cat", "dog"))
    root = as_of_others(tmp_path, split)
    got = read_tree(root, "main_features", "main_split").subsets["stage_1_train"]
    assert got.clip_ids == ("t2", "ü t1", "t3", "日本_1")
    (root / "features/main_features/audio/stage_1_train/bow.h5").unlink()
    with pytest.raises(AvpipeError, match=r"no \.h5 file for 1 of its classes: bow"):
        read_tree(root, "main_features", "main_split")


DAMAGE = {
    "other order": (lambda path: rewrite(path, urls=["ü t1", "t2"]), r"differ first in row 0 \('ü t1' and 't2'\)"),
    "other length": (lambda path: rewrite(path, data=np.ones((1, 4)), urls=["t2"]), "lists 1 clips and .* 2"),
    "lengths disagree": (
        lambda path: rewrite(path, data=np.ones((3, 4))),
        r"it has data .*numbers \[n, d\]",
    ),
    "other width": (lambda path: rewrite(path, data=np.ones((2, 5))), r"audio features of the widths \[4, 5\]"),
    "not finite": (lambda path: rewrite(path, data=np.full((2, 4), np.nan)), "not finite"),
    "not HDF5": (lambda path: path.write_bytes(b"nothing"), "was not read"),
    "not UTF-8": (lambda path: rewrite(path, urls=np.array([b"\xff", b"t2"]), dtype="S80"), "was not read: .utf-8."),
    "absent": (Path.unlink, r"no \.h5 file for 1 of its classes: Bow, long"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_trees_are_refused(tmp_path, damage, message):
    root = as_of_others(tmp_path)
    damage(root / "features/main_features/audio/stage_1_train/Bow, long.h5")
    with pytest.raises(AvpipeError, match=message):
        read_tree(root, "main_features", "main_split")


def test_absent_parts_of_a_tree_are_named(tmp_path):
    root, *_ = write_small(tmp_path)
    with pytest.raises(AvpipeError, match=r"text has 0 files word_embeddings"):
        read_tree(root, "cls_features", "main_split")
    (root / "class-split/second_w2v_class_names.csv").touch()
    with pytest.raises(AvpipeError, match=r"2 files .*expected exactly one"):
        read_tree(root, "main_features", "main_split")


def test_alignment_reaches_the_words(tmp_path):
    root, *_ = write_small(tmp_path)
    words = read_tree(root, "main_features", "main_split", alignment="permuted", permutation_seed=3).words[:, 0]
    assert sorted(words) == [1, 2, 3, 4] and not (words == np.arange(1, 5)).any()


def test_published_class_split_is_whole(tmp_path):
    root, *_ = write_small(tmp_path)
    names = tmp_path / "words/own_w2v_class_names.csv"
    publish_class_split(root, "main_split", [names], tmp_path / "copy/class-split")
    assert bytes_of(tmp_path / "copy/class-split") == bytes_of(root / "class-split")


def test_pooled_features_are_consistent():
    with pytest.raises(ValueError, match="twice"):
        PooledFeatures(("a", "a"), np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="clip ids"):
        PooledFeatures(("a",), np.ones((2, 3), np.float32))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published splits are not at hand")
def test_a_tree_of_the_size_of_ucf_is_written_and_read(tmp_path):
    """6,816 clips of 128 + 4,096 numbers, as the published C3D/VGGish features."""
    split = read_split(SHARED / "UCF", "main_split")
    clips = sorted({clip for rows in split.clips.values() for clip in rows})
    renamed = [clip.replace("HandStand", "Handstand") for clip in clips]  # as some copies of UCF-101 have it
    audio = PooledFeatures(tuple(renamed), np.arange(len(clips) * 128, dtype=np.float32).reshape(-1, 128))
    video = PooledFeatures(tuple(renamed), np.repeat(audio.values, 32, axis=1))
    files = {
        "words_file": SHARED / "w2v_features/word_embeddings_ucf_normed.npy",
        "names_file": SHARED / "UCF/class-split/ucf_w2v_class_names.csv",
    }
    summary = write_tree(tmp_path, split, "cls_features", audio, video, **files).to_json()
    assert all(subset["used"] == subset["expected"] for subset in summary["subsets"].values())
    got = read_tree(tmp_path, "cls_features", "main_split")
    assert [len(got.subsets[subset].clip_ids) for subset in SUBSETS] == [3174, 353, 1467, 4994, 555, 1267]
    assert np.isfinite(got.words).all() and got.words.shape == (101, 300)
