"""A few of the broken files of tests/tools/broken_media.py; a thousand take a quarter of an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "broken_media.py"


@pytest.mark.slow
def test_broken_files_are_accounted_for():
    command = [sys.executable, str(TOOL), "--files", "40", "--seed", "13", "--sample", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 files" in done.stdout.splitlines()[-1]
    assert "| all | 40 |" in done.stdout
