"""Kill a run with SIGKILL while it extracts, many times at random moments, and compare what comes out in the end.

    python tests/tools/kill_extraction.py --kills 20 --seed 0

makes a small dataset, extracts it once without a disturbance, then kills Snakemake and all of its jobs during the
extraction again and again, each time restarting as the documentation says. Whenever a run has reached its end, every
result is compared byte for byte with the undisturbed ones, and the features are deleted, so that there is something
to kill again. Networks are one layer with random weights: what is tried here is files, not figures.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "workflow"), str(_TESTS)]

from conftest import build_with_small_networks  # noqa: E402
from project import Project  # noqa: E402

ACCOUNT = "results/small/accounting.json"


def extraction_logs(project: Project) -> set[tuple[Path, int]]:
    """The logs of all jobs that extract, and when each was last written: another one is a job that has begun."""
    return {(path, path.stat().st_mtime_ns) for path in project.folder.glob("results/logs/extract_*/small/*.log")}


def killed(project: Project, generator: random.Random) -> bool:
    """Start a run and kill it within four seconds of an extraction's start; False if the run came to its end first."""
    before = extraction_logs(project)
    process = project.start(ACCOUNT)
    while not extraction_logs(project) - before and process.poll() is None:
        time.sleep(0.02)
    try:
        process.wait(generator.uniform(0, 4))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        project.snakemake(ACCOUNT, "--unlock")
        return True
    return False


def compare(expected: dict[str, str], project: Project) -> list[str]:
    """The files that differ from the undisturbed run, are lacking or are left over."""
    found = project.digests()
    return sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))


def delete_features(project: Project) -> None:
    """Leave something to extract; the account goes too, since Snakemake makes nothing that only finished files need."""
    shutil.rmtree(project.folder / "results" / "small" / "features")
    (project.folder / ACCOUNT).unlink()


def main() -> int:
    """Run the kills and print one line for each comparison; 1 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        project = build_with_small_networks(Path(folder) / "project")
        project.run(target=ACCOUNT)
        expected = project.digests()
        delete_features(project)
        kills, since, faults = 0, 0, 0
        while kills < options.kills or since:
            if kills < options.kills and killed(project, generator):
                kills, since = kills + 1, since + 1
                continue
            project.run("--rerun-incomplete", target=ACCOUNT)
            different = compare(expected, project)
            faults += len(different)
            print(f"{kills} kills so far, {since} since the last end: {len(different)} of {len(expected)} files differ")
            print("".join(f"  {path}\n" for path in different), end="")
            delete_features(project)
            since = 0
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
