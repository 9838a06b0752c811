"""Parsers on the real annotation files, with the counts that were made of them by hand, and on mutated copies."""

import csv
import hashlib
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources.annotations import (
    FORMATS,
    activitynet,
    crosstask,
    howto100m,
    msrvtt,
    read_annotations,
    ucf101,
    vggsound,
    youcook2,
)

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
REAL, GZSL = SHARED / "annotations", SHARED / "gzsl"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no annotation files at {REAL}")


def test_ucf101():
    lists = {
        number: (REAL / "ucf101" / f"trainlist{number}.txt", REAL / "ucf101" / f"testlist{number}.txt")
        for number in ("01", "02", "03")
    }
    sizes = {number: [len(ucf101.parse(path).clips) for path in paths] for number, paths in lists.items()}
    assert sizes == {"01": [9537, 3783], "02": [9586, 3734], "03": [9624, 3696]}
    found = ucf101.parse(*lists["01"])
    assert len(found.clips) == 13_320 and len({clip.class_name for clip in found.clips}) == 101
    groups = Counter((clip.class_name, clip.clip_id[-7:-4]) for clip in found.clips)
    assert Counter(groups.values()) == {4: 1039, 5: 438, 6: 362, 7: 686}
    per_class = Counter(clip.class_name for clip in found.clips)
    assert (min(per_class.values()), per_class["TaiChi"], max(per_class.values()), per_class["CricketShot"]) == (
        100,
        100,
        167,
        167,
    )
    assert found.notes == ("128 files are not named after their folder",)
    train = {clip.clip_id[:-4] for clip in found.clips if clip.subset == "trainlist01"}
    assert not train & {clip.clip_id[:-4] for clip in found.clips if clip.subset == "testlist01"}


def test_every_clip_of_the_benchmarks_split_of_ucf_is_in_the_lists():
    clips = {clip.clip_id for clip in ucf101.parse(*sorted((REAL / "ucf101").glob("*list01.txt"))).clips}
    wanted = set()
    for path in (GZSL / "ucf").rglob("*.csv") if (GZSL / "ucf").is_dir() else GZSL.rglob("UCF*/**/*.csv"):
        if path.name.startswith("stage_"):
            with path.open(newline="") as stream:
                wanted |= {Path(row["filename"]).stem for row in csv.DictReader(stream)}
    assert len(wanted) == 6816 and wanted <= clips


def test_the_spelling_of_one_class():
    assert ucf101.spelt("v_HandstandPushups_g01_c01") == "v_HandStandPushups_g01_c01"
    assert ucf101.spelt("v_HandStandPushups_g01_c01") == "v_HandStandPushups_g01_c01"
    assert ucf101.spelt("v_Archery_g01_c01") == "v_Archery_g01_c01"


@pytest.fixture(scope="module")
def activitynet_file(tmp_path_factory):
    return write_activitynet(tmp_path_factory.mktemp("activitynet") / "activity_net.json")


def write_activitynet(path: Path) -> Path:
    """The derived annotation in the form of the official one."""
    derived = json.loads((REAL / "activitynet" / "anet_anno_action.json").read_text())
    with (REAL / "activitynet" / "video_info_new.csv").open(newline="") as stream:
        subsets = {row["video"]: row["subset"] for row in csv.DictReader(stream)}
    database = {
        name.removeprefix("v_"): {
            "duration": video["duration_second"],
            "subset": subsets[name],
            "annotations": [] if subsets[name] == "testing" else video["annotations"],
        }
        for name, video in derived.items()
    }
    path.write_text(json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database}))
    return path


def test_activitynet(activitynet_file):
    found = activitynet.parse(activitynet_file)
    assert len(found.clips) == 22_152
    assert Counter(clip.subset for clip in found.clips) == {"training": 14_859, "validation": 7293}
    assert sum(clip.is_empty for clip in found.clips) == 12
    assert sum(clip.end_seconds > clip.video_seconds for clip in found.clips) == 215
    assert "12 segments end where they start and are too short" in found.notes
    assert "215 segments end after their video and are cut at its end" in found.notes
    repeats = Counter((clip.video_id, clip.start_seconds, clip.end_seconds, clip.class_name) for clip in found.clips)
    assert sum(count - 1 for count in repeats.values()) == 45
    assert len({clip.class_name for clip in found.clips}) == 200 and all(
        " " not in clip.class_name for clip in found.clips
    )
    assert sum(name.startswith("-") for name in {clip.video_id for clip in found.clips}) > 100


def test_the_labels_of_activitynets_benchmark_split_agree_by_position(activitynet_file):
    labels = {clip.clip_id: clip.class_name for clip in activitynet.parse(activitynet_file).clips}
    folder = next(path for path in GZSL.iterdir() if path.is_dir() and "activity" in path.name.lower())
    wanted = {}
    for path in folder.rglob("stage_*.csv"):
        with path.open(newline="") as stream:
            wanted |= {Path(row["filename"]).stem: row["label"] for row in csv.DictReader(stream)}
    shared = wanted.keys() & labels.keys()
    assert len(wanted) == 20_348 and len(shared) == 19_565
    assert all(wanted[name] == labels[name] for name in shared)


def write_vggsound(path: Path) -> Path:
    """The four-column list is not at hand; the test list is put into its form."""
    with (REAL / "vggsound" / "test.csv").open(newline="") as source, path.open("w", newline="") as target:
        rows = [(name[:11], int(name[12:18]), label, "test") for name, label in csv.reader(source)]
        csv.writer(target).writerows(rows)
    return path


def test_vggsound(tmp_path):
    path = write_vggsound(tmp_path / "vggsound.csv")
    found = vggsound.parse(path)
    assert len(found.clips) == 15_446 and len({clip.class_name for clip in found.clips}) == 309
    assert len({clip.video_id for clip in found.clips}) == 14_851
    assert sum(clip.video_id.startswith("-") for clip in found.clips) == 299
    assert sum("," in name for name in {clip.class_name for clip in found.clips}) == 23
    assert found.clips[0].clip_id == "glLQrEijrKg_000300" and found.clips[0].end_seconds == 310
    assert found.notes == ("15,446 rows: 15,446 test",)


def test_youcook2():
    folder = REAL / "youcook2"
    found = youcook2.parse(folder / "youcookii_annotations_trainval.json")
    assert Counter(clip.subset for clip in found.clips) == {"training": 10_337, "validation": 3492}
    assert len({clip.video_id for clip in found.clips}) == 1790 and len(found.notes) == 2
    found = youcook2.parse(
        folder / "youcookii_annotations_trainval.json", folder / "validation_youcook.csv", folder / "label_foodtype.csv"
    )
    assert Counter(clip.subset for clip in found.clips) == {"training": 10_337, "validation": 142, "test": 3350}
    assert len({clip.class_name for clip in found.clips}) == 89
    assert all(len(clip.captions) == 1 and clip.captions[0] == clip.captions[0].strip() for clip in found.clips)
    assert (
        sum(
            clip.video_id == "oJZUxU9szWA" and (clip.start_seconds, clip.end_seconds) == (120, 252)
            for clip in found.clips
        )
        == 2
    )


def test_msrvtt_lists():
    folder = REAL / "msrvtt"
    names = {
        "7k": folder / "MSRVTT_train.7k.csv",
        "9k": folder / "MSRVTT_train.9k.csv",
        "jsfusion": folder / "collaborative-experts" / "val_list_jsfusion.txt",
        "train": folder / "collaborative-experts" / "train_list_full.txt",
        "val": folder / "collaborative-experts" / "val_list_full.txt",
        "test": folder / "collaborative-experts" / "test_list_full.txt",
        "miech": folder / "collaborative-experts" / "train_list_miech.txt",
        "miech_test": folder / "collaborative-experts" / "test_list_miech.txt",
    }
    lists = {name: set(msrvtt.read_list(path)) for name, path in names.items()}
    assert {name: len(videos) for name, videos in lists.items()} == {
        "7k": 7010, "9k": 9000, "jsfusion": 1000, "train": 6513, "val": 497, "test": 2990, "miech": 6656,
        "miech_test": 1000,
    }  # fmt: skip
    assert lists["7k"] == lists["train"] | lists["val"]
    assert lists["9k"] == {f"video{n}" for n in range(10_000)} - lists["jsfusion"]
    assert len(lists["miech_test"] & lists["jsfusion"]) == 296 and len(lists["miech"] - lists["7k"]) == 1367


def test_msrvtt(tmp_path):
    """The official file is not at hand: a made one of its form, with the real lists."""
    content = {
        "info": {},
        "videos": [
            {"video_id": f"video{n}", "category": n % 20, "split": "train", "start time": 1.0, "end time": 9.0}
            for n in range(10_000)
        ],
        "sentences": [
            {"sen_id": n, "video_id": f"video{n // 20}", "caption": f" sentence {n} "} for n in range(200_000)
        ],
    }
    path = tmp_path / "MSRVTT_data.json"
    path.write_text(json.dumps(content))
    found = msrvtt.parse(path)
    assert len(found.clips) == 10_000 and all(len(clip.captions) == 20 for clip in found.clips)
    assert found.clips[3].captions[0] == "sentence 60" and found.clips[3].start_seconds is None
    lists = {"training": REAL / "msrvtt" / "MSRVTT_train.9k.csv", "test": REAL / "msrvtt" / "msrvtt_test.csv"}
    found = msrvtt.parse(path, **lists)
    assert read_annotations("msrvtt", {"annotation": path} | lists) == found
    assert Counter(clip.subset for clip in found.clips) == {"training": 9000, "test": 1000}
    sentences = [clip.captions for clip in found.clips if clip.subset == "test"]
    assert all(len(each) == 1 for each in sentences) and len(set(sentences)) == 995
    with pytest.raises(AvpipeError, match="several subsets"):
        msrvtt.parse(path, REAL / "msrvtt" / "MSRVTT_train.7k.csv", REAL / "msrvtt" / "MSRVTT_train.9k.csv")


def write_crosstask(folder: Path) -> Path:
    """A made release of the known form: two primary tasks, one related, a video without an annotation file."""
    (folder / "annotations").mkdir(parents=True)
    record = "{}\n{}\nhttps://example.org/{}\n{}\n{}\n"
    tasks = [
        ("16815", "Make Jello Shots", "pour juice,stir,pour alcohol"),
        ("23521", "Make a Latte", "steam milk,add coffee"),
    ]
    text = "\n".join(
        record.format(number, title, number, steps.count(",") + 1, steps) for number, title, steps in tasks
    )
    (folder / "tasks_primary.txt").write_text(text)
    (folder / "videos.csv").write_text(
        "16815,-ZYfV0Ow7Jc,https://www.youtube.com/watch?v=-ZYfV0Ow7Jc\n23521,DUhlrNEsKys,https://x\n999,DUhlrNEsKys,https://x\n"
        "16815,aaaaaaaaaaa,https://x\n"
    )
    (folder / "videos_val.csv").write_text("23521,DUhlrNEsKys,https://x\n")
    (folder / "annotations" / "16815_-ZYfV0Ow7Jc.csv").write_text("1,10.5,12.0\n3,14.0,20.25\n")
    (folder / "annotations" / "23521_DUhlrNEsKys.csv").write_text("2,0.0,3.0\n")
    return folder


def test_crosstask(tmp_path):
    found = crosstask.parse(write_crosstask(tmp_path / "release"))
    assert [(clip.clip_id, clip.captions, clip.subset, clip.start_seconds) for clip in found.clips] == [
        ("16815_-ZYfV0Ow7Jc_0", ("pour juice",), "training", 10.5),
        ("16815_-ZYfV0Ow7Jc_1", ("pour alcohol",), "training", 14.0),
        ("23521_DUhlrNEsKys_0", ("add coffee",), "validation", 0.0),
    ]
    assert found.notes == ("1 videos have no annotation file",)
    assert read_annotations("crosstask", {"annotation": tmp_path / "release"}) == found


def test_howto100m(tmp_path):
    """The two published rows of the list, and made captions."""
    path = REAL / "howto100m" / "videopaths.readme_rows.txt"
    found = howto100m.parse(path)
    assert [(clip.clip_id, clip.class_name, clip.start_seconds) for clip in found.clips] == [
        ("8N4mGHodjss", "hobbies_and_crafts", None),
        ("jEyaTUyJ-rs", "food_and_entertaining", None),
    ]
    assert found.notes == ("2 videos of 2 categories",)
    said = {"start": [0.5, 3], "end": [2, 5], "text": ["mix", "stir"]}
    (tmp_path / "caption.json").write_text(json.dumps({"8N4mGHodjss": said, "other": said}))
    assert read_annotations("howto100m", {"annotation": path, "captions": tmp_path / "caption.json"}).notes == (
        "2 videos of 2 categories",
        "2 captions of 1 videos; 1 videos have none; 1 videos with captions are not in the list",
    )
    (tmp_path / "list.txt").write_text("path\nNone/None/8N4mGHodjss\n")
    assert howto100m.parse(tmp_path / "list.txt").clips[0].class_name == ""


def test_the_memory_that_howto100ms_captions_need_does_not_grow_with_the_file(tmp_path, monkeypatch):
    path = tmp_path / "caption.json"
    said = json.dumps({"start": list(range(200)), "end": list(range(200)), "text": ["some words"] * 200})
    with path.open("w") as stream:
        stream.write("{" + ",".join(f'"video{n:06d}": {said}' for n in range(3000)) + "}")
    assert path.stat().st_size > 12_000_000
    monkeypatch.setattr("avpipe.formats.howto100m.CHUNK_CHARACTERS", 1 << 16)
    (tmp_path / "list.txt").write_text("path\n" + "".join(f"food/x/video{n:06d}\n" for n in range(0, 3000, 300)))
    tracemalloc.start()
    try:
        found = howto100m.parse(tmp_path / "list.txt", path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert found.notes[1].startswith("2,000 captions of 10 videos; 0 videos have none; 2,990 ")


def test_the_list_of_youcook_japanese_is_refused_in_words(tmp_path):
    with pytest.raises(AvpipeError, match=r"is not known.*kind: packs"):
        read_annotations("youcook_japanese", {"annotation": tmp_path / "youcook_japanese_v1.json"})


def at_hand(name: str, folder: str, path: str) -> Path:
    """A published file too large for the snapshots: beside the others, or where `avpipe sources fetch` puts it."""
    for found in (REAL / folder / Path(path).name, ROOT / "resources" / name / path):
        if found.is_file():
            return found
    pytest.skip(f"{Path(path).name} is not at hand")


def git_blob(path: Path) -> str:
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes()).hexdigest()


def test_the_published_annotation_of_activitynet():
    path = at_hand("activitynet_annotation", "activitynet", "Evaluation/data/activity_net.v1-3.min.json")
    assert git_blob(path) == "b0a5a827f7931156dacf1cfe223aa535e8fe673c"
    found = activitynet.parse(path)
    assert Counter(clip.subset for clip in found.clips) == {"training": 15_410, "validation": 7654}
    videos = {clip.video_id: clip.subset for clip in found.clips}
    assert Counter(videos.values()) == {"training": 10_024, "validation": 4926}
    assert len({clip.class_name for clip in found.clips}) == 200
    assert "5044 videos for testing have no labels and give no clips" in found.notes


def test_the_published_annotation_of_vggsound():
    path = at_hand("vggsound_annotation", "vggsound", "data/vggsound.csv")
    assert git_blob(path) == "53da0dc492b8a3fadf770f0f175cef1e652c0447"
    found = vggsound.parse(path)
    assert len({clip.class_name for clip in found.clips}) == 309
    with (REAL / "vggsound" / "test.csv").open(newline="") as stream:
        tested = {f"{name[:11]}_{int(name[12:18]):06d}": label for name, label in csv.reader(stream)}
    labels = {clip.clip_id: clip.class_name for clip in found.clips}
    assert all(labels[name] == label for name, label in tested.items())


def test_the_published_annotation_of_msrvtt():
    path = at_hand("msrvtt_annotation", "msrvtt", "MSRVTT_data.json")
    assert git_blob(path) == "f41b0f660fc5dbd8115f30033fb3f2e064ced442"
    found = msrvtt.parse(path)
    assert len(found.clips) == 10_000 and all(len(clip.captions) == 20 for clip in found.clips)


def test_formats_by_name_and_their_files_by_name(tmp_path):
    folder = REAL / "youcook2"
    annotation, test = folder / "youcookii_annotations_trainval.json", folder / "validation_youcook.csv"
    found = read_annotations("youcook2", {"test": test, "annotation": annotation})
    assert found == youcook2.parse(annotation, test)
    with pytest.raises(AvpipeError, match="Name one of activitynet, "):
        read_annotations("kinetics", {})
    for name in FORMATS:
        with pytest.raises(AvpipeError, match=f"{name} has no file for 'annotation'.*needs annotation"):
            read_annotations(name, {"test": tmp_path})
        with pytest.raises(AvpipeError, match=f"{name} takes no x, y"):
            read_annotations(name, {"annotation": tmp_path, "x": tmp_path, "y": tmp_path})
        with pytest.raises(AvpipeError, match=str(tmp_path / "none")):
            read_annotations(name, {"annotation": tmp_path / "none"})
    with pytest.raises(AvpipeError, match="may have test, recipes"):
        read_annotations("youcook2", {"annotation": annotation, "tests": test})
