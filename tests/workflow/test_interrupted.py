"""kill -9 of Snakemake and its jobs at several moments, then the documented restart: the same files as without."""

import os
import signal
import subprocess
import time

from conftest import build
from project import TARGET

# Each moment is a file whose appearance says how far the run is; the last two are in the middle of training.
MOMENTS = (
    "results/small/probe/0000.parquet",
    "results/small/features/c3d/.0000*~*.h5",
    "results/small/features/c3d/*.h5",
    "results/small/gzsl/*/cls_features.json",
    "results/small/runs/*/cls_features/avca/correct/seed3/stage1/stage.json",
)


def run_until(project, pattern: str, seconds: float = 240.0) -> None:
    """Start Snakemake, wait for a file, kill the whole process group without warning."""
    before = set(project.folder.glob(pattern))
    process = subprocess.Popen(
        project.command(TARGET, "--cores", "2"),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if set(project.folder.glob(pattern)) - before:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_to_the_same_files(finished, tmp_path):
    project = build(tmp_path / "project")
    for moment in MOMENTS:
        run_until(project, moment)
        project.snakemake(TARGET, "--unlock")
    project.run()
    expected, found = finished.digests(), project.digests()
    assert {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)} == set()
    leftovers = [path for path in (project.folder / "results").rglob(".*") if "~" in path.name or "parts" in path.name]
    assert leftovers == []


def test_a_lock_that_a_kill_left_is_explained_by_snakemake(finished, tmp_path):
    """The message names --unlock, so that the documented restart can be found without the documentation."""
    project = build(tmp_path / "project")
    run_until(project, "results/small/inventory/0000.parquet")
    done = project.snakemake(TARGET, "--cores", "2", check=False)
    assert done.returncode != 0 and "--unlock" in done.stdout + done.stderr
