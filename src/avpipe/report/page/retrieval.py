"""The page of retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from avpipe.report import retrieval
from avpipe.report.clips import account_blocks, failed_blocks
from avpipe.report.document import Heading, Items, Paragraph
from avpipe.report.page.methods import Mark, Row, row_gallery
from avpipe.report.page.panels import loss_pictures, rank_picture
from avpipe.report.page.parts import Fold, Gallery, Page, Part, Picture, Section
from avpipe.report.page.rests_on import network_lines, version_parts
from avpipe.report.page.sources import RunKey, Sources
from avpipe.report.retrieval_notices import direction_label, run_label
from avpipe.report.summary import group_by
from avpipe.schema.retrieval import DIRECTIONS, RECALLS, Direction, RetrievalRecord, RetrievalResult

_RANKS = (
    "Share of the queries whose own clip has a rank: the bar is the mean, a dot a seed. By guessing each bar from the "
    "third on would be twice the one before, for it is of twice as many ranks."
)
_COLOURS = ("blue", "green", "red")


def retrieval_page(record: RetrievalRecord, sources: Sources) -> Page:
    """The page.

    Args:
        record: eval.json.
        sources: what lies beside it.
    """
    sections = [
        Section("Results", _results(record)),
        Section("What it rests on", _rests_on(record, sources)),
        Section("Ranks", _ranks(record)),
        Section("Learning curves", _learning(record, sources)),
        Section("Clips", _clips(record)),
    ]
    subtitle = f"Audio-video retrieval on {record.dataset}"
    return Page(record.title or record.dataset, subtitle, record.notices, sections)


def _results(record: RetrievalRecord) -> list[Part]:
    parts: list[Part] = [Paragraph(retrieval.INTRODUCTION)]
    for subset, results in group_by(record.results, lambda each: each.subset).items():
        name = f"{subset}, diagnostic" if results[0].diagnostic else subset
        texts = dict.fromkeys(each.protocol.text for each in results)
        parts += [Heading(name, level=3), *map(Paragraph, texts), retrieval.result_table(results)]
        parts += [*retrieval.published_blocks(results), *(_picture(subset, results, way) for way in DIRECTIONS)]
    return parts


def _picture(subset: str, results: Sequence[RetrievalResult], way: Direction) -> Gallery:
    """R@1, R@5 and R@10 of every run in a direction."""
    rows = [
        Row(
            f"{run_label(each)}: {direction_label(each, way)}",
            [
                Mark(
                    getattr(each.spread(way).mean, metric),
                    [value for seed in each.seeds if (value := getattr(getattr(seed, way), metric)) is not None],
                    each.published[metric].value if way == DIRECTIONS[0] and metric in each.published else None,
                )
                for metric in RECALLS
            ],
            [getattr(each.chance, metric) for metric in RECALLS],
        )
        for each in results
    ]
    metrics = [(retrieval.HEADINGS[metric], hue) for metric, hue in zip(RECALLS, _COLOURS, strict=True)]
    return row_gallery(f"R@k in % on {subset}, {way.replace('_', ' ')}", rows, metrics, "chance")


def _ranks(record: RetrievalRecord) -> list[Part]:
    parts: list[Part] = [Paragraph(_RANKS)]
    for subset, results in group_by(record.results, lambda each: each.subset).items():
        found = [(each, way, _rank_picture(each, way)) for each in results for way in DIRECTIONS]
        pictures = [picture for _, _, picture in found if picture is not None]
        parts += [Heading(f"Ranks on {subset}", level=3), *([Gallery(pictures)] if pictures else [])]
        if without := [f"{run_label(each)} {direction_label(each, way)}" for each, way, one in found if one is None]:
            parts.append(Paragraph(f"Not kept by tests of earlier versions: {', '.join(without)}."))
    return parts


def _rank_picture(result: RetrievalResult, way: Direction) -> Picture | None:
    rankings = [getattr(seed, way) for seed in result.seeds]
    if not all(each.rank_counts for each in rankings):
        return None
    shares = [[100 * count / each.n_queries for count in each.rank_counts] for each in rankings]
    missed = fmean(100 * (each.n_queries - each.n_ranked) / each.n_queries for each in rankings)
    return rank_picture(f"{run_label(result)}: {direction_label(result, way)}", shares, missed)


def _rests_on(record: RetrievalRecord, sources: Sources) -> list[Part]:
    lines = [
        f"{run_label(each)}: {each.model}, {each.regime}, from {each.start.spec} ({each.start.label}); {_seeds(each)}."
        for each in {(each.run, each.variant): each for each in record.results}.values()
    ]
    return [
        Heading("Networks", level=3),
        Items(network_lines(record)),
        Heading("Runs", level=3),
        Items(lines),
        Heading("Versions and time", level=3),
        *version_parts(record, sources.seconds),
    ]


def _seeds(result: RetrievalResult) -> str:
    trained = [seed.training for seed in result.seeds if seed.training]
    if not trained:
        return "tested as it is"
    seeds = ", ".join(str(seed.seed) for seed in result.seeds)
    clips = f"{trained[0].items:,} clips or videos"
    return f"seeds {seeds}; {trained[0].epochs} epochs, {trained[0].steps:,} steps on {clips}"


def _learning(record: RetrievalRecord, sources: Sources) -> list[Part]:
    names: dict[RunKey, str] = {(each.run, each.variant): run_label(each) for each in record.results}
    parts: list[Part] = []
    for key, trained in sources.runs.items():
        pictures = loss_pictures(names.get(key, ", ".join(key)), trained, 1)
        if pictures:
            parts.append(Fold(names.get(key, ", ".join(key)), [Gallery(pictures)], is_open=not parts))
    return parts or [Paragraph("Nothing was trained here, or the files of the trainings are not there.")]


def _clips(record: RetrievalRecord) -> list[Part]:
    blocks = [*retrieval.pack_table(record), *account_blocks(record.clips)]
    failed = [each for each in failed_blocks(record.clips) if not isinstance(each, Heading)]
    parts: list[Part] = [each for each in blocks if not isinstance(each, Heading)]
    return [*parts, *([Fold("Clips that are not used", failed)] if failed else [])]
