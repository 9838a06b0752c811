"""Room on a disk, looked at before a large file is written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise OSError ENOSPC before HDF5 meets a full disk, which ends the process with a segmentation fault.

    Args:
        folder: where the file will lie; made if it does not exist.
        needed_bytes: size of the file.
        what: its contents, for the message.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        found = f"{os.strerror(errno.ENOSPC)}: {needed_bytes:,} bytes of {what}, {free:,} bytes free"
        raise OSError(errno.ENOSPC, found, str(folder))
