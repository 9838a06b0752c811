"""What runs again after a change: exactly what depends on it. Sets of jobs come from Snakemake's own plan."""

import json
import os
import shutil

import torch
from conftest import CLASSES, CLIPS_PER_CLASS, ROLES
from project import Project, jobs_in, write_split
from read_page import read_page

from avpipe.features import build_network
from avpipe.features.store import read_source_keys
from avpipe.inventory.status import read_statuses
from avpipe.sources.local import shard_of
from avpipe.weights import load_weights

FEATURES = "cls_features"


def split_jobs(split: str, methods=("avca", "ale")) -> set[str]:
    """All jobs below a split, without the last one, which all splits share."""
    place = f"small, {split}, {FEATURES}"
    return {
        f"Writing the class split {split} of small",
        f"Building the folder tree of {place}",
        *(f"{verb} {method} (corrected) on {place}" for method in methods for verb in ("Training", "Testing")),
    }


EVAL = {"Writing results/small/eval.json"}
BOTH_SPLITS = split_jobs("main_split") | split_jobs("other_split") | EVAL
TREES_BELOW = {job for job in BOTH_SPLITS if not job.startswith("Writing the class split")}


def shard_jobs(shard: int) -> set[str]:
    return {
        f"Listing the clips of small, shard {shard:04d}",
        f"Probing the files of small, shard {shard:04d}",
        f"Extracting C3D features of small, shard {shard:04d}",
        f"Extracting VGGish features of small, shard {shard:04d}",
    }


ACCOUNTED = "results/small/failure_rate.json"
ACCOUNT = {"Accounting for every clip of small", "Checking how many clips of small are missing or damaged"}


def clips_by_class(project: Project) -> dict[str, list[str]]:
    videos = project.folder / "videos"
    return {folder.name: sorted(path.stem for path in folder.iterdir()) for folder in sorted(videos.iterdir())}


def test_a_first_run_makes_everything_and_the_account_adds_up(finished):
    record = json.loads((finished.folder / "results/small/eval.json").read_text())
    n_clips = CLASSES * CLIPS_PER_CLASS
    assert record["clips"]["requested"] == record["clips"]["ok"] == n_clips
    assert sum(shard["requested"] for shard in record["clips"]["shards"].values()) == n_clips
    assert {(each["split"], each["method"], each["n_seeds"]) for each in record["results"]} == {
        (split, method, 1) for split in ROLES for method in ("avca", "ale")
    }
    subsets = record["benchmarks"]["main_split/cls_features"]["subsets"]
    assert subsets["stage_2_test_unseen"]["expected"] == subsets["stage_2_test_unseen"]["used"] == 2 * CLIPS_PER_CLASS
    assert any("RANDOM WEIGHTS" in notice for notice in record["notices"])
    assert record["provenance"]["weights"]["c3d"]["label"] == "random:0"
    assert 0 <= record["results"][0]["mean"]["hm"] <= 100


def test_the_page_shows_every_method_its_curves_and_its_classes(finished):
    page = read_page(finished.folder / "results/small/report.html")
    assert {"Results", "Learning curves", "Seen against unseen", "Classes", "Clips"} <= set(page.sections)
    for method in ("avca", "ale"):
        assert sum(each.startswith(f"Loss of {method}, corrected: ") for each in page.pictures) == 2 * len(ROLES)
    classes = json.loads((finished.folder / "results/small/eval.json").read_text())["results"][0]["per_class"]
    assert all(name in page.text for name in classes)
    assert "extract_c3d" in page.text  # how long it took


def test_jobs_import_torch_for_networks_and_trainings_alone(finished):
    """It takes longer to start than most jobs take."""
    told = {tuple(line.split()) for line in (finished.folder / "imports.txt").read_text().splitlines()}
    with_torch = {script for script, imported in told if imported == "True"}
    assert with_torch == {"extract_features", "train_gzsl"}
    assert {script for script, _ in told} - with_torch == {
        "index_source", "probe_clips", "check_weights", "account_clips", "check_failure_rate", "write_class_split",
        "build_gzsl_tree", "evaluate_gzsl", "write_eval",
    }  # fmt: skip


def test_a_raised_test_version_tests_saved_checkpoints_and_trains_nothing(project):
    versions = project.folder / "src" / "avpipe" / "versions.py"
    versions.write_text(versions.read_text().replace('GZSL_EVALUATE = "', 'GZSL_EVALUATE = "raised '))
    place = "results/small/runs/main_split/cls_features/ale/corrected/evaluation.json"
    before = (project.folder / place).read_bytes()
    assert project.planned() == {job for job in BOTH_SPLITS if "Testing" in job} | EVAL
    assert project.ran(target=place) == {f"Testing ale (corrected) on small, main_split, {FEATURES}"}
    assert (project.folder / place).read_bytes() == before


def test_a_second_run_has_nothing_to_do(project):
    assert "Nothing to be done" in project.run()


def test_a_fresh_checkout_of_the_workflow_has_nothing_to_do(project):
    for path in [project.folder / "Snakefile", *(project.folder / "workflow" / "scripts").glob("*.py")]:
        path.touch()
    assert project.planned() == set()


def test_moving_a_class_to_another_subset_runs_that_split_again_and_nothing_else(project):
    clips = clips_by_class(project)
    roles = dict(zip(clips, ROLES["other_split"], strict=True))
    first_unseen, first_trained = next(iter(clips)), list(clips)[2]
    assert (roles[first_unseen], roles[first_trained]) == ("test_unseen", "train")
    roles |= {first_unseen: "train", first_trained: "test_unseen"}
    write_split(project.folder / "split", "other_split", clips, roles)
    before = project.digests()
    assert project.ran() == split_jobs("other_split") | EVAL
    changed = {path for path, digest in project.digests().items() if before.get(path) != digest}
    of_all = ("small/eval.", "small/beta_curves.")
    assert changed and all("other_split" in path or path.startswith(of_all) for path in changed)


def test_a_new_video_runs_its_own_shard_again_and_inside_it_only_itself(project):
    label, clips = next(iter(clips_by_class(project).items()))
    new = "v_New_g99_c01"
    source = next((project.folder / "videos" / label).glob(f"{clips[0]}.*"))
    shutil.copyfile(source, source.with_name(new + source.suffix))
    shard = shard_of(new, 2)
    assert project.planned() == shard_jobs(shard) | ACCOUNT | TREES_BELOW
    store = project.folder / f"results/small/features/c3d/{shard:04d}.h5"
    keys = read_source_keys(store)
    # Up to where clips are accounted for: that trees and trainings follow is planned above and run in other tests.
    output = project.run(target=ACCOUNTED)
    assert jobs_in(output) == shard_jobs(shard) | ACCOUNT
    assert read_source_keys(store).items() >= keys.items()
    assert new in read_source_keys(store)
    reused = len(keys)
    assert f"[extract_c3d small {shard:04d}] c3d clips: 1 done, 0 failed, {reused} reused" in output
    assert f"[probe_clips small {shard:04d}] clips probed: 1 done, 0 failed, {reused} reused" in output
    assert project.planned(target=ACCOUNTED) == set()


def test_a_removed_video_leaves_its_shard(project):
    clip = next(iter(clips_by_class(project).values()))[0]
    next((project.folder / "videos").rglob(f"{clip}.*")).unlink()
    shard = shard_of(clip, 2)
    assert project.planned() == shard_jobs(shard) | ACCOUNT | TREES_BELOW
    # Up to the folder tree, whose summary is what eval.json says of a benchmark.
    tree = "results/small/gzsl/main_split/cls_features.json"
    built = {"Building the folder tree of small, main_split, cls_features"}
    assert project.ran(target=tree) == shard_jobs(shard) | built
    status = project.folder / f"results/small/features/c3d/{shard:04d}.status.parquet"
    assert clip not in {row.clip_id for row in read_statuses(status)}
    summary = json.loads((project.folder / tree).read_text())
    assert summary["subsets"]["stage_1_train"]["missing"] == {"missing": 1}


def test_a_raised_stage_version_runs_that_stage_and_all_below(project):
    """The version is a param; here it is raised in a copy of the library that this project alone imports."""
    rules = project.folder / "rules" / "features.smk"
    raised = "stage=_entry.stage + '+' * (_extractor == 'vggish')"
    rules.write_text(rules.read_text().replace("stage=_entry.stage", raised))
    vggish = {f"Extracting VGGish features of small, shard {shard:04d}" for shard in (0, 1)}
    assert project.planned() == vggish | ACCOUNT | TREES_BELOW


def test_a_raised_training_version_leaves_features_and_trees_alone(project):
    rules = project.folder / "rules" / "gzsl.smk"
    rules.write_text(rules.read_text().replace("stage=versions.GZSL_TRAIN", "stage=versions.GZSL_TRAIN + '+'"))
    assert project.planned() == {job for job in BOTH_SPLITS if "Training" in job or "Testing" in job} | EVAL


def test_another_seed_trains_only_that_seed(project):
    project.change_settings(seeds=[3, 4], benchmarks=[{"split": "main_split"}])
    trained = {job for job in split_jobs("main_split") if "Training" in job or "Testing" in job}
    before = project.digests()
    output = project.run()
    assert jobs_in(output) == trained | EVAL
    assert output.count("Stage 1 with seed 3 is finished already.") == len(trained) / 2
    after = project.digests()
    assert all(after[path] == digest for path, digest in before.items() if "/seed3/" in path)
    record = json.loads((project.folder / "results/small/eval.json").read_text())
    assert [seed["seed"] for seed in record["results"][0]["seeds"]] == [3, 4]
    assert record["results"][0]["std"]["hm"] is not None


def test_other_settings_of_an_extractor_run_it_again_and_not_the_other(project):
    settings = project.settings()
    settings["datasets"]["small"]["features"]["vggish"]["final_relu"] = False
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    vggish = {f"Extracting VGGish features of small, shard {shard:04d}" for shard in (0, 1)}
    assert project.planned() == vggish | ACCOUNT | TREES_BELOW


def test_other_weights_of_an_extractor_leave_the_other_alone(project):
    settings = project.settings()
    settings["datasets"]["small"]["weights"]["vggish"] = "random:1"
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    vggish = {f"Extracting VGGish features of small, shard {shard:04d}" for shard in (0, 1)}
    assert project.planned() == vggish | ACCOUNT | TREES_BELOW | {"Checking the weights of vggish for small"}


def test_a_weights_file_that_is_replaced_by_an_older_one_is_seen(project, small_networks):
    settings = project.settings()
    settings["datasets"]["small"]["weights"]["vggish"] = "vggish.pth"
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    for seed in (0, 1):
        network = build_network("vggish")
        load_weights(network, f"random:{seed}")
        torch.save(network.state_dict(), project.folder / f"{seed}.pth")
    (project.folder / "0.pth").replace(project.folder / "vggish.pth")
    features = [f"results/small/features/vggish/{shard:04d}.h5" for shard in (0, 1)]
    project.snakemake(*features, "--cores", "2")
    os.utime(project.folder / "1.pth", (1e9, 1e9))
    (project.folder / "1.pth").replace(project.folder / "vggish.pth")
    vggish = {f"Extracting VGGish features of small, shard {shard:04d}" for shard in (0, 1)}
    planned = jobs_in(project.snakemake(*features, "-n").stdout)
    assert planned == vggish | {"Checking the weights of vggish for small"}


def test_how_rows_are_computed_runs_nothing_again(project):
    settings = project.settings()
    settings["datasets"]["small"]["features"]["c3d"]["batch_size"] = 2
    settings |= {"device": "cpu", "clip_timeout_seconds": 77}
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    assert not {job for job in project.planned() if "Extracting" in job}


def test_another_tolerated_failure_rate_only_checks_it(project):
    settings = project.settings()
    settings["datasets"]["small"]["max_failure_rate"] = 0.3
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    assert project.planned() == {"Checking how many clips of small are missing or damaged"} | EVAL


def test_changes_that_come_together_are_all_seen(project):
    """An input marked ancient would hide them: Snakemake compares nothing below a job that runs."""
    settings = project.settings()
    small = settings["datasets"]["small"]
    small["max_failure_rate"] = 0.3
    small["weights"]["vggish"] = "random:1"
    small["features"]["c3d"]["stride_frames"] = 24
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    assert project.planned() >= {job for shard in (0, 1) for job in shard_jobs(shard) if "Extracting" in job}


def test_an_extractor_that_joins_leaves_the_others_alone(project):
    settings = project.settings()
    settings["datasets"]["small"]["extract_also"] = ["spectrogram"]
    (project.folder / "small.yaml").write_text(json.dumps(settings))
    spectrograms = {f"Extracting log-mel spectrogram features of small, shard {shard:04d}" for shard in (0, 1)}
    assert project.planned() == spectrograms | ACCOUNT | EVAL | {"Checking the weights of spectrogram for small"}


def test_training_on_another_number_of_epochs_only_trains(project):
    project.change_settings(training={"epochs": 2, "batches_per_epoch": 4, "batch_size": 16})
    assert project.planned() == {job for job in BOTH_SPLITS if "Training" in job or "Testing" in job} | EVAL
