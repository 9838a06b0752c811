"""Means and spreads over seeds, and results put into groups."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Key -> its items, both in order of appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def spread(rows: Sequence[Any], metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """`mean` and `std` (sample standard deviation) of each metric over seeds.

    A deviation is None with one seed; a figure that any seed lacks is None, for the others' mean would be another
    set's.
    """
    values = {metric: [getattr(row, metric) for row in rows] for metric in metrics}
    return {
        "mean": {metric: mean(each) for metric, each in values.items()},
        "std": {metric: _deviation(each) for metric, each in values.items()},
    }


def mean(values: Sequence[float | None]) -> float | None:
    """The mean, None where any value is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) == len(values) > 1 else None
