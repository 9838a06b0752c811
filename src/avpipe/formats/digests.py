"""Opening a file of weights, and its digest; without torch, for whoever only asks whether a file is the listed one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from avpipe.errors import AvpipeError


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes in hex, read as a stream.

    Raises:
        AvpipeError: the file cannot be opened.
    """
    with open_weights(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def open_weights(path: Path) -> io.BufferedReader:
    """A file of weights, open for reading.

    Raises:
        AvpipeError: there is none, or it cannot be opened.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is a folder, a pipe or a device")
        return path.open("rb")
    except OSError as error:
        raise AvpipeError(
            f"Weights: {path} cannot be opened ({error.strerror}). Expected a weight file; "
            "check the path, or use 'random:<seed>' to try the pipeline without published weights."
        ) from error
