"""avpipe sources status, retry, import and plan for videos that a table names by addresses; nobody is asked."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from avpipe.cli import main
from avpipe.plan import Project, videos
from avpipe.sources.availability import write_table
from avpipe.sources.local import shard_of
from avpipe.sources.records import VideoRecord, read_record, write_record
from avpipe.sources.video_files import fetched_stem

CONFIG = Path(__file__).parents[2] / "config"
NAMES = ("dog", "cat", "cow", "pig")
VIDEOS = Path("resources/videos/mine")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, with a dataset of four addresses."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIG, tmp_path / "config")
    Path("Snakefile").touch()
    rows = "".join(f"http://127.0.0.1:9/{name}.mp4,{name}_1,train\n" for name in NAMES)
    Path("clips.csv").write_text(f"url,clip_id,subset\n{rows}")
    source = {"kind": "table", "path": "clips.csv"}
    mine = {"source": source, "n_shards": 4, "extract_also": ["spectrogram"]}
    Path("mine.yaml").write_text(yaml.safe_dump({"datasets": {"mine": mine}}))


def run(action: str, *arguments: str) -> int:
    return main(["sources", action, "mine", *arguments, "--configfile", "mine.yaml"])


def note(name: str, cause: str, outcome: str = "missing") -> Path:
    """A record of a video, and the table of its shard."""
    stem = fetched_stem(VIDEOS, name)
    stem.parent.mkdir(parents=True, exist_ok=True)
    record = VideoRecord(name, outcome, cause, last_tried="2026-11-01", path=str(stem))
    write_record(stem, record)
    table = Path(f"results/mine/sources/{shard_of(name, 4):04d}.parquet")
    write_table(table, [record], "fetched")
    return table


def write_video(path: Path, *, sound: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = file.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for _ in range(25):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        file.mux(video.encode())
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            file.mux(audio.encode(frame))
            file.mux(audio.encode())


def test_what_became_of_videos_is_told(capsys):
    note("dog", "removed")
    note("cat", "region", "blocked")
    assert run("status") == 0
    said = capsys.readouterr().out
    assert "missing" in said and "removed" in said and "region" in said and "not_allowed" in said
    assert "clips of train: 0 of 4" in said and "1 videos are left to ask for" in said
    assert "1 videos are not there and no run asks for" in said and "retry mine --cause not_allowed`" in said
    assert run("plan") == 0
    assert "1 of 4 videos are left to fetch" in capsys.readouterr().out


def test_videos_are_asked_for_again_by_their_cause(capsys):
    gone, blocked = note("dog", "removed"), note("cat", "region", "blocked")
    assert run("retry", "--cause", "rate_limited") == 1
    assert "there is not_allowed, region, removed" in capsys.readouterr().err
    assert run("retry", "--cause", "region") == 0
    assert read_record(fetched_stem(VIDEOS, "cat")) is None and not blocked.exists()
    assert read_record(fetched_stem(VIDEOS, "dog")) is not None and gone.exists()


def test_videos_and_clips_of_a_colleague_are_taken_once_and_looked_into(capsys):
    table = note("dog", "removed")
    write_video(Path("theirs/dog.mp4"))
    write_video(Path("theirs/below/cat_1.mkv"))
    write_video(Path("theirs/cow.mp4"), sound=False)
    Path("theirs/pig.mp4").write_bytes(b"no video")
    write_video(Path("theirs/horse.mp4"))
    assert run("import", "theirs") == 1
    said = capsys.readouterr().out
    assert "2 files taken: cat_1, dog; 2 refused." in said
    assert "cow was not taken: no_audio" in said and "pig was not taken: decode_error" in said
    assert not table.exists()
    taken = sorted(path.name for path in VIDEOS.rglob("*.m*"))
    assert taken == ["cat_1.mkv", "dog.mp4"]
    assert run("status") == 0
    assert "clips of train: 2 of 4" in capsys.readouterr().out
    assert run("import", "theirs") == 1
    assert "0 files taken; 2 refused." in capsys.readouterr().out


def test_a_dataset_without_addresses_says_so(capsys):
    assert main(["sources", "status", "demo"]) == 1
    assert "demo names no videos" in capsys.readouterr().err


def test_a_card_needs_an_account(capsys):
    assert run("card") == 1
    assert "mine has no account of its clips yet" in capsys.readouterr().err


def test_videos_that_were_fetched_and_deleted_are_told_with_the_command_that_gets_them_back():
    for name in ("dog", "cow"):
        note(name, "ok", "ok")
    project = Project.read(yaml.safe_load(Path("mine.yaml").read_text()), Path())
    told = videos.describe_left(project, "mine")
    assert "mine: 1 of 4 videos are not there" in told and "2 videos were fetched and are gone" in told
    assert "`avpipe sources retry mine --cause lost`" in told
    assert run("retry", "--cause", "lost") == 0
    again = Project.read(yaml.safe_load(Path("mine.yaml").read_text()), Path())
    assert len(videos.left(again, "mine")) == 4 and "gone" not in videos.describe_left(again, "mine")
