"""Paired comparison of methods over the seeds they share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from avpipe.report.summary import best_result, by_benchmark

COMPARED = ("hm", "zsl")
NOTE = (
    "Differences are paired by seed. Seeds measure the randomness of training on one split of one dataset, not a "
    "population of datasets or of clips: an interval without 0 says that another seed would hardly turn the order "
    "here, and nothing about other data. Intervals are not widened for the number of pairs."
)
_CONFIDENCE = 0.95
_TIE = 1e-9  # in %: two sums of the same accuracies may differ in their last bits


def compare_methods(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every pair of methods within a benchmark and form, in the order of `results`; controls are left out.

    Args:
        results: as `avpipe.report.summary.summarise` returns them.

    Returns:
        What `compare` says of every pair, with `split`, `features` and `form`.
    """
    pairs = []
    for (split, features), group in by_benchmark(results).items():
        methods = [each for each in group if not each["control"]]
        for form in dict.fromkeys(each["form"] for each in methods):
            place = {"split": split, "features": features, "form": form}
            same = [each for each in methods if each["form"] == form]
            pairs += [{**place, **compare(first, second)} for first, second in combinations(same, 2)]
    return pairs


def compare_with_best(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best method (see `best_result`) against each other one, for results of one benchmark and one form."""
    best = best_result(results)
    if best is None:
        return []
    return [compare(best, other) for other in results if other is not best and not other["control"]]


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two methods over their common seeds.

    Returns:
        `first` and `second`, the methods' names; `seeds` that both have and their number `n`; and for `hm` and
        `zsl` what `describe_differences` says of first minus second, in percentage points. None where a seed lacks
        the figure.
    """
    one, other = ({seed["seed"]: seed for seed in each["seeds"]} for each in (first, second))
    common = [seed for seed in one if seed in other]
    figures: dict[str, Any] = {}
    for metric in COMPARED:
        pairs = [(one[seed].get(metric), other[seed].get(metric)) for seed in common]
        known = [a - b for a, b in pairs if a is not None and b is not None]
        figures[metric] = describe_differences(known) if len(known) == len(pairs) else None
    return {"first": first["method"], "second": second["method"], "seeds": common, "n": len(common), **figures}


def describe_differences(differences: Sequence[float]) -> dict[str, float | int] | None:
    """Mean, deviation and Student's 95 % interval of paired differences; None for fewer than two.

    Returns:
        `mean`, `std` (sample standard deviation), `low` and `high` (mean ± t(0.975, n - 1) std / √n), and how many
        are `wins` (above 0), `ties` and `losses`.
    """
    n = len(differences)
    if n < 2:
        return None
    from scipy.special import stdtrit  # Student's quantile; imported here, planning does without

    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    half = float(stdtrit(n - 1, (1 + _CONFIDENCE) / 2)) * std / math.sqrt(n)
    wins = sum(each > _TIE for each in differences)
    losses = sum(each < -_TIE for each in differences)
    interval = {"mean": mean, "std": std, "low": mean - half, "high": mean + half}
    return {**interval, "wins": wins, "ties": n - wins - losses, "losses": losses}
