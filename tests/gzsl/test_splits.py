"""Class splits: the published files, what is refused, and what is at hand of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError, listed
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.class_split import ClassNames
from avpipe.gzsl.splits import compare_with_clips, match_clips, read_classes, read_split, write_class_split

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published splits are not at hand")

# docs/methods.md, Split counts: classes and clips, in the order of SUBSETS.
PUBLISHED = {
    ("UCF", "main_split"): [(30, 3174), (30, 353), (12, 1467), (42, 4994), (42, 555), (9, 1267)],
    ("UCF", "cls_split"): [(30, 3174), (30, 353), (12, 1467), (42, 4994), (42, 555), (6, 845)],
    ("ActivityNet", "main_split"): [(99, 9204), (99, 1023), (51, 4307), (150, 14534), (150, 1615), (50, 4199)],
    ("ActivityNet", "cls_split"): [(99, 9204), (99, 1023), (51, 4307), (150, 14534), (150, 1615), (48, 4052)],
}
HEADERS = {
    "UCF": "filename,label,label_code",
    "ActivityNet": "filename,label_code,label",
    "VGGSound": "youtube_id,start_seconds,label,split,filename,label_code,category",
}
CLASSES = ("Bow, long", 'Cat "meow"', "Dog's", "Éclair")  # in code-point order
SPLIT = {
    "stage_1_train": {"t1": 0, "t2": 0, "t3": 1},
    "stage_1_val_seen": {"s1": 0, "s2": 1},
    "stage_1_val_unseen": {"u1": 2},
    "stage_2_test_seen": {"e1": 0, "e2": 1, "e3": 2},
    "stage_2_test_unseen": {"x1": 3, "x2": 3},
}


def write_split(root: Path, rows=None, header="UCF", name="main_split", folder="class-split") -> Path:
    """A valid small split, or one with other `rows` for some subsets: subset -> {clip: position of class}."""
    target = root / folder / name
    target.mkdir(parents=True)
    (target.parent / "all_class.txt").write_text("\n".join(reversed(CLASSES)) + "\n", encoding="utf-8")
    for subset, clips in {**SPLIT, **(rows or {})}.items():
        labels = sorted({CLASSES[i] for i in clips.values()})
        (target / f"{subset}.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
        (target / f"{subset}.csv").write_text(csv_text(clips, header), encoding="utf-8")
    return root


def csv_text(clips, header="UCF"):
    lines = [HEADERS[header]]
    for clip, i in clips.items():
        label = '"' + CLASSES[i].replace('"', '""') + '"'
        cells = {"filename": clip, "label": label, "label_code": str(i)}
        lines.append(",".join(cells.get(column, "") for column in HEADERS[header].split(",")))
    return "\n".join(lines) + "\n"


@needs_shared
@pytest.mark.parametrize(("dataset", "name"), PUBLISHED)
def test_published_counts(dataset, name):
    split = read_split(SHARED / dataset, name)
    assert [(len(split.classes[s]), len(split.clips[s])) for s in SUBSETS] == PUBLISHED[dataset, name]
    assert list(split.all_classes) == sorted(split.all_classes)


@needs_shared
def test_class_of_ucf_that_is_spelled_in_two_ways_has_the_spelling_of_all_class():
    split = read_split(SHARED / "UCF", "main_split")
    assert "HandstandPushups" in split.classes["stage_1_train"]
    assert split.clips["stage_1_train"]["v_HandStandPushups_g01_c01"] == "HandstandPushups"


@needs_shared
def test_vggsound_says_where_the_two_absent_files_are():
    with pytest.raises(AvpipeError, match=r"stage_1_train\.csv does not exist.*github\.com/ExplainableML/AVCA-GZSL"):
        read_split(SHARED / "VGGSound", "main_split")


@needs_shared
def test_class_lists_can_be_read_without_csv():
    root = SHARED / "VGGSound"
    names = ClassNames((root / "class-split/all_class.txt").read_text().splitlines())
    classes = read_classes(root, "main_split", names)
    assert [len(classes[subset]) for subset in SUBSETS] == [138, 138, 69, 207, 207, 69]


@needs_shared
def test_written_published_split_reads_equal(tmp_path):
    split = read_split(SHARED / "UCF", "cls_split")
    write_class_split(split, tmp_path)
    assert read_split(tmp_path, "cls_split") == split


@pytest.mark.parametrize("header", HEADERS)
def test_all_published_headers_give_the_same_split(tmp_path, header):
    plain = read_split(write_split(tmp_path / "a"), "main_split")
    assert read_split(write_split(tmp_path / "b", header=header), "main_split") == plain
    assert plain.clips["stage_1_train"] == {"t1": "Bow, long", "t2": "Bow, long", "t3": 'Cat "meow"'}
    assert plain.used_classes == plain.all_classes == CLASSES


@pytest.mark.parametrize("folder", ["class-split", "class_split", "class_splits"])
def test_all_spellings_of_the_folder(tmp_path, folder):
    root = write_split(tmp_path, folder=folder)
    assert read_split(root, "main_split") == read_split(root / folder, "main_split")


def test_stage_2_train_is_derived_or_must_agree(tmp_path):
    root = write_split(tmp_path)
    derived = read_split(root, "main_split")
    assert sorted(derived.clips["stage_2_train"]) == ["s1", "s2", "t1", "t2", "t3", "u1"]
    write_class_split(derived, root)  # now the file is there
    assert read_split(root, "main_split") == derived
    path = root / "class-split/main_split/stage_2_train.csv"
    path.write_text(path.read_text().replace("t2,", "t2000,"))
    with pytest.raises(AvpipeError, match=r"not the union .*: t2, t2000 \(2\)"):
        read_split(root, "main_split")


def test_clips_of_classes_outside_the_txt_are_dropped(tmp_path):
    root = write_split(tmp_path, {"stage_2_test_unseen": {"x1": 3}})
    path = root / "class-split/main_split/stage_2_test_unseen.csv"
    path.write_text(path.read_text() + csv_text({"y1": 0}).splitlines()[1] + "\n")
    assert read_split(root, "main_split").clips["stage_2_test_unseen"] == {"x1": "Éclair"}


def test_digest_follows_contents_not_form(tmp_path):
    split = read_split(write_split(tmp_path / "a"), "main_split")
    other_form = read_split(write_split(tmp_path / "b", header="VGGSound", name="my_split"), "my_split")
    assert other_form.digest == split.digest
    one_clip_more = {"stage_1_train": SPLIT["stage_1_train"] | {"t4": 1}}
    assert read_split(write_split(tmp_path / "c", one_clip_more), "main_split").digest != split.digest
    moved = {"stage_1_train": {"t1": 0, "t2": 1, "t3": 1}}
    assert read_split(write_split(tmp_path / "d", moved), "main_split").digest != split.digest


CONTRADICTIONS = {
    "val_unseen class is trained": (
        {"stage_1_val_unseen": {"u1": 1}, "stage_2_test_seen": {"e1": 0, "e2": 1}},
        r"stage_1_val_unseen and stage_1_train share classes: Cat \"meow\" \(1\)",
    ),
    "test_unseen class is trained in stage 2": (
        {"stage_2_test_unseen": {"x1": 2}},
        r"stage_2_test_unseen has classes that stage 2 is trained with: Dog's \(1\)",
    ),
    "val_seen lacks a class": (
        {"stage_1_val_seen": {"s1": 0}},
        r"stage_1_val_seen and stage_1_train have different classes: Cat \"meow\" \(1\)",
    ),
    "test_seen lacks a class": (
        {"stage_2_test_seen": {"e1": 0, "e2": 1}},
        r"stage_2_test_seen and stage_2_train have different classes: Dog's \(1\)",
    ),
    "clip trains and tests": (
        {"stage_2_test_seen": {"t1": 0, "e2": 1, "e3": 2}},
        r"stage_1_train and stage_2_test_seen share clips: t1 \(1\)",
    ),
    "clip trains and validates": (
        {"stage_1_val_seen": {"t1": 0, "t3": 1}},
        r"stage_1_train and stage_1_val_seen share clips: t1, t3 \(2\)",
    ),
}


@pytest.mark.parametrize(("rows", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_with_the_offenders(tmp_path, rows, message):
    with pytest.raises(AvpipeError, match=message):
        read_split(write_split(tmp_path, rows), "main_split")


FAULTS = {
    "no csv": ("stage_1_val_seen.csv", None, r"stage_1_val_seen\.csv does not exist"),
    "no txt": ("stage_1_val_seen.txt", None, r"stage_1_val_seen\.txt does not exist"),
    "empty txt": ("stage_1_val_seen.txt", "\n", "is empty"),
    "class twice": ("stage_1_val_seen.txt", "Dog's\nDog's\n", r"lists classes twice: Dog's \(1\)"),
    "class unknown in txt": ("stage_1_val_seen.txt", "Cow\n", r"classes that all_class\.txt lacks: Cow \(1\)"),
    "class unknown in csv": ("stage_1_val_seen.csv", "filename,label\ns1,Cow\n", r"lacks: 'Cow' \(1\)"),
    "unknown column": ("stage_1_val_seen.csv", "filename,label,fold\ns1,Dog's,1\n", "columns filename, label, fold"),
    "no label column": ("stage_1_val_seen.csv", "filename\ns1\n", "expected filename and label"),
    "no header": ("stage_1_val_seen.csv", "", r"has the columns \(none\)"),
    "surplus cell": ("stage_1_val_seen.csv", "filename,label\ns1,Bow, long\n", "cells beyond the header"),
    "row twice": (
        "stage_1_val_seen.csv",
        csv_text({"s1": 0}) + csv_text({"s1": 0}).split("\n")[1],
        r"filename: s1 \(1\)",
    ),
    "wrong code": ("stage_1_val_seen.csv", 'filename,label,label_code\ns1,"Bow, long",1\n', "Bow, long has 1, not 0"),
    "class without rows": ("stage_1_val_seen.csv", csv_text({"s1": 0}), r"without a row in .*: Cat \"meow\" \(1\)"),
    "open quote": ("stage_1_val_seen.csv", f'filename,label\n"s1,{"x" * 200_000}', "was not read: field larger"),
    "not UTF-8": ("stage_1_val_seen.txt", b"\xc9clair\n", "was not read: .*UTF-8"),
}


@pytest.mark.parametrize(("file", "contents", "message"), FAULTS.values(), ids=FAULTS)
def test_faulty_files_are_refused(tmp_path, file, contents, message):
    path = write_split(tmp_path) / "class-split/main_split" / file
    path.unlink()
    if contents is not None:
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(AvpipeError, match=message):
        read_split(tmp_path, "main_split")


def test_absent_split_and_folder_say_what_there_is(tmp_path):
    root = write_split(tmp_path)
    with pytest.raises(AvpipeError, match=r"no split 'other'; there are: main_split \(1\)"):
        read_split(root, "other")
    with pytest.raises(AvpipeError, match="no split"):
        read_split(root, "main_split/..")
    shutil.rmtree(root / "class-split")
    with pytest.raises(AvpipeError, match=r"no class-split/all_class\.txt"):
        read_split(root, "main_split")


def test_long_lists_of_offenders_are_cut_at_ten():
    assert listed(f"c{i:02}" for i in range(12)).endswith("c09 … (12 in all)")


def test_class_names_differing_in_case_only_are_kept_apart():
    names = ClassNames(["Run", "run", "Walk"])
    assert [names.find(name) for name in ("Run", "run", "RUN", "WALK", "Fly")] == ["Run", "run", None, "Walk", None]


def test_missing_clips_are_accounted(tmp_path):
    split = read_split(write_split(tmp_path), "main_split")
    at_hand = {clip for clips in split.clips.values() for clip in clips} - {"t2", "x2"} | {"unasked"}
    found = compare_with_clips(split, at_hand)
    assert found.missing["stage_1_train"] == found.missing["stage_2_train"] == ("t2",)
    assert found.missing["stage_2_test_unseen"] == ("x2",)
    for subset in SUBSETS:
        assert found.expected[subset] == len(found.present[subset]) + len(found.missing[subset])


def test_class_without_any_clip_is_refused_before_work_is_wasted(tmp_path):
    split = read_split(write_split(tmp_path), "main_split")
    at_hand = {clip for clips in split.clips.values() for clip in clips} - {"s2"}
    with pytest.raises(AvpipeError, match=r"classes of stage_1_val_seen of which no clip is at hand: Cat"):
        compare_with_clips(split, at_hand)
    assert match_clips(split, at_hand).missing["stage_1_val_seen"] == ("s2",)


def test_only_names_in_ucfs_manner_are_found_in_other_capitals(tmp_path):
    rows = {"stage_1_train": {"v_HandStand_g01_c01": 0, "dQw4w9WgXcQ_000010": 0, "v_A_g01_c01": 1, "v_BB_g01_c01": 1}}
    split = read_split(write_split(tmp_path, rows), "main_split")
    at_hand = [
        "v_Handstand_g01_c01",
        "DQW4w9WgXcQ_000010",
        "v_A_g01_c01",
        "v_a_g01_c01",
        "v_Bb_g01_c01",
        "v_bB_g01_c01",
    ]
    found = match_clips(split, at_hand)
    assert found.present["stage_1_train"] == {
        "v_HandStand_g01_c01": "v_Handstand_g01_c01",
        "v_A_g01_c01": "v_A_g01_c01",
    }
    assert found.missing["stage_1_train"] == ("dQw4w9WgXcQ_000010", "v_BB_g01_c01")
