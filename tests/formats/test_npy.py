"""numpy's files: whole arrays without running a pickle, and rows that are found by their place in an archive."""

from __future__ import annotations

import io
import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_unpickling import ARRAYS, Calls

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.formats import npy as npy_files
from avpipe.formats.file_rows import FileRows
from avpipe.formats.npy import CompressedRows, find_rows, read_npy

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl" / "w2v_features"
PUBLISHED_COUNTS = {"ucf": 101, "activity": 200, "vggsound": 309}
SPECTROGRAM = np.random.default_rng(0).uniform(-80, 0, (40, 700)).astype(np.float16)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_npy_files_of_any_kind(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    got = read_npy(tmp_path / "a.npy")
    assert (got.tolist() if isinstance(got, np.ndarray) else got) == array.tolist()


def test_hostile_npy_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + pickle.dumps(Calls(os.system, "true"), 3))
    with pytest.raises(AvpipeError, match="system"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(1 << 40,), (-1,), (3, -1)])
def test_npy_whose_header_promises_too_much(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + b"abcd")
    with pytest.raises(AvpipeError, match="damaged"):
        read_npy(tmp_path / "a.npy")


def test_not_an_npy(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(AvpipeError, match=r"was not read: .* Expected an \.npy file"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("dataset", PUBLISHED_COUNTS)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published word vectors are not at hand")
def test_published_word_vectors_equal_what_numpy_reads(dataset):
    path = SHARED / f"word_embeddings_{dataset}_normed.npy"
    got, expected = read_npy(path), np.load(path, allow_pickle=True).item()
    assert len(got) == PUBLISHED_COUNTS[dataset] and list(got) == list(expected)
    assert all(np.array_equal(got[name], expected[name]) and got[name].dtype == np.float32 for name in expected)


def npy(array: np.ndarray, **changes: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **changes)
    return buffer.getvalue()


def zipped(path: Path, name: str, data: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, data)
    return path


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_member_is_read_by_its_place(tmp_path: Path, fortran: bool, dtype: type[np.floating]) -> None:
    values = SPECTROGRAM.astype(dtype)
    path = tmp_path / "x.npz"
    np.savez(path, other=np.zeros(77), arr_0=np.asfortranarray(values) if fortran else values)
    rows = find_rows(path, "arr_0", width=40, is_transposed=True)
    assert isinstance(rows, FileRows)
    assert (rows.n_rows, rows.width) == (700, 40)
    (segment,), bytes_read = rows.read([(100, 300)])
    np.testing.assert_array_equal(segment, values[:, 100:300].T)
    assert bytes_read == 200 * 40 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_npy(tmp_path: Path, version: tuple[int, int]) -> None:
    path = zipped(tmp_path / "x.npz", "features.npy", npy(SPECTROGRAM.T.copy(), version=version))
    (segment,), _ = find_rows(path, "features", width=40).read([(3, 5)])
    np.testing.assert_array_equal(segment, SPECTROGRAM.T[3:5])


def test_a_compressed_member_is_unpacked_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    npy_files._warned_compressed.clear()
    for name in "ab":
        np.savez_compressed(tmp_path / f"{name}.npz", arr_0=SPECTROGRAM)
    with caplog.at_level(logging.WARNING):
        found = [find_rows(tmp_path / f"{name}.npz", "arr_0", width=40, is_transposed=True) for name in "ab"]
    assert caplog.text.count("is compressed") == 1
    assert isinstance(found[0], CompressedRows)
    assert (found[0].n_rows, found[0].width) == (700, 40)
    (first, empty, second), bytes_read = found[0].read([(100, 300), (5, 5), (250, 700)])
    np.testing.assert_array_equal(first, SPECTROGRAM[:, 100:300].T)
    np.testing.assert_array_equal(second, SPECTROGRAM[:, 250:].T)
    assert len(empty) == 0
    assert bytes_read > 0


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_of_objects_is_refused_and_not_run(tmp_path: Path, kind: int) -> None:
    touched = tmp_path / "touched"
    objects = np.array([[Calls(Path.touch, touched)]], dtype=object)
    path = zipped(tmp_path / "x.npz", "arr_0.npy", npy(objects, allow_pickle=True), kind)
    assert pickle.dumps(objects)[:1] == b"\x80"  # what it holds is a pickle that would run
    with pytest.raises(ClipFailure, match="values of type object") as refused:
        find_rows(path, "arr_0", width=40)
    assert refused.value.reason is Reason.DECODE_ERROR
    assert not touched.exists()


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.zeros((40, 7), np.int16)), "values of type int16"),
        (npy(np.zeros((40, 7), ">f2")), "values of type >f2"),
        (npy(np.zeros((40, 7), "V2")), "values of type"),
        (npy(np.zeros((2, 40, 7), np.float16)), "expected two axes"),
        (npy(np.zeros((), np.float16)), "expected two axes"),
        (npy(np.zeros((40, 7), np.float16))[:-1], "bytes for float16"),
        (npy(np.zeros((40, 7), np.float16)) + b"x", "bytes for float16"),
        (npy(np.zeros((40, 7), np.float16), version=(3, 0)), "version 3"),
        (_header("{'descr': '<f2', 'fortran_order': False, 'shape': (-40, -7), }\n") + bytes(560), "shape of"),
        (_header("{'descr': '<f2', 'fortran_order': False, 'shape': (40, 9**99), }\n"), "x.npz"),
        (_header("__import__('os')\n"), "x.npz"),
        (_header("((((((\n"), "x.npz"),
        (b"no array", "x.npz"),
        (b"", "x.npz"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ClipFailure, match=message) as refused:
        find_rows(zipped(tmp_path / "x.npz", "arr_0.npy", data), "arr_0", width=40)
    assert refused.value.reason is Reason.DECODE_ERROR


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=SPECTROGRAM)
    whole = path.read_bytes()
    for data in (b"", whole[:1000], whole[1000:], whole[:-1], bytes(5000), b"x" + bytes(5000)):
        path.write_bytes(data)
        with pytest.raises(ClipFailure, match=r"x\.npz"):
            find_rows(path, "arr_0", width=40)
    path.write_bytes(whole)
    with pytest.raises(ClipFailure, match="no array 'features'"):
        find_rows(path, "features", width=40)
    path.unlink()
    with pytest.raises(ClipFailure, match="missing"):
        find_rows(path, "arr_0", width=40)


def test_a_member_that_reaches_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=SPECTROGRAM)
    data = bytearray(path.read_bytes())
    local_extra = data[28:30]
    data[28:30] = (0xFFFF).to_bytes(2, "little")  # the local header's extra field, which the directory does not repeat
    assert local_extra != data[28:30]
    path.write_bytes(data)
    with pytest.raises(ClipFailure):
        find_rows(path, "arr_0", width=40)
