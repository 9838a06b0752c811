"""Snakemake and its jobs are killed at several moments, then the documented restart: the same files as without."""

import os
import re
import shutil
import signal
import time

import pytest
from project import TARGET

from avpipe.features.store import read_source_keys

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


def run_until(project, pattern: str, seconds: float, number=signal.SIGKILL, target: str = TARGET) -> None:
    """Start Snakemake, wait for a new file and some more, signal the whole process group: by default kill -9."""
    before = set(project.folder.glob(pattern))
    process = project.start(target)
    deadline = time.monotonic() + 240
    while not set(project.folder.glob(pattern)) - before:
        assert process.poll() is None and time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.05)
    time.sleep(seconds)
    assert process.poll() is None, "the run ended before it was killed"
    os.killpg(process.pid, number)
    assert process.wait(timeout=60) != 0


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


def test_an_extraction_that_is_told_to_end_goes_on_with_what_was_left(finished, project):
    """As a scheduler does at a time limit. In this project's copy clips are saved at once and take their time."""
    shard = project.folder / "src" / "avpipe" / "features" / "shard.py"
    saves = shard.read_text().replace("SECONDS_BETWEEN_PARTS = 60.0", "SECONDS_BETWEEN_PARTS = 0.0")
    shard.write_text(
        saves.replace("            parts.save()\n", "            parts.save()\n            time.sleep(0.5)\n")
    )
    store = project.folder / "results/small/features/c3d/0000.h5"
    target = str(store.relative_to(project.folder))
    run_until(project, "results/small/features/c3d/.0000.parts/*-1.h5", 0.0, signal.SIGTERM, target)
    assert not store.exists() and not store.with_suffix(".status.parquet").exists()
    saved = {clip for part in store.parent.glob(".0000.parts/*.h5") for clip in read_source_keys(part)}
    project.snakemake(target, "--unlock")
    output = project.run(target=target)
    clips = read_source_keys(store)
    counted = re.search(r"c3d clips: (\d+) done, 0 failed, (\d+) reused", output.rpartition("[extract_c3d")[2])
    assert counted is not None
    assert [int(number) for number in counted.groups()] == [len(clips) - len(saved), len(saved)]
    assert 2 <= len(saved) < len(clips)
    place = "small/features/c3d/0000.h5"
    assert project.digests()[place] == finished.digests()[place]
    assert not store.with_name(".0000.parts").exists()
