"""A short run of tests/tools/bit_flips.py: no flipped bit of a file of ours passes silently or ends in a bare error."""

import json
import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from bit_flips import KINDS, Kind, flip_bits

FLIPS = 12


@pytest.mark.parametrize("name", KINDS)
def test_no_flipped_bit_passes(tmp_path, name):
    outcomes = flip_bits(KINDS[name], tmp_path, FLIPS, random.Random(name))
    assert outcomes["different"] == outcomes["raw error"] == 0
    assert outcomes["noticed"] >= FLIPS // 2


def test_the_tool_tells_a_file_without_a_digest(tmp_path):
    def write(folder):
        (folder / "x.json").write_text(json.dumps({"hm": 28.571428, "note": "n" * 100}))
        return [folder / "x.json"]

    kind = Kind(write, lambda folder: json.loads((folder / "x.json").read_text()))
    outcomes = flip_bits(kind, tmp_path, 50, random.Random(0))
    assert outcomes["different"] > 20 and outcomes["raw error"] > 0
