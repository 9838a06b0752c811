"""Folders of classes: which files are clips, and what is told of everything else."""

import os
import socket
import time

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources import folders
from avpipe.sources.folders import describe, list_class_folders


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def passed_over(folder):
    make(folder, "A/a.avi")
    return {reason: each["names"] for reason, each in list_class_folders(folder).passed_over().items()}


def test_class_folders_are_listed_and_sorted(tmp_path):
    make(tmp_path, "B/v_B_g01_c01.avi", "A/v A 'q\" ü\n.MP4", "A/notes.txt", ".hidden/x.avi", "A/.x.avi", "loose.avi")
    listing = list_class_folders(tmp_path)
    assert [(clip.clip_id, clip.class_name) for clip in listing.clips] == [("v A 'q\" ü\n", "A"), ("v_B_g01_c01", "B")]
    assert listing.passed_over() == {
        "hidden": {"count": 2, "names": [".hidden", "A/.x.avi"]},
        "no suffix of a video": {"count": 1, "names": ["A/notes.txt"]},
        "not in a class folder": {"count": 1, "names": ["loose.avi"]},
    }


@pytest.mark.parametrize("suffix", ["vob", "m2ts", "MTS", "dv", "3gp", "mxf", "ogv"])
def test_suffixes_of_real_videos_are_clips(tmp_path, suffix):
    (clip,) = list_class_folders(make(tmp_path, f"A/one.two.{suffix}")).clips
    assert clip.clip_id == "one.two"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["A/in/b.avi"], {"folder in a class folder": ["A/in"]}),
        (["A/b.mp4/c.avi"], {"folder in a class folder": ["A/b.mp4"]}),
        (["A/x/y/z/b.avi", "B/b.avi", "B/1/c.avi"], {"folder in a class folder": ["A/x", "B/1"]}),
        (["b.avi"], {"not in a class folder": ["b.avi"]}),
        (["README", "c.mkv"], {"not in a class folder": ["README", "c.mkv"]}),
        (["A/b.jpg"], {"no suffix of a video": ["A/b.jpg"]}),
        (["A/b.avi.part", "A/b"], {"no suffix of a video": ["A/b", "A/b.avi.part"]}),
        (["A/.DS_Store", ".git/x"], {"hidden": [".git", "A/.DS_Store"]}),
        (["B/b.srt"], {"class folder without videos": ["B"], "no suffix of a video": ["B/b.srt"]}),
    ],
)
def test_files_and_folders_that_are_no_clips(tmp_path, names, expected):
    assert passed_over(make(tmp_path, *names)) == expected


def test_empty_class_folders(tmp_path):
    for name in ("Empty", "B", "C/in"):
        (tmp_path / name).mkdir(parents=True)
    found = passed_over(tmp_path)
    assert found == {"class folder without videos": ["B", "C", "Empty"], "folder in a class folder": ["C/in"]}


def test_pipes_devices_and_sockets_are_never_opened(tmp_path, monkeypatch):
    make(tmp_path, "A/a.avi")
    os.mkfifo(tmp_path / "A" / "pipe.avi")
    (tmp_path / "A" / "zero.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path / "A")  # a socket's path is at most 108 bytes long
        server.bind("s.mkv")
        assert passed_over(tmp_path) == {"no regular file": ["A/pipe.avi", "A/s.mkv", "A/zero.mp4"]}


def test_links_in_a_circle_are_told_and_links_to_nothing_are_missing_clips(tmp_path):
    make(tmp_path, "A/a.avi")
    for name, target in (("A/self.avi", "self.avi"), ("A/one.mp4", "two.mp4"), ("A/two.mp4", "one.mp4")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "A" / "text").symlink_to("text")
    (tmp_path / "Loop").symlink_to("Loop")
    (tmp_path / "A" / "up").symlink_to("..")
    (tmp_path / "A" / "gone.avi").symlink_to("nowhere")
    assert passed_over(tmp_path) == {
        "folder in a class folder": ["A/up"],
        "link in a circle": ["A/one.mp4", "A/self.avi", "A/two.mp4"],
        "no suffix of a video": ["A/text"],
        "not in a class folder": ["Loop"],
    }
    assert {clip.clip_id: clip.size_bytes for clip in list_class_folders(tmp_path).clips} == {"a": 1, "gone": -1}


def test_folders_that_this_user_may_not_read(tmp_path, monkeypatch):
    make(tmp_path, "A/a.avi", "B/b.avi", "C/c.avi")
    scandir = os.scandir

    def refuse(folder):
        if os.fspath(folder).endswith(("B", "C")):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(folders.os, "scandir", refuse)
    assert passed_over(tmp_path) == {"not readable": ["B", "C"]}
    with pytest.raises(AvpipeError, match=r"C is not a folder that can be read \(Permission denied\)"):
        list_class_folders(tmp_path / "C")


def test_what_is_told_stays_small(tmp_path):
    make(tmp_path, "A/a.avi", *(f"A/{n:04}.txt" for n in range(2000)))
    found = list_class_folders(tmp_path).passed_over()
    assert found == {"no suffix of a video": {"count": 2000, "names": [f"A/000{n}.txt" for n in range(5)]}}
    assert describe(found).endswith("A/0004.txt, …)") and describe({}) == ""


def test_names_that_break_lines_or_are_no_utf8_are_told_all_the_same(tmp_path):
    make(tmp_path, "A/a.avi", "A/two\nlines.txt")
    (tmp_path / "A" / os.fsdecode(b"\xff.txt")).write_bytes(b"x")
    found = passed_over(tmp_path)
    assert found == {"no suffix of a video": ["A/\\udcff.txt", "A/two\\nlines.txt"]}


def test_two_clips_with_one_id_are_refused(tmp_path):
    make(tmp_path, "A/clip.avi", "B/clip.mp4")
    with pytest.raises(AvpipeError, match=r"'clip'.*A/clip\.avi.*B/clip\.mp4"):
        list_class_folders(tmp_path)


def test_a_folder_without_videos_says_what_was_expected_and_what_is_there(tmp_path):
    make(tmp_path, "A/readme.txt", "B/in/b.avi")
    with pytest.raises(AvpipeError, match=r"but .*folder in a class folder 1 \(B/in\).*<class>/<clip>\.avi"):
        list_class_folders(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    make(tmp_path, "A/a.avi")
    (tmp_path / "A" / os.fsdecode(b"\xff.avi")).write_bytes(b"x")
    with pytest.raises(AvpipeError, match="not UTF-8"):
        list_class_folders(tmp_path)


@pytest.mark.parametrize("kind", ["not UTF-8", "one id", "many ids"])
def test_thousands_of_bad_names_are_refused_at_once(tmp_path, kind):
    for number in range(4000):
        folder = tmp_path / f"c{number % 40 if kind == 'not UTF-8' else number}"
        folder.mkdir(exist_ok=True)
        name = {"not UTF-8": os.fsdecode(b"\xff%d.avi" % number), "one id": "a.avi", "many ids": f"{number // 2}.avi"}
        (folder / name[kind]).write_bytes(b"x")
    began = time.process_time()
    with pytest.raises(AvpipeError, match="such as"):
        list_class_folders(tmp_path)
    # 0.1 s here; what grows with the square of 4,000 names takes seconds.
    assert time.process_time() - began < 1.0
