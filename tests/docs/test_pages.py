"""The pages of the documentation: configurations are valid, links lead somewhere, the citation is of this version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from extended_package import EXAMPLES, ROOT, blocks

from avpipe.config.load import load_config

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml"))
    if block not in {each.configuration for each in EXAMPLES}  # names that the package itself does not have
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_configurations_are_valid(block: str) -> None:
    """Every YAML block is a whole file for --configfile."""
    values = yaml.safe_load(block)
    assert "datasets" in values
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


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {key: citation[key] for key in ("title", "version", "license")} == {
        "title": project["name"], "version": project["version"], "license": project["license"],
    }  # fmt: skip
    for reference in [citation, *citation["references"]]:
        assert reference["authors"] and reference["title"] and reference["type"]


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" and version in headings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_the_workflow_page_has_every_rule() -> None:
    rules = {
        name
        for path in (ROOT / "rules").glob("*.smk")
        for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    table = (ROOT / "docs" / "workflow.md").read_text(encoding="utf-8").split("| file | rules |")[1].split("\n\n")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", "|".join(line.split("|")[:3]))}
    assert named == rules  # extract_<extractor> is one rule for each entry of the registry


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_stand_before_configfile(page: Path) -> None:
    """Snakemake would take a target that follows for another configuration file."""
    assert not re.findall(r"--configfile [^`\n]* results/", page.read_text(encoding="utf-8"))
