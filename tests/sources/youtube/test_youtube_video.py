"""yt-dlp for real, against a server with faults on this machine: its generic extractor takes the address of a file."""

import importlib.util
import time
from pathlib import Path

import av
import numpy as np
import pytest
from faulty_server import faulty_server, needs_server

from avpipe.errors import AvpipeError, Reason
from avpipe.sources.youtube.messages import Again
from avpipe.sources.youtube.video import VideoRequest, fetch_video

pytestmark = [
    pytest.mark.slow,
    needs_server,
    pytest.mark.skipif(importlib.util.find_spec("yt_dlp") is None, reason="yt-dlp is not installed"),
]
SECONDS = 3


def write_video(path: Path, *, sound: bool = True) -> None:
    """Noise of three seconds, so that the file is large enough to be cut."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 160, 120, "yuv420p", 2_000_000
        audio = file.add_stream("aac", rate=44_100, layout="mono") if sound else None
        for _ in range(25 * SECONDS):
            picture = av.VideoFrame.from_ndarray(generator.integers(0, 256, (120, 160, 3), np.uint8), format="rgb24")
            file.mux(video.encode(picture))
        file.mux(video.encode())
        if audio is not None:
            for start in range(0, 44_100 * SECONDS, 1024):
                samples = generator.standard_normal((1, 1024)).astype(np.float32) / 10
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 44_100, start
                file.mux(audio.encode(frame))
            file.mux(audio.encode())


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_video(folder / "a.mp4")
    write_video(folder / "mute.mp4", sound=False)
    (folder / "page.html").write_text("<html><title>nothing here</title></html>")
    server = faulty_server(folder)
    with server as url:
        yield server, url, (folder / "a.mp4").read_bytes()


def fetch(url: str, tmp_path: Path, **settings):
    return fetch_video(
        VideoRequest(url, **{"timeout_seconds": 60.0} | settings), tmp_path / "video", sleep=lambda _: None
    )


@pytest.mark.parametrize("knobs", ["", "status=503@1", "cut=50000@2-3", "status=403@1"])
def test_a_video_comes_whole(running, tmp_path, knobs):
    _, url, data = running
    outcome = fetch(f"{url}/a.mp4?{knobs}&case={tmp_path.name}", tmp_path, seconds=SECONDS)
    assert (outcome.cause, outcome.reason) == ("ok", None)
    assert outcome.path == tmp_path / "video.mp4" and outcome.path.read_bytes() == data
    assert outcome.version and abs(outcome.seconds - SECONDS) < 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.parametrize(
    ("target", "cause", "reason", "again", "tries"),
    [
        ("a.mp4?status=404", "gone", Reason.MISSING, Again.NO, 1),
        ("a.mp4?status=410", "gone", Reason.MISSING, Again.NO, 1),
        ("a.mp4?status=403", "forbidden", Reason.BLOCKED, Again.NOW, 2),
        ("a.mp4?status=429", "rate_limited", None, Again.STOP_HOST, 1),
        ("a.mp4?status=500", "transient", Reason.TIMEOUT, Again.NOW, 2),
        ("a.mp4?cut=50000&norange=1", "transient", Reason.TIMEOUT, Again.NOW, 2),
        ("page.html", "bad_url", Reason.MISSING, Again.NO, 1),
        ("mute.mp4", "incomplete", Reason.DECODE_ERROR, Again.NOW, 2),
    ],
)
def test_a_video_that_does_not_come_has_its_cause(running, tmp_path, target, cause, reason, again, tries):
    _, url, _ = running
    outcome = fetch(f"{url}/{target}", tmp_path, tries=2)
    assert (outcome.cause, outcome.reason, outcome.again, outcome.tries) == (cause, reason, again, tries), (
        outcome.detail
    )
    assert outcome.path is None and list(tmp_path.iterdir()) == []


def test_a_video_of_another_length_is_incomplete(running, tmp_path):
    _, url, _ = running
    outcome = fetch(f"{url}/a.mp4", tmp_path, seconds=7.5, tries=1)
    assert outcome.cause == "incomplete" and "expected 7.50 s" in outcome.detail and list(tmp_path.iterdir()) == []


def test_the_time_limit_leaves_no_process(running, tmp_path):
    _, url, _ = running
    outcome = fetch(f"{url}/a.mp4?hang=30", tmp_path, timeout_seconds=3.0, tries=1)
    assert (outcome.cause, outcome.reason) == ("stalled", Reason.TIMEOUT)
    time.sleep(0.2)
    environments = []  # the worker's PATH begins below tmp_path; other tests may have workers of their own
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environments.append(path.read_bytes())
        except OSError:
            continue
    assert not any(f"PATH={tmp_path}".encode() in each for each in environments)
    assert list(tmp_path.iterdir()) == []


def test_secrets_reach_no_message_and_no_file(running, tmp_path):
    _, url, _ = running
    jar = tmp_path / "jar.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ttopsecret\n")
    before = jar.read_bytes()
    address = f"{url.replace('://', '://user:hunter2@')}/a.mp4?status=403&token=topsecret"
    outcome = fetch(address, tmp_path, tries=1, cookies=str(jar))
    assert "hunter2" not in outcome.detail and "topsecret" not in outcome.detail
    assert jar.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["jar.txt"]


def test_without_yt_dlp_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AvpipeError, match=r"avpipe\[youtube\]"):
        fetch("https://example.org/a", tmp_path)
