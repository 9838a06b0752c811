import os
import re
import subprocess
import sys
from pathlib import Path

from avpipe.config.reference import FILES, main

ROOT = Path(__file__).parents[2]


def test_generated_files_are_in_step(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main([]) == 0, capsys.readouterr().err


def test_fix_writes_what_is_out_of_step(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "avpipe.config.reference"]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 1
    subprocess.run([*command, "--fix"], cwd=tmp_path, env=environment, check=True)
    for name in FILES:
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


def test_every_field_of_a_result_has_a_meaning_and_a_rate_its_unit():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", (ROOT / "docs/result_fields.md").read_text(), re.MULTILINE)
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/result_fields.md").read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings)), "links lead to headings"
    assert len(rows) > 150 and all(meaning and meaning != "None" for _, _, meaning in rows)
    rates = [(name, meaning) for name, _, meaning in rows if name in ("seen", "unseen", "hm", "zsl", "r1", "r5", "r10")]
    assert len(rates) >= 10
    assert all("in %" in meaning or "clips of" in meaning or "Differences" in meaning for _, meaning in rates)
