"""Small Parquet tables as lists of rows, written whole or not at all, each with its manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avpipe.io.manifest import result_file, verified
from avpipe.io.reading import MAKE_AGAIN, reading


def write_rows(
    target: str | os.PathLike[str], schema: pa.Schema, rows: Iterable[Mapping[str, Any]], **metadata: str
) -> None:
    """Write rows with the columns of `schema`; `metadata` becomes the file's key-value metadata."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema.with_metadata(metadata or None))
    with result_file(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rows(source: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All rows of a table.

    Raises:
        AvpipeError: the file is damaged.
        FileNotFoundError: there is none.
    """
    return _read(source).to_pylist()


def read_metadata(source: str | os.PathLike[str]) -> dict[str, str]:
    """The file's key-value metadata without Arrow's own entries."""
    metadata = _read(source).schema.metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items() if not key.startswith(b"ARROW")}


def _read(source: str | os.PathLike[str]) -> pa.Table:
    with reading(verified(source), "a table (Parquet)", MAKE_AGAIN):
        return pq.read_table(source)
