import os
import subprocess
import sys
from pathlib import Path

from avpipe.config.reference import main

ROOT = Path(__file__).parents[2]


def test_generated_files_are_in_step(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main([]) == 0, capsys.readouterr().err


def test_fix_writes_what_is_out_of_step(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "avpipe.config.reference"]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 1
    subprocess.run([*command, "--fix"], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "docs" / "config.md").read_text() == (ROOT / "docs" / "config.md").read_text()
