"""One evaluation over its seeds: means and spreads, by metric, mode of distance and class."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from avpipe.errors import AvpipeError

METRICS = ("seen", "unseen", "hm", "zsl")
DAGGER = "†"
_NEEDED = ("split", "features", "method", "form", "text", "quirks", "control", "chance_zsl", "seeds")


def summarise(evaluation: Mapping[str, Any], place: str = "the evaluation") -> dict[str, Any]:
    """An evaluation with its mean and sample standard deviation over seeds; figures in %.

    Args:
        evaluation: what evaluation.json holds.
        place: where it came from, for messages.

    Returns:
        The evaluation, and `n_seeds`; `mean` and `std`, metric -> value in the reported mode; `modes`, mode -> mean
        and std; `per_class`, class -> mean `gzsl` and `zsl` and the number of `clips`. A deviation is None with
        one seed; a figure that any seed lacks is None, for the others' mean would be another set's.

    Raises:
        AvpipeError: a key is missing, or there is no seed.
    """
    if missing := [key for key in _NEEDED if key not in evaluation]:
        raise AvpipeError(
            f"{place} lacks {', '.join(missing)}; expected an evaluation.json of this version of avpipe. "
            "Delete it and run the same command again."
        )
    seeds = evaluation["seeds"]
    if not seeds:
        raise AvpipeError(f"{place} holds no seed; expected at least one. Set gzsl.seeds and run again.")
    modes = dict.fromkeys(mode for seed in seeds for mode in seed.get("metrics", {}))
    by_mode = {mode: [seed.get("metrics", {}).get(mode, {}) for seed in seeds] for mode in modes}
    return {
        **{key: value for key, value in evaluation.items() if key != "seeds"},
        "n_seeds": len(seeds),
        **_mean_and_std(seeds),
        "modes": {mode: _mean_and_std(rows) for mode, rows in by_mode.items()},
        "per_class": _per_class(seeds),
        "seeds": list(seeds),
    }


def chooses_on_test(result: Mapping[str, Any]) -> bool:
    """Whether the method chose its epoch on the very clips that are reported."""
    return any(name.split(".")[-1] == "chooses_on_test" and value for name, value in result["quirks"].items())


def dagger(result: Mapping[str, Any]) -> str:
    """A dagger where the test clips chose the epoch, else nothing."""
    return DAGGER if chooses_on_test(result) else ""


def label(result: Mapping[str, Any], separator: str = ", ") -> str:
    """Method and form as figures and sentences name them, with the dagger."""
    return f"{result['method']}{separator}{result['form']}{dagger(result)}"


def by_benchmark(results: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """(split, feature set) -> its results, both in order of appearance."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["split"], result["features"]), []).append(result)
    return groups


def best_result(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The result with the largest mean harmonic mean, the first listed of equals.

    Controls do not count, nor do results whose epoch the test clips chose: their figures are too high.
    """
    candidates = [each for each in results if not each["control"] and not chooses_on_test(each)]
    known = [each for each in candidates if each["mean"]["hm"] is not None]
    return max(known, key=lambda each: each["mean"]["hm"], default=None)


def _mean_and_std(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    values = {metric: [row.get(metric) for row in rows] for metric in METRICS}
    return {
        "mean": {metric: _mean(each) for metric, each in values.items()},
        "std": {metric: _deviation(each) for metric, each in values.items()},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) == len(values) > 1 else None


def _per_class(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Seeds are tested on the same clips, so the first seed's classes and counts are everyone's."""
    tables = [seed.get("per_class", {}) for seed in seeds]
    return {
        name: {
            "gzsl": _mean([table.get(name, {}).get("gzsl") for table in tables]),
            "zsl": _mean([table.get(name, {}).get("zsl") for table in tables]),
            "clips": first["clips"],
        }
        for name, first in tables[0].items()
    }
