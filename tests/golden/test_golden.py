"""A stage whose output changes must have a new version, or users would keep results of the old code.

Extractors are compared step by step; the message names the first step that differs.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from extractor_steps import TOLERANCES, first_difference, tolerance_of

from avpipe import versions
from avpipe.registry import EXTRACTORS

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "fingerprints.json").read_text())
# Reports; eval.json is compared by the workflow tests.
WITHOUT_FINGERPRINT = {versions.WRITE_EVAL, versions.GZSL_TABLE, versions.WRITE_RETRIEVAL_EVAL}
TRAINED = (
    versions.GZSL_TRAIN,
    versions.GZSL_EVALUATE,
    versions.RETRIEVAL_TRAIN,
    versions.RETRIEVAL_EVALUATE,
    versions.RETRIEVAL_INDEX,
)


@pytest.fixture(scope="module")
def found():
    spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fingerprints()


def test_every_stage_has_a_fingerprint():
    stages = {value for name, value in vars(versions).items() if name.isupper()}
    stages |= {entry.stage for entry in EXTRACTORS.values()}
    assert set(RECORDED) == stages - WITHOUT_FINGERPRINT, "run: python tests/golden/make.py --fix"


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_a_stage_makes_what_its_version_made(found, version):
    advice = (
        f"the output of {version} changed: raise its number in src/avpipe/versions.py, then tests/golden/make.py --fix"
    )
    recorded, now = RECORDED[version], found[version]
    if version in TRAINED:
        assert now.keys() == recorded.keys(), (
            "methods or models have joined or gone; no version changes for that. Run: python tests/golden/make.py --fix"
        )
        for method, values in recorded.items():
            # Other CPUs sum float32 in another order; five Adam steps amplify that most.
            np.testing.assert_allclose(now[method], values, rtol=2e-3, atol=2e-4, err_msg=f"{method}: {advice}")
    elif isinstance(recorded, dict):
        difference = first_difference(recorded, now)
        assert difference is None, f"{version} {difference}\n{advice}"
    elif isinstance(recorded, str):
        assert now == recorded, advice
    else:
        # Other CPUs sum float32 in another order.
        np.testing.assert_allclose(now, recorded, rtol=2e-3, atol=2e-4, err_msg=advice)


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
