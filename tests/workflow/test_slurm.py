"""Whole runs through `profiles/slurm` and a Slurm of one node, with jobs that are ended from outside."""

import csv
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import build_with_small_networks
from project import TARGET, Project
from slurm_cluster import Cluster, wait_until, why_not

from avpipe import slurm_status

pytestmark = pytest.mark.slurm
# The first look at a job comes after 40 seconds otherwise; one machine shows new files at once.
QUICK = (
    "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2", "--latency-wait", "5",
    "--slurm-no-account", "--default-resources", "mem_mb=2000", "runtime=60", "slurm_partition='main'", "nodes=1",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    try:
        try:
            cluster.start()
        except (OSError, subprocess.SubprocessError, AssertionError) as error:  # a container that lacks what they need
            pytest.skip(f"Slurm's daemons do not start here: {error}")
        yield cluster
    finally:
        cluster.stop()


EPOCHS = 60
STEP = "            trainer.train_step(epoch, step)\n"
# The first attempts get too little: a training that lasts over a minute, and torch in what room Snakemake leaves.
TOO_LITTLE = ("train_gzsl:runtime=attempt", "extract_vggish:mem_mb=450 if attempt == 1 else 2000")


def test_a_run_ends_well_whatever_becomes_of_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    """Root cancels one; the machine is lost while others train, which then need more time, and others more memory."""
    project = build_slow_project(tmp_path / "project")
    printed = tmp_path / "out"
    with printed.open("wb") as out, start(project, out) as run:
        try:
            cancelled = running(cluster, "extract_c3d")
            cluster.command("scancel", cancelled)
            running(cluster, "train_gzsl", seconds=240)
            wait_until(lambda: attempts(project, "train_gzsl"), "a training has begun")
            cluster.lose_node()
            wait_until(lambda: cluster.jobs("TIMEOUT"), "the time of a training is over", 240)
            (project.folder / "fast").touch()
            assert run.wait(timeout=300) == 0, printed.read_text()
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGINT)  # cancels its jobs
    check_attempts(project, printed.read_text(), cancelled)
    check_results(project)
    check_status_of_other_profile(cluster)


def build_slow_project(folder: Path) -> Project:
    """A project with one benchmark and method; until there is a file "fast", each step of a training takes a second."""
    project = build_with_small_networks(folder)
    settings = project.settings()
    gzsl = settings["datasets"]["small"]["gzsl"]
    gzsl["benchmarks"] = [{"split": "main_split"}]
    gzsl["methods"]["ale"] = None
    gzsl["training"]["epochs"] = EPOCHS
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    loop = folder / "src" / "avpipe" / "training" / "loop.py"
    text = loop.read_text()
    assert text.count(STEP) == 1
    loop.write_text(text.replace(STEP, f'{STEP}            time.sleep(0 if Path("fast").exists() else 1)\n'))
    return project


def attempts(project: Project, rule: str) -> list[list[str]]:
    """The lines of each attempt in the log of a rule's first job; none where it has not begun."""
    found: list[list[str]] = []
    log = min(project.folder.glob(f"results/logs/{rule}/**/*.attempts.log"), default=None)
    for line in log.read_text().splitlines() if log else []:
        if f"===== {rule}" in line:
            found.append([])
        found[-1].append(line)
    return found


def check_attempts(project: Project, printed: str, cancelled: str) -> None:
    """Every fault came, and each attempt's log says what it asked for and what became of the one before."""
    assert f"'{cancelled}' failed, SLURM status is: 'CANCELLED'" in printed
    assert "SLURM status is: 'TIMEOUT'" in printed
    with_node, with_time, last = attempts(project, "train_gzsl")
    for lines in (with_node, with_time):  # Slurm itself puts back what was lost with a node: the same job again
        assert lines[0].endswith("runtime=1")
    assert "ended without a word" in with_time[1]
    assert with_time[-1].endswith("end: stopped")
    assert last[0].endswith("runtime=2")
    assert last[-1].endswith("end: done")
    resumed = re.search(rf"Resuming seed 3 in epoch (\d+)/{EPOCHS}", "\n".join(last))
    assert resumed and int(resumed[1]) > 1
    assert "exceeded memory limit" in printed  # Slurm's own log of the job, which Snakemake shows
    killed, passed = attempts(project, "extract_vggish")
    assert "mem_mb=450" in killed[0] and "end:" not in killed[-1]
    assert "mem_mb=2000" in passed[0] and "ended without a word" in passed[1] and passed[-1].endswith("end: done")


def check_results(project: Project) -> None:
    """eval.json has the method, whose training has every epoch once."""
    assert "avca" in json.dumps(json.loads((project.folder / TARGET).read_text()))
    tables = list(project.folder.glob("results/small/runs/**/stage1/epochs.csv"))
    assert tables
    for table in tables:
        with table.open(newline="") as stream:
            assert [int(row["epoch"]) for row in csv.DictReader(stream)] == list(range(EPOCHS))


def check_status_of_other_profile(cluster: Cluster) -> None:
    """What profiles/cluster-generic is told of jobs that have ended."""
    numbers = {state: number for number, state, _ in cluster.jobs()}
    for state, word in (("CANCELLED", "failed"), ("TIMEOUT", "failed"), ("FAILED", "failed"), ("COMPLETED", "success")):
        assert slurm_status.status(numbers[state]) == word, state


def start(project: Project, out) -> subprocess.Popen[bytes]:
    """Begin a run through the profile."""
    own = [project.environment["PYTHONPATH"], os.environ.get("PYTHONPATH", "")]
    options = ("--workflow-profile", "profiles/slurm", *QUICK, "--set-resources", *TOO_LITTLE)
    return subprocess.Popen(
        project.command(TARGET, *options), cwd=project.folder,
        env=project.environment | {"PYTHONPATH": os.pathsep.join(filter(None, own))}, stdout=out, stderr=out,
    )  # fmt: skip


def running(cluster: Cluster, rule: str, seconds: float = 120) -> str:
    """The number of a running job of a rule whose name begins so."""

    def found() -> list[str]:
        return [number for number, _, comment in cluster.jobs("RUNNING") if rule in comment]

    wait_until(found, f"a job of {rule} runs", seconds)
    return found()[0]
