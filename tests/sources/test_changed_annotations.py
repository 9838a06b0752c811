"""Annotation files that are cut, damaged or written in another way: an error that says where, or the right clips."""

import csv
import io
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_annotations import REAL, write_activitynet, write_crosstask, write_vggsound

from avpipe.errors import AvpipeError
from avpipe.sources.annotations import activitynet, crosstask, howto100m, msrvtt, ucf101, vggsound, youcook2

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no annotation files at {REAL}")
YOUCOOK2 = REAL / "youcook2" / "youcookii_annotations_trainval.json"
HUGE = "x" * 10_000_000


@dataclass(frozen=True)
class File:
    """An annotation file.

    Attributes:
        make: writes it to a folder, whole.
        parse: what a parser finds in it, in order.
        tells_cuts: whether what is cut within a line can be told; else its last entry may be another.
    """

    make: Callable[[Path], Path]
    parse: Callable[[Path], list[Any]]
    tells_cuts: bool = True


def copied(path: Path) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / path.name).write_bytes(path.read_bytes())
        return folder / path.name

    return make


def write_msrvtt(folder: Path) -> Path:
    videos = [{"video_id": f"video{n}", "category": n % 20, "split": "train"} for n in range(7020, 7120)]
    sentences = [{"video_id": f"video{n}", "caption": f"sentence {n}"} for n in range(7020, 7120)]
    path = folder / "MSRVTT_data.json"
    path.write_text(json.dumps({"videos": videos, "sentences": sentences}))
    return path


def retrieval_test_of_youcook2(path: Path) -> list[Any]:
    return [clip for clip in youcook2.parse(YOUCOOK2, path).clips if clip.subset == "test"]


def retrieval_test_of_msrvtt(path: Path) -> list[Any]:
    return [clip for clip in msrvtt.parse(write_msrvtt(path.parent), test=path).clips if clip.subset == "test"]


def write_captions(folder: Path) -> Path:
    path = folder / "caption.json"
    names = ("8N4mGHodjss", "jEyaTUyJ-rs", "other_video")
    path.write_text(json.dumps({name: {"start": [0, 2.5], "end": [2, 5], "text": ["mix", "stir"]} for name in names}))
    return path


LIST = REAL / "howto100m" / "videopaths.readme_rows.txt"
FILES = {
    "ucf101 training": File(copied(REAL / "ucf101" / "trainlist01.txt"), lambda path: list(ucf101.parse(path).clips)),
    "ucf101 test": File(copied(REAL / "ucf101" / "testlist01.txt"), lambda path: list(ucf101.parse(path).clips)),
    "activitynet": File(
        lambda folder: write_activitynet(folder / "a.json"), lambda path: list(activitynet.parse(path).clips)
    ),
    "vggsound": File(lambda folder: write_vggsound(folder / "a.csv"), lambda path: list(vggsound.parse(path).clips)),
    "youcook2": File(copied(YOUCOOK2), lambda path: list(youcook2.parse(path).clips)),
    "youcook2 test": File(copied(REAL / "youcook2" / "validation_youcook.csv"), retrieval_test_of_youcook2),
    "youcook2 recipes": File(
        copied(REAL / "youcook2" / "label_foodtype.csv"), lambda path: list(youcook2.parse(YOUCOOK2, None, path).clips)
    ),
    "msrvtt": File(write_msrvtt, lambda path: list(msrvtt.parse(path).clips)),
    "msrvtt 7k": File(copied(REAL / "msrvtt" / "MSRVTT_train.7k.csv"), msrvtt.read_list),
    "msrvtt official": File(
        copied(REAL / "msrvtt" / "collaborative-experts" / "test_list_full.txt"), msrvtt.read_list, tells_cuts=False
    ),
    "msrvtt test": File(
        copied(REAL / "msrvtt" / "msrvtt_test.csv"),
        retrieval_test_of_msrvtt,
    ),
    "crosstask tasks": File(
        lambda folder: write_crosstask(folder / "release") / "tasks_primary.txt",
        lambda path: list(crosstask.parse(path.parent).clips),
        tells_cuts=False,
    ),
    "crosstask videos": File(
        lambda folder: write_crosstask(folder / "release") / "videos.csv",
        lambda path: list(crosstask.parse(path.parent).clips),
    ),
    "howto100m": File(copied(LIST), lambda path: list(howto100m.parse(path).clips)),
    "howto100m captions": File(write_captions, lambda path: list(howto100m.parse(LIST, path).notes)),
}  # fmt: skip
PLACE = re.compile(
    r"line \d+|char \d+|video |sentence |key|position \d+|whole JSON|it has no clip|it is empty|header|no video|`path`"
)


@pytest.fixture(params=FILES)
def file(request) -> File:
    return FILES[request.param]


def test_bytes_that_mean_nothing_change_nothing(tmp_path, file):
    path = file.make(tmp_path)
    found = file.parse(path)
    lines = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    for variant in (
        lines,
        lines.replace("\n", "\r\n"),
        lines + "\n\n",
        "\ufeff" + lines,
        "\ufeff" + lines.replace("\n", "\r\n"),
    ):
        path.write_text(variant, encoding="utf-8", newline="")
        assert file.parse(path) == found


def test_a_file_that_is_cut_is_refused_with_the_place_or_read_as_far_as_it_goes(tmp_path, file):
    path = file.make(tmp_path)
    data, whole, generator = path.read_bytes(), file.parse(path), random.Random(0)
    n_refused = 0
    for _ in range(20):
        path.write_bytes(data[: generator.randrange(len(data))])
        try:
            found = file.parse(path)
        except AvpipeError as error:
            assert str(path.parent) in str(error) and PLACE.search(str(error)), str(error)
            n_refused += 1
            continue
        certain = set(found if file.tells_cuts else found[:-1])
        assert [each for each in whole if each in certain] == [each for each in found if each in certain]
        assert certain <= set(whole)
    assert n_refused or not file.tells_cuts or len(whole) < 3


def test_a_byte_that_is_no_utf8(tmp_path, file):
    path = file.make(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] = 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(AvpipeError, match="utf-8"):
        file.parse(path)


def of_json(name: str, change: Callable[[Any], Any]) -> Callable[[str], str]:
    """A change of one entry of a JSON file: of a video by its number, or of the first sentence."""

    def changed(text: str) -> str:
        content = json.loads(text)
        if name == "msrvtt":
            change(content["videos"][50])
        else:
            database = content["database"]
            change(next(video for video in list(database.values())[100:] if video["annotations"]))
        return json.dumps(content)

    return changed


def first(video: Any) -> Any:
    return video["annotations"][0]


def renamed(text: str) -> str:
    """The first video's key of a JSON file with a letter less."""
    content = json.loads(text)
    database = content["database"]
    name = next(name for name, video in database.items() if video["annotations"])
    content["database"] = {key[:-1] if key == name else key: video for key, video in database.items()}
    return json.dumps(content)


def doubled(text: str) -> str:
    """The first video of a JSON file a second time, under the same key."""
    content = json.loads(text)
    name, video = next((name, video) for name, video in content["database"].items() if video["annotations"])
    return json.dumps(content).replace('"database": {', f'"database": {{{json.dumps(name)}: {json.dumps(video)}, ', 1)


def cells(row: int, change: Callable[[list[str]], Any], again: bool = False) -> Callable[[str], str]:
    """A change of one row of a csv file; `again`: the row stays and the changed one follows."""

    def changed(text: str) -> str:
        rows = list(csv.reader(io.StringIO(text, newline="")))
        copy = list(rows[row])
        change(copy)
        rows[row : row + (not again)] = [copy]
        out = io.StringIO(newline="")
        csv.writer(out).writerows(rows)
        return out.getvalue()

    return changed


def put(place: int, text: str) -> Callable[[list[str]], None]:
    return lambda row: row.__setitem__(place, text)


ANET, YC2 = "activitynet", "youcook2"
CHANGES = [
    *((name, of_json(name, lambda v: v.pop("subset")), "no 'subset'") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: v.pop("annotations")), "no 'annotations'") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: v.pop("duration")), "no 'duration'") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: first(v).pop("segment")), "no 'segment'") for name in (ANET, YC2)),
    (ANET, of_json(ANET, lambda v: first(v).pop("label")), "no 'label'"),
    (YC2, of_json(YC2, lambda v: first(v).pop("sentence")), "no 'sentence'"),
    *((name, renamed, "11 letters") for name in (ANET, YC2)),
    *((name, doubled, "twice") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: first(v).update(segment="1, 2")), "expected a list") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: first(v).update(segment=["soon", 9])), "the time 'soon'") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: first(v).update(segment=[10**400, 9])), "the time '1000") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: first(v).update(segment=[float("nan"), 9])), "NaN") for name in (ANET, YC2)),
    *((name, of_json(name, lambda v: v.update(duration=float("inf"))), "Infinity") for name in (ANET, YC2)),
    (YC2, of_json(YC2, lambda v: v["annotations"].append(first(v))), "its position"),
    (ANET, of_json(ANET, lambda v: first(v).update(label=HUGE)), "10,000,000 characters"),
    (YC2, of_json(YC2, lambda v: first(v).update(sentence=HUGE)), "10,000,000 characters"),
    ("msrvtt", of_json("msrvtt", lambda v: v.pop("split")), "no 'split'"),
    ("msrvtt", of_json("msrvtt", lambda v: v.update(video_id="vide1")), "expected video<number>"),
    ("msrvtt", of_json("msrvtt", lambda v: v.update(video_id="video7020")), "two clips have one id"),
    ("msrvtt", of_json("msrvtt", lambda v: v.update(category=float("nan"))), "NaN"),
    ("msrvtt", of_json("msrvtt", lambda v: v.update(split=HUGE)), "10,000,000 characters"),
    ("vggsound", cells(100, put(0, "---g-f_I2y")), "line 101 .*11 letters"),
    ("vggsound", cells(100, put(1, "soon")), "line 101 .*'soon'"),
    ("vggsound", cells(100, put(1, "nan")), "line 101 .*'nan'"),
    ("vggsound", cells(100, put(2, HUGE)), "line 101: field larger"),
    ("vggsound", cells(100, put(3, "tes")), "line 101 .*'tes'"),
    ("vggsound", cells(100, lambda row: row.extend([]), again=True), "two clips have one id"),
    ("vggsound", cells(100, lambda row: row.pop()), "line 101 has 3 cells"),
    ("youcook2 test", cells(100, put(4, "GLd3aX16zB")), "line 101 .*11 letters"),
    ("youcook2 test", cells(100, put(1, "soon")), "line 101 .*'soon'"),
    ("youcook2 test", cells(100, put(1, "nan")), "line 101 .*'nan'"),
    ("youcook2 test", cells(100, put(3, HUGE)), "line 101: field larger"),
    ("youcook2 test", cells(100, put(3, "a sentence of no clip")), "1 clips of the list"),
    ("youcook2 test", cells(0, put(3, "words")), "header lacks text"),
    ("msrvtt test", cells(100, put(2, "video")), "line 101 .*expected video"),
    ("msrvtt test", cells(100, put(2, "video9770")), "line 101 .*a second time"),
    ("msrvtt test", cells(0, put(2, "video")), "header lacks video_id"),
    ("msrvtt 7k", cells(100, put(0, "video0")), "twice"),
    ("msrvtt 7k", cells(100, put(0, HUGE)), "field larger|expected video"),
    ("ucf101 test", lambda text: text.replace("Archery/v", "Archery_v", 1), "line 77 is 'Archery_v"),
    ("ucf101 test", lambda text: text + text.split("\n")[9], "two clips have one id"),
    ("ucf101 test", lambda text: text + HUGE, "line 3784 is 'xxx"),
    ("howto100m", lambda text: text.replace("8N4mGHodjss", "8N4mGHodjs"), "11 letters"),
    ("howto100m", lambda text: text + text.split("\n")[1], "two clips have one id"),
    ("howto100m", lambda text: text.replace("path", "paths"), "one called `path`"),
    ("howto100m", lambda text: text + HUGE, "field larger"),
    ("howto100m captions", lambda text: text.replace('"end"', '"ends"', 1), "keys .*'ends'"),
    ("howto100m captions", lambda text: text.replace("[2, 5]", "[2]", 1), "2 starts, 1 ends"),
    ("howto100m captions", lambda text: text.replace("jEyaTUyJ-rs", "8N4mGHodjss"), "in it twice"),
    ("howto100m captions", lambda text: text.replace("[0, 2.5]", '"soon"', 1), "start str"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), CHANGES, ids=[f"{name}: {m}" for name, _, m in CHANGES])
def test_a_changed_entry_is_named(tmp_path, name, change, message):
    path = FILES[name].make(tmp_path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8", newline="")
    with pytest.raises(AvpipeError) as error:
        FILES[name].parse(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 1500
    assert re.search(message, str(error.value))


def test_misfits_in_a_json_annotation(tmp_path):
    video = {
        "duration": 100.0, "subset": "training", "recipe_type": "113", "video_url": "https://x?v=GLd3aX16zBg",
        "annotations": [{"segment": [90, 102], "id": 0, "sentence": "spread"}],
    }  # fmt: skip
    path = tmp_path / "a.json"

    def refused(change) -> str:
        copy = json.loads(json.dumps(video))
        change(copy)
        path.write_text(json.dumps({"database": {"GLd3aX16zBg": copy}}))
        with pytest.raises(AvpipeError) as error:
            youcook2.parse(path)
        assert str(path) in str(error.value) and len(str(error.value)) < 1000
        return str(error.value)

    assert "seconds from 0" in refused(lambda video: video["annotations"][0].update(segment=[-1, 3]))
    assert "3 numbers" in refused(lambda video: video["annotations"][0].update(segment=[1, 2, 3]))
    assert "a list" in refused(lambda video: video.update(annotations={}))
    assert "its position" in refused(lambda video: video["annotations"][0].update(id=7))
    assert "expected text" in refused(lambda video: video["annotations"][0].update(sentence=5))
    refused(lambda video: video["annotations"].append(HUGE))
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
