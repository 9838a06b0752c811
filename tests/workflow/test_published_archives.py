"""The archives that datasets are published as, made in the same layout, from a server on this machine to results."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from faulty_server import faulty_server, needs_server
from made_pack import make_pack
from project import TARGET, Project, jobs_in, new_project
from published_source import published_settings, write_benchmark

from avpipe.retrieval.models import build
from avpipe.retrieval.packs.published import write_clip_pickle
from avpipe.weights import random_state_dict

pytestmark = [pytest.mark.workflow, needs_server]

SIZES = {"embedding_dim": 8, "audio_channels": 2}
DATASETS = ("youcook2", "msrvtt", "crosstask", "youcook_japanese")
MODELS = {"avlnet": "AVLnet", "avlnet_text_tri": "AVLnet_Text_Tri", "avlnet_text_fused": "AVLnet_Text_Fused"}


def write_clips(path: Path, layout: str) -> None:
    """A clip pickle as it is published: without what avpipe writes beside its own."""
    write_clip_pickle(make_pack((0.5,) * 6, captions=[(f"stir {n}",) for n in range(6)]), path, layout)
    Path(f"{path}.json").unlink()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The server, with the archives of the table: as far as their layout is known."""
    table = yaml.safe_load((Path(__file__).parents[2] / "config" / "files.yaml").read_text())
    made, served = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("served")
    for name, folder in (("avlnet_data", "data"), ("avlnet_japanese", "YouCook_Japanese")):
        (made / folder).mkdir()
        for file in table[name]["unpack"]["pick"]:
            write_clips(made / folder / file, "msrvtt" if "msrvtt" in file else "youcook")
        (made / folder / "youcook_japanese_v1.json").write_text("[]")
    (made / "AVLnet_release").mkdir()
    for model, file in MODELS.items():
        torch.save(random_state_dict(build(model, **SIZES), 0), made / "AVLnet_release" / f"{file}_release.pth")
    torch.save({}, made / "AVLnet_release" / "resnext101.pth")
    for archive, folder in (
        ("AVLnet_release_data.tar.gz", "data"),
        ("AVLnet_release_models.tar.gz", "AVLnet_release"),
        ("YouCook_Japanese.tar.gz", "YouCook_Japanese"),
    ):
        with tarfile.open(served / archive, "w:gz") as file:
            file.add(made / folder, folder)
    server = faulty_server(served)
    with server as url:
        yield server, url


@pytest.fixture
def server(running):
    running[0].reset()
    return running[0]


@pytest.fixture
def project(running, server, tmp_path) -> Project:
    """A checkout whose table has the addresses of this machine's server in place of Dropbox's."""
    project = new_project(tmp_path / "project", {"source": {"kind": "packs"}})
    path = project.folder / "config" / "files.yaml"
    text, n_changed = re.subn(r"https://www\.dropbox\.com/[^\"]*/", f"{running[1]}/", path.read_text())
    assert n_changed == 3
    path.write_text(text)
    return project


def avpipe(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avpipe", "sources", *arguments],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_released_clips_and_models_are_fetched_by_a_run_and_give_a_result(project, server):
    """One command from nothing to the zero-shot figures of AVLnet on YouCook2."""
    known = yaml.safe_load((project.folder / "config/datasets/youcook2.yaml").read_text())["retrieval"]["runs"]
    settings = {"retrieval": {"runs": dict.fromkeys(known) | {"avlnet_zero_shot": SIZES}}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump({"datasets": {"youcook2": settings}}))
    target = "results/youcook2/eval.json"
    refused = project.snakemake(target, "--cores", "2", check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "avpipe sources fetch youcook2" in said and "allow_download: true" in said
    assert "avlnet_models: AVLnet's released models (size not published; licence: none stated)" in said
    assert server.log()["count"] == 0
    given = {"allow_download": True, "datasets": {"youcook2": settings}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(given))
    titles = ("AVLnet's released clips of YouCook2, MSR-VTT and CrossTask", "AVLnet's released models")
    fetching = {
        f"Fetching {title} to resources/{folder}" for title, folder in zip(titles, ("avlnet", "weights"), strict=True)
    }
    assert fetching <= project.planned(target=target) and server.log()["count"] == 0
    assert fetching <= project.ran(target=target)
    record = json.loads((project.folder / target).read_text())
    assert {each["run"] for each in record["results"]} == {"avlnet_zero_shot"}
    resources = project.folder / "resources"
    assert len(list((resources / "avlnet").glob("*.pkl"))) == 9
    assert sorted(path.name for path in (resources / "weights").glob("*.pth")) == sorted(
        f"{file}_release.pth" for file in MODELS.values()
    )
    assert not list(resources.rglob("*.tar.gz"))
    pinned = yaml.safe_load((resources / "files.lock.yaml").read_text())
    assert set(pinned) == {"avlnet_data", "avlnet_models"} and server.log()["count"] == 2
    assert "Nothing to be done" in project.run(target=target) and server.log()["count"] == 2


def test_what_was_fetched_is_what_every_dataset_plans_with(project, server):
    """The committed settings, unchanged: all runs of all four datasets."""
    (project.folder / "small.yaml").write_text("datasets: {}\n")
    vectors = project.folder / "resources/avlnet/GoogleNews-vectors-negative300.bin"
    for dataset in DATASETS:
        done = avpipe(project, "fetch", dataset)
        by_hand = dataset in ("youcook2", "msrvtt") and not vectors.exists()
        assert (done.returncode != 0) == by_hand, done.stderr
        if by_hand:
            assert "https://code.google.com/archive/p/word2vec" in done.stderr and str(vectors.name) in done.stderr
            with vectors.open("wb") as file:
                file.truncate(3_644_258_522)  # planning reads none of it
        planned = avpipe(project, "plan", dataset)
        assert planned.returncode == 0 and f"{dataset} lacks nothing" in planned.stdout
        assert "unverified origin: " in planned.stdout and "pinned since 20" in planned.stdout
    assert server.log()["count"] == 3
    targets = [f"results/{dataset}/eval.json" for dataset in DATASETS]
    jobs = jobs_in(project.snakemake(*targets, "-n").stdout)
    assert {f"Writing results/{dataset}/eval.json" for dataset in DATASETS} <= jobs


def test_features_on_a_drive_are_asked_for_by_hand_and_unpacked_where_they_were_put(project, tmp_path):
    """The archive of AVCA's authors, as its page describes it, gives a result by the same command."""
    settings = published_settings() | {"files": ["avca_features"]}
    settings["source"]["path"] = "<resources>/avca_features/UCF"
    given = {"allow_download": True, "datasets": {"small": settings}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(given))
    place = project.folder / "resources/avca_features/avgzsl_benchmark_datasets.zip"
    for _ in range(2):  # the run, then the command
        done = project.snakemake(TARGET, "--cores", "2", check=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0 and "https://drive.google.com/file/d/1NzpSVL-2nXRFH6pvHNOZeRhu_jfDL0ZE" in said
        assert f"save it as {place.relative_to(project.folder)}" in said and "licence: MIT" in said
    write_benchmark(tmp_path / "made" / "UCF")
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w") as file:
        for path in sorted((tmp_path / "made" / "UCF").rglob("*.*")):
            file.write(path, f"avgzsl_benchmark_datasets/{path.relative_to(tmp_path / 'made')}")
        for other in ("ActivityNet", "VGGSound"):
            file.writestr(f"avgzsl_benchmark_datasets/{other}/class-split/all_class.txt", "x\n")
    project.run()
    assert json.loads((project.folder / TARGET).read_text())["results"] and place.is_file()
    assert (place.parent / "VGGSound/class-split/all_class.txt").is_file()
    assert "avca_features" in yaml.safe_load((project.folder / "resources/files.lock.yaml").read_text())
    shutil.rmtree(place.parent / "UCF")
    place.unlink()
    assert "by hand" in avpipe(project, "plan", "small", "--configfile", "small.yaml").stdout
