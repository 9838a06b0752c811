"""Real runs of a dataset whose videos a table names by addresses, against a server on this machine."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from faulty_server import faulty_server, needs_server
from project import TARGET, Project

from avpipe.sources.local import shard_of

pytestmark = [
    pytest.mark.workflow,
    needs_server,
    pytest.mark.skipif(importlib.util.find_spec("yt_dlp") is None, reason="yt-dlp is not installed"),
]
GONE = "?status=404"
STALLED = "?stall=2000&stall_seconds=30"


ACCOUNT = "results/small/accounting.json"
AT_A_SERVER = 6
"""Of the small dataset's videos; the others lie in the folder of videos already."""


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    server = faulty_server(tmp_path / "served")
    with server as url:
        yield server, url


@dataclass
class Addressed:
    """The small project with a table of addresses instead of videos."""

    project: Project
    rows: list[dict]
    served: Path

    def write(self) -> None:
        with (self.project.folder / "clips.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["clip_id", "url", "class"])
            writer.writeheader()
            writer.writerows(self.rows)

    def configure(self, **values) -> None:
        settings = self.project.settings() | values
        (self.project.folder / "small.yaml").write_text(yaml.safe_dump(settings))

    def table(self) -> dict[str, dict]:
        paths = sorted((self.project.folder / "results/small/sources").glob("*.parquet"))
        return {row["video_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


@pytest.fixture
def addressed(project, server, tmp_path):
    """Some videos at the server alone, nothing run; of those two are gone and one stalls."""
    for name in ("results", ".snakemake"):
        shutil.rmtree(project.folder / name)
    files = sorted((project.folder / "videos").rglob("*.*"))
    rows = [{"clip_id": path.stem, "url": f"{server[1]}/{path.name}", "class": path.parent.name} for path in files]
    for number, row in enumerate(rows[:: len(rows) // AT_A_SERVER][:AT_A_SERVER]):
        path = next(path for path in files if path.stem == row["clip_id"])
        shutil.move(path, tmp_path / "served" / path.name)
        row["url"] += {0: GONE, 1: GONE, 2: STALLED}.get(number, "")
    found = Addressed(project, rows, tmp_path / "served")
    found.write()
    settings = project.settings()
    settings["datasets"]["small"]["source"] = {"kind": "table", "path": "clips.csv", "videos": "videos"}
    found.configure(**settings, allow_download=True, downloads={"timeout_seconds": 12, "tries": 1})
    return found


def targets(server) -> list[str]:
    return [request["target"].split("?")[0] for request in server[0].log()["requests"]]


def test_one_command_from_addresses_to_a_result(addressed, server):
    project, rows = addressed.project, addressed.rows
    planned = project.snakemake(TARGET, "-n")
    assert f"{AT_A_SERVER} of {len(rows)} videos are not there" in planned.stdout + planned.stderr
    assert not targets(server)  # a plan opens no connection
    project.run()
    found = addressed.table()
    assert len(found) == len(rows)
    gone = {row["clip_id"] for row in rows if row["url"].endswith(GONE)}
    late = {row["clip_id"] for row in rows if row["url"].endswith(STALLED)}
    expected = dict.fromkeys(gone, "missing") | dict.fromkeys(late, "timeout")
    assert {name: row["outcome"] for name, row in found.items() if row["outcome"] != "ok"} == expected
    account = json.loads((project.folder / ACCOUNT).read_text())
    reasons = {row["clip_id"]: row["reason"] for row in account["failed"] if row["stage"] == "probe_clips"}
    assert {name: reasons[name] for name in expected} == expected
    asked = targets(server)
    assert len(set(asked)) == AT_A_SERVER
    again = project.run()
    assert "Nothing to be done" in again and targets(server) == asked
    assert "shard by shard" not in again
    assert (
        f"{len(late)} videos are not there and no run asks" in again
        and "retry small --cause stalled` has one try" in again
    )


def test_only_what_is_left_is_asked_for(addressed, server):
    """Killed in the middle; one more row; nothing allowed, then allowed."""
    project = addressed.project
    addressed.configure(allow_download=False)
    project.run(target=ACCOUNT)
    assert not targets(server)
    account = json.loads((project.folder / ACCOUNT).read_text())
    assert account["reasons"]["missing"] == AT_A_SERVER
    addressed.configure(allow_download=True)
    run = project.start(ACCOUNT)
    deadline = time.monotonic() + 120
    while not list((project.folder / "videos/fetched").glob("*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(2.0)  # the job and what it had started see that they are alone
    settled = {path.stem for path in (project.folder / "videos/fetched").glob("*/*.json")}
    before = targets(server)
    assert settled
    project.snakemake("--unlock")
    project.run(target=ACCOUNT)
    after = {Path(target).stem for target in targets(server)[len(before) :]}
    assert len(addressed.table()) == len(addressed.rows) and not after & settled
    asked = targets(server)
    assert "Nothing to be done" in project.run(target=ACCOUNT) and targets(server) == asked
    extra = next(row for row in addressed.rows if not row["url"].endswith((GONE, STALLED)))
    video = next((project.folder / "videos").rglob(f"{extra['clip_id']}.*"))
    shutil.copyfile(video, addressed.served / f"new{video.suffix}")
    addressed.rows.append(extra | {"clip_id": "new", "url": f"{server[1]}/new{video.suffix}"})
    addressed.write()
    planned = project.planned(target=ACCOUNT)
    shard = f"{shard_of('new', 2):04d}"
    assert {job for job in planned if "shard" in job} == {job for job in planned if f"shard {shard}" in job}
    assert any("Fetching" in job for job in planned)


def test_the_card_of_a_finished_dataset(project):
    command = [sys.executable, "-m", "avpipe", "sources", "card", "small", "--configfile", "small.yaml"]
    subprocess.run(command, cwd=project.folder, env=project.environment, check=True, capture_output=True)
    card = json.loads((project.folder / "results/small/data.json").read_text())
    assert (card["requested"], card["ok"], card["videos"]) == (28, 28, None)
    assert {each["extractor"]: each["streams"] for each in card["features"]} == {
        "c3d": {"video": 4096},
        "vggish": {"audio": 128},
    }
    assert card["splits"]["main_split"]["stage_2_train"] == {"requested": 15, "ok": 15}
    page = (project.folder / "results/small/README.md").read_text()
    metadata = yaml.safe_load(page.split("---\n")[1])
    assert metadata["size_categories"] == ["n<1K"] and "RANDOM WEIGHTS" in page
    assert "Nothing to be done" in project.run()
