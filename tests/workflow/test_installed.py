"""A wheel brings the workflow along: it runs from an empty folder, and as a module laid out as in docs/module.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from extended_package import ROOT

SOURCES = ("src", "Snakefile", "rules", "workflow", "profiles", "envs", "config", "pyproject.toml", "setup.py")


def python(folder: Path, site: Path | None, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(site)} if site else {}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(built_once) -> Path:
    """Where the wheel is installed."""

    def build(folder: Path) -> None:
        source = folder / "source"
        source.mkdir()
        for name in (*SOURCES, "README.md", "LICENSE"):
            path, copy = ROOT / name, source / name
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(path, copy, ignore=ignored) if path.is_dir() else shutil.copyfile(path, copy)
        offline = ("--no-deps", "--no-index", "--disable-pip-version-check")
        python(folder, None, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", "wheels", "./source")
        (wheel,) = (folder / "wheels").glob("*.whl")
        python(folder, None, "-m", "pip", "install", *offline, "--target", "site", str(wheel))
        shutil.rmtree(source)

    return built_once("installed", build) / "site"


@pytest.mark.slow
def test_an_installed_package_runs_from_an_empty_folder(site, tmp_path):
    module = str(site / "avpipe" / "workflow_data" / "Snakefile")
    planned = python(tmp_path, site, "-m", "avpipe", "run", "-n", "results/demo/eval.json")
    assert "Writing results/demo/eval.json" in planned
    target = "results/demo/gzsl/main_split/class-split"
    made = python(tmp_path, site, "-m", "avpipe", "run", target, "--cores", "1")
    assert "1 of 1 steps (100%) done" in made and (tmp_path / target / "all_class.txt").is_file()
    assert "demo needs nothing" in python(tmp_path, site, "-m", "avpipe", "sources", "plan", "demo")
    assert {path.name for path in tmp_path.iterdir()} == {".snakemake", "results"}

    importing = tmp_path / "importing"
    (importing / "workflow").mkdir(parents=True)
    (importing / "config").mkdir()
    shutil.copyfile(ROOT / "docs" / "module_example.smk", importing / "workflow" / "Snakefile")
    settings = {"snakefile": module, "avpipe": {"datasets": {"demo": {"n_shards": 2}}}}
    (importing / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "Writing av/results/demo/eval.json" in python(importing, site, "-m", "snakemake", "-n")
    python(importing, site, "-m", "snakemake", "--cores", "1", f"av/{target}")
    assert (importing / "av" / target / "all_class.txt").is_file()
