"""Around a training run: seeds, threads, determinism, and a polite end on SIGTERM and Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

TERMINATED = 143  # 128 + SIGTERM: what a shell reports for a process that SIGTERM ended

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names and numbers of glibc's malloc.h


@contextmanager
def deterministic(device: torch.device, threads: int) -> Iterator[None]:
    """Deterministic kernels, `threads` CPU threads and random states that are put back on leaving."""
    memory: Any = torch.utils.deterministic  # its attribute is made at run time, which mypy cannot see
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        memory.fill_uninitialized_memory,
    )
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without
    torch.set_num_threads(threads)
    # The same switch as torch.use_deterministic_algorithms, which imports torch's compiler: 1.4 s of every job.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "warn")
    memory.fill_uninitialized_memory = False  # costs time and hides nothing here
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        memory.fill_uninitialized_memory = before[2]


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of giving them back to the kernel; elsewhere nothing happens.

    A training step frees and asks for the same 20 MB again and again; fetching them anew cost 5,000 page faults and
    a sixth of the step's time. The setting lasts as long as the process.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):
        return


class Interrupt:
    """Notes SIGTERM and Ctrl-C, so that the loop can save between two batches instead of dying inside one.

    Signals reach the main thread only; in another thread the default handling stays. A second Ctrl-C ends at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
