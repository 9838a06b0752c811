"""Manifests of a whole run, and what becomes of a result that was damaged."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import TARGET

from avpipe.io.manifest import read_manifest
from avpipe.report.verification import verify_results

pytestmark = pytest.mark.workflow
EVALUATION = "results/small/runs/main_split/cls_features/ale/corrected/evaluation.json"


def verify(project) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avpipe", "verify", "results/small"]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)


def test_every_result_has_a_manifest_that_leads_back_to_the_listing(finished):
    results = finished.folder / "results/small"
    found = verify_results(results)
    assert found.findings == [] and {path.name for path in found.unchecked} == {"epochs.csv"}
    manifests = sorted(results.rglob("*.manifest"))
    assert not [path for path in manifests if str(finished.folder) in path.read_text()]
    seen, new = set(), {results / "eval.json"}
    while new:
        seen |= new
        new = {(path.parent / name).resolve() for path in new for name in read_manifest(path).inputs} - seen
    names = {path.relative_to(results).parts[0] for path in seen}
    assert names >= {
        "inventory",
        "probe",
        "features",
        "weights",
        "gzsl",
        "runs",
        "accounting.json",
        "failure_rate.json",
    }
    stages = {read_manifest(path).stage.partition("/")[0] for path in seen}
    assert stages >= {"index_source", "probe_clips", "gzsl_tree", "gzsl_train", "gzsl_evaluate", "write_eval"}


def test_an_edited_figure_reaches_nothing_and_is_made_again_as_told(project):
    before = project.digests()
    path = project.folder / EVALUATION
    text = path.read_text()
    figure = f'"hm": {json.loads(text)["seeds"][0]["hm"]}'
    edited = figure.replace("1", "9") if "1" in figure else figure[:-1] + str(9 - int(figure[-1]))
    path.write_text(text.replace(figure, edited))  # of the same size, or planning would make it again
    (project.folder / TARGET).unlink()
    done = project.snakemake(TARGET, "--cores", "2", check=False)
    assert done.returncode != 0 and f"{EVALUATION} is not as it was written" in done.stdout + done.stderr
    found = verify(project)
    assert found.returncode == 1 and f"{EVALUATION}: the sha256 of evaluation.json is " in found.stdout
    (command,) = [line for line in found.stdout.splitlines() if line.startswith("  rm -rf ")]
    for name in shlex.split(command)[2:]:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    assert {job.split(" ")[0] for job in project.ran()} == {"Testing", "Writing"}
    assert project.digests() == before
    assert verify(project).returncode == 0, verify(project).stdout


def test_a_damaged_store_that_is_brought_up_to_date_is_made_anew(project):
    before = project.digests()
    store = project.folder / "results/small/features/vggish/0000.h5"
    data = bytearray(store.read_bytes())
    data[len(data) // 3] ^= 16
    store.write_bytes(data)
    project.run(
        "--forcerun", "results/small/features/vggish/0000.h5", target=str(Path(store).relative_to(project.folder))
    )
    log = project.folder / "results/logs/extract_vggish/small/0000.log"
    assert "Not reused: results/small/features/vggish/0000.h5 is not as it was written" in log.read_text()
    after = project.digests()
    assert {name: after[name] for name in before if name.startswith("small/features")} == {
        name: each for name, each in before.items() if name.startswith("small/features")
    }
