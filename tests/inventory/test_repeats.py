"""Clips with one content: found over all shards, the first by clip id stays."""

import json

import pytest

from avpipe.inventory.accounting import account, make_account
from avpipe.inventory.probing import SCHEMA, read_probed
from avpipe.inventory.repeats import find_repeats
from avpipe.inventory.status import ClipStatus, close_shard
from avpipe.io.tables import write_rows


def row(clip_id, digest, *, start=None, end=None, label="A", status="ok", path=None, detail=""):
    values = {"clip_id": clip_id, "status": status, "detail": detail, "class_name": label, "source_sha256": digest}
    place = {"path": path or f"/data/{label}/{clip_id}.avi", "start_seconds": start, "end_seconds": end}
    return dict.fromkeys(SCHEMA.names) | values | place | {"duration_seconds": 10.0}


def probe(folder, *shards):
    paths = []
    for number, rows in enumerate(shards):
        paths.append(str(folder / "probe" / f"{number:04}.parquet"))
        write_rows(paths[-1], SCHEMA, rows)
    return paths


def extracted(folder, probes, failing=()):
    """A status table for every shard; all that was probed is ok but for `failing`."""
    paths = []
    for number, path in enumerate(probes):
        clips = [clip.clip_id for clip in read_probed(path)]
        paths.append(str(folder / "c3d" / f"{number:04}.status.parquet"))
        statuses = [ClipStatus(clip, "timeout" if clip in failing else "ok") for clip in clips]
        close_shard(paths[-1], clips, statuses)
    return paths


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("b", "1"), row("a", "1"), row("c", "2")], {"b": "a"}),
        ([row("a", "1"), row("b", "1", label="B"), row("c", "1", label="C")], {"b": "a", "c": "a"}),
        ([row("a", "1", start=1.0, end=2.0), row("b", "1", start=1.0, end=2.0)], {"b": "a"}),
        ([row("a", "1", start=1.0, end=2.0), row("b", "1", start=1.0, end=2.5)], {}),
        ([row("a", "1", end=99.0), row("b", "1", start=0.0), row("c", "1", end=10.0)], {"b": "a", "c": "a"}),
        ([row("a", "1", status="decode_error"), row("b", "1"), row("c", "1")], {"c": "b"}),
        ([row("a", None, status="missing"), row("b", None, status="missing")], {}),
    ],
)
def test_the_first_clip_of_a_content_stays(tmp_path, rows, expected):
    assert find_repeats(probe(tmp_path, rows)) == expected
    assert find_repeats(probe(tmp_path, rows[::-1][:1], rows[::-1][1:])) == expected


def test_duplicates_are_accounted_for_over_all_shards(tmp_path):
    probes = probe(tmp_path, [row("b", "1", label="B"), row("d", "2")], [row("a", "1"), row("c", "1"), row("e", "2")])
    record = make_account(probes, extracted(tmp_path, probes, failing=("e",)))
    assert record["reasons"] == {"timeout": 1, "duplicate": 2} and record["ok"] == 2
    assert record["requested"] == record["ok"] + sum(record["reasons"].values())
    assert [(each["clip_id"], each["reason"], each["detail"]) for each in record["failed"]] == [
        ("b", "duplicate", "the same content as a, of class A"),
        ("c", "duplicate", "the same content as a"),
        ("e", "timeout", ""),
    ]
    assert record["shards"]["0000"]["duplicate"] == 1 and record["shards"]["0000"]["stages"]["extract_c3d"]["ok"] == 2


def test_clips_that_a_given_split_lists_stay_ok(tmp_path):
    probes = probe(tmp_path, [row("a", "1"), row("b", "1")])
    assert make_account(probes, extracted(tmp_path, probes), uses_repeats=True)["ok"] == 2


@pytest.mark.parametrize(
    ("path", "detail", "expected"),
    [
        ("/data/videos/A/a.avi", "/data/videos/A/a.avi: 0 bytes; fetch it again", "A/a.avi: 0 bytes; fetch it again"),
        ("/users/some body/a.avi", "no file at /users/some body/a.avi", "no file at a.avi"),
        ("/data/videos/A/two\nlines.avi", "no file at /data/videos/A/two\\nlines.avi", "no file at A/two\\nlines.avi"),
        ("/data/videos/A/a.avi", "/scratch/me/converted/a.mkv: no frame", "a.mkv: no frame"),
    ],
)
def test_the_account_tells_paths_relative_to_the_source(tmp_path, path, detail, expected):
    probes = probe(tmp_path, [row("a", None, status="decode_error", path=path, detail=detail)])
    passed_over = {"hidden": {"count": 1, "names": [".x"]}}
    account(probes, [], tmp_path / "a.json", folder="/data/videos", passed_over=passed_over)
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert record["failed"][0]["detail"] == expected and record["passed_over"] == passed_over
