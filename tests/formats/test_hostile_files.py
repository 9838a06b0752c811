"""Hostile files are refused or read within bounds of time and memory, and so is what a fuzzer makes (tests/tools)."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))

import fuzz_formats
from format_readers import READERS, Reader
from fuzz_formats import Watched, attempt, fuzz
from hostile_files import HOSTILE, SECRET, check


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_or_read_within_bounds(name: str) -> None:
    verdict, _, message = check(name)
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
def test_damaged_files_of_every_kind_are_refused_or_read(caplog: pytest.LogCaptureFixture) -> None:
    """About a minute: 300 files for each reader from a fixed seed."""
    with caplog.at_level(logging.CRITICAL):
        counts, findings = fuzz(13, list(READERS), count=300)
    assert not findings
    for name, found in counts.items():
        assert found["read"] and found["refused"], f"{name} refuses or reads everything: {found}"
