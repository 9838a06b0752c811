"""Locks between processes: a file that one of them holds, and that the system frees when that process ends, however.

A lock is the system's own (flock), so that none is left behind by a kill -9. On NFS it holds between machines where the
file system is mounted with locking, as it is by default; where a file system has none, a line in the log says so.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avpipe.errors import AvpipeError

_log = logging.getLogger(__name__)


def try_shared_lock(path: Path) -> int | None:
    """Take a lock that processes of any user compete for; None: another process has it. The file stays.

    Args:
        path: the file, in a folder that everyone may write to and where nobody can replace another's files (sticky).

    Returns:
        A descriptor; closing it gives the lock back.

    Raises:
        AvpipeError: the file, or the folder, is a link, of another kind, or cannot be read.
    """
    try:
        folder = path.parent
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)  # whatever the umask
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise OSError(f"{folder} is a link or a file")
        # Not O_CREAT alone: the kernel refuses it for another user's file in such a folder (fs.protected_regular). To
        # hold a lock it is enough to read the file, so that nobody can write into another's.
        with suppress(FileExistsError):
            made = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            os.fchmod(made, 0o644)
            os.close(made)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise AvpipeError(
            f"{path} cannot be used as a lock ({error}). It and its folder are for all users of this machine: have "
            "whoever owns them, or the administrator, remove them."
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AvpipeError(f"{path} is no plain file, so that it is no lock of avpipe's. Have it removed.")
    if _locks(descriptor):
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def sole_writer(path: Path, what: str) -> Iterator[None]:
    """Be the only process that writes something until the block ends.

    Args:
        path: the lock's file, which says who holds it and is gone afterwards; its folder is made.
        what: what is written, such as "results/x/seed3", for the message.

    Raises:
        AvpipeError: another process writes there; its host and number are named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            is_ours = _locks(descriptor)
        except OSError as error:  # a file system without locks, such as Lustre mounted without flock
            _log.warning("%s cannot be locked (%s): nothing notices a second job that writes %s.", path, error, what)
            os.close(descriptor)
            path.unlink(missing_ok=True)
            yield
            return
        if not is_ours:
            holder = os.pread(descriptor, 400, 0).decode("utf-8", errors="replace") or "another process"
            os.close(descriptor)
            raise AvpipeError(
                f"{what} is being written by {holder}. Wait for it or end it (on a cluster: squeue, scancel), and run "
                "the same command again."
            )
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            break
        os.close(descriptor)  # its holder ended, and removed it, just now
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def only_run(folder: Path, outputs: Iterable[str]) -> Iterator[None]:
    """Be the only run of Snakemake that makes some files, until the block ends.

    Snakemake's own lock are files that `--unlock` deletes, also those of a run that lives.

    Args:
        folder: where every run that lives has its lock, which lists what it makes.
        outputs: what this one makes.

    Raises:
        AvpipeError: another run that lives makes one of them; its host and process are named.
    """
    wanted = set(map(str, outputs))
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / f"{os.getpid()} on {socket.gethostname()}"
    for path in folder.iterdir():
        try:
            with sole_writer(path, f"{path}"):
                pass  # its run is dead, and the file is gone now
        except AvpipeError:
            common = sorted(wanted.intersection(path.read_text(encoding="utf-8").splitlines()))
            if common:
                raise AvpipeError(
                    f"Another run of Snakemake, process {path.name}, is at work in this folder and makes "
                    f"{common[0]} too. It lives, whatever --unlock has deleted: wait for it, or end it (kill), and "
                    "run the same command again."
                ) from None
    with sole_writer(own, f"{own}"):
        own.write_text("".join(f"{name}\n" for name in wanted), encoding="utf-8")
        yield


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
