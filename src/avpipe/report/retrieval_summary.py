"""One evaluation of a retrieval run over its seeds: a result for each subset, with means and spreads."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from avpipe.errors import AvpipeError

DIRECTIONS = ("language_to_video", "video_to_language")
RECALLS = ("r1", "r5", "r10")
METRICS = (*RECALLS, "median_rank", "mean_rank")
_NEEDED = ("run", "model", "variant", "control", "regime", "start", "query", "candidates", "quirks", "chance", "seeds")
_PROTOCOL = ("expected", "missing", "absent", "cut_clips", "averaged_clips", "window", "known_words")
_SAME = (*_PROTOCOL, "gallery", "diagnostic", "protocol")

Result = Mapping[str, Any]


def summarise_retrieval(evaluation: Mapping[str, Any], place: str = "the evaluation") -> list[dict[str, Any]]:
    """The results of a run's variant, one for each subset that it was tested on.

    Args:
        evaluation: what evaluation.json holds, recalls as fractions.
        place: where it came from, for messages.

    Returns:
        For each subset the evaluation's own entries and `subset`, `diagnostic`, `chance` of R@1, R@5 and R@10 in %,
        `n_seeds`, `protocol` (what the figures are figures of), `seeds`, and for both directions `mean` and `std`
        over seeds of R@k in % and of median and mean rank (1 is the best). A deviation is None with one seed; a
        figure that any seed lacks is None.

    Raises:
        AvpipeError: a key is missing, there is no seed, or seeds were tested on different clips.
    """
    if missing := [key for key in _NEEDED if key not in evaluation]:
        raise AvpipeError(
            f"{place} lacks {', '.join(missing)}; expected an evaluation.json of this version of avpipe. "
            "Delete it and run the same command again."
        )
    if not evaluation["seeds"]:
        raise AvpipeError(f"{place} holds no seed; expected at least one. Set retrieval.seeds and run again.")
    _check_same_tests(evaluation["seeds"], place)
    shared = {key: value for key, value in evaluation.items() if key not in ("chance", "seeds")}
    return [
        {**shared, **_summarise_subset(subset, evaluation["chance"][subset], evaluation["seeds"])}
        for subset in evaluation["seeds"][0]["tests"]
    ]


def by_subset(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Subset -> its results, both in order of appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["subset"], []).append(result)
    return groups


def run_label(result: Result, separator: str = ", ") -> str:
    """Run as figures and sentences name it, with its variant where that is not the main one."""
    return result["run"] + (f"{separator}{result['variant']}" if result["variant"] != "main" else "")


def direction_label(result: Result, direction: str) -> str:
    """What is asked with and what is found, such as "audio → video"."""
    ends = (result["query"], result["candidates"])
    return " → ".join(ends if direction == DIRECTIONS[0] else ends[::-1])


def is_untrained(result: Result) -> bool:
    """Whether a model was drawn at random and tested without training."""
    return result["start"]["label"].startswith("random") and not any(seed["training"] for seed in result["seeds"])


def starts_from_stand_in(result: Result) -> bool:
    """Whether a model was trained from random weights though its run says published ones."""
    start = result["start"]
    is_random = start["label"].startswith("random") and not start["spec"].startswith("random")
    return is_random and not is_untrained(result)


def _check_same_tests(seeds: Sequence[Mapping[str, Any]], place: str) -> None:
    first = seeds[0]["tests"]
    for seed in seeds[1:]:
        for subset in {*first, *seed["tests"]}:
            one, other = ({key: tests.get(subset, {}).get(key) for key in _SAME} for tests in (first, seed["tests"]))
            if one != other:
                raise AvpipeError(
                    f"{place}: seeds {seeds[0]['seed']} and {seed['seed']} were tested on {subset!r} differently: "
                    f"{one} and {other}; expected the same clips. Delete it and run the same command again."
                )


def _summarise_subset(subset: str, chance: Mapping[str, float], seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tests = [seed["tests"][subset] for seed in seeds]
    by_direction = {name: [_in_percent(test[name]) for test in tests] for name in DIRECTIONS}
    return {
        "subset": subset,
        "diagnostic": tests[0]["diagnostic"],
        "chance": _in_percent(chance),
        "n_seeds": len(seeds),
        **{name: _mean_and_std(rows) for name, rows in by_direction.items()},
        "protocol": _protocol(tests),
        "seeds": [
            {
                **{key: value for key, value in seed.items() if key != "tests"},
                **{name: rows[place] for name, rows in by_direction.items()},
            }
            for place, seed in enumerate(seeds)
        ],
    }


def _protocol(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What seeds share; of ties, the most that any seed has."""
    forwards = tests[0][DIRECTIONS[0]]
    return {
        "text": tests[0]["protocol"],
        **{key: forwards[key] for key in ("n_queries", "n_ranked", "gallery", "ties")},
        "n_tied": {name: max(test[name]["n_tied"] for test in tests) for name in DIRECTIONS},
        **{key: tests[0][key] for key in _PROTOCOL},
    }


def _in_percent(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: 100 * value if key in RECALLS else value for key, value in metrics.items()}


def _mean_and_std(rows: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    mean: dict[str, float | None] = {}
    deviation: dict[str, float | None] = {}
    for metric in METRICS:
        known = [value for row in rows if (value := row[metric]) is not None]
        is_complete = len(known) == len(rows)
        mean[metric] = statistics.fmean(known) if is_complete else None
        deviation[metric] = statistics.stdev(known) if is_complete and len(known) > 1 else None
    return {"mean": mean, "std": deviation}
