"""CSV tables of a person's own, whose cells may be separated by semicolons or tabs, as spreadsheets write them."""

from __future__ import annotations

import csv
from typing import Any, TextIO

SEPARATORS = ",;\t"


def dict_reader(stream: TextIO, *columns: str, **settings: Any) -> csv.DictReader[str]:
    """Rows as mappings from the header's names, read with the separator that gives the header most of `columns`.

    Args:
        stream: the table, from its beginning.
        columns: names that the header may be expected to have; with equally many of them a comma is taken.
        settings: further arguments of `csv.DictReader`.
    """
    header = stream.readline()
    stream.seek(0)

    def known(separator: str) -> int:
        names = next(csv.reader([header], delimiter=separator), [])
        return len(set(columns) & {name.strip() for name in names})

    return csv.DictReader(stream, delimiter=max(SEPARATORS, key=known), **settings)
