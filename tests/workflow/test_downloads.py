"""From nothing to eval.json: splits, class vectors, weights and a ZIP of videos from a server on this machine."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from faulty_server import faulty_server, needs_server
from network_guard import Guard
from project import TARGET
from small_networks import MEANS

pytestmark = [pytest.mark.workflow, needs_server]


def facts(path: Path) -> str:
    return f"{path.stat().st_size} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    server = faulty_server(tmp_path / "served")
    with server as url:
        yield server, url


@pytest.fixture
def empty_project(project, server, tmp_path):
    """The small project with its videos, split and vectors on the server alone."""
    served = tmp_path / "served"
    videos = sorted((project.folder / "videos").rglob("*.*"))
    with zipfile.ZipFile(served / "videos.zip", "w", zipfile.ZIP_STORED) as file:
        for path in videos:
            file.write(path, f"SMALL/{path.relative_to(project.folder / 'videos')}")
    shutil.copytree(project.folder / "split", served / "split")
    shutil.copyfile(project.folder / "words_normed.npy", served / "words_normed.npy")
    lists = {str(path.relative_to(served)): facts(path) for path in sorted((served / "split").rglob("*.*"))}
    common = {"urls": [f"{server[1]}/"], "licence": "none", "citation": "nobody"}
    sets = {
        "lists": common
        | {"title": "lists", "folder": "<resources>/lists"}
        | {"files": lists | {"words_normed.npy": facts(served / "words_normed.npy")}},
        "clips": common
        | {"title": "clips", "folder": "<resources>/clips", "files": {"videos.zip": facts(served / "videos.zip")}}
        | {"unpack": {"members": len(videos), "bytes": 10**9, "strip_components": 1}},
        "vggish": common
        | {"title": "weights", "folder": "<resources>/weights", "files": {"vggish.zip": ""}}
        | {"weights": {"vggish": "vggish.pth"}, "unpack": {"bytes": 10**6, "pick": ["vggish.pth"]}},
    }
    torch.save({"0.layer.weight": torch.randn(128, MEANS), "0.layer.bias": torch.ones(128)}, served / "vggish.pth")
    with zipfile.ZipFile(served / "vggish.zip", "w") as file:
        file.write(served / "vggish.pth", "port/vggish.pth")
    (project.folder / "config" / "files.yaml").write_text(yaml.safe_dump(sets))
    for name in ("results", ".snakemake", "videos", "split"):
        shutil.rmtree(project.folder / name)
    (project.folder / "words_normed.npy").unlink()
    settings = project.settings()
    small = settings["datasets"]["small"]
    small["files"] = ["lists", "clips"]
    del small["weights"]["vggish"]
    small["source"]["path"] = "<resources>/clips/unpacked"
    small["gzsl"] |= {"class_split": "<resources>/lists/split", "word_vectors": "<resources>/lists/words_normed.npy"}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings | {"allow_download": True}))
    return project


def test_one_command_from_nothing_to_a_result_and_no_connection_afterwards(empty_project, server, tmp_path):
    planned = empty_project.snakemake(TARGET, "-n", check=False)
    said = planned.stdout + planned.stderr
    assert planned.returncode != 0 and "avpipe sources fetch small" in said and "allow_download" in said
    assert server[0].log()["count"] == 0  # a plan opens no connection
    said = empty_project.run()
    assert "Fetching clips" in said and (empty_project.folder / TARGET).is_file()
    fetched = server[0].log()["count"]
    assert fetched == len({request["target"] for request in server[0].log()["requests"]})
    assert (empty_project.folder / "resources/weights/vggish.pth").is_file()
    assert "Nothing to be done" in empty_project.run() and server[0].log()["count"] == fetched

    guard = Guard(empty_project, tmp_path / "connections")
    again = ("-R", "extract_vggish")
    assert any(job.startswith("Training avca") for job in empty_project.planned(*again))
    plan = [sys.executable, "-m", "avpipe", "sources", "plan", "small", "--configfile", "small.yaml"]
    told = subprocess.run(
        plan, cwd=empty_project.folder, env=empty_project.environment, capture_output=True, text=True, check=True
    )
    assert "small lacks nothing" in told.stdout and "unverified origin: vggish (pinned since" in told.stdout
    empty_project.run(*again)
    assert (empty_project.folder / TARGET).is_file() and guard.tried() == []
    assert all(each in guard.watched() for each in ("snakemake", "sources plan", "train_gzsl", "extract"))


def test_without_leave_nothing_is_fetched(empty_project, server):
    settings = empty_project.settings() | {"allow_download": False}
    (empty_project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    done = empty_project.snakemake(TARGET, "--cores", "2", check=False)
    assert done.returncode != 0 and "allow_download: true" in done.stdout + done.stderr
    assert server[0].log()["count"] == 0
