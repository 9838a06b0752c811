"""Which device a job computes on: Snakemake counts GPUs but assigns none, so jobs lease them among themselves."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.errors import AvpipeError
from avpipe.locks import try_shared_lock

if TYPE_CHECKING:
    import torch

LOCKS = Path("/tmp/avpipe-gpus")
"""Of all users of a machine, so not in a user's own TMPDIR; a GPU has the same number for each of them."""


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, found without importing torch."""
    assigned = os.environ.get("CUDA_VISIBLE_DEVICES")
    if assigned is not None:
        return [device for device in assigned.split(",") if device.strip() not in ("", "-1")]
    return sorted(
        (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")), key=lambda name: int(name)
    )


def wants_gpu(device: str) -> bool:
    """Whether a job with this `device` setting computes on a GPU."""
    return device == "cuda" or (device == "auto" and bool(visible_gpus()))


@contextmanager
def leased_device(device: str) -> Iterator[str]:
    """Yield "cpu" or "cuda"; in the latter case one GPU is this job's alone until the block ends,
    among the jobs of all users of this machine.

    Must be entered before torch is imported, since it sets CUDA_VISIBLE_DEVICES. Where the variable is
    set already (a cluster's scheduler did it) the assignment stands and nothing is leased.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        AvpipeError: "cuda" was asked for and there is no GPU.
    """
    with leased_devices(device, 1) as leased:
        yield leased[0].partition(":")[0]


@contextmanager
def leased_devices(device: str, count: int) -> Iterator[list[str]]:
    """Like `leased_device` for several GPUs: yield ["cpu"], or "cuda:0" to "cuda:<count - 1>".

    All of them are leased or none: two jobs that each hold half of what both want would wait for ever.

    Args:
        device: "auto", "cpu" or "cuda".
        count: GPUs wanted; a CPU is always one.

    Raises:
        AvpipeError: "cuda" was asked for and there is no GPU, or there are fewer than `count`.
    """
    if not wants_gpu(device):
        yield ["cpu"]
        return
    gpus = visible_gpus()
    if not gpus:
        raise AvpipeError("device: cuda is set, but this machine shows no GPU. Set device: auto or cpu.")
    if len(gpus) < count:
        raise AvpipeError(
            f"{count} GPUs are wanted and this job sees {len(gpus)} ({', '.join(gpus)}). Ask for fewer (gpus), or "
            "let the cluster assign more."
        )
    names = [f"cuda:{index}" for index in range(count)]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        yield names
        return
    locks = _first_free(gpus, count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
    try:
        yield names
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
        for lock in locks.values():
            os.close(lock)


def resolve_device(name: str) -> torch.device:
    """The torch device called `name`, once it has been reached.

    Raises:
        AvpipeError: torch does not know or cannot reach it.
    """
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise AvpipeError(f"Cannot use the device {name!r} ({reason}); use cpu, or check the driver.") from error


def _first_free(gpus: list[str], count: int) -> dict[str, int]:
    while True:
        locks: dict[str, int] = {}
        for gpu in gpus:
            if (lock := try_shared_lock(LOCKS / f"{gpu}.lock")) is not None:
                locks[gpu] = lock
            if len(locks) == count:
                return locks
        for lock in locks.values():
            os.close(lock)
        time.sleep(random.uniform(0.5, 1.5))
