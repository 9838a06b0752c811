"""A stage whose output changes must have a new version, or users would keep results of the old code.

Extractors are compared step by step; the message names the first step that differs.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from extractor_steps import TOLERANCES, first_difference, tolerance_of
from fingerprint_differences import difference, keep_what_agrees

from avpipe import versions
from avpipe.registry import EXTRACTORS

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "fingerprints.json").read_text())
# Reports; eval.json is compared by the workflow tests.
WITHOUT_FINGERPRINT = {
    versions.FETCH_FILES,
    versions.FETCH_VIDEOS,
    versions.SUM_UP_VIDEOS,
    versions.CHECK_WEIGHTS,
    versions.ACCOUNT,
    versions.WRITE_EVAL,
    versions.GZSL_TABLE,
    versions.WRITE_RETRIEVAL_EVAL,
}


@pytest.fixture(scope="module")
def found(built_once):
    """The present fingerprint of a stage; stages that are made together are made once for all workers."""
    spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fingerprint(version):
        stages = next(stages for stages in module.parts() if version in stages)

        def write(folder):
            (folder / "found.json").write_text(json.dumps(module.fingerprints(stages)))

        folder = built_once("golden " + stages[0].replace("/", " "), write)
        return json.loads((folder / "found.json").read_text())[version]

    return fingerprint


def test_every_stage_has_a_fingerprint():
    stages = {value for name, value in vars(versions).items() if name.isupper()}
    stages |= {entry.stage for entry in EXTRACTORS.values()}
    assert set(RECORDED) == stages - WITHOUT_FINGERPRINT, "run: python tests/golden/make.py --fix"


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted(RECORDED))
def test_a_stage_makes_what_its_version_made(found, version):
    differs = difference(version, RECORDED[version], found(version))
    assert differs is None, (
        f"{version} {differs}\nIf that is meant, raise its number (src/avpipe/versions.py, or the extractor's entry in "
        "src/avpipe/registry.py) and run: python tests/golden/make.py --fix. A method or a model that joins is "
        "recorded likewise and raises no number."
    )


class TestKeepWhatAgrees:
    def test_last_digits_of_another_machine_are_left_out(self):
        recorded = {"probe/1": "a", "tree/1": [1.0, 2.0], versions.GZSL_TRAIN: {"avca": [1.0], "ale": [2.0]}}
        now = {"probe/1": "a", "tree/1": [1.0, 2.0001], versions.GZSL_TRAIN: {"avca": [1.0001], "ale": [2.0]}}
        assert keep_what_agrees(recorded, now) == recorded

    def test_what_changed_joined_or_went_is_written(self):
        recorded = {"tree/1": [1.0, 2.0], "gone/1": "x", versions.GZSL_TRAIN: {"avca": [1.0], "ale": [2.0]}}
        now = {"tree/1": [1.0, 2.5], "new/1": "y", versions.GZSL_TRAIN: {"avca": [1.0001], "sje": [3.0]}}
        kept = {"tree/1": [1.0, 2.5], "new/1": "y", versions.GZSL_TRAIN: {"avca": [1.0], "sje": [3.0]}}
        assert keep_what_agrees(recorded, now) == kept


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_every_kind_of_difference_is_seen(version):
    recorded = RECORDED[version]
    assert difference(version, recorded, recorded) is None
    changed = "another" if isinstance(recorded, str) else {} if isinstance(recorded, dict) else recorded[:-1]
    assert difference(version, recorded, changed)
    if isinstance(recorded, dict):
        last = list(recorded)[-1]
        assert last in difference(version, recorded, recorded | {last: [2 * value + 5 for value in recorded[last]]})


def test_every_extractor_is_recorded_step_by_step():
    for entry in EXTRACTORS.values():
        steps = list(RECORDED[entry.stage])
        assert steps[0].startswith("decoded") and len(steps) >= 8
        assert all(np.isfinite(values).all() for values in RECORDED[entry.stage].values())


class TestFirstDifference:
    recorded = RECORDED[EXTRACTORS["c3d"].stage]

    def changed(self, step, change):
        return self.recorded | {step: change(list(self.recorded[step]))}

    def test_none(self):
        assert first_difference(self.recorded, dict(self.recorded)) is None

    @pytest.mark.parametrize("step", list(RECORDED[EXTRACTORS["c3d"].stage])[:-1])
    def test_each_step_is_named_before_those_after_it(self, step):
        allowed = tolerance_of(step)
        largest = max(abs(value) for value in self.recorded[step])
        by = 1.1 * (allowed.absolute + allowed.of_largest * largest) or 1
        now = self.changed(step, lambda values: [*values[:-1], values[-1] + by])
        now["pooled"] = [0.0] * len(now["pooled"])
        assert f"starts to differ at {step!r}: 1 of" in first_difference(self.recorded, now)

    def test_within_tolerance(self):
        scale = 1 + 0.5 * TOLERANCES["network output"].of_largest
        now = self.changed("network output", lambda values: [value * scale for value in values])
        assert first_difference(self.recorded, now) is None

    def test_not_a_number(self):
        now = self.changed("network output", lambda values: [float("nan"), *values[1:]])
        assert "starts to differ at 'network output'" in first_difference(self.recorded, now)

    def test_other_numbers_of_steps_and_values(self):
        now = self.changed("pixels", lambda values: values[:-1])
        assert "'pixels': 153 numbers, recorded are 154" in first_difference(self.recorded, now)
        assert "has the steps []" in first_difference(self.recorded, {})
