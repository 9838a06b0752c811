"""The report of retrieval: its record, the columns of its tables, its bars, its comparison with others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.report.charts import Bar, BarChart, Group, Panel, title_of
from avpipe.report.clips import account_blocks, failed_blocks
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
)
from avpipe.report.notices import taken_over
from avpipe.report.published import PublishedTable, find_dataset, read_published
from avpipe.report.records import begin_record
from avpipe.report.retrieval_notices import direction_label, find_notices, is_comparable, run_label
from avpipe.report.summary import group_by, spread
from avpipe.schema.reading import read_evaluation, read_summary
from avpipe.schema.retrieval import (
    DIRECTIONS,
    METRICS,
    RECALLS,
    Direction,
    FiguresOverSeeds,
    GalleryTest,
    PackSummary,
    Protocol,
    RetrievalEvaluation,
    RetrievalRecord,
    RetrievalResult,
    SeedRankings,
    SeedTests,
    Ties,
)
from avpipe.schema.stored import PublishedFigure

KEYS = ("dataset", "model", "regime", "query", "candidates")
"""The first columns of config/published_retrieval.csv (docs/methods.md, Published retrieval figures)."""
HEADINGS = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank", "mean_rank": "mean rank"}
"""What tables and figures call a metric."""
_SHOWN = METRICS[:4]  # on a terminal, and what was published
_COLOURS = {"r1": "#8da0cb", "r5": "#66c2a5", "r10": "#fc8d62"}
_OF_PROTOCOL = (
    "expected",
    "gallery",
    "missing",
    "absent",
    "cut_clips",
    "averaged_clips",
    "window",
    "captions",
    "known_words",
)
INTRODUCTION = (
    "R@k: share of queries, in %, whose own clip is among the first k; ranks count from 1. Mean ± sample standard "
    "deviation over seeds. Sound and text are the language side."
)


def collect_record(
    *, evaluations: Sequence[str], packs: Sequence[str], published: str | None = None, **common: Any
) -> RetrievalRecord:
    """Put eval.json of a dataset together.

    Args:
        evaluations: evaluation.json of every run and variant.
        packs: the summary of every pack that was trained or tested on, .../<dataset>/retrieval/packs/<subset>.json.
        published: CSV of published figures to put beside ours; synthetic data get none.
        **common: see `avpipe.report.records.begin_record`.

    Raises:
        AvpipeError: an evaluation is another version's, or the published figures are malformed.
    """
    record = begin_record("retrieval", **common)
    settings, weights = record.provenance.settings, record.provenance.weights or {}
    table = read_table(published) if published and not settings.synthetic else {}
    summarised = [each for path in evaluations for each in summarise(read_evaluation(path, RetrievalEvaluation), path)]
    results = [
        each.model_copy(update={"published": published_of(table, each, record.dataset, record.title)})
        for each in summarised
    ]
    summaries = {_subset_name(path, record.dataset): read_summary(path, PackSummary) for path in packs}
    notices = find_notices(settings, weights, results, summaries, record.clips)
    notices += [*decoding_notices(record.clips), *taken_over(record.provenance)]
    return RetrievalRecord(**{**dict(record), "notices": notices}, results=results, packs=summaries)


def summarise(evaluation: RetrievalEvaluation, place: str = "the evaluation") -> list[RetrievalResult]:
    """The results of a run's variant, one for each subset that it was tested on.

    Args:
        evaluation: what evaluation.json holds.
        place: where it came from, for messages.

    Raises:
        AvpipeError: there is no seed, or seeds were tested on different clips.
    """
    if not evaluation.seeds:
        raise AvpipeError(
            f"{place} holds no seed; expected at least one. Set datasets.<name>.retrieval.seeds and run again."
        )
    _check_same_tests(evaluation.seeds, place)
    return [_summarise_subset(evaluation, subset) for subset in evaluation.seeds[0].tests]


def read_table(path: Any) -> PublishedTable:
    """The published figures of retrieval."""
    return read_published(path, KEYS, {**dict.fromkeys(RECALLS, (0, 100)), "median_rank": (1, float("inf"))})


def published_of(
    table: PublishedTable, result: RetrievalResult, dataset: str, title: str
) -> dict[str, PublishedFigure]:
    """The published figures of a result's direction from language to video; empty for none.

    Controls and diagnostic subsets have none, nor results for which many clips were missing, nor tests by another
    protocol: with other captions than the only one of each clip or the one that the set fixes, or with means over
    windows. A subset of another dataset goes by that dataset's name.

    Args:
        table: the published figures.
        result: the result.
        dataset, title: of the dataset that the run belongs to.
    """
    protocol = result.protocol
    is_other = protocol.averaged_clips or (protocol.captions and protocol.captions.rule in ("first", "all"))
    if result.control or result.diagnostic or is_other or not is_comparable(result):
        return {}
    other, slash, _ = result.subset.rpartition("/")
    known = find_dataset(table, *((other,) if slash else (dataset, title)))
    return table.get((known or "", result.model, result.regime, result.query, result.candidates), {})


def to_document(record: RetrievalRecord) -> Document:
    """The report of a dataset."""
    blocks: list[Block] = [Paragraph(INTRODUCTION)]
    for subset, results in group_by(record.results, lambda each: each.subset).items():
        detail = f"{results[0].protocol.gallery} candidates (chance R@1/5/10 {_chance(results[0], '/')})"
        blocks.append(Heading(f"{subset}, diagnostic" if results[0].diagnostic else subset, detail))
        texts = dict.fromkeys(each.protocol.text for each in results)
        blocks += [Paragraph(text, on="page") for text in texts]
        blocks.append(result_table(results))
        blocks += published_blocks(results)
    blocks += [*pack_table(record), *account_blocks(record.clips), *failed_blocks(record.clips)]
    return Document(f"{record.dataset}: {record.title}", record.notices, blocks)


def to_chart(record: RetrievalRecord) -> BarChart:
    """R@1, R@5 and R@10 of every run; a row of panels for each subset, a panel for each direction."""
    rows = [
        [Panel(f"{subset}, {way.replace('_', ' ')}", [_bars(result, way) for result in results]) for way in DIRECTIONS]
        for subset, results in group_by(record.results, lambda each: each.subset).items()
    ]
    metrics = [(HEADINGS[metric], colour) for metric, colour in _COLOURS.items()]
    return BarChart(title_of(record), rows, metrics, "R@k in %")


def _check_same_tests(seeds: Sequence[SeedTests], place: str) -> None:
    def rests_on(test: GalleryTest | None) -> dict[str, Any] | None:
        return None if test is None else test.model_dump(exclude={"language_to_video", "video_to_language"})

    first = seeds[0]
    for seed in seeds[1:]:
        for subset in {*first.tests, *seed.tests}:
            one, other = (rests_on(each.tests.get(subset)) for each in (first, seed))
            if one != other:
                raise AvpipeError(
                    f"{place}: seeds {first.seed} and {seed.seed} were tested on {subset!r} differently: "
                    f"{one} and {other}; expected the same clips. Delete it and run the same command again."
                )


def _summarise_subset(evaluation: RetrievalEvaluation, subset: str) -> RetrievalResult:
    tests = [seed.tests[subset] for seed in evaluation.seeds]
    spreads = {way: spread([getattr(test, way) for test in tests], METRICS) for way in DIRECTIONS}
    left_out = ("schema_version", "kind", "chance", "seeds")
    return RetrievalResult(
        **{name: value for name, value in evaluation if name not in left_out},
        subset=subset,
        diagnostic=tests[0].diagnostic,
        chance=evaluation.chance[subset],
        n_seeds=len(tests),
        language_to_video=FiguresOverSeeds.model_validate(spreads["language_to_video"]),
        video_to_language=FiguresOverSeeds.model_validate(spreads["video_to_language"]),
        protocol=_protocol(tests),
        seeds=[
            SeedRankings(
                **{name: value for name, value in seed if name != "tests"},
                **{way: getattr(test, way) for way in DIRECTIONS},
            )
            for seed, test in zip(evaluation.seeds, tests, strict=True)
        ],
    )


def _protocol(tests: Sequence[GalleryTest]) -> Protocol:
    """What seeds share; of ties, the most that any seed has."""
    forwards = tests[0].language_to_video
    return Protocol(
        **{name: getattr(tests[0], name) for name in _OF_PROTOCOL},
        text=tests[0].protocol,
        n_queries=forwards.n_queries,
        n_ranked=forwards.n_ranked,
        ties=forwards.ties,
        n_tied=Ties(**{way: max(getattr(test, way).n_tied for test in tests) for way in DIRECTIONS}),
    )


def result_table(results: Sequence[RetrievalResult]) -> Table:
    """A row for each result and direction."""
    columns = [
        Column("run", lambda row: run_label(row[0]), is_text=True),
        Column("model", lambda row: row[0].model, is_text=True, on="page"),
        Column("regime", lambda row: row[0].regime, is_text=True, on="page"),
        Column("weights", lambda row: _start(row[0]), is_text=True, on="page"),
        Column("query → candidates", lambda row: direction_label(*row), is_text=True),
        *(Column(HEADINGS[metric], partial(_figure, metric)) for metric in _SHOWN),
        Column(HEADINGS["mean_rank"], partial(_figure, "mean_rank"), on="page"),
        Column("chance R@1 / 5 / 10", lambda row: _chance(row[0], " / "), on="page"),
        Column("ranked", lambda row: f"{row[0].protocol.n_ranked} of {row[0].protocol.n_queries}", on="page"),
        Column("gallery", lambda row: str(row[0].protocol.gallery), on="page"),
        Column("seeds", lambda row: "–" if row[0].seeds[0].seed is None else str(row[0].n_seeds)),
    ]
    return Table(columns, [(result, way) for result in results for way in DIRECTIONS])


def _figure(metric: str, row: tuple[RetrievalResult, Direction]) -> str:
    spread = row[0].spread(row[1])
    return figure(getattr(spread.mean, metric), getattr(spread.std, metric))


def _chance(result: RetrievalResult, separator: str) -> str:
    return separator.join(f"{getattr(result.chance, metric):.1f}" for metric in RECALLS)


def _start(result: RetrievalResult) -> str:
    """What a run started from: the word or path of its settings; a file's digest is shortened."""
    start = result.start
    return start.spec if start.sha256 is None else f"{start.spec} ({start.sha256[:8]})"


def published_blocks(results: Sequence[RetrievalResult]) -> list[Block]:
    """Published figures beside ours, where any are known."""
    known = [result for result in results if result.published]
    if not known:
        return []
    columns = [
        Column("run", run_label, is_text=True),
        Column("query → candidates", lambda each: direction_label(each, DIRECTIONS[0]), is_text=True),
        Column("source", _source, is_text=True),
        *(Column(HEADINGS[metric], partial(_beside_ours, metric)) for metric in _SHOWN),
    ]
    table: list[Block] = [Paragraph("Published, and ours in brackets:", on="page"), Table(columns, known, on="page")]
    return [*table, *(Paragraph(_published_line(result), on="terminal") for result in known)]


def _beside_ours(metric: str, result: RetrievalResult) -> str:
    published = f"{result.published[metric].value:g}" if metric in result.published else "–"
    return f"{published} ({figure(getattr(result.language_to_video.mean, metric))})"


def _published_line(result: RetrievalResult) -> str:
    figures = ", ".join(f"{HEADINGS[key]} {each.value:g}" for key, each in result.published.items())
    return f"published for {result.run}, {direction_label(result, DIRECTIONS[0])}: {figures} ({_source(result)})"


def _source(result: RetrievalResult) -> str:
    return "; ".join(dict.fromkeys(each.source for each in result.published.values()))


def pack_table(record: RetrievalRecord) -> list[Block]:
    """Clips expected, used and missing of every subset."""
    columns = [
        Column("subset", lambda row: row[0], is_text=True),
        Column("features", lambda row: row[1].origin, is_text=True),
        Column("missing", lambda row: counts({**row[1].missing, "unlisted": row[1].unlisted}), is_text=True),
        Column("expected", lambda row: str(row[1].expected)),
        Column("used", lambda row: str(row[1].used)),
    ]
    packs = list(record.packs.items())
    return [Heading("Subsets", on="page"), Table(columns, packs, on="page")] if packs else []


def _bars(result: RetrievalResult, way: Direction) -> Group:
    bars = [
        Bar(
            mean=getattr(result.spread(way).mean, metric),
            seeds=[getattr(getattr(seed, way), metric) for seed in result.seeds],
            published=result.published[metric].value if way == DIRECTIONS[0] and metric in result.published else None,
            chance=getattr(result.chance, metric),
        )
        for metric in RECALLS
    ]
    return Group(f"{run_label(result, separator=chr(10))}\n{direction_label(result, way)}", result.control, bars)


def _subset_name(summary: str, dataset: str) -> str:
    """The dataset's own subset, or <dataset>/<subset> of another one, as results name them."""
    path = Path(summary)
    other = path.parents[2].name
    return path.stem if other == dataset else f"{other}/{path.stem}"
