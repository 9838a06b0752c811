"""The report of zero-shot learning: its record, the columns of its tables, its bars, its comparison with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.report.charts import Bar, BarChart, Group, Panel, title_of
from avpipe.report.clips import account_blocks, failed_blocks
from avpipe.report.comparison import NOTE, best_result, compare_methods, compare_with_best
from avpipe.report.document import (
    Block,
    Document,
    Heading,
    Paragraph,
    Table,
    counts,
    figure,
    number_columns,
    text_columns,
)
from avpipe.report.gzsl_notices import DAGGER, find_notices, label
from avpipe.report.published import PublishedTable, find_dataset, read_published
from avpipe.report.records import common_fields
from avpipe.report.summary import group_by, mean, spread
from avpipe.schema.gzsl import (
    METRICS,
    AccuraciesOverSeeds,
    Benchmark,
    ClassAccuracy,
    Comparisons,
    DifferenceSummary,
    GzslEvaluation,
    GzslRecord,
    GzslResult,
    SeedResult,
)
from avpipe.schema.reading import read_evaluation, read_summary
from avpipe.schema.stored import PublishedFigure

KEYS = ("dataset", "split", "features", "method")
"""The first columns of config/published_gzsl.csv (specs/avca.md §7)."""
BARS = {
    "seen": ("seen S", "#8da0cb"),
    "unseen": ("unseen U", "#fc8d62"),
    "hm": ("harmonic mean HM", "#66c2a5"),
    "zsl": ("zero-shot ZSL", "#a6761d"),
}
"""What figures call a metric, and its colour."""
_SHORT = ("S", "U", "HM", "ZSL")
_PAIRS = (("hm", "zsl"), ("hm", "zsl"), ("seen", "unseen"))  # of published figures, on a terminal and on a page
_INTRODUCTION = "Accuracies in %, mean ± sample standard deviation over seeds; docs/results.md explains the columns."
_SHORT_INTRODUCTION = "Accuracies in %, mean ± sample standard deviation over seeds; published: HM/ZSL"
_FOOTNOTE = f"{DAGGER} The epoch is the one that did best on the test clips themselves, as published."


def collect_record(
    *, evaluations: Sequence[str], trees: Sequence[str], published: str | None = None, **common: Any
) -> GzslRecord:
    """Put eval.json of a dataset together.

    Args:
        evaluations: evaluation.json of every benchmark, method and form.
        trees: the summary of every benchmark's tree, .../gzsl/<split>/<features>.json.
        published: CSV of published figures to put beside ours; synthetic data get none.
        **common: see `avpipe.report.records.common_fields`.

    Raises:
        AvpipeError: an evaluation is another version's, or the published figures are malformed.
    """
    fields = common_fields(**common)
    settings, weights = fields["provenance"].settings, fields["provenance"].weights or {}
    table = read_table(published) if published and not settings.synthetic else {}
    known = find_dataset(table, fields["dataset"], fields["title"])
    summarised = [summarise(read_evaluation(path, GzslEvaluation), path) for path in evaluations]
    results = [each.model_copy(update={"published": published_of(table, known, each)}) for each in summarised]
    benchmarks = {f"{Path(path).parent.name}/{Path(path).stem}": read_summary(path, Benchmark) for path in trees}
    return GzslRecord(
        **fields,
        notices=find_notices(settings, weights, results, benchmarks),
        results=results,
        comparisons=Comparisons(note=NOTE, pairs=compare_methods(results)),
        benchmarks=benchmarks,
    )


def summarise(evaluation: GzslEvaluation, place: str = "the evaluation") -> GzslResult:
    """An evaluation over its seeds.

    Args:
        evaluation: what evaluation.json holds.
        place: where it came from, for messages.

    Raises:
        AvpipeError: there is no seed.
    """
    seeds = evaluation.seeds
    if not seeds:
        raise AvpipeError(f"{place} holds no seed; expected at least one. Set gzsl.seeds and run again.")
    modes = {mode: [seed.metrics[mode] for seed in seeds if mode in seed.metrics] for mode in seeds[0].metrics}
    return GzslResult(
        **{name: value for name, value in evaluation if name not in ("schema_version", "kind")},
        **spread(seeds, METRICS),
        n_seeds=len(seeds),
        modes={mode: AccuraciesOverSeeds.model_validate(spread(rows, METRICS)) for mode, rows in modes.items()},
        per_class={name: _mean_of_class(name, seeds) for name in seeds[0].per_class},
    )


def read_table(path: Any) -> PublishedTable:
    """The published figures of zero-shot learning."""
    return read_published(path, KEYS, dict.fromkeys(METRICS, (0, 100)))


def published_of(table: PublishedTable, known: str | None, result: GzslResult) -> dict[str, PublishedFigure]:
    """The published figures of a result on the published dataset `known`; empty for none, and for controls."""
    if known is None or result.control:
        return {}
    return table.get((known, result.split, result.features, result.method), {})


def to_document(record: GzslRecord) -> Document:
    """The report of a dataset."""
    blocks: list[Block] = [Paragraph(_INTRODUCTION, on="page"), Paragraph(_SHORT_INTRODUCTION, on="terminal")]
    for (split, features), results in group_by(record.results, lambda each: (each.split, each.features)).items():
        blocks.append(Heading(f"{split}, {features}", f"chance ZSL {results[0].chance_zsl:.1f}"))
        blocks += _result_table(results)
        blocks += _mode_table(results)
        blocks += _class_table(results, record.benchmarks.get(results[0].benchmark))
        blocks += _comparison_tables(results, record.comparisons.note)
    blocks += account_blocks(record.clips)
    if record.clips is None and record.benchmarks:
        blocks.append(Heading("Clips", on="page"))
    for name, benchmark in record.benchmarks.items():
        blocks += [Heading(name, level=3, on="page"), _subset_table(benchmark)]
    return Document(f"{record.dataset}: {record.title}", record.notices, [*blocks, *failed_blocks(record.clips)])


def to_chart(record: GzslRecord) -> BarChart:
    """S, U, HM and ZSL of every method and form, a panel for each benchmark."""
    benchmarks = group_by(record.results, lambda each: (each.split, each.features))
    rows = [
        [Panel(f"{split}, {features}", [_bars(result) for result in results])]
        for (split, features), results in benchmarks.items()
    ]
    return BarChart(title_of(record), rows, list(BARS.values()), "accuracy in %", "chance ZSL")


def _bars(result: GzslResult) -> Group:
    bars = [
        Bar(
            mean=getattr(result.mean, metric),
            seeds=[value for seed in result.seeds if (value := getattr(seed, metric)) is not None],
            published=result.published[metric].value if metric in result.published else None,
            chance=result.chance_zsl if metric == "zsl" else None,
        )
        for metric in METRICS
    ]
    return Group(label(result, separator="\n"), result.control, bars)


def _mean_of_class(name: str, seeds: Sequence[SeedResult]) -> ClassAccuracy:
    """Seeds are tested on the same clips, so the first seed's classes and counts are everyone's."""
    rows = [seed.per_class[name] for seed in seeds]
    return ClassAccuracy(
        gzsl=mean([row.gzsl for row in rows]), zsl=mean([row.zsl for row in rows]), clips=rows[0].clips
    )


def _result_table(results: Sequence[GzslResult]) -> list[Block]:
    is_published = any(result.published for result in results)
    columns = [
        *text_columns("method", "form"),
        *text_columns("class vectors", on="page"),
        *number_columns(*_SHORT),
        *number_columns("chance ZSL", on="page"),
        *number_columns("seeds"),
        *(number_columns("published", on="terminal") if is_published else []),
        *(number_columns("published HM / ZSL", "published S / U", on="page") if is_published else []),
    ]
    rows = [
        [
            result.method,
            result.form,
            result.text,
            *_figures(result, result.chooses_on_test),
            f"{result.chance_zsl:.1f}",
            str(result.n_seeds),
            *(_published(result.published, pair) for pair in (_PAIRS if is_published else ())),
        ]
        for result in results
    ]
    footnote = [Paragraph(_FOOTNOTE)] if any(each.chooses_on_test for each in results) else []
    return [Table(columns, rows), *footnote]


def _published(figures: Mapping[str, PublishedFigure], metrics: Sequence[str]) -> str:
    """Such as "63.15 / 30.72 (unconfirmed)"; empty where none is known."""
    known = [figures.get(metric) for metric in metrics]
    if not any(known):
        return ""
    text = " / ".join(f"{each.value:.2f}" if each else "–" for each in known)
    return text if all(each.confirmed for each in known if each) else f"{text} (unconfirmed)"


def _mode_table(results: Sequence[GzslResult]) -> list[Block]:
    """Every mode of the methods that have several."""
    rows = []
    for result in results:
        reported = {seed.score_mode for seed in result.seeds}
        for mode, each in result.modes.items() if len(result.modes) > 1 else ():
            name = f"{mode} (reported)" if mode in reported else mode
            rows.append([f"{result.method}, {result.form}", name, *_figures(each, result.chooses_on_test)])
    if not rows:
        return []
    heading = "By what is compared with the class vectors: embeddings of sound, of pictures, or both."
    columns = [*text_columns("method", "mode"), *number_columns(*_SHORT)]
    return [Paragraph(heading, on="page"), Table(columns, rows, on="page")]


def _class_table(results: Sequence[GzslResult], benchmark: Benchmark | None) -> list[Block]:
    """Classes of the best method in a fold, and above it those without clips."""
    best = best_result(results)
    if best is None or not best.per_class:
        return []
    listed = benchmark.subsets.get("stage_2_test_unseen") if benchmark else None
    unseen = {
        *(listed.classes if listed else ()),
        *(name for name, each in best.per_class.items() if each.zsl is not None),
    }
    rows = [
        [name, "unseen" if name in unseen else "seen", str(each.clips), figure(each.gzsl), figure(each.zsl)]
        for name, each in best.per_class.items()
    ]
    empty = ", ".join(name for name, each in best.per_class.items() if not each.clips)
    left_out = f"Classes without test clips, left out of all averages: {empty}."
    columns = [*text_columns("class", ""), *number_columns("test clips", "among all classes", "among unseen classes")]
    summary = f"Each class: {label(best)}, the best mean HM; means over seeds"
    return [
        *([Paragraph(left_out, on="page")] if empty else []),
        Table(columns, rows, on="page", summary=summary),
    ]


def _comparison_tables(results: Sequence[GzslResult], note: str) -> list[Block]:
    """For each form with several methods: the best against each other one."""
    words = ("difference", "95 % interval", "better / equal / worse")
    names = [f"{metric}: {word}" for metric in ("HM", "ZSL") for word in words]
    columns = [*text_columns("methods"), *number_columns("seeds", *names)]
    blocks: list[Block] = []
    methods = [result for result in results if not result.control]
    for form, group in group_by(methods, lambda each: each.form).items():
        marks = {each.method: DAGGER if each.chooses_on_test else "" for each in group}
        rows = [
            [
                f"{each.first} − {each.second}{marks[each.second]}",
                str(each.n),
                *_difference(each.hm),
                *_difference(each.zsl),
            ]
            for each in compare_with_best(group)
        ]
        if rows:
            heading = f"Form '{form}', the method with the best mean HM against each other one:"
            blocks += [Paragraph(heading, on="page"), Table(columns, rows, on="page")]
    return [Heading("Methods compared", level=3, on="page"), Paragraph(note, on="page"), *blocks] if blocks else []


def _difference(summary: DifferenceSummary | None) -> tuple[str, str, str]:
    if summary is None:
        return "–", "–", "–"
    return (
        f"{summary.mean:+.2f} ± {summary.std:.2f}",
        f"{summary.low:+.2f} to {summary.high:+.2f}",
        f"{summary.wins} / {summary.ties} / {summary.losses}",
    )


def _subset_table(benchmark: Benchmark) -> Table:
    shared = benchmark.shared_sources
    columns = [*text_columns("subset", "missing"), *number_columns("expected", "used")]
    columns += number_columns("share a source video with training") if shared else []
    rows = []
    for subset, clips in benchmark.subsets.items():
        row = [subset, counts(clips.missing), str(clips.expected), str(clips.used)]
        rows.append([*row, *([str(shared[subset].shared) if subset in shared else "–"] if shared else [])])
    return Table(columns, rows, on="page")


def _figures(summary: AccuraciesOverSeeds, chooses_on_test: bool) -> list[str]:
    mark = DAGGER if chooses_on_test else ""
    return [figure(getattr(summary.mean, metric), getattr(summary.std, metric), mark=mark) for metric in METRICS]
