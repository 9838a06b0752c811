"""A dataset card: its facts as a page in Markdown that begins with the metadata that dataset hubs read."""

from __future__ import annotations

import yaml

from avpipe.report.document import Block, Document, Heading, Items, Paragraph, Table, plain_columns
from avpipe.report.markdown import to_markdown
from avpipe.schema.card import ClassCount, DatasetCard

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = "1M<n<10M"
_TASKS = {"gzsl": ["video-classification"], "retrieval": ["text-to-video", "other"], "features": ["feature-extraction"]}


def card_page(card: DatasetCard) -> str:
    """The page of a dataset card."""
    metadata = {
        "pretty_name": card.title or card.dataset,
        "license": "other",
        "license_name": "see-origins",
        "size_categories": [next((name for most, name in _SIZES if card.ok < most), _LARGER)],
        "task_categories": _TASKS[card.task],
        "tags": ["audio-visual", "features", card.task],
    }
    document = Document(f"{card.title or card.dataset}: clips and features", card.notices, _blocks(card))
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n{to_markdown(document)}"


def _blocks(card: DatasetCard) -> list[Block]:
    hours = f"{card.seconds / 3600:,.1f} hours" if card.seconds >= 3600 else f"{card.seconds:,.0f} s"
    origins = [f"{each.title}: {each.licence}. Cite {each.citation}." for each in card.origins]
    source = ", ".join(f"{key}: {value}" for key, value in card.source.items())
    return [
        *([Items(card.notes)] if card.notes else []),
        Heading("Clips"),
        Paragraph(f"{card.ok:,} of {card.requested:,} clips have all features ({hours}). Source: {source}."),
        *_counted("", {"reason": card.reasons} if card.reasons else {}),
        *_videos(card),
        *(block for name, subsets in card.splits.items() for block in _of_groups(f"Split {name}", "subset", subsets)),
        *_of_groups("Classes", "class", card.classes),
        Heading("Features"),
        Table(
            plain_columns("extractor", "numbers in a row", "clips", "weights", "sha256 of the weights", n_text=5),
            [
                (
                    each.title,
                    ", ".join(f"{stream} {width}" for stream, width in each.streams.items()),
                    f"{each.clips:,}",
                    each.weights or "none",
                    each.weights_sha256 or "",
                )
                for each in card.features
            ],
        ),
        Heading("Origins and licences"),
        *([Items(origins)] if origins else []),
        Paragraph("Features carry no licence of their own; those of the videos and of the weights hold for their use."),
    ]


def _videos(card: DatasetCard) -> list[Block]:
    """What of the videos was to be had, and the digest by which two copies are compared."""
    if card.videos is None:
        return []
    videos = card.videos["videos"]
    return [
        Heading("Videos"),
        Paragraph(
            f"{videos['outcomes'].get('ok', 0):,} of {videos['requested']:,} videos were to be had. sha256 of their "
            f"sorted ids, one a line: {videos['sha256_of_ids']}. Results that rest on the same videos have the same."
        ),
        *_counted("", {"outcome": videos["outcomes"]}),
        *_counted("By cause and by date of the last try", {"cause": videos["causes"], "date": videos["dates"]}),
    ]


def _counted(summary: str, groups: dict[str, dict[str, int]]) -> list[Block]:
    return [
        Table(plain_columns(name, "number"), [(key, f"{count:,}") for key, count in counts.items()], summary=summary)
        for name, counts in groups.items()
        if counts
    ]


def _of_groups(title: str, name: str, groups: dict[str, ClassCount]) -> list[Block]:
    if not groups:
        return []
    rows = [(group, f"{each.ok:,}", f"{each.requested:,}") for group, each in groups.items()]
    return [Heading(title), Table(plain_columns(name, "clips", "of"), rows)]
