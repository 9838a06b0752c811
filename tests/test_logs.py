import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from avpipe import logs
from avpipe.errors import AvpipeError


@pytest.fixture(autouse=True)
def root_handlers():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


def test_an_error_for_the_user_is_its_message_alone(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, logs.job_logging(tmp_path / "a" / "x.log", "extract_c3d demo 0001"):
        raise AvpipeError("found this, expected that, do so")
    assert end.value.code == 1
    assert capsys.readouterr().err == "[extract_c3d demo 0001] found this, expected that, do so\n"
    assert "Traceback" not in (tmp_path / "a" / "x.log").read_text()


def test_a_bug_leaves_its_traceback_in_the_log(tmp_path, capsys):
    with pytest.raises(SystemExit), logs.job_logging(tmp_path / "x.log", "job"):
        raise ZeroDivisionError("bug")
    assert "ZeroDivisionError: bug" in (tmp_path / "x.log").read_text()
    assert "x.log" in capsys.readouterr().err


def test_a_full_disk_is_told_though_closing_the_file_fails_as_well(tmp_path, capsys):
    with pytest.raises(SystemExit), logs.job_logging(tmp_path / "x.log", "job"):
        try:
            raise OSError(errno.ENOSPC, "Can't synchronously write data")
        finally:
            raise RuntimeError("Can't decrement id ref count")  # as h5py does
    error = capsys.readouterr().err
    assert "disk or a quota is full" in error and "Traceback" not in error


def test_progress_counts_and_speaks_at_most_every_ten_seconds(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    progress = logs.Progress(10, "clips")
    progress.reused = 2
    for _ in range(3):
        now[0] += 4.0
        progress.succeeded()
    progress.fell_out("v_x", "decode_error", "frame 3")
    lines = [record.message for record in caplog.records]
    assert lines == [
        "clips: 3 done, 0 failed, 2 reused, 5 left, about 20 s; 0.25/s",
        "v_x: decode_error (frame 3)",
    ]
    progress.close()
    assert caplog.records[-1].message.startswith("clips: 3 done, 1 failed, 2 reused, 4 left")


def test_names_of_jobs():
    assert logs.job_name("probe_clips", ["demo_gzsl", "0001"]) == "probe_clips demo_gzsl 0001"


def test_a_second_attempt_keeps_what_the_first_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(SystemExit), logs.job_logging(tmp_path / "x.log", "train_gzsl demo"):
        raise MemoryError
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    with logs.job_logging(tmp_path / "x.log", "train_gzsl demo"):
        pass
    assert "Slurm job 17" not in (tmp_path / "x.log").read_text()
    text = (tmp_path / "x.attempts.log").read_text()
    assert text.index("Slurm job 17") < text.index("--set-resources train_gzsl:mem_mb=") < text.index("Slurm job 18")


def test_an_attempt_says_that_the_one_before_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    lines = [
        "import os", "from avpipe import logs",
        "with logs.job_logging('x.log', 'train_gzsl demo', 'mem_mb=100'): os._exit(9)",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, check=False)
    log.unlink()  # as Snakemake does
    with logs.job_logging(log, "train_gzsl demo", "mem_mb=200"):
        pass
    said = capsys.readouterr().err
    assert "ended without a word" in said and "train_gzsl:mem_mb" in said
    with pytest.raises(SystemExit), logs.job_logging(log, "train_gzsl demo", "mem_mb=300"):
        raise AvpipeError("no")
    with logs.job_logging(log, "train_gzsl demo", "mem_mb=400"):
        pass
    assert "ended without a word" not in capsys.readouterr().err
    lines = [
        line.partition("===== ")[2] for line in logs.attempts_file(log).read_text().splitlines() if "===== " in line
    ]
    assert [line.rpartition(", ")[2] for line in lines] == [
        "mem_mb=100", "mem_mb=200", "end: done", "mem_mb=300", "end: failed", "mem_mb=400", "end: done",
    ]  # fmt: skip
