"""The examples of the documentation: the zero-shot method trains, configurations are valid, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from avpipe.config.load import load_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands between a heading of the second level and the next one."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml"))
]
EXAMPLE = section((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), "A zero-shot method")
MODULE, LINE = blocks(EXAMPLE, "python")
NAME = LINE.split('"')[1]
(CONFIGURATION,) = blocks(EXAMPLE, "yaml")

PROGRAM = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    import yaml
    import avpipe
    from avpipe.config.load import load_config
    from avpipe.gzsl import training
    from avpipe.gzsl.testing import evaluate_stage2

    tests, datasets, configuration, name, folder = sys.argv[1:]
    sys.path.insert(0, tests)
    from test_training import make_benchmark

    gzsl = load_config(yaml.safe_load(configuration), Path(datasets)).dataset("demo_gzsl").gzsl
    choice = gzsl.choice(name, "cls_features", "corrected")
    benchmark, folder = make_benchmark(), Path(folder)
    setting = {"seed": 5, "device": "cpu", "threads": 1}
    arguments = benchmark, name, choice.hyperparameters, choice.training
    training.train_stage1(*arguments, folder=folder / "1", **setting)
    training.train_stage2(*arguments, stage1=folder / "1" / "stage.json", folder=folder / "2", **setting)
    report = evaluate_stage2(benchmark, name, choice.hyperparameters, stage2=folder / "2", device="cpu", threads=1)
    runs = [each for each in gzsl.experiments() if each[2] == name]
    print(json.dumps({"package": avpipe.__file__, "report": report, "epochs": choice.training.epochs, "runs": runs}))
""")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The example put into a copy of the package as the page says, configured, trained and tested there."""
    folder = tmp_path_factory.mktemp("example")
    package = folder / "src" / "avpipe"
    shutil.copytree(ROOT / "src" / "avpipe", package, ignore=shutil.ignore_patterns("__pycache__"))
    (path,) = re.findall(r"`src/avpipe/(\S+)`:\n\n```python\n\"\"\"", EXAMPLE)
    assert not (package / path).exists()
    (package / path).write_text(MODULE, encoding="utf-8")
    registry = package / "registry.py"
    text = registry.read_text(encoding="utf-8")
    assert text.count("\nMETHODS = {\n") == 1
    registry.write_text(text.replace("\nMETHODS = {\n", f"\nMETHODS = {{\n{LINE}"), encoding="utf-8")
    arguments = [ROOT / "tests" / "gzsl", ROOT / "config" / "datasets", CONFIGURATION, NAME, folder]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"PYTHONPATH": str(package.parent)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert Path(result["package"]).is_relative_to(folder)
    return result


def test_the_example_is_short() -> None:
    """The page promises a method in 60 lines: module, registry line and configuration."""
    assert len(LINE.splitlines()) == len(CONFIGURATION.splitlines()) == 1
    assert sum(len(block.splitlines()) for block in (MODULE, LINE, CONFIGURATION)) <= 60


def test_the_example_learns(example: dict[str, Any]) -> None:
    metrics = example["report"]["metrics"]["both"]
    assert metrics["seen"] > 3 / 12  # three times chance, 1 of 12 classes
    assert metrics["zsl"] > 0.5  # chance is 1 of 3 unseen classes


def test_the_configuration_runs_the_example(example: dict[str, Any]) -> None:
    assert (
        example["epochs"]
        == yaml.safe_load(CONFIGURATION)["datasets"]["demo_gzsl"]["gzsl"]["methods"]["softmax"]["epochs"]
    )
    assert [run[1] for run in example["runs"]] == ["cls_features", "main_features"]
    assert {run[3] for run in example["runs"]} == {"corrected"}


def test_the_example_passes_the_linter(tmp_path: Path) -> None:
    path = tmp_path / "softmax.py"
    path.write_text(MODULE, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--config", ROOT / "pyproject.toml", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_configurations_are_valid(block: str) -> None:
    """Every YAML block is a whole file for --configfile."""
    values = yaml.safe_load(block)
    assert "datasets" in values
    if NAME not in block:  # the example's method, which the package itself does not have
        config = load_config(values, ROOT / "config" / "datasets")
        for name in values["datasets"]:
            list(config.dataset(name).gzsl.experiments())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    dead = []
    for target in targets:
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        if "://" not in target and not (place.exists() and (not anchor or anchor in anchors(place))):
            dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
