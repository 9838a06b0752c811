"""Real runs of a dataset whose videos a table names by addresses, against a server on this machine."""

import csv
import importlib.util
import json
import shutil

import pyarrow.parquet as pq
import pytest
import yaml
from faulty_server import faulty_server, needs_server
from project import TARGET

pytestmark = [
    pytest.mark.workflow,
    needs_server,
    pytest.mark.skipif(importlib.util.find_spec("yt_dlp") is None, reason="yt-dlp is not installed"),
]
GONE = "?status=404"
STALLED = "?stall=2000&stall_seconds=30"


@pytest.fixture
def server(project, tmp_path):
    served = tmp_path / "served"
    shutil.move(project.folder / "videos", served)
    server = faulty_server(served)
    with server as url:
        yield server, url


def write_table(project, rows) -> None:
    with (project.folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["clip_id", "url", "class"])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def empty_project(project, server, tmp_path):
    """The small project with a table of addresses instead of videos; two videos are gone, one stalls."""
    for name in ("results", ".snakemake"):
        shutil.rmtree(project.folder / name)
    files = sorted((tmp_path / "served").rglob("*.*"))
    rows = [
        {"clip_id": path.stem, "url": f"{server[1]}/{path.parent.name}/{path.name}", "class": path.parent.name}
        for path in files
    ]
    for row, fault in zip(rows[1::9], [GONE, GONE, STALLED], strict=False):
        row["url"] += fault
    write_table(project, rows)
    settings = project.settings()
    settings["datasets"]["small"] |= {"source": {"kind": "table", "path": "clips.csv"}}
    settings |= {"allow_download": True, "downloads": {"timeout_seconds": 12, "tries": 1}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    return project, rows


def table(project) -> dict[str, dict]:
    paths = sorted((project.folder / "results/small/sources").glob("*.parquet"))
    return {row["video_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


def test_one_command_from_addresses_to_a_result(empty_project, server):
    project, rows = empty_project
    planned = project.snakemake(TARGET, "-n")
    assert f"{len(rows)} of {len(rows)} videos are not there" in planned.stdout + planned.stderr
    assert server[0].log()["count"] == 0  # a plan opens no connection
    project.run()
    found = table(project)
    assert len(found) == len(rows)
    outcomes = {row["clip_id"]: found[row["clip_id"]] for row in rows}
    gone = {name for name, row in outcomes.items() if row["outcome"] == "missing"}
    late = {name for name, row in outcomes.items() if row["outcome"] == "timeout"}
    assert gone == {row["clip_id"] for row in rows if row["url"].endswith(GONE)} and len(gone) == 2
    assert late == {row["clip_id"] for row in rows if row["url"].endswith(STALLED)} and len(late) == 1
    account = json.loads((project.folder / "results/small/accounting.json").read_text())
    reasons = {row["clip_id"]: row["reason"] for row in account["failed"] if row["stage"] == "probe_clips"}
    expected = dict.fromkeys(gone, "missing") | dict.fromkeys(late, "timeout")
    assert {name: reasons[name] for name in expected} == expected
    # Again: nothing to do, and nobody is asked.
    asked = server[0].log()["count"]
    assert "Nothing to be done" in project.run() and server[0].log()["count"] == asked
