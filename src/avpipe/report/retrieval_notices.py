"""What a reader must know before quoting a figure of retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from avpipe.report.document import counts
from avpipe.report.notices import (
    NO_FIGURES,
    SMALL_TEST,
    duplicates,
    most_is_there,
    other_weights,
    synthetic_data,
    untrained_extractors,
    use,
)
from avpipe.report.summary import group_by
from avpipe.retrieval.packs import FRAMES_PER_SECOND
from avpipe.schema.retrieval import DIRECTIONS, Direction, PackSummary, RetrievalResult
from avpipe.schema.stored import Account, DatasetSettings, Weights

_EXTRACTED = "extracted"

Packs = Mapping[str, PackSummary]
"""<dataset>/<subset>, or the dataset's own subset -> the summary of its pack."""


def find_notices(
    settings: DatasetSettings,
    weights: Mapping[str, Weights],
    results: Sequence[RetrievalResult] = (),
    packs: Packs | None = None,
    account: Account | None = None,
) -> list[str]:
    """The notices of a dataset.

    Args:
        settings: the dataset's settings.
        weights: extractor -> its checked weights; empty where nothing was extracted.
        results: the results.
        packs: what they were trained and tested on.
        account: of the dataset's clips; None where features were given.
    """
    packs = packs or {}
    return [
        *synthetic_data(settings),
        *_random_weights(weights, packs),
        *_random_models(results),
        *other_weights(weights),
        *settings.notes,
        *_given_features(packs),
        *duplicates(account),
        *_missing_clips(packs),
        *(f"PACK: {name}: {warning}" for name, pack in packs.items() for warning in pack.warnings),
        *_by_test(results, "MISSED QUERIES", _missed_queries),
        *_by_test(results, "CUT CLIPS", _cut_clips),
        *_by_test(results, "Clips of several windows", _averaged_clips),
        *_by_test(results, "CAPTIONS", _captions),
        *_by_test(results, "UNKNOWN WORDS", _unknown_words),
        *_by_test(results, "TIES", _ties),
        *_by_test(results, "SMALL TEST SET", _small_test),
        *_left_out(results),
        *_diagnostic(results),
        *_controls(results),
    ]


def run_label(result: RetrievalResult, separator: str = ", ") -> str:
    """Run as figures and sentences name it, with its variant where that is not the main one."""
    return result.run + (f"{separator}{result.variant}" if result.variant != "main" else "")


def direction_label(result: RetrievalResult, direction: Direction) -> str:
    """What is asked with and what is found, such as "audio → video"."""
    ends = (result.query, result.candidates)
    return " → ".join(ends if direction == DIRECTIONS[0] else ends[::-1])


def is_comparable(result: RetrievalResult) -> bool:
    """Whether enough clips were trained with and tested on to put published figures beside a result."""
    trained = [seed.training for seed in result.seeds if seed.training]
    counts_of = [(each.items, each.items + sum(each.left_out.values())) for each in trained]
    return all(most_is_there(*each) for each in [*counts_of, (result.protocol.gallery, result.protocol.expected)])


def _missing_clips(packs: Packs) -> Iterator[str]:
    for name, pack in packs.items():
        if text := use(name, pack.used, pack.expected):
            is_serious = not most_is_there(pack.used, pack.expected)
            yield f"MISSING CLIPS: used are {text}; {NO_FIGURES}." if is_serious else f"Missing clips: used are {text}."


def _random_weights(weights: Mapping[str, Weights], packs: Packs) -> Iterator[str]:
    """Of this dataset's extractors, and of those that other datasets' packs were made with."""
    used = [*sorted(weights.items()), *(each for pack in packs.values() for each in pack.weights())]
    yield from untrained_extractors(f"{name} ({each.label})" for name, each in used if each.is_random)


def _random_models(results: Sequence[RetrievalResult]) -> Iterator[str]:
    labels = [(each, f"{run_label(each)} ({each.start.label})") for each in results]
    if runs := dict.fromkeys(text for each, text in labels if each.is_untrained):
        yield f"RANDOM WEIGHTS: the models of {', '.join(runs)} were tested untrained; their figures mean nothing."
    if started := dict.fromkeys(text for each, text in labels if each.starts_from_stand_in):
        yield f"RANDOM WEIGHTS: {', '.join(started)}: trained from random weights in place of published ones."


def _left_out(results: Sequence[RetrievalResult]) -> Iterator[str]:
    """Clips or videos that no step of training saw, by run."""
    runs_of: dict[str, dict[str, None]] = {}
    for result in results:
        training = next((seed.training for seed in result.seeds if seed.training), None)
        reasons = dict(sorted(training.left_out.items())) if training else {}
        if training and any(reasons.values()):
            n_left_out = sum(reasons.values())
            is_serious = not most_is_there(training.items, training.items + n_left_out)
            text = f"{n_left_out} beside the {training.items} used ({counts(reasons)})"
            text += f"; {NO_FIGURES}" if is_serious else ""
            runs_of.setdefault(text, {})[run_label(result)] = None
    for text, runs in runs_of.items():
        yield f"LEFT OUT OF TRAINING: {', '.join(runs)}: {text}."


def _given_features(packs: Packs) -> Iterator[str]:
    for name, pack in packs.items():
        if pack.origin != _EXTRACTED:
            yield f"GIVEN FEATURES: {name} rests on a {pack.origin}; avpipe did not extract them from videos."


def _by_test(
    results: Sequence[RetrievalResult], subject: str, describe: Callable[[RetrievalResult], str | None]
) -> Iterator[str]:
    """One sentence for each subset where it is the same for all runs, else one for each group of runs."""
    for subset, tested in group_by(results, lambda each: each.subset).items():
        groups = group_by(tested, describe)
        for sentence, group in groups.items():
            if sentence is not None:
                which = f" ({', '.join(map(run_label, group))})" if len(groups) > 1 else ""
                yield f"{subject}: {subset}{which}: {sentence}"


def _missed_queries(result: RetrievalResult) -> str | None:
    protocol = result.protocol
    missed = protocol.n_queries - protocol.n_ranked
    if not missed:
        return None
    reasons = {**protocol.missing, "unlisted": protocol.absent}
    why = f" ({counts(reasons)})" if any(reasons.values()) else ""
    return (
        f"{missed} of {protocol.n_queries} queries have no sound or features{why} and count as misses in R@k; "
        f"ranks are over the other {protocol.n_ranked}, in a gallery of {protocol.gallery}."
    )


def _cut_clips(result: RetrievalResult) -> str | None:
    protocol = result.protocol
    if not protocol.cut_clips:
        return None
    return (
        f"{protocol.cut_clips} clips are longer than the {protocol.window / FRAMES_PER_SECOND:g} s that are "
        "heard of each; their pictures are pooled over all of it."
    )


def _averaged_clips(result: RetrievalResult) -> str | None:
    protocol = result.protocol
    if not protocol.averaged_clips:
        return None
    return (
        f"{protocol.averaged_clips} clips are longer than {protocol.window / FRAMES_PER_SECOND:g} s; their "
        "embeddings are means over windows of that length (long_clips: average), which was not published."
    )


def _captions(result: RetrievalResult) -> str | None:
    use = result.protocol.captions
    if use is None or use.rule not in ("first", "all"):
        return None
    which = "the first of each clip's captions is" if use.rule == "first" else "each of the clips' captions is"
    return (
        f"{which} a query ({use.used} of {use.total}; datasets.<name>.retrieval.test_captions: {use.rule}); not to be "
        "compared with figures of one caption that the benchmark fixes for each clip."
    )


def _unknown_words(result: RetrievalResult) -> str | None:
    words = result.protocol.known_words
    if words is None or (words.known == words.tokens and not words.captions_without):
        return None
    unknown, without = words.tokens - words.known, words.captions_without
    more = f"; {without} captions have no known word and are all alike" if without else ""
    share = 100 * unknown / max(words.tokens, 1)
    return f"{share:.1f} % of the captions' words ({unknown} of {words.tokens}) have no vector{more}."


def _ties(result: RetrievalResult) -> str | None:
    numbers = [(getattr(result.protocol.n_tied, way), direction_label(result, way)) for way in DIRECTIONS]
    tied = ", ".join(f"{n} ({label})" for n, label in numbers if n)
    return (
        f"queries whose clip has the score of another one: {tied}; they get the worst of the tied ranks."
        if tied
        else None
    )


def _small_test(result: RetrievalResult) -> str | None:
    gallery, queries = result.protocol.gallery, result.protocol.n_queries
    if min(gallery, queries) >= SMALL_TEST or result.diagnostic:
        return None
    return (
        f"{queries} queries among {gallery} candidates; guessing has R@10 {result.chance.r10:.1f} %, and one query "
        f"moves R@k by {100 / max(queries, 1):.1f} points."
    )


def _diagnostic(results: Sequence[RetrievalResult]) -> Iterator[str]:
    subsets = dict.fromkeys(each.subset for each in results if each.diagnostic)
    if subsets:
        yield f"DIAGNOSTIC: {', '.join(subsets)}: not to be used as a benchmark."


def _controls(results: Sequence[RetrievalResult]) -> Iterator[str]:
    if any(each.control for each in results):
        yield "The control 'permuted' trains with pictures permuted among the clips; it should stay near chance."
