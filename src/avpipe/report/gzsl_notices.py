"""What a reader must know before quoting a number of zero-shot learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from avpipe.report.notices import (
    NO_FIGURES,
    SMALL_CLASS,
    SMALL_TEST,
    duplicates,
    listed,
    most_is_there,
    other_weights,
    synthetic_data,
    untrained_extractors,
    use,
)
from avpipe.report.summary import group_by
from avpipe.schema.gzsl import BenchmarkSummary, FeatureSource, GzslResult, SubsetClips
from avpipe.schema.stored import Account, DatasetSettings, Weights

DAGGER = "†"
_SOURCES = {
    "tree": "a published tree of .h5 files",
    "caches": "the cache files of the published code",
    "feature pickle": "a published pickle",
}
_HARM = {
    "stage_2_test_seen": "S and HM overstate what is recognised in new videos",
    "stage_2_test_unseen": "U, HM and ZSL are touched as well",
}

Benchmarks = Mapping[str, BenchmarkSummary]
"""<split>/<feature set> -> the summary of its tree."""


def find_notices(
    settings: DatasetSettings,
    weights: Mapping[str, Weights],
    results: Sequence[GzslResult] = (),
    benchmarks: Benchmarks | None = None,
    account: Account | None = None,
) -> list[str]:
    """The notices of a dataset.

    Args:
        settings: the dataset's settings.
        weights: extractor -> its checked weights; empty where nothing was extracted.
        results: the results.
        benchmarks: what their trees rest on.
        account: of the dataset's clips; None where features were given.
    """
    benchmarks = benchmarks or {}
    return [
        *synthetic_data(settings),
        *_random_weights(settings, weights),
        *other_weights(weights),
        *settings.notes,
        *_given_features(benchmarks),
        *duplicates(account),
        *_repeated_clips(benchmarks),
        *_missing_clips(benchmarks),
        *_empty_classes(results, benchmarks),
        *_shared_sources(benchmarks),
        *_small_tests(benchmarks),
        *_odd_vectors(benchmarks),
        *_forms(results),
        *_chosen_on_test(results),
        *_controls(results),
    ]


def label(result: GzslResult, separator: str = ", ") -> str:
    """Method and form as figures and sentences name them, with a dagger where the test clips chose the epoch."""
    return f"{result.method}{separator}{result.form}{DAGGER if result.chooses_on_test else ''}"


def describe_source(source: FeatureSource) -> str | None:
    """In words, what features are that avpipe did not extract; None where it did."""
    return None if source.kind == "extracted" else _SOURCES.get(source.kind, source.kind)


def used_extractors(settings: DatasetSettings, features: str) -> list[str]:
    """The extractors of a feature set, video and audio."""
    chosen = settings.gzsl.feature_sets.get(features)
    return list(dict.fromkeys(name for name in (chosen.video, chosen.audio) if name)) if chosen else []


def is_comparable(benchmark: BenchmarkSummary) -> bool:
    """Whether enough clips of each subset, and of each class half, are used to put published figures beside a result.

    Args:
        benchmark: what the result rests on.
    """
    return all(
        most_is_there(subset.used, subset.expected) and not _halved_classes(subset)
        for subset in benchmark.subsets.values()
    )


def _random_weights(settings: DatasetSettings, weights: Mapping[str, Weights]) -> Iterator[str]:
    used = {name for each in settings.gzsl.benchmarks for name in used_extractors(settings, each.features)}
    untrained = {name: f"{name} ({each.label})" for name, each in sorted(weights.items()) if each.is_random}
    yield from untrained_extractors(text for name, text in untrained.items() if name in used)
    if besides := ", ".join(text for name, text in untrained.items() if name not in used):
        yield f"RANDOM WEIGHTS, extracted besides: {besides}; no figure here rests on them."


def _given_features(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        source = benchmark.source
        if (given := describe_source(source)) is not None:
            dropped = [f"{label} ({n} clips)" for label, n in source.dropped_classes.items()]
            unlisted = [subset for subset, each in benchmark.subsets.items() if each.expected_from != "csv"]
            details = [
                f"{name} rests on {given}" + (f" ({source.path})" if source.path else ""),
                "avpipe did not extract them from videos",
                f"left out, for no list has them: {listed(dropped)}" if dropped else "",
                f"{source.merged_duplicates} repeated rows were merged" if source.merged_duplicates else "",
                f"no csv tells which clips of {', '.join(unlisted)} are missing" if unlisted else "",
            ]
            yield f"GIVEN FEATURES: {'; '.join(filter(None, details))}."


def _halved_classes(subset: SubsetClips) -> dict[str, str]:
    """Classes of which less than half of the clips are used, with the numbers."""
    classes = subset.classes.items()
    return {name: f"{each.used} of {each.expected}" for name, each in classes if 2 * each.used < each.expected}


def _missing_clips(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        subsets = benchmark.subsets.items()
        parts = [text for subset, each in subsets if (text := use(subset, each.used, each.expected))]
        halved = [
            f"{label} ({n} in {subset})" for subset, each in subsets for label, n in _halved_classes(each).items()
        ]
        if halved:
            parts.append(f"less than half of the clips of {listed(halved)}")
        if is_comparable(benchmark) and parts:
            yield f"Missing clips: {name}: used are {'; '.join(parts)}."
        elif parts:
            yield f"MISSING CLIPS: {name}: used are {'; '.join(parts)}; {NO_FIGURES}."


def _repeated_clips(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        again = benchmark.repeated
        if again and again.clips:
            named = ", ".join(f"{clip} (as {one})" for clip, one in again.examples)
            more = f" and {again.clips - len(again.examples)} more" if again.clips > len(again.examples) else ""
            yield (
                f"SAME CLIP TWICE: {name}: {again.clips} clips that the split lists have the content of another one, "
                f"{again.apart} of them in another subset or class: {named}{more}. They are used as listed."
            )


def _empty_classes(results: Sequence[GzslResult], benchmarks: Benchmarks) -> Iterator[str]:
    groups = group_by(results, lambda each: each.benchmark)
    for name in dict.fromkeys((*benchmarks, *groups)):
        subsets = benchmarks[name].subsets if name in benchmarks else {}
        empty = {
            subset: [label for label, clips in each.classes.items() if not clips.used]
            for subset, each in subsets.items()
        }
        seeds = [seed for result in groups.get(name, []) for seed in result.seeds]
        tested = {label for seed in seeds for label in seed.classes_without_clips}
        empty["the test"] = sorted(tested.difference(*empty.values()))
        parts = [f"{listed(labels)} in {subset}" for subset, labels in empty.items() if labels]
        if parts:
            yield f"CLASSES WITHOUT CLIPS: {name}: {'; '.join(parts)}. Averages are over the classes that have clips."


def _shared_sources(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        parts = [
            f"{100 * clips.shared / clips.clips:.2f} % of {subset} ({clips.shared} of {clips.clips} clips), so {harm}"
            for subset, harm in _HARM.items()
            if (clips := benchmark.shared_sources.get(subset)) and clips.shared
        ]
        if parts:
            yield f"SHARED SOURCE VIDEOS: {name}: from the same videos as training clips: {'; '.join(parts)}."


def _odd_vectors(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        if benchmark.odd_vectors:
            yield f"CLASS VECTORS: {name}: vectors are {'; '.join(benchmark.odd_vectors)}."


def _forms(results: Sequence[GzslResult]) -> Iterator[str]:
    published = [each for each in results if each.form == "published"]
    if not published:
        return
    yield (
        "The form 'published' does what the published programs did, for comparison with their tables; 'corrected' "
        "does what is right. Both give every switch under results[].quirks."
    )
    corrected = {(each.benchmark, each.method): each for each in results if each.form == "corrected"}
    differing: dict[str, dict[str, None]] = {}
    for result in published:
        other = corrected.get((result.benchmark, result.method))
        for name, value in result.quirks.items() if other else ():
            if other and other.quirks.get(name) != value:
                differing.setdefault(name.split(".")[-1], {})[result.method] = None
    if differing:
        names = "; ".join(f"{name} ({', '.join(methods)})" for name, methods in differing.items())
        yield f"The two forms differ here in: {names}."
    if any(each.text == "published" for each in published):
        yield "Class vectors of the form 'published' are attached as its loader does, many to the wrong class."


def _chosen_on_test(results: Sequence[GzslResult]) -> Iterator[str]:
    chosen = dict.fromkeys(f"{each.method}, {each.form}" for each in results if each.chooses_on_test)
    if chosen:
        yield (
            f"CHOSEN ON TEST CLIPS: figures with {DAGGER} ({'; '.join(chosen)}) are those of the epoch that did best "
            "on the test clips themselves, as published; they are too high to be compared with the others."
        )


def _controls(results: Sequence[GzslResult]) -> Iterator[str]:
    if any(each.control for each in results):
        yield "The control 'permuted' trains with class vectors permuted among the classes; it should stay near chance."


def _small_tests(benchmarks: Benchmarks) -> Iterator[str]:
    for name, benchmark in benchmarks.items():
        parts = []
        for subset in _HARM:
            tested = benchmark.subsets.get(subset)
            n_classes = sum(1 for clips in tested.classes.values() if clips.used) if tested else 0
            if tested and n_classes and (tested.used < SMALL_TEST or tested.used < SMALL_CLASS * n_classes):
                parts.append(f"{tested.used} clips of {n_classes} classes in {subset}")
        if parts:
            yield (
                f"SMALL TEST SET: {name}: {'; '.join(parts)} (fewer than {SMALL_TEST}, or than {SMALL_CLASS} a class): "
                "one clip more or less that is recognised moves the figures much; compare several seeds and splits."
            )
