"""From nothing to eval.json: splits, class vectors, weights and a ZIP of videos from a server on this machine."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from faulty_server import faulty_server, needs_server
from network_guard import Guard
from project import TARGET, jobs_in
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
        | {"urls": [f"{server[1]}/vggish.zip?stall=20000&stall_seconds=100&times=1"]}  # the first time alone
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


def avpipe_sources(project, *arguments) -> str:
    command = [sys.executable, "-m", "avpipe", "sources", *arguments, "small", "--configfile", "small.yaml"]
    done = subprocess.run(
        command, cwd=project.folder, env=project.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def kill_when(project, pattern: str) -> None:
    """Begin a run and kill all of it once a file is there."""
    run = project.start(TARGET)
    deadline = time.monotonic() + 240
    while not list(project.folder.glob(pattern)):
        assert run.poll() is None and time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def requests(server) -> list[str]:
    return [request["target"] for request in server[0].log()["requests"]]


def state_below(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file below a folder but Snakemake's own."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if not {".snakemake", "__pycache__"} & set(path.parts)
    }


def features_of(project) -> dict[str, str]:
    return {path: digest for path, digest in project.digests().items() if path.startswith("small/features/")}


def test_one_command_from_nothing_to_a_result_and_no_connection_afterwards(empty_project, server, tmp_path):
    """What planning reads comes before it, weights by a job; then what is fetched again, and what runs again then."""
    planned = empty_project.snakemake(TARGET, "-n", check=False)
    said = planned.stdout + planned.stderr
    assert planned.returncode != 0 and "avpipe sources fetch small" in said and "allow_download" in said
    assert requests(server) == []  # a plan opens no connection

    archive = tmp_path / "served/vggish.zip"
    kill_when(empty_project, "resources/weights/*.part")  # in the middle of the job
    part = next(empty_project.folder.glob("resources/weights/*.part"))
    assert 0 < part.stat().st_size < archive.stat().st_size
    asked = requests(server)
    assert {each.partition("?")[0].rpartition("/")[2] for each in asked} >= {
        "videos.zip",
        "all_class.txt",
        "vggish.zip",
    }

    empty_project.snakemake("--unlock")
    state = state_below(empty_project.folder)
    planned = empty_project.snakemake(TARGET, "-n")
    said = planned.stdout + planned.stderr
    assert "small: jobs fetch 1 set(s) of published files (vggish)" in said
    assert "Fetching weights to resources/weights" in jobs_in(said)
    assert requests(server) == asked and state_below(empty_project.folder) == state
    assert "Fetching weights to resources/weights" in empty_project.ran()
    assert {each.partition("?")[0] for each in requests(server)[len(asked) :]} == {"/vggish.zip"}
    weights = empty_project.folder / "resources/weights/vggish.pth"
    assert weights.is_file() and (empty_project.folder / "results/benchmarks/fetch_vggish.tsv").is_file()
    fetched = requests(server)
    assert "Nothing to be done" in empty_project.run()

    guard = Guard(empty_project, tmp_path / "connections")
    again = ("-R", "extract_vggish")
    told = avpipe_sources(empty_project, "plan")
    assert "small lacks nothing" in told and "unverified origin: vggish (pinned since" in told
    assert not any("Fetching" in job for job in empty_project.planned("--forceall"))
    empty_project.run(*again)
    assert (empty_project.folder / TARGET).is_file() and guard.tried() == []
    assert all(each in guard.watched() for each in ("snakemake", "sources plan", "train_gzsl", "extract"))
    (empty_project.folder / "src/sitecustomize.py").unlink()

    extracted = features_of(empty_project)
    weights.unlink()
    ran = empty_project.ran()
    assert ran == {
        "Fetching weights to resources/weights",
        "Checking the weights of vggish for small",
        f"Writing {TARGET}",
    }
    assert weights.is_file() and features_of(empty_project) == extracted
    assert len(requests(server)) == len(fetched) + 1
    assert empty_project.planned() == set()

    torch.save({"0.layer.weight": torch.randn(128, MEANS), "0.layer.bias": torch.ones(128)}, weights)
    os.utime(weights, (1e9, 1e9))  # older than every result
    planned = empty_project.planned()
    assert "Extracting VGGish features of small, shard 0000" in planned and not any("C3D" in job for job in planned)


def test_without_leave_nothing_is_fetched(empty_project, server):
    settings = empty_project.settings() | {"allow_download": False}
    (empty_project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    done = empty_project.snakemake(TARGET, "--cores", "2", check=False)
    assert done.returncode != 0 and "allow_download: true" in done.stdout + done.stderr
    assert server[0].log()["count"] == 0
