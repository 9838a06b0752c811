"""Hostile files are refused or read within bounds of time and memory, and so is what a fuzzer makes (tests/tools)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))

import fuzz_formats
from format_readers import READERS, Reader
from fuzz_formats import Watched, attempt
from hostile_files import HOSTILE, SECRET

TOOLS = Path(__file__).parents[1] / "tools"


def in_a_new_process(program: str, target: Path) -> None:
    """Let a program write JSON. The tools fork, which a process of many tests must not: threads of its libraries may
    hold locks, and OpenMP's threads are gone in the child."""
    path = os.pathsep.join([str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = f"import json, sys\n{program}\nopen(sys.argv[1], 'w').write(json.dumps(found))"
    command = [sys.executable, "-c", program, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def verdicts(built_once: Callable[..., Path]) -> dict[str, Any]:
    program = "from hostile_files import HOSTILE, check\nfound = {name: check(name) for name in HOSTILE}"
    return json.loads(
        built_once("hostile files", lambda to: in_a_new_process(program, to / "found")).joinpath("found").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_or_read_within_bounds(verdicts: dict[str, Any], name: str) -> None:
    verdict, _, message = verdicts[name]
    assert verdict == ("refused" if HOSTILE[name][2] else "read"), message
    assert SECRET[:10].decode() not in message


@pytest.mark.parametrize("name", READERS)
def test_the_files_that_are_damaged_are_read_when_whole(tmp_path: Path, name: str) -> None:
    """Otherwise all of them would be refused, and nothing shown."""
    READERS[name].seeds(tmp_path)
    verdicts = [attempt(READERS[name], path)[0] for path in sorted(tmp_path.iterdir())]
    assert set(verdicts) <= {"read", "refused"} and verdicts.count("read") >= 1
    if name not in ("state dict", "weights"):  # some of their files are checkpoints, which those two do not take
        assert set(verdicts) == {"read"}


def _busy(path: Path) -> None:
    stop = time.process_time() + 3
    while time.process_time() < stop:
        pass


BAD_READERS = {
    "hang": lambda path: time.sleep(9),
    "memory": lambda path: bytearray(600 << 20),
    "raw": lambda path: 1 / 0,
    "crash": lambda path: os._exit(3),
    "slow": _busy,
}


@pytest.mark.parametrize("fault", BAD_READERS)
def test_the_watch_sees_every_fault(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(fuzz_formats, "SECONDS", 1.0 if fault == "hang" else 30.0)
    monkeypatch.setitem(READERS, fault, Reader(BAD_READERS[fault], "bytes", lambda folder: None))
    watched = Watched(lambda *_: b"")
    assert watched.run(fault, 0)[0] == fault
    watched.close()


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_refused_or_read(tmp_path: Path) -> None:
    """About a minute: 300 files for each reader from a fixed seed."""
    program = "from fuzz_formats import READERS, fuzz\nfound = fuzz(13, list(READERS), count=300)"
    in_a_new_process(program, tmp_path / "found")
    counts, findings = json.loads((tmp_path / "found").read_text())
    assert not findings
    for name, found in counts.items():
        assert found.get("read") and found.get("refused"), f"{name} refuses or reads everything: {found}"
