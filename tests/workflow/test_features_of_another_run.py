"""`features_from`: the features of another run, in a place that nothing is written to, are used as if made here."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from project import TARGET, Project
from test_incremental import ACCOUNT, EVAL, clips_by_class, split_jobs

from avpipe.registry import METHODS

METHOD = "ale"
STORE = "features/c3d/0001.h5"


def state(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time stamp of all that lies in a folder, itself included."""
    found = [folder, *sorted(folder.rglob("*"))]
    return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found]


def set_writable(folder: Path, *, writable: bool) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o755 if writable else 0o555) if path.is_dir() else 0o644 if writable else 0o444)


@pytest.fixture
def shared(finished, tmp_path):
    """Results of the finished run in a place that is only read."""
    folder = tmp_path / "shared" / "small"
    shutil.copytree(finished.folder / "results" / "small", folder)
    set_writable(folder.parent, writable=False)
    yield folder
    set_writable(folder.parent, writable=True)


@pytest.fixture
def user(finished, shared, tmp_path) -> Project:
    """A project with the finished one's settings and split files, without videos and results, that names the place."""
    leave = shutil.ignore_patterns("results", ".snakemake", "videos")
    shutil.copytree(finished.folder, tmp_path / "user", ignore=leave)
    project = Project(tmp_path / "user")
    change(project, features_from=str(shared), source={"kind": "class_folders", "path": "nowhere"})
    project.change_settings(benchmarks=[{"split": "main_split"}], methods={**dict.fromkeys(METHODS), METHOD: {}})
    return project


def change(project: Project, **values) -> None:
    """Change keys of the dataset."""
    settings = project.settings()
    settings["datasets"]["small"] |= values
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))


def refused(project: Project) -> str:
    done = project.snakemake(TARGET, "-n", check=False)
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def results(folder: Path) -> dict:
    record = json.loads((folder / "eval.json").read_text())
    return {(each["split"], each["method"]): (each["mean"], each["seeds"]) for each in record["results"]}


def test_without_videos_the_same_figures_come_out_and_nothing_is_written_there(finished, shared, user):
    before = state(shared.parent)
    assert user.ran() == split_jobs("main_split", [METHOD]) | ACCOUNT | EVAL
    assert state(shared.parent) == before
    expected = results(finished.folder / "results/small")
    assert results(user.folder / "results/small") == {("main_split", METHOD): expected["main_split", METHOD]}
    made = {path.name for path in (user.folder / "results/small").iterdir()}
    assert made.isdisjoint({"inventory", "probe", "features", "weights"})
    text = (user.folder / "results/small/eval.json").read_text()
    record = json.loads(text)
    assert set(record["provenance"]["features_from"]) == {"probe", "c3d", "vggish"}
    assert record["provenance"]["weights"]["c3d"]["label"] == "random:0"
    assert record["clips"]["requested"] == len([clip for clips in clips_by_class(finished).values() for clip in clips])
    assert any("taken over from another run" in notice for notice in record["notices"])
    assert str(shared.parent.parent) not in text
    manifests = [path.read_text() for path in (user.folder / "results").rglob("*.manifest")]
    assert not [text for text in manifests if "shared" in text]

    # Elsewhere, with other time stamps, it is the same as far as manifests say, also to absolute results.
    set_writable(shared.parent, writable=True)
    elsewhere = shared.parent.with_name("elsewhere")
    shutil.copytree(shared.parent, elsewhere, copy_function=shutil.copyfile)
    change(user, features_from="../elsewhere/small")
    shutil.rmtree(user.folder / ".snakemake")
    moved = ["--config", f"pathvars={{results: {user.folder / 'results'}}}"]
    assert user.planned() == EVAL
    assert user.planned(*moved, target=f"{user.folder}/{TARGET}") == {f"Writing {user.folder}/{TARGET}"}


def test_another_setting_of_an_extractor_is_refused_with_both_values(shared, user):
    features = user.settings()["datasets"]["small"]["features"]
    change(user, features={**features, "c3d": {"stride_frames": 16, "batch_size": 1}}, require_audio=False)
    output = refused(user)
    assert "features/c3d/0000.h5 and 1 more" in output
    assert "datasets.small.features.c3d: stride_frames is 16 here and 32 there" in output
    assert "probe/0000.parquet and 1 more: it was made with other settings (require_audio)" in output
    assert "drop datasets.small.features_from" in output and "vggish" not in output


def test_other_weights_are_refused(user):
    change(user, weights={"c3d": "random:1", "vggish": "random:0"})
    output = refused(user)
    assert "c3d had the weights random:0 there, and random:1 are asked for" in output


def test_another_number_of_shards_is_refused(user):
    change(user, n_shards=1)
    assert "inventory/0000.parquet: it was made with other settings (n_shards)" in refused(user)


def test_other_clips_are_refused_where_the_videos_are_at_hand(finished, user):
    shutil.copytree(finished.folder / "videos", user.folder / "videos")
    change(user, source={"kind": "class_folders", "path": "videos"})
    assert user.planned() == split_jobs("main_split", [METHOD]) | ACCOUNT | EVAL
    clip = sorted((user.folder / "videos").rglob("v_*"))[0]
    clip.unlink()
    assert f"1 clip(s) there are not in the source, such as {clip.stem}" in refused(user)


@pytest.mark.parametrize("damage", ["truncated", "unfinished", "copied without manifests"])
def test_a_damaged_or_unfinished_store_is_refused(shared, user, damage):
    set_writable(shared, writable=True)
    store = shared / STORE
    if damage == "truncated":
        store.write_bytes(store.read_bytes()[:-1])
    elif damage == "unfinished":
        store.unlink()
    else:
        store.with_name(store.name + ".manifest").unlink()
    output = refused(user)
    expected = "it is not as it was written" if damage == "truncated" else "that run has not ended"
    assert STORE in output and expected in output


def test_a_store_that_was_made_from_other_probes_is_refused(finished, shared, user):
    """Such as one that was copied while that run was bringing it up to date."""
    set_writable(shared, writable=True)
    for suffix in ("", ".manifest"):
        shutil.copyfile(shared / f"probe/0000.parquet{suffix}", shared / f"probe/0001.parquet{suffix}")
    manifest = shared / "probe/0001.parquet.manifest"
    assert "probe/0001.parquet" in refused(user) and manifest.exists()


def test_what_is_taken_over_is_not_made_and_a_place_that_is_not_there_is_named(user):
    done = user.snakemake("results/small/features/c3d/0000.h5", "-n", check=False)
    assert done.returncode != 0 and "so they are not made here" in done.stdout + done.stderr
    change(user, features_from="nowhere/small")
    assert f"looked for {user.folder}/nowhere/small" in refused(user)
    (user.folder / "results/small").mkdir(parents=True)
    change(user, features_from="results/small")
    assert "lies in the results of this project itself" in refused(user)
