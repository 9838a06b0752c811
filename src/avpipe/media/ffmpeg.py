"""The one place that runs the ffmpeg program."""

from __future__ import annotations

import contextlib
import errno
import functools
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg
from av.error import PyAVCallbackError

from avpipe.errors import AvpipeError, ClipFailure, Reason

_REINSTALL = "install imageio-ffmpeg again or set IMAGEIO_FFMPEG_EXE"
_LONGEST_MESSAGE = 500
_KEPT_STDERR_BYTES = 64 * 1024


def run_ffmpeg(
    output: Any,
    source: Path,
    *,
    timeout_seconds: float | None,
    threads: int = 1,
    feed: Callable[[IO[bytes]], None] | None = None,
) -> None:
    """Run one ffmpeg process to its end.

    ffmpeg stops at the first error it notices (`-xerror`), and anything it says at error level counts as a failure
    even when its exit status is 0: it conceals damage, and a concealed frame is not the clip's.

    Args:
        output: an output of ffmpeg-python, which builds the argument list; no shell sees it.
        source: the file to blame in messages.
        timeout_seconds: after which the process is killed; None: never.
        threads: threads for filters (decoders and encoders take theirs from `output`).
        feed: writes what the process reads from its standard input.

    Raises:
        What `feed` raises, and
        ClipFailure: DECODE_ERROR, TIMEOUT, or OUT_OF_MEMORY when the process was killed from outside.
        AvpipeError: the disk is full, the program cannot be started, or the process was told to stop.
    """
    options = ["-nostdin", "-v", "error", "-xerror", "-filter_threads", str(threads), "-y"]
    command = [_executable(), *options, *output.get_args()]
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=stderr,
            )  # fmt: skip
        except OSError as error:
            raise AvpipeError(f"{command[0]}: cannot be started ({error}); {_REINSTALL}") from error
        with _killed_after(process, timeout_seconds) as is_late:
            if feed is not None and process.stdin is not None:
                # A process that stopped reading says why by its exit status; PyAV has an error of its own for that.
                with contextlib.suppress(BrokenPipeError, PyAVCallbackError), process.stdin:
                    feed(process.stdin)
            status = process.wait()
        stderr.seek(0)
        message = stderr.read(_KEPT_STDERR_BYTES).decode("utf-8", errors="replace")
    if is_late.is_set():
        raise ClipFailure(Reason.TIMEOUT, f"{source}: ffmpeg was not done after {timeout_seconds:g} s")
    failure = judge_run(status, message, source)
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float | None) -> Iterator[threading.Event]:
    """Kill a process when its time is over, which the event tells, or when anything else goes wrong."""
    is_late = threading.Event()

    def stop() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(threading.TIMEOUT_MAX if seconds is None else seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def judge_run(status: int, stderr: str, source: Path) -> ClipFailure | AvpipeError | None:
    """Decide what an exit status and the messages of ffmpeg at error level mean; None: all went well."""
    stderr = re.sub(r" @ 0x[0-9a-f]+", "", stderr)
    said = " | ".join(line.strip() for line in stderr.splitlines() if line.strip())[:_LONGEST_MESSAGE]
    if status == 0 and not said:
        return None
    # ffmpeg's exit status is the negative error number, cut to 8 bits.
    if "No space left on device" in stderr or status == 256 - errno.ENOSPC:
        return AvpipeError(f"{source}: the disk is full; free some space and run again ({said})")
    if status == -signal.SIGKILL or "Cannot allocate memory" in stderr:
        return ClipFailure(Reason.OUT_OF_MEMORY, f"{source}: ffmpeg was killed, most likely for memory {said}")
    if status in (-signal.SIGTERM, -signal.SIGINT, 255):  # 255: ffmpeg's own answer to a signal
        return AvpipeError(f"{source}: ffmpeg was told to stop (exit status {status}); run again")
    return ClipFailure(Reason.DECODE_ERROR, f"{source}: ffmpeg exit status {status}: {said or 'no message'}")


@functools.cache
def ffmpeg_version() -> str:
    """Give the version of the ffmpeg program in use, such as "n9.0.2-17-g2a571b6068-20260930".

    Raises:
        AvpipeError: the program cannot be run.
    """
    return parse_version(_ask([_executable(), "-version"]))


def parse_version(text: str) -> str:
    """Find the version in the answer of `ffmpeg -version`.

    Raises:
        AvpipeError: it is not there.
    """
    found = re.match(r"ffmpeg version (\S+)", text)
    if found is None:
        raise AvpipeError(f"ffmpeg -version said {text[:80]!r}; expected its version; {_REINSTALL}")
    return found[1]


def _ask(command: Sequence[str]) -> str:
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise AvpipeError(f"{command[0]}: cannot be run ({error}); {_REINSTALL}") from error
    return answer.stdout


def _executable() -> str:
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise AvpipeError(f"no ffmpeg program ({error}); {_REINSTALL}") from error
