"""The report of zero-shot learning: its record, the columns of its tables, its bars, its comparison with others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.report.charts import Bar, BarChart, Group, Panel, title_of
from avpipe.report.clips import account_blocks, failed_blocks
from avpipe.report.comparison import NOTE, best_result, compare_methods, compare_with_best
from avpipe.report.decoding_notices import decoding_notices
from avpipe.report.document import (
    Block,
    Column,
    Document,
    Heading,
    Paragraph,
    Table,
    counts,
    figure,
    plain_columns,
)
from avpipe.report.gzsl_notices import DAGGER, find_notices, is_comparable, label
from avpipe.report.notices import taken_over
from avpipe.report.published import PublishedTable, find_dataset, read_published
from avpipe.report.records import begin_record
from avpipe.report.summary import group_by, mean, spread
from avpipe.schema.gzsl import (
    FIGURES,
    METRICS,
    AccuraciesOverSeeds,
    BenchmarkSummary,
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
"""The first columns of config/published_gzsl.csv (docs/methods.md, Published zero-shot figures)."""
BARS = {
    "seen": ("seen S", "#8da0cb"),
    "unseen": ("unseen U", "#fc8d62"),
    "hm": ("harmonic mean HM", "#66c2a5"),
    "zsl": ("zero-shot ZSL", "#a6761d"),
}
"""What figures call a metric, and its colour."""
_SHORT = ("S", "U", "HM", "ZSL")
INTRODUCTION = "Accuracies in %, mean ± sample standard deviation over seeds; docs/results.md explains the columns."
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
        **common: see `avpipe.report.records.begin_record`.

    Raises:
        AvpipeError: an evaluation is another version's, or the published figures are malformed.
    """
    record = begin_record("gzsl", **common)
    settings, weights = record.provenance.settings, record.provenance.weights or {}
    table = read_table(published) if published and not settings.synthetic else {}
    known = find_dataset(table, record.dataset, record.title)
    summarised = [summarise(read_evaluation(path, GzslEvaluation), path) for path in evaluations]
    benchmarks = {f"{Path(path).parent.name}/{Path(path).stem}": read_summary(path, BenchmarkSummary) for path in trees}
    results = [
        each.model_copy(update={"published": published_of(table, known, each, benchmarks.get(each.benchmark))})
        for each in summarised
    ]
    notices = find_notices(settings, weights, results, benchmarks, record.clips)
    notices += [*decoding_notices(record.clips), *taken_over(record.provenance)]
    return GzslRecord(
        **{**dict(record), "notices": notices},
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
        raise AvpipeError(
            f"{place} holds no seed; expected at least one. Set datasets.<name>.gzsl.seeds and run again."
        )
    modes = {mode: [seed.metrics[mode] for seed in seeds] for mode in seeds[0].metrics}
    return GzslResult(
        **{name: value for name, value in evaluation if name not in ("schema_version", "kind")},
        **spread(seeds, FIGURES),
        n_seeds=len(seeds),
        modes={mode: AccuraciesOverSeeds.model_validate(spread(rows, FIGURES)) for mode, rows in modes.items()},
        per_class={name: _mean_of_class(name, seeds) for name in seeds[0].per_class},
    )


def read_table(path: Any) -> PublishedTable:
    """The published figures of zero-shot learning."""
    return read_published(path, KEYS, dict.fromkeys(METRICS, (0, 100)))


def published_of(
    table: PublishedTable, known: str | None, result: GzslResult, benchmark: BenchmarkSummary | None = None
) -> dict[str, PublishedFigure]:
    """The published figures of a result on the published dataset `known`; empty for none, and for controls.

    They are empty, too, where so many clips of the benchmark are missing that figures cannot be compared.
    """
    if known is None or result.control or not (benchmark is None or is_comparable(benchmark)):
        return {}
    return table.get((known, result.split, result.features, result.method), {})


def to_document(record: GzslRecord) -> Document:
    """The report of a dataset."""
    blocks: list[Block] = [Paragraph(INTRODUCTION, on="page"), Paragraph(_SHORT_INTRODUCTION, on="terminal")]
    for (split, features), results in group_by(record.results, lambda each: (each.split, each.features)).items():
        blocks.append(Heading(f"{split}, {features}", f"chance ZSL {results[0].chance_zsl:.1f}"))
        blocks += result_table(results)
        blocks += mode_table(results)
        blocks += _class_table(results, record.benchmarks.get(results[0].benchmark))
        blocks += comparison_tables(results, record.comparisons.note)
    blocks += account_blocks(record.clips)
    if record.clips is None and record.benchmarks:
        blocks.append(Heading("Clips", on="page"))
    for name, benchmark in record.benchmarks.items():
        blocks += [Heading(name, level=3, on="page"), subset_table(benchmark)]
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
            chance=result.chance_zsl,  # of ZSL alone; the line runs across the group, or the bar would hide it
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


def result_table(results: Sequence[GzslResult]) -> list[Block]:
    """A row for each result, published figures beside it."""
    columns = [
        Column("method", lambda each: each.method, is_text=True),
        Column("form", lambda each: each.form, is_text=True),
        Column("class vectors", lambda each: each.text, is_text=True, on="page"),
        *(Column(name, partial(_accuracy, metric)) for metric, name in zip(METRICS, _SHORT, strict=True)),
        Column("AUSUC", partial(_accuracy, "ausuc"), on="page"),
        Column("chance ZSL", lambda each: f"{each.chance_zsl:.1f}", on="page"),
        Column("seeds", lambda each: str(each.n_seeds)),
    ]
    if any(result.published for result in results):
        columns += [
            Column("published", partial(_published, ("hm", "zsl")), on="terminal"),
            Column("published HM / ZSL", partial(_published, ("hm", "zsl")), on="page"),
            Column("published S / U", partial(_published, ("seen", "unseen")), on="page"),
        ]
    footnote = [Paragraph(_FOOTNOTE)] if any(each.chooses_on_test for each in results) else []
    return [Table(columns, results), *footnote]


def _accuracy(metric: str, result: GzslResult) -> str:
    mark = DAGGER if result.chooses_on_test else ""
    return figure(getattr(result.mean, metric), getattr(result.std, metric), mark=mark)


def _published(metrics: Sequence[str], result: GzslResult) -> str:
    """Such as "63.15 / 30.72 (unconfirmed)"; empty where none is known."""
    known = [result.published.get(metric) for metric in metrics]
    if not any(known):
        return ""
    text = " / ".join(f"{each.value:.2f}" if each else "–" for each in known)
    return text if all(each.confirmed for each in known if each) else f"{text} (unconfirmed)"


def mode_table(results: Sequence[GzslResult]) -> list[Block]:
    """Every mode of the methods that have several."""
    rows = []
    for result in results:
        reported = {seed.score_mode for seed in result.seeds}
        for mode, each in result.modes.items() if len(result.modes) > 1 else ():
            name = f"{mode} (reported)" if mode in reported else mode
            in_mode = result.model_copy(update={"mean": each.mean, "std": each.std})
            accuracies = [_accuracy(each, in_mode) for each in FIGURES]
            rows.append([f"{result.method}, {result.form}", name, *accuracies])
    if not rows:
        return []
    heading = "By what is compared with the class vectors: embeddings of sound, of pictures, or both."
    return [
        Paragraph(heading, on="page"),
        Table(plain_columns("method", "mode", *_SHORT, "AUSUC", n_text=2), rows, on="page"),
    ]


def _class_table(results: Sequence[GzslResult], benchmark: BenchmarkSummary | None) -> list[Block]:
    """Classes of the best method in a fold, and above it those without clips."""
    best = best_result(results)
    if best is None or not best.per_class:
        return []
    tested = benchmark.subsets.get("stage_2_test_unseen") if benchmark else None
    unseen = {name for name, each in best.per_class.items() if each.zsl is not None} | set(
        tested.classes if tested else ()
    )
    columns = [
        Column("class", lambda row: row[0], is_text=True),
        Column("", lambda row: "unseen" if row[0] in unseen else "seen", is_text=True),
        Column("test clips", lambda row: str(row[1].clips)),
        Column("among all classes", lambda row: figure(row[1].gzsl)),
        Column("among unseen classes", lambda row: figure(row[1].zsl)),
    ]
    summary = f"Each class: {label(best)}, the best mean HM; means over seeds"
    table = Table(columns, list(best.per_class.items()), on="page", summary=summary)
    empty = ", ".join(name for name, each in best.per_class.items() if not each.clips)
    left_out = f"Classes without test clips, left out of all averages: {empty}."
    return [Paragraph(left_out, on="page"), table] if empty else [table]


def comparison_tables(results: Sequence[GzslResult], note: str) -> list[Block]:
    """For each form with several methods: the best against each other one."""
    words = ("difference", "95 % interval", "better / equal / worse")
    columns = plain_columns("methods", "seeds", *(f"{metric}: {word}" for metric in ("HM", "ZSL") for word in words))
    methods = [result for result in results if not result.control]
    marks = {(each.method, each.form): DAGGER if each.chooses_on_test else "" for each in methods}
    blocks: list[Block] = []
    for form, group in group_by(methods, lambda each: each.form).items():
        rows = [
            [
                f"{pair.first} − {pair.second}{marks[pair.second, form]}",
                str(pair.n),
                *_difference(pair.hm),
                *_difference(pair.zsl),
            ]
            for pair in compare_with_best(group)
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


def subset_table(benchmark: BenchmarkSummary) -> Table:
    """Clips expected, used and missing of every subset."""
    shared = benchmark.shared_sources
    columns = [
        Column("subset", lambda row: row[0], is_text=True),
        Column("missing", lambda row: counts(row[1].missing), is_text=True),
        Column("expected", lambda row: str(row[1].expected)),
        Column("used", lambda row: str(row[1].used)),
    ]
    if shared:
        name = "share a source video with training"
        columns.append(Column(name, lambda row: str(shared[row[0]].shared) if row[0] in shared else "–"))
    return Table(columns, list(benchmark.subsets.items()), on="page")
