import os
from dataclasses import replace

import pytest

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.inventory import probing
from avpipe.inventory.probing import Requirements, probe_shard, read_probed
from avpipe.inventory.shards import read_inventory
from avpipe.sources.folders import list_class_folders
from avpipe.sources.local import list_table

ANY = Requirements(require_audio=False, min_seconds=0.0, max_seconds=None)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """An ordinary clip and every odd one of the demo, by oddity."""
    folder = tmp_path_factory.mktemp("videos")
    specs = plan_demo()
    ordinary = next(spec for spec in specs if spec.oddity is None)
    for spec in [ordinary, *(spec for spec in specs if spec.oddity)]:
        (folder / spec.demo.name).mkdir(exist_ok=True)
        render_clip(spec, folder / spec.relative_path)
    return folder


def test_what_is_no_file_is_accounted_for_and_never_read(tmp_path):
    (tmp_path / "clips.csv").write_text("path,class\nfolder.mp4,X\npipe.mp4,X\nzero.mp4,X\ngone.mp4,X\n")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    found = statuses(list_table(tmp_path / "clips.csv"), tmp_path / "probe.parquet")
    assert found == dict.fromkeys(["folder", "pipe", "zero"], "decode_error") | {"gone": "missing"}


def statuses(rows, target, requirements=ANY):
    probe_shard(rows, requirements, target)
    return {clip.clip_id: clip.status for clip in read_probed(target, only_ok=False)}


def test_each_odd_clip_has_its_reason(videos, tmp_path):
    by_oddity = {spec.clip_id: spec.oddity for spec in plan_demo()}
    strict = Requirements(require_audio=True, min_seconds=0.95, max_seconds=None)
    found = statuses(list_class_folders(videos).clips, tmp_path / "p.parquet", strict)
    expected = {
        None: "ok",
        "no_sound": "no_audio",
        "truncated": "decode_error",
        "empty": "decode_error",
        "short": "too_short",
        "rate_30": "ok",
        "variable_rate": "ok",
    }
    assert found == {clip: expected[by_oddity[clip]] for clip in found} and len(found) == 7


def test_other_requirements_judge_again_without_reading_files(videos, tmp_path, monkeypatch):
    target = tmp_path / "p.parquet"
    clips = list_class_folders(videos).clips
    first = statuses(clips, target)
    assert "no_audio" not in first.values()
    monkeypatch.setattr(probing, "probe_media", lambda path: pytest.fail(f"{path} was read again"))
    second = statuses(clips, target, replace(ANY, require_audio=True, max_seconds=1.15))
    assert {"no_audio", "too_long", "decode_error"} <= set(second.values())
    assert statuses(clips, target) == first


def test_a_changed_file_is_read_again(videos, tmp_path):
    clip = next(clip for clip in list_class_folders(videos).clips if clip.size_bytes > 0)
    target = tmp_path / "p.parquet"
    statuses([clip], target)
    statuses([replace(clip, path=str(tmp_path / "gone.avi"), size_bytes=-1, modified_ns=-1)], target)
    (row,) = read_probed(target, only_ok=False)
    assert row.status == "missing"


def test_clips_of_one_file_read_it_once(videos, tmp_path, monkeypatch):
    clip = next(clip for clip in list_class_folders(videos).clips if clip.size_bytes > 0)
    read = []
    original = probing.probe_media
    monkeypatch.setattr(probing, "probe_media", lambda path: read.append(path) or original(path))
    segments = [replace(clip, clip_id=f"c{n}", start_seconds=0.1 * n, end_seconds=0.1 * n + 0.05) for n in range(5)]
    beyond = replace(clip, clip_id="c9", start_seconds=99.0)
    found = statuses([*segments, beyond], tmp_path / "p.parquet")
    assert len(read) == 1 and found == {f"c{n}": "ok" for n in range(5)} | {"c9": "too_short"}
    keys = {row.source_key() for row in read_probed(tmp_path / "p.parquet")}
    assert len(keys) == 5


def test_a_damaged_table_is_made_anew(videos, tmp_path):
    target = tmp_path / "p.parquet"
    target.write_bytes(b"not a table")
    clips = list_class_folders(videos).clips
    assert len(statuses(clips, target)) == len(clips)


def test_inventory_round_trip(videos, tmp_path):
    from avpipe.inventory.shards import index_shard

    clips = list_class_folders(videos).clips
    index_shard(clips, None, tmp_path / "i.parquet")
    assert read_inventory(tmp_path / "i.parquet") == clips
