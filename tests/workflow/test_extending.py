"""The examples of docs/extending.md in a whole run: from videos to eval.json with the page's extractor and method."""

import json

import yaml
from conftest import build
from extended_package import EXTRACTOR, METHOD, copy_package
from project import TARGET, jobs_in

from avpipe.registry import METHODS


def test_an_extractor_and_a_method_of_ones_own_reach_the_result(tmp_path):
    project = build(
        tmp_path / "project",
        feature_sets={"own": {"video": EXTRACTOR.name, "audio": "vggish"}},
        benchmarks=[{"split": "main_split", "features": "own"}],
        methods=dict.fromkeys(METHODS) | {METHOD.name: {}},
    )
    copy_package(project.folder, EXTRACTOR, METHOD)
    settings = project.settings()
    weights = {EXTRACTOR.name: "random:0", "vggish": "random:0"}
    settings["datasets"]["small"] |= {"weights": weights, "n_shards": 1}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))
    jobs = jobs_in(project.run())
    extracted = {job for job in jobs if job.startswith("Extracting")}
    assert extracted == {f"Extracting {title} features of small, shard 0000" for title in ("ResNet-18", "VGGish")}
    record = json.loads((project.folder / TARGET).read_text())
    assert {(each["method"], each["features"]) for each in record["results"]} == {(METHOD.name, "own")}
    assert record["provenance"]["weights"][EXTRACTOR.name]["label"] == "random:0"
