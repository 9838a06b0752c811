"""Which device a job computes on: Snakemake counts GPUs but assigns none, so jobs lease them among themselves."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    import torch


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
    """Yield "cpu" or "cuda"; in the latter case one GPU is this job's alone until the block ends.

    Must be entered before torch is imported, since it sets CUDA_VISIBLE_DEVICES. Where the variable is
    set already (a cluster's scheduler did it) the assignment stands and nothing is leased.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        AvpipeError: "cuda" was asked for and there is no GPU.
    """
    if not wants_gpu(device):
        yield "cpu"
        return
    gpus = visible_gpus()
    if not gpus:
        raise AvpipeError("device: cuda is set, but this machine shows no GPU. Set device: auto or cpu.")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        yield "cuda"
        return
    lock, gpu = _first_free(gpus)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield "cuda"
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
        lock.release()


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


def _first_free(gpus: list[str]) -> tuple[FileLock, str]:
    folder = Path(tempfile.gettempdir()) / f"avpipe-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        for gpu in gpus:
            lock = FileLock(folder / f"{gpu}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return lock, gpu
        time.sleep(1.0)
