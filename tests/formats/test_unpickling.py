"""Foreign pickles are read as data; whatever would run or overflow is refused by name."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.formats.pickles import read_pickle


class Calls:
    """Pickles to a call."""

    def __init__(self, function, *args):
        self.parts = (function, args)

    def __reduce__(self):
        return self.parts


def load(tmp_path: Path, data: bytes, **options):
    path = tmp_path / "foreign.pkl"
    path.write_bytes(data)
    return read_pickle(path, **options)


PLAIN = {
    "numbers": [1, -(2**70), 2.5, 1 + 2j, True, None],
    "text": ["ä", b"bytes", bytearray(b"more")],
    "nested": ({"a": (1, [2])}, {3, 4}, frozenset({5})),
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_come_back_equal(tmp_path, protocol):
    assert load(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1, 2], ">i2"),
    np.array(["ab", "ç"]),
    np.array([b"ab", b"c"]),
    np.array([True, False]),
    np.zeros((0, 3), np.float32),
    np.array(3.5),
    np.array([1, "x", None, [2]], object),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back_equal_and_plain(tmp_path, array, protocol):
    got = load(tmp_path, pickle.dumps({"array": array, "again": [array]}, protocol))
    assert type(got["array"]) is np.ndarray
    assert (got["array"].dtype, got["array"].shape) == (array.dtype, array.shape)
    assert got["array"].tolist() == array.tolist()
    assert got["again"][0] is got["array"]


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_scalars(tmp_path, protocol):
    got = load(tmp_path, pickle.dumps([np.float32(1.5), np.int64(-3), np.bool_(True)], protocol))
    assert [(type(value), value) for value in got] == [(np.float32, 1.5), (np.int64, -3), (np.bool_, True)]


def test_numpy_1_spelling_of_modules(tmp_path):
    data = pickle.dumps(np.arange(3), 2)
    assert b"numpy._core" in data
    assert load(tmp_path, data.replace(b"numpy._core", b"numpy.core")).tolist() == [0, 1, 2]


def test_ordered_dict_keeps_its_order(tmp_path):
    assert list(load(tmp_path, pickle.dumps(OrderedDict(b=1, a=np.ones(1))))) == ["b", "a"]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, ("touch {marker}",)),
        (builtins.eval, ("open({marker!r}, 'w')",)),
        (builtins.exec, ("open({marker!r}, 'w')",)),
        (np.load, ("{marker}",)),
        (np.fromfile, ("{marker}",)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_functions_are_refused_by_name_and_not_called(tmp_path, function, args, protocol):
    marker = tmp_path / "called"
    args = tuple(arg.format(marker=str(marker)) if isinstance(arg, str) else arg for arg in args)
    with pytest.raises(AvpipeError, match=rf"names the global .*{function.__name__}, which is refused"):
        load(tmp_path, pickle.dumps(Calls(function, *args), protocol))
    assert not marker.exists()


def reconstruct(shape: str, dtype: str = "S'b'\n") -> bytes:
    return f"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n{shape}{dtype}tR".encode()


def dtype(name: str, state: str = "") -> bytes:
    return f"cnumpy\ndtype\n(S'{name}'\nI0\nI1\ntR{state}".encode()


def in_bytes(text: str) -> bytes:
    return f"c_codecs\nencode\n(V{text}\nVlatin1\ntR".encode()


HOSTILE = {
    # Structured dtypes that hide an object field: numpy would take the bytes for pointers.
    "hidden object field": (
        dtype("f8", "(I3\nS'|'\nN(S'a'\nt(dS'a'\n(cnumpy\ndtype\n(S'O8'\ntRI0\ntsI8\nI1\nI0\ntb") + b".",
        "structured dtypes",
    ),
    "structured dtype": (dtype("V8") + b".", "not a plain number"),
    "object scalar from bytes": (
        b"cnumpy.core.multiarray\nscalar\n(" + dtype("O8") + in_bytes("AAAAAAAA") + b"tR.",
        "items do not fit",
    ),
    "object array from bytes": (
        reconstruct("(I0\nt") + b"(I1\n(I1\nt" + dtype("O8") + b"I00\n" + in_bytes("AAAAAAAA") + b"tb.",
        "items do not fit",
    ),
    "allocation by _reconstruct": (reconstruct("(L1000000000000L\nt") + b".", "not a plain numpy.ndarray"),
    "allocation by ndarray": (b"cnumpy\nndarray\n((L1000000000000L\nttR.", "allocates without data"),
    "allocation by bytearray": (b"cbuiltins\nbytearray\n(L1000000000000L\ntR.", "bytearray of something"),
    "allocation by an announced length": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"ab.", "exhausted"),
    "array smaller than its shape": (
        reconstruct("(I0\nt") + b"(I1\n(I9\nt" + dtype("f4") + b"I00\n" + in_bytes("AAAA") + b"tb.",
        "4 bytes for an array",
    ),
    "state of a function": (b"cnumpy.core.multiarray\nscalar\n(N}S'__defaults__'\n(tstb.", "state of a function"),
    "function as a value": (b"(lccollections\nOrderedDict\na.", "function or type as a value"),
    "array without contents": (reconstruct("(I0\nt") + b".", "without contents"),
    "instance by INST": (b"(icollections\nOrderedDict\n.", "opcode INST"),
    "persistent id": (b"Pid\n.", "opcode PERSID"),
    "attribute of a permitted name": (
        b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x0fscalar.__self__\x93.",
        "scalar.__self__, which is refused",
    ),
    "getattr": (b"cbuiltins\ngetattr\n(cnumpy\ndtype\nS'__init__'\ntR.", "builtins.getattr, which is refused"),
    "codec": (b"c_codecs\nencode\n(S'a'\nS'zlib_codec'\ntR.", "zlib_codec"),
    "truncated": (pickle.dumps(list(range(99)))[:-20], "exhausted"),
    "empty": (b"", "exhausted"),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_and_damaged_pickles_are_refused_for_the_right_reason(tmp_path, data, reason):
    with pytest.raises(AvpipeError, match=rf"foreign\.pkl was not read: .*{reason}"):
        load(tmp_path, data)


def test_one_string_cannot_be_multiplied_beyond_the_bound(tmp_path):
    # Each REDUCE of 3 bytes would copy the same 100 kB: 60 kB of pickle would take 2 GB.
    text = b"\x80\x02X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    call = b"c_codecs\nencode\nq\x02(lh\x02h\x00h\x01\x86R"
    with pytest.raises(AvpipeError, match="max_bytes"):
        load(tmp_path, text + call + b"ah\x02h\x00h\x01\x86R" * 20 + b".", max_bytes=1_000_000)


def test_deep_nesting_is_refused_not_crashed(tmp_path):
    depth = sys.getrecursionlimit() * 3
    with pytest.raises(AvpipeError, match="was not read"):
        load(tmp_path, b"(l" * depth + b"a" * (depth - 1) + b".")


def test_a_file_beyond_max_bytes_is_not_opened(tmp_path):
    with pytest.raises(AvpipeError, match="more than the 10 accepted"):
        load(tmp_path, pickle.dumps("x" * 100), max_bytes=10)


def test_absent_file(tmp_path):
    with pytest.raises(AvpipeError, match="does not exist"):
        read_pickle(tmp_path / "none")
