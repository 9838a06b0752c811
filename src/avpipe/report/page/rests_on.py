"""What a result rests on, in words: for both tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from avpipe.registry import EXTRACTORS
from avpipe.report.document import Items, Paragraph, Table, plain_columns
from avpipe.report.page.parts import Fold, Part
from avpipe.schema.stored import PublishedFigure, Record, Weights


def describe_weights(weights: Weights) -> str:
    """Where the weights of an extractor come from, such as "random:0, untrained"."""
    if weights.label == "none":
        return "needs no weights"
    if weights.is_random:
        return f"{weights.label}: drawn at random, untrained"
    kind = "; ".join(weights.remarks.values()) or "the published file"
    return f"{kind}, sha256 {weights.sha256 or weights.label}"


def network_lines(record: Record) -> list[str]:
    """A line for each extractor that ran."""
    weights = record.provenance.weights
    if weights is None:
        return ["Features were given; no network was run."]
    return [
        f"{EXTRACTORS[name].title if name in EXTRACTORS else name}: {describe_weights(each)}."
        for name, each in weights.items()
    ]


def source_lines(published: Iterable[Mapping[str, PublishedFigure]]) -> list[Part]:
    """Where published figures were read, a line."""
    sources = sorted({figure.source for figures in published for figure in figures.values()})
    return [Paragraph(f"Published figures: {'; '.join(sources)}.")] if sources else []


def version_parts(record: Record, seconds: Mapping[str, float]) -> list[Part]:
    """Versions, hours of the jobs, every switch and all settings, the long ones in folds."""
    made = record.provenance
    commit = made.git_commit or "outside a checkout"
    libraries = ", ".join(f"{name} {version}" for name, version in made.libraries.items())
    lines = [f"avpipe at commit {commit}; {libraries}" + (f"; ffmpeg {made.ffmpeg}." if made.ffmpeg else ".")]
    if seconds:
        lines.append(f"Jobs took {_duration(sum(seconds.values()))} altogether, several at a time counted each.")
    parts: list[Part] = [Items(lines)]
    if seconds:
        rows = [(rule, _duration(taken)) for rule, taken in sorted(seconds.items(), key=lambda each: -each[1])]
        parts.append(Fold("Time of each kind of job", [Table(plain_columns("rule", "time of all its jobs"), rows)]))
    switches = [(name, json.dumps(value)) for name, value in record.fidelity.items()]
    settings = _leaves(made.settings.model_dump(mode="json"))
    return [
        *parts,
        Fold("Switches of the extractors", [Table(plain_columns("switch", "value", n_text=2), switches)]),
        Fold("All settings", [Table(plain_columns("setting", "value", n_text=2), settings)]),
    ]


def _leaves(value: object, name: str = "") -> list[tuple[str, str]]:
    """Settings by their names with dots; lists as they are."""
    if isinstance(value, dict) and value:
        return [leaf for key, each in value.items() for leaf in _leaves(each, f"{name}.{key}" if name else str(key))]
    return [(name, json.dumps(value, ensure_ascii=False))]


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"
