"""Whole runs through `profiles/slurm` and a Slurm of one node, with jobs that are ended from outside."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import build_with_small_networks
from project import TARGET, Project
from slurm_cluster import Cluster, wait_until, why_not

pytestmark = pytest.mark.slurm
# The first look at a job comes after 40 seconds otherwise; one machine shows new files at once.
QUICK = (
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2", "--latency-wait", "5",
    "--slurm-no-account", "--default-resources", "mem_mb=2000", "runtime=60", "slurm_partition='main'",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_jobs_that_are_ended_from_outside_run_again(cluster: Cluster, tmp_path: Path) -> None:
    """A job cancelled by root and a node that goes down in one run, which ends with eval.json."""
    project = build_with_small_networks(tmp_path / "project")
    settings = project.settings()
    settings["datasets"]["small"]["gzsl"]["benchmarks"] = [{"split": "main_split"}]
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    with (tmp_path / "out").open("wb") as out, start(project, out) as run:
        try:
            cancelled = running(cluster, "extract_")
            cluster.command("scancel", cancelled)
            running(cluster, "train_gzsl", seconds=240)
            cluster.command("scontrol", "update", f"nodename={cluster.host}", "state=down", "reason=tried")
            cluster.command("scontrol", "update", f"nodename={cluster.host}", "state=resume")
            for number, _, _ in cluster.jobs("PENDING"):  # Slurm itself puts them back, for two minutes from now
                cluster.command("scontrol", "update", f"jobid={number}", "starttime=now")
            assert run.wait(timeout=300) == 0, (tmp_path / "out").read_text()
        finally:
            if run.poll() is None:
                run.terminate()
    printed = (tmp_path / "out").read_text()
    assert f"'{cancelled}' failed, SLURM status is: 'CANCELLED'" in printed
    assert "avca" in json.dumps(json.loads((project.folder / TARGET).read_text()))


def start(project: Project, out) -> subprocess.Popen[bytes]:
    """Begin a run through the profile."""
    own = [project.environment["PYTHONPATH"], os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        project.command(TARGET, "--workflow-profile", "profiles/slurm", *QUICK), cwd=project.folder,
        env=project.environment | {"PYTHONPATH": os.pathsep.join(filter(None, own))}, stdout=out, stderr=out,
    )  # fmt: skip


def running(cluster: Cluster, rule: str, seconds: float = 120) -> str:
    """The number of a running job of a rule whose name begins so."""

    def found() -> list[str]:
        return [number for number, _, comment in cluster.jobs("RUNNING") if rule in comment]

    wait_until(found, f"a job of {rule} runs", seconds)
    return found()[0]
