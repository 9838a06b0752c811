"""Text comes back as it was, equal text gives equal bytes, and what is of variable length is never read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from avpipe.io.hdf5_text import (
    read_array,
    read_format,
    read_json_dataset,
    read_text_attribute,
    write_format,
    write_json_dataset,
    write_text_attribute,
)
from avpipe.io.reading import READ_ERRORS

VALUES = [[], {}, None, "", [["a", None, 1.5], ["𝄞\x00", "\udcff"]], ["ü" * 600_000, "x" * 600_000]]


def write(path, value):
    with h5py.File(path, "w", libver="latest") as file:
        write_json_dataset(file, "text", value)
    return path


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_any_json_comes_back(tmp_path, value):
    with h5py.File(write(tmp_path / "a.h5", value)) as file:
        assert read_json_dataset(file, "text") == value


def test_equal_values_give_equal_bytes(tmp_path):
    paths = [write(tmp_path / str(number), value) for number, value in enumerate([{"a": 1, "b": 2}, {"b": 2, "a": 1}])]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_changed_byte_of_text_is_found(tmp_path):
    path = write(tmp_path / "a.h5", ["a" * 100])
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"aaab", 1))
    with h5py.File(path) as file, pytest.raises(READ_ERRORS):
        read_json_dataset(file, "text")


def test_attributes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        write_format(file, "a kind", 3)
        write_text_attribute(file, "note", "é")
        assert read_format(file) == ("a kind", 3)
        assert (read_text_attribute(file, "note"), read_text_attribute(file, "other")) == ("é", None)
        assert file.attrs.get_id("note").dtype == np.dtype("S2")


def test_what_is_of_variable_length_is_not_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.attrs["format"] = file.attrs["version"] = "of variable length"
        file["text"] = ["of variable length"]
        assert read_format(file) == (None, None)
        for read in (read_array, read_json_dataset):
            with pytest.raises(ValueError, match="'text' has elements of variable length"):
                read(file, "text")


def test_numbers_are_no_text(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.attrs["format"], file.attrs["version"] = 1, 1.5
        file["text"] = np.zeros(3)
        assert read_format(file) == (None, None)
        with pytest.raises(ValueError, match="'text' is float64, expected uint8"):
            read_json_dataset(file, "text")
