"""What a reader must know before quoting a figure of retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from avpipe.report.notices import Records, other_weights_notices, synthetic_notices
from avpipe.report.retrieval_summary import (
    DIRECTIONS,
    Result,
    by_subset,
    direction_label,
    is_untrained,
    run_label,
    starts_from_stand_in,
)

_FRAMES_PER_SECOND = 100  # of spectrograms
_SMALL_GALLERY = 100  # candidates; by guessing, R@10 is then 10 % or more
_EXTRACTED = "extracted"


def find_retrieval_notices(
    settings: Mapping[str, Any],
    weights: Records,
    results: Sequence[Result] = (),
    packs: Records | None = None,
) -> list[str]:
    """The notices of a dataset, each a sentence that begins with its subject in capitals where it is a warning.

    Args:
        settings: the dataset's settings.
        weights: extractor -> its checked weights; empty where nothing was extracted.
        results: what `avpipe.report.retrieval_summary.summarise_retrieval` returned.
        packs: "<dataset>/<subset>" or the dataset's own subset -> the summary of its pack.
    """
    packs = packs or {}
    return [
        *synthetic_notices(settings),
        *_random_weights(weights, packs, results),
        *other_weights_notices(weights),
        *settings["notes"],
        *_given_features(packs),
        *_warnings(packs),
        *_by_test(results, "MISSED QUERIES", _missed_queries),
        *_by_test(results, "CUT CLIPS", _cut_clips),
        *_by_test(results, "Clips of several windows", _averaged_clips),
        *_by_test(results, "UNKNOWN WORDS", _unknown_words),
        *_by_test(results, "TIES", _ties),
        *_by_test(results, "SMALL GALLERY", _small_gallery),
        *_left_out(results),
        *_diagnostic(results),
        *_controls(results),
    ]


def _random_weights(weights: Records, packs: Records, results: Sequence[Result]) -> Iterator[str]:
    """Of this dataset's extractors, of those that other datasets' packs were made with, and of models."""
    labels = [(name, str(record["label"])) for name, record in sorted(weights.items())]
    for pack in packs.values():
        parts = pack.get("provenance", {}).values()
        labels += [(part["extractor"], str(part["weights"]["label"])) for part in parts if "weights" in part]
    untrained = dict.fromkeys(f"{name} ({label})" for name, label in labels if label.startswith("random:"))
    if untrained:
        yield (
            f"RANDOM WEIGHTS: {', '.join(untrained)}; these networks are untrained, so features are not the "
            "published ones."
        )
    runs = dict.fromkeys(f"{run_label(each)} ({each['start']['label']})" for each in results if is_untrained(each))
    if runs:
        yield f"RANDOM WEIGHTS: the models of {', '.join(runs)} were tested untrained; their figures mean nothing."
    started = dict.fromkeys(
        f"{run_label(each)} ({each['start']['label']})" for each in results if starts_from_stand_in(each)
    )
    if started:
        yield f"RANDOM WEIGHTS: {', '.join(started)}: trained from random weights in place of published ones."


def _left_out(results: Sequence[Result]) -> Iterator[str]:
    """Clips or videos that no step of training saw, by run."""
    found: dict[str, str] = {}
    for result in results:
        training = next((seed["training"] for seed in result["seeds"] if seed["training"]), None) or {}
        reasons = {reason: n for reason, n in training.get("left_out", {}).items() if n}
        if reasons:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
            found[run_label(result)] = f"{sum(reasons.values())} beside the {training['items']} used ({counts})"
    by_text: dict[str, list[str]] = {}
    for run, text in found.items():
        by_text.setdefault(text, []).append(run)
    for text, runs in by_text.items():
        yield f"LEFT OUT OF TRAINING: {', '.join(runs)}: {text}."


def _given_features(packs: Records) -> Iterator[str]:
    for name, pack in packs.items():
        if pack["origin"] != _EXTRACTED:
            yield f"GIVEN FEATURES: {name} rests on a {pack['origin']}; avpipe did not extract them from videos."


def _warnings(packs: Records) -> Iterator[str]:
    for name, pack in packs.items():
        for warning in pack["warnings"]:
            yield f"PACK: {name}: {warning}"


def _by_test(results: Sequence[Result], subject: str, describe: Callable[[Result], str | None]) -> Iterator[str]:
    """One sentence for each subset where it is the same for all runs, else one for each group of runs."""
    for subset, group in by_subset(results).items():
        runs_of: dict[str | None, list[str]] = {}
        for result in group:
            runs_of.setdefault(describe(result), []).append(run_label(result))
        for sentence, runs in runs_of.items():
            if sentence is not None:
                which = f" ({', '.join(runs)})" if len(runs_of) > 1 else ""
                yield f"{subject}: {subset}{which}: {sentence}"


def _missed_queries(result: Result) -> str | None:
    protocol = result["protocol"]
    missed = protocol["n_queries"] - protocol["n_ranked"]
    if not missed:
        return None
    reasons = [f"{reason} {n}" for reason, n in protocol["missing"].items() if n]
    reasons += [f"unlisted {protocol['absent']}"] if protocol["absent"] else []
    why = f" ({', '.join(reasons)})" if reasons else ""
    return (
        f"{missed} of {protocol['n_queries']} queries have no sound or features{why} and count as misses in R@k; "
        f"ranks are over the other {protocol['n_ranked']}, in a gallery of {protocol['gallery']}."
    )


def _cut_clips(result: Result) -> str | None:
    protocol = result["protocol"]
    if not protocol["cut_clips"]:
        return None
    return (
        f"{protocol['cut_clips']} clips are longer than the {protocol['window'] / _FRAMES_PER_SECOND:g} s that are "
        "heard of each; their pictures are pooled over all of it."
    )


def _averaged_clips(result: Result) -> str | None:
    protocol = result["protocol"]
    if not protocol["averaged_clips"]:
        return None
    return (
        f"{protocol['averaged_clips']} clips are longer than {protocol['window'] / _FRAMES_PER_SECOND:g} s; their "
        "embeddings are means over windows of that length (long_clips: average), which was not published."
    )


def _unknown_words(result: Result) -> str | None:
    words = result["protocol"]["known_words"]
    if not words or (words["known"] == words["tokens"] and not words["captions_without"]):
        return None
    unknown = words["tokens"] - words["known"]
    without = words["captions_without"]
    more = f"; {without} captions have no known word and are all alike" if without else ""
    share = 100 * unknown / max(words["tokens"], 1)
    return f"{share:.1f} % of the captions' words ({unknown} of {words['tokens']}) have no vector{more}."


def _ties(result: Result) -> str | None:
    tied = [
        f"{n} ({direction_label(result, direction)})"
        for direction in DIRECTIONS
        if (n := result["protocol"]["n_tied"][direction])
    ]
    if not tied:
        return None
    return f"queries whose clip has the score of another one: {', '.join(tied)}; they get the worst of the tied ranks."


def _small_gallery(result: Result) -> str | None:
    gallery = result["protocol"]["gallery"]
    if gallery >= _SMALL_GALLERY or result["diagnostic"]:
        return None
    return f"{gallery} candidates; guessing has R@10 {result['chance']['r10']:.1f} %."


def _diagnostic(results: Sequence[Result]) -> Iterator[str]:
    subsets = dict.fromkeys(each["subset"] for each in results if each["diagnostic"])
    if subsets:
        yield f"DIAGNOSTIC: {', '.join(subsets)}: not to be used as a benchmark."


def _controls(results: Sequence[Result]) -> Iterator[str]:
    if any(each["control"] for each in results):
        yield "The control 'permuted' trains with pictures permuted among the clips; it should stay near chance."
