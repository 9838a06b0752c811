"""What reading a file raises when it is damaged or of another kind, and the one message that this becomes."""

from __future__ import annotations

import csv
import lzma
import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avpipe.errors import AvpipeError

READ_ERRORS = (
    ArithmeticError,  # sizes that no number holds
    AttributeError,
    EOFError,
    LookupError,  # members, datasets, attributes and keys that are not there
    MemoryError,  # sizes that a header promises
    OSError,  # also h5py, pyarrow and gzip
    RuntimeError,  # h5py; RecursionError of deep nesting; NotImplementedError of rare kinds of archives
    SyntaxError,  # numpy's parser of headers, and so is TokenError
    TypeError,
    ValueError,  # also of text that is not UTF-8, of JSON and of pyarrow
    csv.Error,
    lzma.LZMAError,
    pickle.PickleError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What h5py, numpy, pyarrow, zipfile, pickle, csv, json and struct raise on what is damaged or of another kind."""

GET_AGAIN = "Get the file again."
"""What to do with a damaged file that others wrote, to end a message with."""

MAKE_AGAIN = "Delete it and run the command again that made it."
"""What to do with a damaged file that avpipe wrote, to end a message with."""


@contextmanager
def reading(path: str | os.PathLike[str], expected: str, advice: str = GET_AGAIN) -> Iterator[None]:
    """What goes wrong inside becomes an AvpipeError: the file, the fault, what was expected and what to do next.

    Only reading belongs inside: whatever else raises one of READ_ERRORS there would be blamed on the file.

    Args:
        path: the file.
        expected: what it should be, such as "a pickle of plain containers".
        advice: a sentence.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for, for ever
            raise OSError("it is a folder, a pipe or a device, and no file")
        yield
    except READ_ERRORS as error:
        fault = str(error) or type(error).__name__
        raise AvpipeError(f"{path} was not read: {fault.rstrip('.')}. Expected {expected}. {advice}") from error
