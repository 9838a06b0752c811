"""One clear message for each kind of bad input, before work is wasted, and an exit status that is not zero."""

import shutil

import pytest
import torch
import yaml
from conftest import build
from project import TARGET


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project in which nothing has run."""
    return build(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture
def project(fresh, tmp_path):
    return fresh.copy(tmp_path / "project")


def refusal(project, *arguments) -> str:
    done = project.snakemake(TARGET, "--cores", "2", *arguments, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def set_keys(project, **values):
    settings = project.settings()
    settings["datasets"]["small"] |= values
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))


def assert_nothing_ran(project):
    assert not list((project.folder / "results").rglob("*.parquet")) if (project.folder / "results").exists() else True


def test_an_unknown_key(project):
    set_keys(project, n_shard=3)
    assert "datasets.small.n_shard: unknown key; did you mean n_shards?" in refusal(project)
    assert_nothing_ran(project)


def test_a_value_of_the_wrong_type(project):
    set_keys(project, n_shards="two")
    assert "datasets.small.n_shards" in refusal(project)
    assert_nothing_ran(project)


def test_missing_sources_are_all_named_with_what_to_set(project):
    set_keys(project, source={"kind": "class_folders", "path": "nowhere", "obtain": "the moon"}, weights={})
    output = refusal(project)
    assert "3 thing(s) are missing or do not fit" in output
    looked = f"looked for {project.folder}/nowhere; put it there or set datasets.small.source.path"
    assert f"{looked}; to be had from the moon" in output
    assert "set weights.c3d" in output and "set weights.vggish" in output
    assert_nothing_ran(project)


def test_a_class_that_no_clip_has(project):
    unseen = sorted((project.folder / "videos").iterdir())[-1]
    shutil.rmtree(unseen)
    output = refusal(project)
    assert unseen.name in output and "no clip" in output
    assert_nothing_ran(project)


def test_two_clips_with_one_id(project):
    folders = sorted((project.folder / "videos").iterdir())
    clip = next(folders[0].iterdir())
    shutil.copyfile(clip, folders[1] / clip.name)
    output = refusal(project)
    assert "occur more than once" in output and f"'{clip.stem}'" in output
    assert_nothing_ran(project)


def test_subsets_that_overlap(project):
    split = project.folder / "split" / "main_split"
    trained = (split / "stage_1_train.txt").read_text()
    name = trained.splitlines()[0]
    with (split / "stage_2_test_unseen.txt").open("a") as stream:
        stream.write(name + "\n")
    output = refusal(project)
    assert name in output and "stage_2_test_unseen" in output
    assert_nothing_ran(project)


@pytest.mark.parametrize("wrong", ["keys", "text"])
def test_a_weights_file_that_does_not_fit(project, wrong):
    path = project.folder / "vggish.pth"
    if wrong == "keys":
        torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3), "surplus": torch.zeros(1)}, path)
    else:
        path.write_text("not a weights file")
    set_keys(project, weights={"c3d": "random:0", "vggish": "vggish.pth"})
    output = refusal(project)
    if wrong == "keys":
        assert "fc.4.bias" in output and "surplus" in output
    assert "vggish.pth" in output
    assert_nothing_ran(project)


def test_a_pca_file_that_is_none(project):
    (project.folder / "pca.npz").write_text("not an npz")
    settings = {"c3d": "random:0", "vggish": "random:0", "vggish_pca": "pca.npz"}
    set_keys(project, weights=settings, features={"vggish": {"postprocess": True}})
    assert "pca.npz cannot be read as VGGish's PCA file" in refusal(project)
    assert_nothing_ran(project)
