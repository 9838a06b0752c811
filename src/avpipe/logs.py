"""Logging of a job: everything into its log file, progress onto the terminal as well, uncaught errors into both."""

from __future__ import annotations

import errno
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from avpipe.errors import AvpipeError

SECONDS_BETWEEN_LINES = 10.0
_END = "end: "


@contextmanager
def job_logging(log_file: str | os.PathLike[str], job: str, asks_for: str = "") -> Iterator[None]:
    """Log a job into its file and, prefixed with its name, onto the terminal; end the process on an error.

    An `AvpipeError` is printed as its message alone, anything else with its traceback; the exit status is 1. Beside
    the log, which Snakemake deletes before each attempt, <log>.attempts.log keeps those of all. Each begins with a line
    that says when and where it ran, and ends with one. Where the attempt before has none, it was killed, which it
    could not say itself: this one does.

    Args:
        log_file: the rule's log.
        job: such as "extract_c3d demo_gzsl 0001".
        asks_for: the memory and time that the job was given, for the first line.
    """
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    of_attempts = attempts_file(log_file)
    was_killed = of_attempts.exists() and _lacks_end(of_attempts)
    in_files = [
        logging.FileHandler(file, mode, encoding="utf-8") for file, mode in ((log_file, "w"), (of_attempts, "a"))
    ]
    for handler in in_files:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    on_terminal = logging.StreamHandler(sys.stderr)
    on_terminal.setFormatter(logging.Formatter(f"[{job}] %(message)s"))
    root.handlers = [*in_files, on_terminal]
    _write_line(in_files, f"{job}, {_attempt(asks_for)}")
    if was_killed:
        logging.warning(
            "The attempt before (see %s) ended without a word: killed, over its memory, at the end of its time or with "
            "its machine. Where every attempt ends so, raise %s",
            of_attempts,
            raise_resource(job.split()[0], "mem_mb", "runtime"),
        )
    end = "failed"
    try:
        yield
        end = "done"
    except SystemExit:
        end = "stopped"  # by a signal, its work saved
        raise
    except AvpipeError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception as error:
        if _is_disk_full(error):
            logging.error(
                "The disk or a quota is full. Make room, then run the same command again; it goes on from here."
            )
        elif isinstance(error, MemoryError):
            logging.exception("Out of memory. Raise %s", raise_resource(job.split()[0], "mem_mb"))
        else:
            logging.exception("The job failed with an error that avpipe does not expect; see %s", log_file)
        sys.exit(1)
    finally:
        _write_line(in_files, f"{_END}{end}")
        for handler in in_files:
            handler.close()


def attempts_file(log_file: str | os.PathLike[str]) -> Path:
    """Where the logs of all attempts are kept: x.attempts.log for x.log."""
    return Path(log_file).with_suffix(".attempts.log")


def _write_line(in_files: Iterable[logging.Handler], text: str) -> None:
    """A line that begins or ends an attempt, not for the terminal."""
    for handler in in_files:
        handler.handle(logging.makeLogRecord({"levelname": "INFO", "msg": f"===== {text}"}))


def _lacks_end(of_attempts: Path) -> bool:
    """Whether the last attempt wrote no last line."""
    return not of_attempts.read_bytes().rpartition(b"===== ")[2].startswith(_END.encode())


def _attempt(asks_for: str) -> str:
    """Where a job runs, its number where Slurm runs it, and what it asked for; the line's own time says when."""
    number = os.environ.get("SLURM_JOB_ID")
    parts = [f"on {platform.node()}", f"process {os.getpid()}", f"Slurm job {number}" if number else "", asks_for]
    return ", ".join(filter(None, parts))


def raise_resource(rule: str, *resources: str) -> str:
    """How a user raises what a rule asks for: mem_mb (in MB), runtime (in minutes)."""
    options = " or ".join(f"{rule}:{resource}=..." for resource in resources)
    return (
        f"{' or '.join(resources)} of {rule}: --set-resources {options} on the command line, or set-resources in the "
        "profile; then run the same command again."
    )


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether an error is or was caused by a full disk or quota; h5py raises another one while closing its file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


class Progress:
    """Counts clips and says how far a job is, in plain lines, at most every ten seconds.

    Args:
        total: clips to process.
        what: such as "clips".

    Attributes:
        note: said at the end of each line.
    """

    def __init__(self, total: int, what: str = "clips") -> None:
        self.total = total
        self.what = what
        self.ok = 0
        self.failed = 0
        self.reused = 0
        self.note = ""
        self._began = time.monotonic()
        self._last_line = self._began
        self._logger = logging.getLogger("avpipe.progress")

    def succeeded(self) -> None:
        """Count one clip done."""
        self.ok += 1
        self._maybe_report()

    def fell_out(self, clip_id: str, reason: str, detail: str) -> None:
        """Count one clip that failed, and name it at once."""
        self.failed += 1
        self._logger.warning("%s: %s (%s)", clip_id, reason, detail)
        self._maybe_report()

    def tick(self) -> None:
        """Say that work goes on, where no clip has been finished for a while."""
        self._maybe_report()

    def close(self) -> None:
        """Report the final counts."""
        self._report()

    def _maybe_report(self) -> None:
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._report()

    def _report(self) -> None:
        self._last_line = time.monotonic()
        elapsed = max(self._last_line - self._began, 1e-6)
        done = self.ok + self.failed
        rate = done / elapsed
        left = self.total - done - self.reused
        reused = f", {self.reused} reused" if self.reused else ""
        remaining = f", {left} left, about {left / rate:.0f} s" if left and done else f", {left} left"
        self._logger.info(
            "%s: %d done, %d failed%s%s; %.2f/s%s",
            self.what,
            self.ok,
            self.failed,
            reused,
            remaining,
            rate,
            f"; {self.note}" if self.note else "",
        )


def job_name(rule: str, wildcards: Iterable[str]) -> str:
    """A job's name for the terminal: its rule and the values of its wildcards."""
    return " ".join([rule, *wildcards])
