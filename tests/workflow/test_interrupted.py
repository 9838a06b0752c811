"""kill -9 of Snakemake and its jobs at several moments, then the documented restart: the same files as without."""

import os
import shutil
import signal
import time

import pytest
from project import TARGET

# (a file whose appearance says how far the run is, seconds after it)
MOMENTS = (
    ("results/small/inventory/*.parquet", 0.0),
    ("results/small/probe/*.parquet", 2.5),  # extraction has begun
    ("results/small/features/*/*.h5", 0.0),
    ("results/small/gzsl/*/cls_features.json", 2.5),  # training has begun
    ("results/small/runs/*/cls_features/avca/corrected/seed3/stage2/stage.json", 0.0),
)


@pytest.fixture
def project(project):
    """The finished project with nothing of its results: the same videos with the same time stamps."""
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / ".snakemake")
    return project


def run_until(project, pattern: str, seconds: float) -> None:
    """Start Snakemake, wait for a new file and some more, kill the whole process group without warning."""
    before = set(project.folder.glob(pattern))
    process = project.start(TARGET)
    deadline = time.monotonic() + 240
    while not set(project.folder.glob(pattern)) - before:
        assert process.poll() is None and time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.05)
    time.sleep(seconds)
    assert process.poll() is None, "the run ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_to_the_same_files(finished, project):
    for pattern, seconds in MOMENTS:
        run_until(project, pattern, seconds)
        project.snakemake(TARGET, "--unlock")
    project.run()
    expected, found = finished.digests(), project.digests()
    assert {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)} == set()
    leftovers = [path for path in (project.folder / "results").rglob(".*") if "~" in path.name or "parts" in path.name]
    assert leftovers == []


def test_a_lock_that_a_kill_left_is_explained_by_snakemake(project):
    """The message names --unlock, so that the documented restart can be found without the documentation."""
    run_until(project, "results/small/inventory/*.parquet", 0.0)
    done = project.snakemake(TARGET, "--cores", "2", check=False)
    assert done.returncode != 0 and "--unlock" in done.stdout + done.stderr
