"""Parsers on the real annotation files, with the counts that were made of them by hand, and on mutated copies."""

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources.annotations import (
    FORMATS,
    activitynet,
    crosstask,
    msrvtt,
    read_annotations,
    ucf101,
    vggsound,
    youcook2,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
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
    path = tmp_path_factory.mktemp("activitynet") / "activity_net.json"
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


def test_vggsound(tmp_path):
    """The four-column list is not at hand; the test list is put into its form."""
    path = tmp_path / "vggsound.csv"
    with (REAL / "vggsound" / "test.csv").open(newline="") as source, path.open("w", newline="") as target:
        rows = [(name[:11], int(name[12:18]), label, "test") for name, label in csv.reader(source)]
        csv.writer(target).writerows(rows)
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


PARSERS = {
    "ucf101": (REAL / "ucf101" / "testlist01.txt", ucf101.parse),
    "youcook2": (REAL / "youcook2" / "youcookii_annotations_trainval.json", youcook2.parse),
    "youcook2 test": (
        REAL / "youcook2" / "validation_youcook.csv",
        lambda path: youcook2.parse(REAL / "youcook2" / "youcookii_annotations_trainval.json", path),
    ),
    "msrvtt list": (REAL / "msrvtt" / "MSRVTT_train.7k.csv", msrvtt.read_list),
    "recipes": (
        REAL / "youcook2" / "label_foodtype.csv",
        lambda path: youcook2.parse(REAL / "youcook2" / "youcookii_annotations_trainval.json", None, path),
    ),
}


@pytest.mark.parametrize("name", PARSERS)
def test_bytes_that_mean_nothing_change_nothing(tmp_path, name):
    path, parse = PARSERS[name]
    text = path.read_text(encoding="utf-8-sig")
    lines = text.replace("\r\n", "\n")
    for variant in (lines, lines.replace("\n", "\r\n"), lines + "\n\n", "\ufeff" + lines):
        (tmp_path / path.name).write_text(variant, encoding="utf-8", newline="")
        assert parse(tmp_path / path.name) == parse(path)


@pytest.mark.parametrize("name", ["ucf101", "youcook2", "msrvtt list"])
def test_a_file_that_is_cut_or_damaged_is_refused_or_read_as_far_as_it_goes(tmp_path, name):
    """Cut at random places: an error that names the file, or a list that is the beginning of the right one."""
    path, parse = PARSERS[name]
    data, generator = path.read_bytes(), random.Random(0)
    whole = parse(path)
    whole = list(whole if isinstance(whole, list) else whole.clips)
    for _ in range(20):
        copy = tmp_path / path.name
        copy.write_bytes(data[: generator.randrange(len(data))])
        try:
            found = parse(copy)
        except AvpipeError as error:
            assert str(copy) in str(error)
            continue
        found = list(found if isinstance(found, list) else found.clips)
        assert all(a == b for a, b in zip(found[:-1], whole, strict=False))


def test_misfits_in_a_json_annotation(tmp_path):
    video = {
        "duration": 100.0, "subset": "training", "recipe_type": "113", "video_url": "https://x?v=GLd3aX16zBg",
        "annotations": [{"segment": [90, 102], "id": 0, "sentence": "spread"}],
    }  # fmt: skip
    path = tmp_path / "a.json"

    def refused(change, name: str = "GLd3aX16zBg") -> str:
        copy = json.loads(json.dumps(video))
        change(copy)
        path.write_text(json.dumps({"database": {name: copy}}))
        with pytest.raises(AvpipeError) as error:
            youcook2.parse(path)
        assert str(path) in str(error.value) and len(str(error.value)) < 1000
        return str(error.value)

    assert "no 'subset'" in refused(lambda video: video.pop("subset"))
    assert "11 letters" in refused(lambda video: None, "GLd3aX16zB")
    assert "seconds from 0" in refused(lambda video: video["annotations"][0].update(segment=["soon", 3]))
    assert "seconds from 0" in refused(lambda video: video["annotations"][0].update(segment=[-1, 3]))
    assert "NaN" in refused(lambda video: video.update(duration=float("nan")))
    assert "3 numbers" in refused(lambda video: video["annotations"][0].update(segment=[1, 2, 3]))
    assert "a list" in refused(lambda video: video.update(annotations={}))
    assert "its position" in refused(lambda video: video["annotations"][0].update(id=7))
    assert "expected text" in refused(lambda video: video["annotations"][0].update(sentence=5))
    refused(lambda video: video["annotations"].append("x" * 10_000_000))
    for text in ("[]", "{}", '{"database": []}', '{"database": {}}', "null", "", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(AvpipeError):
            youcook2.parse(path)


def test_misfits_in_lists_and_tables(tmp_path):
    path = tmp_path / "list"
    for text in (
        "Archery\n",
        "Archery/v_Archery_g01.avi\n",
        "../v_Archery_g01_c01.avi\n",
        "Archery/v_Archery_g01_c01.avi\n" * 2,
        "",
    ):
        path.write_text(text)
        with pytest.raises(AvpipeError, match="UCF-101"):
            ucf101.parse(path)
    good = "---g-f_I2yQ,1,label,test\n"
    for text in (
        good.replace(",test", ""), good.replace("yQ", "y"), good.replace("1", "x"), good.replace("label", ""),
        good + good.replace("label", "other"), good.replace("label", '"label'),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(AvpipeError, match="VGGSound"):
            vggsound.parse(path)
    for text in ("video1\nvideo1\n", "video\n", "movie1\n", "video01\n"):
        path.write_text(text)
        with pytest.raises(AvpipeError, match="MSR-VTT"):
            msrvtt.read_list(path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks_primary.txt", "3\npour", "4\npour"),
        ("tasks_primary.txt", "16815\n", "\n"),
        ("videos.csv", "-ZYfV0Ow7Jc,", "-ZYfV0Ow7J,"),
        ("videos.csv", "999,", "x,"),
        ("annotations/16815_-ZYfV0Ow7Jc.csv", "3,14", "4,14"),
        ("annotations/16815_-ZYfV0Ow7Jc.csv", "10.5", "nan"),
    ],
)
def test_misfits_in_crosstask(tmp_path, file, old, new):
    path = write_crosstask(tmp_path / "release") / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(AvpipeError, match=path.name):
        crosstask.parse(tmp_path / "release")
