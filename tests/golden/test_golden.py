"""A stage whose output changes must have a new version, or users would keep results of the old code."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from avpipe import stages

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "fingerprints.json").read_text())
WITHOUT_FINGERPRINT = {stages.WRITE_EVAL}  # a report; eval.json is compared by the workflow tests


@pytest.fixture(scope="module")
def found():
    spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fingerprints()


def test_every_stage_has_a_fingerprint():
    versions = {value for name, value in vars(stages).items() if name.isupper()}
    assert set(RECORDED) == versions - WITHOUT_FINGERPRINT, "run: python tests/golden/make.py --fix"


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_a_stage_makes_what_its_version_made(found, version):
    advice = (
        f"the output of {version} changed: raise its number in src/avpipe/stages.py, then tests/golden/make.py --fix"
    )
    recorded, now = RECORDED[version], found[version]
    if isinstance(recorded, str):
        assert now == recorded, advice
    else:
        # Other CPUs sum float32 in another order; five Adam steps amplify that most.
        np.testing.assert_allclose(now, recorded, rtol=2e-3, atol=2e-4, err_msg=advice)
