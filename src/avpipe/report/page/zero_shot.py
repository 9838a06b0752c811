"""The page of zero-shot learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from avpipe.report import gzsl
from avpipe.report.clips import account_blocks, failed_blocks
from avpipe.report.comparison import best_result
from avpipe.report.document import Block, Heading, Items, Paragraph
from avpipe.report.gzsl_notices import describe_source, label, used_extractors
from avpipe.report.page import maps
from avpipe.report.page.confusion import NOT_KEPT, confusion_of, confusion_parts
from avpipe.report.page.methods import method_picture
from avpipe.report.page.panels import curve_picture, loss_pictures, rate_picture
from avpipe.report.page.parts import Bars, Fold, Gallery, Key, Page, Part, Picture, Section
from avpipe.report.page.rests_on import network_lines, source_lines, version_parts
from avpipe.report.page.sources import Sources, Trained
from avpipe.report.summary import group_by
from avpipe.schema.gzsl import BenchmarkSummary, GzslRecord, GzslResult

_STAGES = (
    "Stage 1 is scored on validation clips and chooses the epoch; stage 2 trains afresh, on these clips too, up to "
    "that epoch. Its rates are of clips that it trains on: near 100 % they say nothing."
)
_BETA = (
    "Seen classes are favoured, for the model was trained on them; a constant, beta, that is added to their distances "
    "evens this out. A line is a seed: S and U on the test clips for every beta. The ring is the beta that the seed "
    "chose on validation clips. AUSUC is the area under the line, a figure that rests on no choice of beta."
)
_NO_FILES = "The files of the trainings are not there, so there is nothing to draw."
_ALIGNMENT = {
    "correct": "each class has its own vector",
    "published": "as the published loader attaches them, many to the wrong class",
    "permuted": "permuted among the classes, anew for each seed",
}

Show = Callable[[GzslResult], list[Part]]


def zero_shot_page(record: GzslRecord, sources: Sources) -> Page:
    """The page.

    Args:
        record: eval.json.
        sources: what lies beside it.
    """
    sections = [
        Section("Results", _of_benchmarks(record, _results)),
        Section("What it rests on", _rests_on(record, sources)),
        Section(
            "Learning curves",
            [
                Paragraph(_STAGES),
                *_of_methods(record, lambda result: _learning(result, _runs(sources, result)), "learning"),
            ],
        ),
        Section("Seen against unseen", _seen_unseen(record)),
        Section("Classes", _of_methods(record, lambda each: _classes(each, _runs(sources, each)), "classes")),
        Section("Confusions", _of_methods(record, lambda each: _confusions(each, _runs(sources, each)), "confusions")),
        Section(
            "Map",
            [
                Paragraph(maps.EXPLANATION),
                *_of_methods(record, lambda each: _map(label(each), _runs(sources, each)), "maps"),
            ],
        ),
        Section("Methods compared", _of_benchmarks(record, _compared(record))),
        Section("Clips", _clips(record)),
    ]
    subtitle = f"Generalised zero-shot learning on {record.dataset}"
    return Page(record.title or record.dataset, subtitle, record.notices, sections)


def _runs(sources: Sources, result: GzslResult) -> Sequence[Trained]:
    return sources.runs.get((result.split, result.features, result.method, result.form), [])


def _of_benchmarks(record: GzslRecord, show: Callable[[list[GzslResult]], list[Part]]) -> list[Part]:
    """What there is to show of each benchmark, below its name where there are several."""
    groups = group_by(record.results, lambda each: each.benchmark)
    parts: list[Part] = []
    for name, results in groups.items():
        parts += [*([Heading(name, level=3)] if len(groups) > 1 else []), *show(results)]
    return parts


def _of_methods(record: GzslRecord, show: Show, group: str) -> list[Part]:
    """A fold for each method and form; that of the best method is open at first."""

    def folds(results: list[GzslResult]) -> list[Part]:
        first = best_result(results) or results[0]
        name = f"{group}-{results[0].benchmark}"
        return [Fold(label(each), show(each), is_open=each is first, group=name) for each in results]

    return _of_benchmarks(record, folds)


def _results(results: list[GzslResult]) -> list[Part]:
    chance = f"Guessing among the unseen classes gives a ZSL of {results[0].chance_zsl:.1f} %."
    modes = gzsl.mode_table(results)
    return [
        Paragraph(f"{gzsl.INTRODUCTION} {chance}"),
        *gzsl.result_table(results),
        *source_lines(each.published for each in results),
        method_picture(results),
        *([Fold("Sound, pictures or both", modes)] if modes else []),
    ]


def _rests_on(record: GzslRecord, sources: Sources) -> list[Part]:
    parts: list[Part] = [Heading("Networks", level=3), Items(network_lines(record))]
    for name, results in group_by(record.results, lambda each: each.benchmark).items():
        lines = _benchmark_lines(record, record.benchmarks.get(name), results, sources)
        parts += [Heading(f"Benchmark {name}", level=3), Items(lines)]
    return [*parts, Heading("Versions and time", level=3), *version_parts(record, sources.seconds)]


def _benchmark_lines(
    record: GzslRecord, benchmark: BenchmarkSummary | None, results: Sequence[GzslResult], sources: Sources
) -> list[str]:
    split, features = results[0].split, results[0].features
    settings = record.provenance.settings.gzsl.model_dump(mode="json")
    own = settings.get("own_splits", {}).get(split)
    drawn = ", ".join(f"{name} {value}" for name, value in own.items()) if own else ""
    how = (
        f"drawn from the videos at hand ({drawn})"
        if own
        else f"read from {settings.get('class_split') or 'the source'}"
    )
    given = describe_source(benchmark.source) if benchmark else None
    vectors = settings.get("word_vectors") or settings.get("word_model") or "those of the published source"
    aligned = "; ".join(
        f"{text}: {_ALIGNMENT.get(text, text)}" for text in dict.fromkeys(each.text for each in results)
    )
    lines = [
        f"Split {split}: {how}." + (f" sha256 of its contents {benchmark.split_digest}." if benchmark else ""),
        f"Features {features}: {given or ' and '.join(used_extractors(record.provenance.settings, features))}"
        + (
            f"; {', '.join(f'{name} {n}' for name, n in benchmark.dimensions.items())} numbers a clip."
            if benchmark
            else "."
        ),
        f"Class vectors: {vectors} ({aligned}).",
    ]
    return [*lines, *(_training_line(each, _runs(sources, each)) for each in results)]


def _training_line(result: GzslResult, trained: Sequence[Trained]) -> str:
    seeds = ", ".join("none" if seed.seed is None else str(seed.seed) for seed in result.seeds)
    epochs = [len(each.stages[1].losses["loss"]) for each in trained if 1 in each.stages]
    ran = f"{epochs[0]} epochs in stage 1; " if epochs else ""
    best = ", ".join(str(seed.best_epoch) for seed in result.seeds)
    devices = ", ".join(dict.fromkeys(seed.device for seed in result.seeds))
    return f"{label(result)}: seeds {seeds}; {ran}chosen epochs {best} (from 0); tested on {devices}."


def _learning(result: GzslResult, trained: Sequence[Trained]) -> list[Part]:
    parts: list[Part] = []
    for stage in (1, 2):
        scored = {each.stages[stage].scored_on for each in trained if stage in each.stages} - {""}
        where = " and ".join(sorted(scored))
        rates = rate_picture(f"S, U and HM on {where}", trained, stage)
        pictures = [*([rates] if rates else []), *loss_pictures(label(result), trained, stage)]
        if pictures:
            parts += [Paragraph(f"Stage {stage}, scored on {where}" if scored else f"Stage {stage}, not scored")]
            parts.append(Gallery(pictures))
    return parts or [Paragraph(_NO_FILES)]


def _seen_unseen(record: GzslRecord) -> list[Part]:

    def curves(results: list[GzslResult]) -> list[Part]:
        found = [(each, curve_picture(label(each), each.seeds, each.mean.ausuc)) for each in results]
        without = [label(each) for each, picture in found if picture is None]
        pictures: list[Picture] = [picture for _, picture in found if picture is not None]
        keys = [Key("a seed", "green"), Key("at the chosen beta", "ink", "ring")]
        gallery: list[Part] = [Gallery(pictures, keys)] if pictures else []
        return [
            *gallery,
            *([Paragraph(f"Not calibrated, so without a curve: {', '.join(without)}.")] if without else []),
        ]

    return [Paragraph(_BETA), *_of_benchmarks(record, curves)]


def _confusions(result: GzslResult, trained: Sequence[Trained]) -> list[Part]:
    return confusion_parts(label(result), confusion_of(trained))


def _map(name: str, trained: Sequence[Trained]) -> list[Part]:
    scores = [each.scores for each in trained if each.scores is not None]
    return [Gallery([maps.map_picture(name, scores[0])])] if scores else [Paragraph(NOT_KEPT)]


def _classes(result: GzslResult, trained: Sequence[Trained]) -> list[Part]:
    unseen = {name for name, each in result.per_class.items() if each.zsl is not None}
    found = confusion_of(trained)
    known = set(found.classes) if found else set()
    rows = [
        (
            (
                name,
                "unseen" if name in unseen else "seen",
                str(each.clips),
                found.taken_for(name) if found and name in known else "",
            ),
            each.gzsl,
            name in unseen,
        )
        for name, each in sorted(result.per_class.items(), key=lambda pair: -(pair[1].gzsl or -1.0))
    ]
    keys = [Key("seen class", "blue", "field"), Key("unseen class", "orange", "field")]
    return [
        Paragraph("Accuracy of each class among all classes, mean over seeds; the best first."),
        Gallery([], keys),
        Bars(("class", "accuracy in %", "", "test clips", "most often taken for"), rows),
    ]


def _compared(record: GzslRecord) -> Callable[[list[GzslResult]], list[Part]]:
    def show(results: list[GzslResult]) -> list[Part]:
        blocks = gzsl.comparison_tables(results, record.comparisons.note)[1:]  # without its heading
        return [*blocks] if blocks else [Paragraph("There are no two methods to compare.")]

    return show


def _clips(record: GzslRecord) -> list[Part]:
    blocks: list[Block] = [each for each in account_blocks(record.clips) if not isinstance(each, Heading)]
    parts: list[Part] = [*blocks]
    for name, benchmark in record.benchmarks.items():
        parts += [Heading(f"Subsets of {name}", level=3), gzsl.subset_table(benchmark)]
    failed = [each for each in failed_blocks(record.clips) if not isinstance(each, Heading)]
    return [*parts, *([Fold("Clips that are not used", failed)] if failed else [])]
