"""Which job computes the rows of a store, where several could: one at a time."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from filelock import FileLock, Timeout

_FOLDER = Path(".snakemake") / "avpipe_claims"
_log = logging.getLogger(__name__)


def claim(store: Path, *, wait: bool) -> FileLock | None:
    """Claim a feature store for this job; the operating system takes a claim back when its job ends, however it does.

    Args:
        store: the feature store.
        wait: until another job has given it back; else give up at once.

    Returns:
        The claim, to be released; None where another job has it, or where the file system knows no locks.
    """
    name = hashlib.sha256(str(store.resolve()).encode()).hexdigest()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_FOLDER / name)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            return None
        _log.info("another job computes %s from its decode; waiting for it", store)
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        _log.info("no claim on %s, so that no decode is shared: %s", store, error)
        return None
    return lock
