"""The videos of a shard: what is known without asking, and fetching the others from a server on this machine."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from faulty_server import faulty_server, needs_server

from avpipe.errors import AvpipeError
from avpipe.sources.annotated import WantedVideo
from avpipe.sources.annotations.clips import AnnotatedClip, Annotations
from avpipe.sources.availability import read_mode, sum_up, unavailable, write_table
from avpipe.sources.fetching import Fetcher
from avpipe.sources.hosts import Hosts, begin_run
from avpipe.sources.records import NOT_TRIED, OK, VideoRecord, read_record, record_path, today, write_record
from avpipe.sources.settings import Downloads
from avpipe.sources.video_files import fetched_stem

needs_yt_dlp = pytest.mark.skipif(importlib.util.find_spec("yt_dlp") is None, reason="yt-dlp is not installed")
URL = "http://127.0.0.1:9/"  # where nobody answers


def wanted(name: str, url: str = URL, *clips: str) -> WantedVideo:
    return WantedVideo(name, url and f"{url}{name}.mp4", None, clips or (name,), name)


def fetcher(folder: Path, **settings) -> Fetcher:
    values = {"tries": 1, "timeout_seconds": 60.0} | settings
    return Fetcher(folder / "videos", Hosts(folder / "hosts", (0, 0)), Downloads(**values), sleep=lambda _: None)


def known(folder: Path, *videos: WantedVideo) -> dict[str, VideoRecord]:
    return {each.video_id: each for each in fetcher(folder).bring_up_to_date(videos, may_fetch=False)}


def put(path: Path, content: bytes = b"a video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_known_without_asking(tmp_path):
    videos = tmp_path / "videos"
    put(videos / "own.mp4")
    put(videos / "class" / "below.mkv")
    put(videos / "cut_1.avi")
    put(videos / "cut_2.avi")
    killed = put(fetched_stem(videos, "killed").with_name("killed.mp4"))
    changed = put(fetched_stem(videos, "changed").with_name("changed.mp4"))
    write_record(fetched_stem(videos, "changed"), VideoRecord("changed", OK, OK, bytes=3))
    write_record(fetched_stem(videos, "lost"), VideoRecord("lost", OK, OK, bytes=7))
    gone = VideoRecord("gone", "missing", "removed", "by the uploader", last_tried="2026-01-01")
    fetched_stem(videos, "gone").parent.mkdir(parents=True, exist_ok=True)
    write_record(fetched_stem(videos, "gone"), gone)
    put(fetched_stem(videos, "late").with_name("late.mp4"))
    write_record(fetched_stem(videos, "late"), VideoRecord("late", "missing", "unavailable", again="later"))
    names = ["own", "below", "killed", "late", "changed", "lost", "gone", "never"]
    found = known(tmp_path, *map(wanted, names), wanted("cut", URL, "cut_1", "cut_2"), wanted("nowhere", ""))
    assert {name: (record.outcome, record.cause) for name, record in found.items()} == {
        "own": (OK, "local"),
        "below": (OK, "local"),
        "cut": (OK, "local"),
        "killed": (OK, OK),
        "late": (OK, OK),
        "changed": (NOT_TRIED, "lost"),
        "lost": (NOT_TRIED, "lost"),
        "gone": ("missing", "removed"),
        "never": (NOT_TRIED, "not_allowed"),
        "nowhere": ("missing", "no_address"),
    }
    assert found["killed"].path == str(killed) and len(found["killed"].sha256) == 64
    assert changed.is_file()  # nothing is removed without leave to fetch


@pytest.mark.parametrize("content", ["", "{", "[]", '{"video_id": 3}', '{"video_id": "a", "outcome": "ok"}', "\x00"])
def test_a_spoilt_record_is_none(tmp_path, content):
    stem = fetched_stem(tmp_path / "videos", "a")
    put(record_path(stem), content.encode())
    assert read_record(stem) is None
    assert known(tmp_path, wanted("a"))["a"].outcome == NOT_TRIED


def test_an_unexplained_absence_is_asked_for_again_after_a_week():
    def record(days: int) -> VideoRecord:
        tried = (today() - timedelta(days=days)).isoformat()
        return VideoRecord("a", "missing", "unavailable", again="later", last_tried=tried)

    assert record(6).is_settled(today()) and not record(7).is_settled(today())


def test_tables_say_why_and_how_much(tmp_path):
    records = [
        VideoRecord("a", OK, OK, bytes=5, path="v/a.mp4", last_tried="2026-11-01"),
        VideoRecord("b", "blocked", "region", "not in your country", path="v/b", last_tried="2026-11-02"),
        VideoRecord("c", NOT_TRIED, "not_allowed", path="v/c"),
    ]
    write_table(tmp_path / "0000.parquet", records, "local")
    assert read_mode(tmp_path / "0000.parquet") == ("local", 1)
    assert unavailable(tmp_path / "0000.parquet") == {
        "v/b": ("blocked", "region: not in your country"),
        "v/c": ("missing", "not_allowed"),
    }
    rows = [("a", 0, "x", "train"), ("a", 1, "y", "test"), ("b", 0, "x", "test"), ("c", 0, "y", "train")]
    clips = [AnnotatedClip(f"{name}_{n}", name, class_name=label, subset=subset) for name, n, label, subset in rows]
    summed = sum_up([tmp_path / "0000.parquet"], Annotations(tuple(clips)))
    assert summed["videos"]["outcomes"] == {"blocked": 1, NOT_TRIED: 1, OK: 1} and summed["videos"]["bytes"] == 5
    # printf 'a\n' | sha256sum
    digest = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"
    assert summed["videos"]["sha256_of_ids"] == digest
    assert summed["clips"] == {
        "requested": 4,
        "there": 2,
        "subsets": {"test": {"requested": 2, "there": 1}, "train": {"requested": 2, "there": 1}},
        "classes": {"x": {"requested": 2, "there": 1}, "y": {"requested": 2, "there": 1}},
    }


def write_video(path: Path, seconds: int = 2) -> None:
    generator = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = file.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(25 * seconds):
            picture = av.VideoFrame.from_ndarray(generator.integers(0, 256, (48, 64, 3), np.uint8), format="rgb24")
            file.mux(video.encode(picture))
        file.mux(video.encode())
        for start in range(0, 16_000 * seconds, 1024):
            frame = av.AudioFrame.from_ndarray(
                generator.standard_normal((1, 1024)).astype(np.float32) / 10, format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, start
            file.mux(audio.encode(frame))
        file.mux(audio.encode())


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_video(folder / "a.mp4")
    for name in "bcdefg":
        shutil.copyfile(folder / "a.mp4", folder / f"{name}.mp4")
    server = faulty_server(folder)
    with server as url:
        yield server, f"{url}/", (folder / "a.mp4").read_bytes()


@needs_server
@needs_yt_dlp
@pytest.mark.slow
def test_videos_come_once_and_their_records_stay(tmp_path, running):
    server, url, content = running
    server.reset()
    videos = [
        wanted("a", url),
        WantedVideo("gone", f"{url}b.mp4?status=404", None, ("gone",), "gone"),
        wanted("own", url),
    ]
    put(tmp_path / "videos" / "own.mp4")
    found = {each.video_id: each for each in fetcher(tmp_path).bring_up_to_date(videos, may_fetch=True)}
    assert {name: record.outcome for name, record in found.items()} == {"a": OK, "gone": "missing", "own": OK}
    there = Path(found["a"].path)
    assert there.read_bytes() == content
    assert found["a"].bytes == there.stat().st_size and found["a"].version and found["a"].tries == 1
    assert sorted(path.name for path in (tmp_path / "videos" / "fetched").rglob("*.*")) == [
        "a.json",
        "a.mp4",
        "gone.json",
    ]
    asked = server.log()["count"]
    again = {each.video_id: each for each in fetcher(tmp_path).bring_up_to_date(videos, may_fetch=True)}
    assert again == found and server.log()["count"] == asked
    there.write_bytes(b"something else")
    mended = {each.video_id: each for each in fetcher(tmp_path).bring_up_to_date(videos, may_fetch=True)}
    assert mended["a"].sha256 == found["a"].sha256 and mended["a"].tries == 2


@needs_server
@needs_yt_dlp
@pytest.mark.slow
def test_a_wall_stops_the_host_and_marks_no_video_as_gone(tmp_path, running):
    server, url, _ = running
    server.reset()
    videos = [WantedVideo(name, f"{url}{name}.mp4?status=429&retry=none", None, (name,), name) for name in "abcdef"]
    with pytest.raises(AvpipeError, match=r"6 of 6 videos could not be asked for:\n.*left alone until .* rate_limited"):
        fetcher(tmp_path).bring_up_to_date(videos, may_fetch=True)
    asked = {each["target"].split("?")[0] for each in server.log()["requests"]}
    assert asked == {"/a.mp4", "/b.mp4", "/c.mp4"}
    assert not list((tmp_path / "videos").rglob("*.json"))
    with pytest.raises(AvpipeError, match="left alone"):  # another job of the run
        fetcher(tmp_path).bring_up_to_date([wanted("g", url)], may_fetch=True)
    assert {each["target"].split("?")[0] for each in server.log()["requests"]} == asked


@needs_server
@needs_yt_dlp
@pytest.mark.slow
def test_one_wall_alone_is_met_again_at_the_end(tmp_path, running):
    server, url, _ = running
    server.reset()
    walled = WantedVideo("a", f"{url}a.mp4?status=429@1&retry=none&case=alone", None, ("a",), "a")
    found = fetcher(tmp_path).bring_up_to_date([walled, wanted("b", url)], may_fetch=True)
    assert [record.outcome for record in found] == [OK, OK]


KILLED = """
import sys
from pathlib import Path
from test_fetching import WantedVideo, fetcher

names = [Path(url).name[0] for url in sys.argv[2:]]
videos = [WantedVideo(name, url, None, (name,), name) for name, url in zip(names, sys.argv[2:])]
fetcher(Path(sys.argv[1])).bring_up_to_date(videos, may_fetch=True)
"""


@needs_server
@needs_yt_dlp
@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.3, 1.5, 3.0, 4.5, 6.0])
def test_a_kill_leaves_no_process_and_the_next_run_the_same_files(tmp_path, running, wait):
    server, url, _ = running
    slow = [f"{url}{name}.mp4?bps=100000" for name in "abc"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", KILLED, str(tmp_path), *slow]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # what it had started sees that it is gone
    assert not open_requests(server)
    begin_run(tmp_path / "hosts")
    videos = [wanted(name, url) for name in "abc"]
    found = fetcher(tmp_path).bring_up_to_date(videos, may_fetch=True)
    assert [record.outcome for record in found] == [OK] * 3
    fetched = tmp_path / "videos" / "fetched"
    assert sorted(path.name for path in fetched.rglob("*.*")) == [f"{n}.{s}" for n in "abc" for s in ("json", "mp4")]
    assert len({json.loads(path.read_text())["sha256"] for path in fetched.rglob("*.json")}) == 1


def open_requests(server) -> int:
    return sum(each["end"] == "open" for each in server.log()["requests"])


@needs_server
@needs_yt_dlp
@pytest.mark.slow
def test_segments_alone_are_fetched_and_must_have_their_length(tmp_path, running):
    _, url, _ = running
    whole = WantedVideo("a_0", f"{url}a.mp4", 1.0, ("a_0",), "a", (0.5, 1.5))
    beyond = WantedVideo("a_1", f"{url}a.mp4", 4.0, ("a_1",), "a", (1.0, 5.0))
    found = fetcher(tmp_path).bring_up_to_date([whole, beyond], may_fetch=True)
    assert [(record.outcome, record.cause) for record in found] == [(OK, OK), ("decode_error", "incomplete")]
    with av.open(found[0].path) as file:
        assert sum(1 for _ in file.decode(video=0)) == 25
