"""The workflow used from elsewhere: imported by another one, run in another folder, read-only, through a link."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import build_with_small_networks
from project import Project

from avpipe.registry import METHODS

IMPORTING = """
configfile: "config/config.yaml"

wildcard_constraints:
    dataset="none_of_avpipe",

rule all:
    input:
        "mine/small.txt",

module avpipe:
    snakefile: config["snakefile"]
    config: config["avpipe"]
    prefix: "av"
    pathvars:
        resources="given",

use rule * from avpipe as avpipe_*

use rule write_eval from avpipe as avpipe_write_eval with:
    threads: 2

rule mine:
    input:
        "av/results/{dataset}/eval.json",
    output:
        "mine/{dataset,small}.txt",
    shell:
        "cp {input} {output}"
"""
OF_PROJECT = ("videos", "split", "words_normed.npy")


@pytest.fixture(scope="module")
def checkout(built_once) -> Project:
    """A checkout with the small dataset's files, in which nothing has run, with one method on one split."""

    def make(folder: Path) -> None:
        project = build_with_small_networks(folder / "project")
        project.change_settings(benchmarks=[{"split": "main_split"}], methods=dict.fromkeys(set(METHODS) - {"ale"}))

    return Project(built_once("unfinished", make) / "project")


@pytest.fixture
def elsewhere(checkout, tmp_path) -> Path:
    """An empty folder but for the videos, the split and the class vectors."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in OF_PROJECT:
        (folder / name).symlink_to(checkout.folder / name)
    return folder


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def run(project: Project, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments], cwd=folder, env=project.environment,
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_another_workflow_imports_it(checkout, elsewhere):
    """Below a prefix, with folders and settings of its own, its own default target, wildcards and a rule after ours."""
    before = files_of(checkout.folder)
    (elsewhere / "workflow").mkdir()
    (elsewhere / "workflow" / "Snakefile").write_text(IMPORTING)
    (elsewhere / "config").mkdir()
    settings = {"snakefile": str(checkout.folder / "Snakefile"), "avpipe": checkout.settings()}
    (elsewhere / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    run(checkout, elsewhere)
    record = json.loads((elsewhere / "mine" / "small.txt").read_text())
    assert record["dataset"] == "small" and record["clips"]["ok"] > 0
    made = {path.name for path in elsewhere.iterdir()}
    assert made == {*OF_PROJECT, ".snakemake", "av", "config", "mine", "workflow"}
    assert {"logs", "benchmarks", "small"} == {path.name for path in (elsewhere / "av" / "results").iterdir()}
    assert "Nothing to be done" in run(checkout, elsewhere)
    planned = run(checkout, elsewhere, "-n", "av/results/demo/eval.json", "av/results/gzsl_table.md")
    assert "av/given/demo" in planned
    assert files_of(checkout.folder) == before


def test_a_read_only_checkout_runs_in_another_folder(checkout, elsewhere):
    before = files_of(checkout.folder)
    shutil.copyfile(checkout.folder / "small.yaml", elsewhere / "mine.yaml")
    link = elsewhere.parent / "link"
    link.symlink_to(checkout.folder)
    folders = [checkout.folder, *(path for path in before if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        target = ("results/small/eval.json", "--configfile", "mine.yaml")
        run(checkout, elsewhere, *target, "-s", str(checkout.folder / "Snakefile"))
        again = ("--directory", str(elsewhere), *target[:2], str(elsewhere / "mine.yaml"))
        output = run(checkout, elsewhere.parent, "-s", str(link / "Snakefile"), *again)
    finally:
        for path in folders:
            path.chmod(0o755)
    assert "Nothing to be done" in output
    assert files_of(checkout.folder) == before
    planned = run(checkout, elsewhere, "-n", "results/demo/eval.json", "-s", str(link / "Snakefile"))
    split = os.path.relpath(checkout.folder.resolve() / "config" / "splits" / "demo" / "class-split", elsewhere)
    assert "demo, main_split" in planned and (elsewhere / split).is_dir()


def test_settings_of_the_present_folder_come_before_those_of_the_checkout(checkout, elsewhere):
    (elsewhere / "config").mkdir()
    (elsewhere / "config" / "config.yaml").write_text(yaml.safe_dump({**checkout.settings(), "fidelty": "published"}))
    snakefile = str(checkout.folder / "Snakefile")
    command = [sys.executable, "-m", "snakemake", "-n", "results/small/eval.json", "-s", snakefile]
    done = subprocess.run(
        command, cwd=elsewhere, env=checkout.environment, capture_output=True, text=True, check=False, timeout=500
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1 and "config/config.yaml" in told and "fidelty" in told
