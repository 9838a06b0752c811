"""A job that trains several seeds, stopped in the midst of it; and checkpoints that are no longer what was trained."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from project import TARGET, Project
from published_source import TINY_TRAINING, published_project

RUN = "results/small/runs/main_split/cls_features/avca/corrected"
EPOCHS = 60  # seconds for each seed, so that there is time to stop it


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """One method with two seeds, run to the end."""
    project = published_project(
        tmp_path_factory.mktemp("seeds") / "project",
        seeds=[3, 4],
        methods={"ale": None},
        training=TINY_TRAINING | {"epochs": EPOCHS},
    )
    project.run()
    return project


@pytest.fixture
def project(trained, tmp_path) -> Project:
    return trained.copy(tmp_path / "project")


def stop_at(project: Project, file: str, number: signal.Signals) -> str:
    """Run until a file appears, then signal Snakemake and its jobs; what was printed."""
    with (project.folder / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            project.command(TARGET, "--cores", "2"),
            cwd=project.folder,
            env=project.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for(process, project.folder / file)
        os.killpg(process.pid, number)
        assert process.wait(timeout=60) != 0
        output.seek(0)
        printed = output.read()
    project.snakemake(TARGET, "--unlock")
    return printed


def wait_for(process: subprocess.Popen, file: Path) -> None:
    deadline = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)


def test_a_stopped_job_goes_on_with_the_seed_that_it_was_at(trained, project):
    shutil.rmtree(project.folder / "results/small/runs")
    (project.folder / TARGET).unlink()  # while it is there, Snakemake misses nothing below it
    printed = stop_at(project, f"{RUN}/seed3/stage1/stage.json", signal.SIGTERM)
    assert "Stopped by a signal; run again to go on from where it was." in printed
    assert not (project.folder / f"{RUN}/seed4/stage1/stage.json").exists(), "stopped too late to show anything"
    assert (project.folder / f"{RUN}/seed4/stage1/resume.pt").exists()
    first = (project.folder / f"{RUN}/seed3/stage1/stage.json").stat().st_mtime_ns
    printed = stop_at(project, f"{RUN}/seed3/stage2/stage.json", signal.SIGKILL)
    assert "Stage 1 with seed 3 is finished already." in printed and "Resuming seed 4 in epoch" in printed
    printed = project.run()
    for finished in ("Stage 1 with seed 3", "Stage 1 with seed 4", "Stage 2 with seed 3"):
        assert f"{finished} is finished already." in printed
    assert "Stage 2 with seed 4 is finished already." not in printed
    assert (project.folder / f"{RUN}/seed3/stage1/stage.json").stat().st_mtime_ns == first
    assert project.digests() == trained.digests()
    assert list((project.folder / RUN).rglob("resume.pt")) == []


def test_a_second_run_is_refused_while_the_first_lives(project):
    """Whatever --unlock has deleted; but not under -n, and not where it makes something else."""
    shutil.rmtree(project.folder / "results/small/runs")
    (project.folder / TARGET).unlink()
    first = project.start(TARGET)
    try:
        wait_for(first, project.folder / RUN / "seed3/stage1/stage.json")
        os.killpg(first.pid, signal.SIGSTOP)  # it lives, however long the rest of this takes
        project.snakemake(TARGET, "--unlock")
        done = project.snakemake(TARGET, "--cores", "2", check=False)
        told = done.stdout + done.stderr
        assert done.returncode == 1, told
        assert f"process {first.pid} on {socket.gethostname()}, is at work" in told and "Traceback" not in told
        assert project.planned()
        project.snakemake("results/small/gzsl/main_split/published/cls_features", "--cores", "1")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert list((project.folder / ".snakemake/avpipe_runs").iterdir()), "the kill leaves its file"
    project.snakemake(TARGET, "--unlock")
    project.run()
    assert list((project.folder / ".snakemake/avpipe_runs").iterdir()) == []


@pytest.mark.parametrize("fault", ["deleted", "replaced"])
def test_a_checkpoint_that_is_not_the_trained_one_is_not_tested(trained, project, fault):
    checkpoint = project.folder / RUN / "seed4/stage2/checkpoint.pt"
    if fault == "deleted":
        checkpoint.unlink()
    else:
        shutil.copyfile(project.folder / RUN / "seed3/stage2/checkpoint.pt", checkpoint)
    for tested in (RUN + "/evaluation.json", TARGET):
        (project.folder / tested).unlink()
    done = project.snakemake(TARGET, "--cores", "1", check=False)
    printed = done.stdout + done.stderr
    what = "does not exist, though it is" if fault == "deleted" else "is another checkpoint than"
    assert done.returncode != 0 and f"{RUN}/seed4/stage2/checkpoint.pt {what} the one that" in printed
    assert f"remove {RUN}/training.json and run again" in printed
    # What the message says to do helps, and costs that one stage.
    (project.folder / RUN / "training.json").unlink()
    printed = project.run()
    assert printed.count("is finished already.") == 3, "all stages but that one"
    assert project.digests() == trained.digests()
