"""Text in HDF5 files without strings of variable length: attributes of fixed length, and JSON in checked chunks.

HDF5 keeps strings of variable length in its global heap, which has no checksum in any version of the format: one
damaged byte there gives other text, or makes the library search for ever. Object headers have one with
libver="latest", and chunks with fletcher32; HDF5 compares both when it reads.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.io.hdf5 import open_hdf5
from avpipe.io.reading import MAKE_AGAIN, reading

_CHUNK_BYTES = 1 << 20


def write_format(file: h5py.File, name: str, version: int) -> None:
    """Say of a file what it is: attributes `format` and `version`."""
    write_text_attribute(file, "format", name)
    file.attrs["version"] = version


def open_format(source: str | os.PathLike[str], name: str, version: int, advice: str = MAKE_AGAIN) -> h5py.File:
    """Open a file that `write_format` marked; read it inside of `avpipe.io.reading.reading`.

    Args:
        source: the file.
        name, version: what it should be.
        advice: what to do if it is something else, a sentence.

    Raises:
        AvpipeError: there is no such file, it is no HDF5, or of another kind or version.
    """
    if not Path(source).is_file():
        raise AvpipeError(f"{source} does not exist; expected an {name}. Check the path, or make it first.")
    with reading(source, f"an {name} (HDF5)", advice):
        file = open_hdf5(source)
        found = read_format(file)
    if found != (name, version):
        file.close()
        raise AvpipeError(
            f"{source} is {found[0]!r} of version {found[1]}; expected {name!r} of version {version}. {advice}"
        )
    return file


def check_digest(source: str | os.PathLike[str], found: str, stored: str | None) -> None:
    """Raise AvpipeError if the contents that were read do not have the digest that was stored with them."""
    if found != stored:
        raise AvpipeError(
            f"{source} is damaged: the digest of its contents is {found}, and {stored} was stored when it was written. "
            f"{MAKE_AGAIN}"
        )


def read_format(file: h5py.File) -> tuple[str | None, int | None]:
    """`format` and `version` of a file; None for what is absent or of another type."""
    version = _attribute(file, "version")
    return read_text_attribute(file, "format"), int(version) if isinstance(version, np.integer) else None


def write_text_attribute(file: h5py.File, name: str, text: str) -> None:
    """A short text, at least one character and no NUL, as an attribute."""
    file.attrs[name] = np.bytes_(text.encode())


def read_text_attribute(file: h5py.File, name: str) -> str | None:
    """A text that `write_text_attribute` wrote; None for what is absent or of another type."""
    value = _attribute(file, name)
    return value.decode() if isinstance(value, bytes) else None


def write_json_dataset(file: h5py.File, name: str, value: Any) -> None:
    """Any value of JSON, of any size, as a dataset of its bytes; equal values give equal bytes."""
    data = np.frombuffer(json.dumps(value, sort_keys=True).encode(), np.uint8)
    file.create_dataset(name, data=data, chunks=(min(len(data), _CHUNK_BYTES),), fletcher32=True)


def read_json_dataset(file: h5py.File, name: str) -> Any:
    """A value that `write_json_dataset` wrote.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: it is not there, is something else, or was damaged.
    """
    data = read_array(file, name)
    if data.dtype != np.uint8:
        raise ValueError(f"{name!r} is {data.dtype}, expected uint8")
    return json.loads(data.tobytes().decode())


def read_array(file: h5py.File, name: str) -> npt.NDArray[Any]:
    """A dataset of at least one axis, whole.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: it is not there, cannot be read, or has elements of variable length,
            which are not read.
    """
    dataset = file[name]
    if dataset.dtype.hasobject:
        raise ValueError(f"{name!r} has elements of variable length, expected numbers")
    return dataset[:]


def _attribute(file: h5py.File, name: str) -> Any:
    """An attribute; None where it is absent or of variable length."""
    if name not in file.attrs or file.attrs.get_id(name).dtype.hasobject:
        return None
    return file.attrs[name]
