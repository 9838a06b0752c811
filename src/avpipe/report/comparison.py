"""Paired comparison of methods over the seeds they share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations

from avpipe.report.summary import group_by
from avpipe.schema.gzsl import DifferenceSummary, GzslResult, MethodPair

NOTE = (
    "Differences are paired by seed. Seeds measure the randomness of training on one split of one dataset, not a "
    "population of datasets or of clips: an interval without 0 says that another seed would hardly turn the order "
    "here, and nothing about other data. Intervals are not widened for the number of pairs."
)
_CONFIDENCE = 0.95
_TIE = 1e-9  # in %: two sums of the same accuracies may differ in their last bits


def compare_methods(results: Sequence[GzslResult]) -> list[MethodPair]:
    """Every pair of methods within a benchmark and form, in the order of `results`; controls are left out."""
    pairs = []
    for group in group_by(results, lambda each: each.benchmark).values():
        methods = [each for each in group if not each.control]
        for same in group_by(methods, lambda each: each.form).values():
            pairs += [compare(first, second) for first, second in combinations(same, 2)]
    return pairs


def compare_with_best(results: Sequence[GzslResult]) -> list[MethodPair]:
    """The best method (see `best_result`) against each other one, for results of one benchmark and one form."""
    best = best_result(results)
    if best is None:
        return []
    return [compare(best, other) for other in results if other is not best and not other.control]


def best_result(results: Sequence[GzslResult]) -> GzslResult | None:
    """The result with the largest mean harmonic mean, the first listed of equals.

    Controls do not count, nor do results whose epoch the test clips chose: their figures are too high.
    """
    candidates = [each for each in results if not each.control and not each.chooses_on_test]
    known = [(each.mean.hm, each) for each in candidates if each.mean.hm is not None]
    return max(known, key=lambda pair: pair[0], default=(None, None))[1]


def compare(first: GzslResult, second: GzslResult) -> MethodPair:
    """Two methods over their common seeds; a metric is None where a seed lacks the figure or fewer than two are."""
    one, other = ({seed.seed: seed for seed in each.seeds} for each in (first, second))
    common = [seed for seed in one if seed in other]
    figures = {}
    for metric in ("hm", "zsl"):
        pairs = [(getattr(one[seed], metric), getattr(other[seed], metric)) for seed in common]
        known = [a - b for a, b in pairs if a is not None and b is not None]
        figures[metric] = describe_differences(known) if len(known) == len(pairs) else None
    return MethodPair(
        split=first.split,
        features=first.features,
        form=first.form,
        first=first.method,
        second=second.method,
        seeds=common,
        n=len(common),
        **figures,
    )


def describe_differences(differences: Sequence[float]) -> DifferenceSummary | None:
    """Mean, deviation and Student's 95 % interval, mean ± t(0.975, n - 1) std / √n; None for fewer than two."""
    n = len(differences)
    if n < 2:
        return None
    from scipy.special import stdtrit  # Student's quantile; imported here, planning does without

    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    half = float(stdtrit(n - 1, (1 + _CONFIDENCE) / 2)) * std / math.sqrt(n)
    wins = sum(each > _TIE for each in differences)
    losses = sum(each < -_TIE for each in differences)
    return DifferenceSummary(
        mean=mean, std=std, low=mean - half, high=mean + half, wins=wins, ties=n - wins - losses, losses=losses
    )
