"""The page of retrieval."""

from __future__ import annotations

from collections.abc import Sequence

from avpipe.report import retrieval
from avpipe.report.clips import account_blocks, failed_blocks
from avpipe.report.document import Heading, Items, Paragraph
from avpipe.report.page.methods import Mark, Row, row_gallery
from avpipe.report.page.panels import loss_pictures
from avpipe.report.page.parts import Fold, Gallery, Page, Part, Section
from avpipe.report.page.rests_on import network_lines, version_parts
from avpipe.report.page.sources import Sources
from avpipe.report.retrieval_notices import direction_label, run_label
from avpipe.report.summary import group_by
from avpipe.schema.retrieval import DIRECTIONS, RECALLS, Direction, RetrievalRecord, RetrievalResult

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
    names = {(each.run, each.variant): run_label(each) for each in record.results}
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
