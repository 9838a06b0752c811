"""What a reader makes of a file of which one byte is wrong."""

from __future__ import annotations

import multiprocessing
from collections import Counter

import numpy as np

from avpipe.errors import AvpipeError

SECONDS = 60
"""Some hundred reads take less than 1 s; a reader that never ends is stopped."""


def outcomes(path, read, *, arrays=()):
    """How often reading the file after a change of one byte gave what: "equal", "refused", or what else came.

    Args:
        path: the file, which is left damaged.
        read: path -> value that can be compared with ==; what the whole file gives is expected.
        arrays: (begin, size) of places in the file where few bytes are changed; elsewhere 250 are.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:  # a hang inside HDF5 ends with the process alone
        return pool.apply_async(_count, (path, read, arrays)).get(timeout=SECONDS)


def _count(path, read, arrays):
    rng = np.random.default_rng(0)
    whole, expected = path.read_bytes(), read(path)
    in_array = np.zeros(len(whole), bool)
    for begin, size in arrays:
        in_array[begin : begin + size] = True
    places = [*rng.choice(np.flatnonzero(~in_array), 250), *(begin + rng.integers(size) for begin, size in arrays)]
    found: Counter[str] = Counter()
    for place in map(int, places):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            found["equal" if read(path) == expected else f"other values after a change at {place}"] += 1
        except AvpipeError:
            found["refused"] += 1
        except Exception as error:  # the test names it, together with all others
            found[f"{type(error).__name__} after a change at {place}"] += 1
    return found


def contiguous_arrays(file):
    """(begin, size) of the arrays of an HDF5 file that lie in one piece."""
    pieces = ((each.id.get_offset(), each.id.get_storage_size()) for each in file.values())
    return [(begin, size) for begin, size in pieces if begin is not None]
