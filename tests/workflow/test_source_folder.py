"""A source folder with more in it than clips, one clip under two names, and paths that results must not tell."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from project import Project
from test_incremental import FEATURES, clips_by_class
from test_own_split import NUMBERS, use_own_splits

from avpipe.gzsl.splits import read_split

RESULTS = "results/small"
SPLIT = "first"


class Messy(NamedTuple):
    """The project, a class and a clip of it, the clip's copy in another class, and what the run printed."""

    project: Project
    label: str
    clip: str
    again: str
    output: str


@pytest.fixture(scope="module")
def messy(finished, tmp_path_factory) -> Messy:
    """The small dataset's folder, spoilt, below a home folder that the settings name as ~, run to eval.json."""
    home = tmp_path_factory.mktemp("home of somebody")
    project = finished.copy(home / "project")
    (one, clips), (other, _), *_ = clips_by_class(project).items()
    use_own_splits(project, own_splits={SPLIT: {**NUMBERS, "seed": 0}}, benchmarks=[{"split": SPLIT}])
    settings = project.settings()
    settings["datasets"]["small"]["source"]["path"] = "~/project/videos"
    settings["datasets"]["small"]["gzsl"]["word_model"] = str(project.folder / "glove.txt")
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    source = next((project.folder / "videos" / one).glob(f"{clips[0]}.*"))
    again = f"w_{other}_g77_c01"
    videos = project.folder / "videos"
    shutil.copyfile(source, videos / other / (again + source.suffix))
    (videos / one / "cut.avi").write_bytes(source.read_bytes()[:4000])
    (videos / one / "nested").mkdir()
    shutil.copyfile(source, videos / one / "nested" / "deep.avi")
    shutil.copyfile(source, videos / "beside.avi")
    (videos / one / "notes.txt").write_text("not a clip")
    (videos / "Empty").mkdir()
    os.mkfifo(videos / one / "pipe.avi")
    (videos / one / "circle.avi").symlink_to("circle.avi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        output = project.run()
    return Messy(project, one, clips[0], again, output)


def read(project: Project, name: str) -> dict:
    return json.loads((project.folder / RESULTS / name).read_text(encoding="utf-8"))


def test_what_is_no_clip_is_told_when_planning_in_the_account_and_in_the_results(messy):
    project, label, _, _, output = messy
    expected = {
        "class folder without videos": {"count": 1, "names": ["Empty"]},
        "folder in a class folder": {"count": 1, "names": [f"{label}/nested"]},
        "link in a circle": {"count": 1, "names": [f"{label}/circle.avi"]},
        "no regular file": {"count": 1, "names": [f"{label}/pipe.avi"]},
        "no suffix of a video": {"count": 1, "names": [f"{label}/notes.txt"]},
        "not in a class folder": {"count": 1, "names": ["beside.avi"]},
    }
    assert read(project, "accounting.json")["passed_over"] == expected
    assert read(project, "eval.json")["clips"]["passed_over"] == expected
    assert f"link in a circle 1 ({label}/circle.avi)" in (project.folder / RESULTS / "eval.md").read_text()
    told = [line for line in output.splitlines() if "small: passed over in the source: " in line]
    assert len(told) == 1 and f"no regular file 1 ({label}/pipe.avi)" in told[0]


def test_one_clip_under_two_names_is_used_once_and_the_account_adds_up(messy):
    project, _, clip, again, _ = messy
    account = read(project, "accounting.json")
    assert account["requested"] == account["ok"] + sum(account["reasons"].values())
    assert account["reasons"] == {"decode_error": 1, "duplicate": 1}
    failed = {row["clip_id"]: row for row in account["failed"]}
    assert failed[again]["reason"] == "duplicate" and failed[again]["stage"] == "account_clips"
    assert failed[again]["detail"].startswith(f"the same content as {clip}, of class ")
    split = read_split(project.folder / RESULTS / "gzsl" / SPLIT / "class-split", SPLIT)
    listed = set().union(*split.clips.values())
    assert clip in listed and again not in listed
    record = read(project, "eval.json")
    assert record["benchmarks"][f"{SPLIT}/{FEATURES}"]["repeated"] == {"clips": 0, "apart": 0, "examples": []}
    (notice,) = (each for each in record["notices"] if each.startswith("DUPLICATES"))
    assert f"{again} (the same content as {clip}, of class " in notice


def test_no_result_tells_a_folder_of_the_machine(messy):
    project = messy.project
    home = project.folder.parent
    files = [path for kind in ("json", "md", "html") for path in project.folder.glob(f"results/**/*.{kind}")]
    names = {"eval.json", "eval.md", "report.html", "accounting.json", "evaluation.json"}
    assert names <= {path.name for path in files}
    telling = {
        str(path.relative_to(project.folder)): text
        for path in files
        for text in (str(home), str(Path.home()) + "/", "/tmp/")
        if text in path.read_text(encoding="utf-8")
    }
    assert telling == {}
    failed = {row["clip_id"]: row for row in read(project, "accounting.json")["failed"]}
    assert failed["cut"]["detail"].startswith(f"{messy.label}/cut.avi: ")


def test_a_pipe_beside_the_clips_changes_the_account_alone(messy, tmp_path, monkeypatch):
    project = messy.project
    monkeypatch.setenv("HOME", str(project.folder.parent))
    more = project.folder / "videos" / "more.txt"
    more.write_text("")
    try:
        planned = project.planned()
    finally:
        more.unlink()
    assert planned == {
        "Accounting for every clip of small",
        "Checking how many clips of small are missing or damaged",
        "Writing results/small/eval.json",
    }
