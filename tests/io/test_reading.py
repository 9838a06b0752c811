"""What reading raises becomes one kind of message; what has nothing to do with a file passes."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.io.reading import READ_ERRORS, reading

READERS = {
    "h5py": lambda path: h5py.File(path, "r"),
    "zipfile": zipfile.ZipFile,
    "numpy": lambda path: np.load(path, allow_pickle=False),
    "pickle": lambda path: pickle.loads(path.read_bytes()),
    "struct": lambda path: struct.unpack("<q", path.read_bytes()),
    "json": lambda path: json.loads(path.read_bytes()),
    "text": lambda path: path.read_text("utf-8"),
    "nothing there": lambda path: path.with_name("gone").read_bytes(),
}


@pytest.mark.parametrize("reader", READERS)
def test_whatever_a_reader_raises_names_the_file_the_fault_what_was_expected_and_what_to_do(tmp_path, reader):
    path = tmp_path / "x"
    path.write_bytes(b"\xff\x00 no such file")
    with (
        pytest.raises(AvpipeError, match=r"x was not read: .+[^.]\. Expected a thing\. Do that\.$") as caught,
        reading(path, "a thing", "Do that."),
    ):
        READERS[reader](path)
    assert isinstance(caught.value.__cause__, READ_ERRORS)


def test_an_error_without_words_is_named_by_its_type():
    found = r"x was not read: MemoryError\. Expected y\. Get the file again\."
    with pytest.raises(AvpipeError, match=found), reading(Path("x"), "y"):
        raise MemoryError


@pytest.mark.parametrize(
    "error",
    [AvpipeError("said already"), ClipFailure(Reason.MISSING, "x"), AssertionError("a bug"), KeyboardInterrupt()],
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, reading("x", "y"):
        raise error
    assert caught.value is error
