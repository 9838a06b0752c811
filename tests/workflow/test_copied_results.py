"""Results carry their own provenance: what runs where files are lost, .snakemake/ is, or time stamps are."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROLES
from project import Project, write_split
from test_incremental import (
    ACCOUNT,
    BOTH_SPLITS,
    EVAL,
    FEATURES,
    TREES_BELOW,
    clips_by_class,
    shard_jobs,
    split_jobs,
)

from avpipe.sources.local import shard_of

TREE = f"results/small/gzsl/main_split/features/{FEATURES}"
EVALUATION = f"results/small/runs/main_split/{FEATURES}/ale/corrected/evaluation.json"
MAIN_SPLIT = split_jobs("main_split") | EVAL
MAIN_TREE = {job for job in MAIN_SPLIT if not job.startswith("Writing the class split")}
TRAININGS = {job for job in BOTH_SPLITS if "Training" in job or "Testing" in job}
NEWER = "files are newer than what was made from them"


def adopt(project: Project) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avpipe", "adopt", "results/small"]
    return subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)


def copy_results(source: Project, target: Project, *, records: bool = False) -> None:
    """Results as `cp -r` or `rsync` without -t leaves them, the newest first made; with .snakemake/ or without."""
    shutil.rmtree(target.folder / "results")
    shutil.copytree(source.folder / "results", target.folder / "results", copy_function=shutil.copyfile)
    files = sorted((target.folder / "results").rglob("*"))
    newest = max(path.stat().st_mtime for path in files)
    for age, path in enumerate(files):  # an order of its own, whatever that of the copy was
        os.utime(path, (newest - age, newest - age))
    if not records:
        shutil.rmtree(target.folder / ".snakemake")


@pytest.fixture
def bare(project: Project) -> Project:
    """The finished project without .snakemake/."""
    shutil.rmtree(project.folder / ".snakemake")
    return project


def flip(path):
    """Change a file and leave its size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("with_records", [True, False])
def test_a_tree_that_lost_a_class_is_built_again_before_anything_trains_on_it(project, with_records):
    before = project.digests()
    if not with_records:
        shutil.rmtree(project.folder / ".snakemake")
    lost = sorted((project.folder / TREE).rglob("stage_1_train/*.h5"))[0]
    lost.unlink()
    output = project.run("-n")
    assert (
        f"{TREE} is not as it was written and is made again: {lost.relative_to((project.folder / TREE).parent)}"
        in output
    )
    assert project.planned() == MAIN_TREE
    if with_records:
        project.change_settings(benchmarks=[{"split": "main_split"}])
        assert project.ran() == MAIN_TREE
        record = json.loads((project.folder / "results/small/eval.json").read_text())
        training = record["benchmarks"][f"main_split/{FEATURES}"]["subsets"]["stage_1_train"]
        assert training["used"] == training["expected"] and lost.is_file()
        after = project.digests()
        tree = TREE.removeprefix("results/")
        assert [name for name in before if name.startswith(tree) and after[name] != before[name]] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / TREE / "audio/stage_1_train/Surplus.h5").write_bytes(b""), MAIN_TREE),
        (lambda root: flip(sorted((root / TREE).rglob("*.h5"))[-1]), MAIN_TREE),
        (lambda root: flip(root / "results/small/gzsl/main_split/class-split/all_class.txt"), MAIN_SPLIT),
        (lambda root: (root / f"{TREE}.manifest").unlink(), MAIN_TREE),
        (
            lambda root: (root / EVALUATION).write_text("{}"),
            {"Testing ale (corrected) on small, main_split, cls_features"} | EVAL,
        ),
        (lambda root: (root / "results/small/probe/0001.parquet").write_bytes(b""), None),
    ],
)
def test_results_that_were_edited_are_made_again(project, change, expected):
    change(project.folder)
    probed = (shard_jobs(1) - {"Listing the clips of small, shard 0001"}) | ACCOUNT | TREES_BELOW
    assert project.planned() == (expected or probed)


def test_without_snakemakes_records_there_is_nothing_to_do_either(bare):
    assert bare.planned() == set()


def test_results_that_were_moved_elsewhere_have_nothing_to_do(project, tmp_path):
    shutil.move(project.folder / "results", tmp_path / "elsewhere")
    settings = project.settings() | {"pathvars": {"results": str(tmp_path / "elsewhere")}}
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    assert project.planned(target=str(tmp_path / "elsewhere/small/eval.json")) == set()


def test_without_records_another_number_of_epochs_only_trains(bare):
    bare.change_settings(training={"epochs": 2, "batches_per_epoch": 4, "batch_size": 16})
    assert bare.planned() == TRAININGS | EVAL


def test_without_records_another_seed_trains_only_that_seed(bare):
    bare.change_settings(seeds=[3, 4], benchmarks=[{"split": "main_split"}])
    trained = {job for job in split_jobs("main_split") if "Training" in job or "Testing" in job}
    output = bare.run()
    assert output.count("Stage 1 with seed 3 is finished already.") == len(trained) / 2
    assert bare.planned() == set()


def test_without_records_a_new_video_runs_its_own_shard(bare):
    source = next((bare.folder / "videos").rglob(f"{next(iter(clips_by_class(bare).values()))[0]}.*"))
    shutil.copyfile(source, source.with_name(f"v_New_g99_c01{source.suffix}"))
    assert bare.planned() == shard_jobs(shard_of("v_New_g99_c01", 2)) | ACCOUNT | TREES_BELOW


def test_without_records_settings_of_an_extractor_and_a_raised_version_are_seen(bare):
    settings = bare.settings()
    settings["datasets"]["small"]["features"]["vggish"]["final_relu"] = False
    (bare.folder / "small.yaml").write_text(json.dumps(settings))
    vggish = {f"Extracting VGGish features of small, shard {shard:04d}" for shard in (0, 1)}
    assert bare.planned() == vggish | ACCOUNT | TREES_BELOW
    settings["datasets"]["small"]["features"]["vggish"]["final_relu"] = True
    settings |= {"device": "cpu", "clip_timeout_seconds": 77}
    rules = bare.folder / "rules" / "gzsl.smk"
    rules.write_text(rules.read_text().replace("stage=versions.GZSL_TRAIN", "stage=versions.GZSL_TRAIN + '+'"))
    (bare.folder / "small.yaml").write_text(json.dumps(settings))
    assert bare.planned() == TRAININGS | EVAL


def test_a_split_that_is_replaced_by_an_older_one_is_seen(bare):
    clips = clips_by_class(bare)
    roles = dict(zip(clips, ROLES["main_split"], strict=True))
    first, last = next(iter(clips)), list(clips)[-1]
    roles |= {first: roles[last], last: roles[first]}
    write_split(bare.folder / "split", "main_split", clips, roles)
    for path in (bare.folder / "split").rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    assert bare.planned() == MAIN_SPLIT


@pytest.mark.parametrize("records", [True, False])
def test_results_that_were_copied_without_times_are_adopted(finished, project, records):
    copy_results(finished, project, records=records)
    plan = project.run("-n")
    assert NEWER in plan and "`avpipe adopt results/small`" in plan
    done = adopt(project)
    assert done.returncode == 0 and "results/small is adopted" in done.stdout, done.stdout + done.stderr
    plan = project.run("-n")
    assert "Nothing to be done" in plan and NEWER not in plan
    project.change_settings(seeds=[4])
    assert project.planned() == TRAININGS | EVAL
    project.change_settings(seeds=[3])
    shutil.copytree(project.folder / "split/other_split", project.folder / "kept")
    for path in (project.folder / "split/other_split").glob("stage_2_train.*"):
        path.write_text(path.read_text() + "\n")
    assert project.planned() == split_jobs("other_split") | EVAL


def test_a_damaged_result_is_not_adopted(finished, project):
    copy_results(finished, project)
    damaged = project.folder / "results/small/features/c3d/0000.h5"
    flip(damaged)
    stamp = damaged.stat().st_mtime_ns
    done = adopt(project)
    assert done.returncode == 1 and "the sha256 of 0000.h5 is" in done.stdout and "rm -rf" in done.stdout
    assert damaged.stat().st_mtime_ns == stamp


def test_features_alone_are_adopted_and_only_what_is_not_there_runs(finished, project):
    copy_results(finished, project)
    results = project.folder / "results/small"
    shutil.rmtree(results / "runs")
    for path in [*results.glob("eval.*"), *results.glob("beta_curves.*"), *results.glob("report.*")]:
        path.unlink()
    assert adopt(project).returncode == 0
    assert project.planned() == TRAININGS | EVAL
