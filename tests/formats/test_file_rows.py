"""Segments of rows are read by their place in the file: right values, each byte once, nothing beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.formats.file_rows import GAP_BYTES, FileRows, merged

OFFSET = 24
VALUES = np.random.default_rng(0).standard_normal((40000, 40)).astype(np.float16)


@pytest.fixture(params=[False, True], ids=["time major", "transposed"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> FileRows:
    return stored(tmp_path, VALUES, is_transposed=request.param)


def stored(folder: Path, values: np.ndarray, *, is_transposed: bool = False) -> FileRows:
    laid_out = values.T if is_transposed else values
    path = folder / "values"
    path.write_bytes(bytes(OFFSET) + laid_out.tobytes())
    return FileRows(path, OFFSET, values.dtype, *values.shape, is_transposed)


def test_merged() -> None:
    assert merged([], 0) == []
    assert merged([(3, 3)], 0) == []
    assert merged([(5, 8), (0, 2), (2, 3), (6, 7), (7, 9)], 0) == [(0, 3), (5, 9)]
    assert merged([(0, 2), (5, 8)], 2) == [(0, 2), (5, 8)]
    assert merged([(0, 2), (5, 8)], 3) == [(0, 8)]


def test_segments_are_those_of_the_whole_array(rows: FileRows) -> None:
    spans = [(4000, 5000), (0, 10), (17, 17), (5, 1000), (998, 1003), (0, 10), (4999, 5000)]
    found, _ = rows.read(spans)
    for (first, stop), segment in zip(spans, found, strict=True):
        assert segment.dtype == np.float16
        np.testing.assert_array_equal(segment, VALUES[first:stop])


def test_each_byte_is_read_once_and_gaps_are_not(rows: FileRows) -> None:
    _, bytes_read = rows.read([(0, 1000), (500, 1500), (30000, 31000), (100, 200)])
    # Transposed, the gap is 57,000 bytes of each band; the other way it is 2,280,000 bytes.
    assert bytes_read == 2500 * 40 * 2
    _, bytes_read = rows.read([(0, 10), (20, 30)])
    assert bytes_read == 30 * 40 * 2
    _, bytes_read = rows.read([(0, 1), (1 + GAP_BYTES // 80 + 1, 2 + GAP_BYTES // 80 + 1)])
    assert bytes_read == (207 * 80 if rows.is_transposed else 2 * 80)


def test_nothing_is_read_for_nothing(rows: FileRows) -> None:
    found, bytes_read = rows.read([(7, 7)])
    assert found[0].shape == (0, 40)
    assert bytes_read == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types(tmp_path: Path, dtype: type[np.floating]) -> None:
    values = VALUES[:9].astype(dtype)
    found = stored(tmp_path, values).read([(2, 7)])
    assert found.rows[0].dtype == (np.float16 if dtype is np.float16 else np.float32)
    np.testing.assert_array_equal(found.rows[0], values[2:7])
    assert found.bytes_read == 5 * 40 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_where_they_are_read(
    tmp_path: Path, dtype: type[np.floating], wrong: float
) -> None:
    values = VALUES[:9].astype(dtype)
    values[3, 5] = wrong
    rows = stored(tmp_path, values)
    with pytest.raises(AvpipeError, match="1 values that are NaN or infinite"):
        rows.read([(2, 7)])
    assert len(rows.read([(4, 7)]).rows[0]) == 3


def test_a_file_cut_short_or_removed_is_named(rows: FileRows) -> None:
    rows.path.write_bytes(rows.path.read_bytes()[:-200])
    with pytest.raises(AvpipeError, match=r"ends at byte 3,199,824, expected 3,200,024"):
        rows.read([(39000, 40000)])
    rows.path.unlink()
    with pytest.raises(AvpipeError, match="values cannot be read: No such file"):
        rows.read([(0, 1)])
