"""Starting the processes of one job, and hearing from them: log lines, errors, the end on a signal."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.training.runtime import TERMINATED, Interrupt

_GRACE_SECONDS = 20.0  # for the rest to end once one has failed: some wait for it inside a step
_log = logging.getLogger(__name__)


def run_together(function: Callable[..., None], arguments: Sequence[Any], devices: Sequence[str]) -> None:
    """Call `function(processes, *arguments)` in one process for each device, and wait for all.

    What they log arrives in this process's log. SIGTERM and Ctrl-C are passed on, so that they can save.

    Args:
        function: importable by name; it gets its `ProcessGroup`, which has its device.
        arguments: plain values.
        devices: such as ["cuda:0", "cuda:1"]; tests use ["cpu", "cpu"].

    Raises:
        AvpipeError: what a process raised, with its message.
        RuntimeError: a process failed otherwise or died; the message holds its traceback.
        SystemExit: code 143 after a signal, when all have ended.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    messages: Any = context.Queue()
    with tempfile.TemporaryDirectory(prefix="avpipe-processes-") as folder:
        processes = [
            context.Process(
                target=_run_process,
                args=(function, arguments, rank, list(devices), Path(folder) / "rendezvous", messages),
                name=f"process {rank}",
                daemon=True,
            )
            for rank in range(len(devices))
        ]
        failures: list[tuple[bool, str]] = []
        with Interrupt() as interrupt:
            try:
                for process in processes:
                    process.start()
                _await(processes, messages, failures, interrupt)
            finally:
                for process in processes:
                    if process.pid is not None and process.is_alive():
                        process.kill()
    if interrupt.requested:
        raise SystemExit(TERMINATED)
    _raise_first(processes, failures)


def _await(
    processes: Sequence[BaseProcess], messages: Any, failures: list[tuple[bool, str]], interrupt: Interrupt
) -> None:
    """Log what arrives until all processes have ended; a failed one ends the rest."""
    give_up, passed_on = None, False
    while any(process.is_alive() for process in processes):
        if interrupt.requested and not passed_on:
            passed_on = True
            for process in processes:
                process.terminate()
        wait([process.sentinel for process in processes if process.is_alive()], timeout=0.2)
        _drain(messages, failures)
        failed = any(process.exitcode not in (None, 0) for process in processes)
        if failed and give_up is None:
            give_up = time.monotonic() + _GRACE_SECONDS
            for process in processes:
                process.terminate()
        if give_up is not None and time.monotonic() > give_up:
            return
    _drain(messages, failures)


def _drain(messages: Any, failures: list[tuple[bool, str]]) -> None:
    while True:
        try:
            message = messages.get(timeout=0.05)
        except queue.Empty:
            return
        if isinstance(message, logging.LogRecord):
            logging.getLogger(message.name).handle(message)
        else:
            failures.append(message)


def _raise_first(processes: Sequence[BaseProcess], failures: list[tuple[bool, str]]) -> None:
    """Raise what went wrong: the user's error before others, which it may have caused in other processes."""
    for is_users, message in sorted(failures, key=lambda failure: not failure[0]):
        raise AvpipeError(message) if is_users else RuntimeError(message)
    died = [f"{process.name} (exit code {process.exitcode})" for process in processes if process.exitcode != 0]
    if died:
        raise RuntimeError(
            f"{', '.join(died)} of {len(processes)} died without a word. A code of -9 means that the memory ran out."
        )


def _run_process(
    function: Callable[..., None],
    arguments: Sequence[Any],
    rank: int,
    devices: list[str],
    rendezvous: Path,
    messages: Any,
) -> None:
    """What one of the processes does: join the group, call the function, report an error."""
    os.setsid()  # Ctrl-C of a terminal reaches the starting process alone, which passes it on
    threading.Thread(target=_end_with_parent, daemon=True).start()
    root = logging.getLogger()
    root.handlers = [QueueHandler(messages)]
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    try:
        import torch

        from avpipe.training.distributed import join_group

        with join_group(rank, len(devices), rendezvous, torch.device(devices[rank])) as group:
            function(group, *arguments)
    except AvpipeError as error:
        messages.put((True, str(error)))
        raise SystemExit(1) from None
    except Exception:  # handed to the parent, which raises it: a traceback printed here would be lost among the others
        messages.put((False, f"Process {rank} of {len(devices)} failed:\n{traceback.format_exc()}"))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """A process that is left behind by a killed job would hold its GPU for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
