"""gzsl_table.csv and .md: all datasets side by side with the published figures, and what each cell rests on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from avpipe.io.manifest import write_text
from avpipe.report.document import (
    Block,
    Document,
    Heading,
    Items,
    Paragraph,
    Table,
    figure,
    plain_columns,
)
from avpipe.report.gzsl import published_of, read_table
from avpipe.report.gzsl_notices import DAGGER, describe_source, is_comparable, used_extractors
from avpipe.report.markdown import to_markdown
from avpipe.report.notices import NO_FIGURES
from avpipe.report.published import PublishedTable, find_dataset
from avpipe.schema.gzsl import METRICS, BenchmarkSummary, GzslRecord, GzslResult
from avpipe.schema.reading import read_record
from avpipe.schema.stored import PublishedFigure, Weights

StrPath = str | os.PathLike[str]
_COUNTED = ("stage_2_train", "stage_2_test_seen", "stage_2_test_unseen")
_SHOWN = {"hm": "HM", "zsl": "ZSL"}
_INTRODUCTION = (
    "Accuracies in %, mean ± sample standard deviation over seeds, and in brackets what was published. The numbers "
    "in square brackets lead to what a figure of ours rests on. gzsl_table.csv has all metrics, and the controls."
)


@dataclass(frozen=True)
class Cell:
    """One figure of ours, or the place of one that was published and not run: a row of the CSV.

    Attributes:
        dataset, split, features, method, form, metric: where it stands; the form is empty where it was not run.
        mean, sd: ours in %; None where not run, and sd also with one seed.
        n_seeds: 0 where not run.
        published, published_source, published_confirmed: the published figure; None where none is known.
        rests_on: where the features come from, such as "c3d random:0 weights".
        synthetic: whether the videos were made up.
        train_used, train_expected, test_used, test_expected: clips of stage_2_train, and of both test subsets.
        expected_from: what told which clips to expect: "csv", or the kind of the given features where a csv is absent.
        text: how class vectors are attached.
        chosen_on_test: whether the epoch was chosen on the test clips.
        comparable: whether enough clips were used; else nothing published stands beside ours.
        control: whether it is a permuted control.
        split_digest: of the split's contents.
        git_commit: of avpipe.
    """

    dataset: str
    split: str
    features: str
    method: str
    form: str
    metric: str
    mean: float | None = None
    sd: float | None = None
    n_seeds: int = 0
    published: float | None = None
    published_source: str | None = None
    published_confirmed: bool | None = None
    rests_on: str | None = None
    synthetic: bool | None = None
    train_used: int | None = None
    train_expected: int | None = None
    test_used: int | None = None
    test_expected: int | None = None
    expected_from: str | None = None
    text: str | None = None
    chosen_on_test: bool | None = None
    comparable: bool | None = None
    control: bool | None = None
    split_digest: str | None = None
    git_commit: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether there is a result of ours."""
        return self.n_seeds > 0


def write_gzsl_table(
    evals: Sequence[StrPath],
    published: StrPath,
    csv_path: StrPath,
    md_path: StrPath,
    names: Sequence[str] = (),
) -> None:
    """Write the table of all datasets, as CSV (one row per figure) and as Markdown (methods by datasets).

    Args:
        evals: eval.json of the datasets that were run.
        published: CSV of published figures.
        csv_path, md_path: the files to write.
        names: datasets that were not run; they show what was published. One that is in `evals` counts as run.

    Raises:
        AvpipeError: a file is not what it should be.
    """
    figures = read_table(published)
    cells = make_cells([read_record(path, GzslRecord) for path in evals], figures, names)
    write_text(csv_path, _to_csv(cells))
    write_text(md_path, to_markdown(_to_document(cells, order_methods(cells, figures))))


def make_cells(records: Sequence[GzslRecord], published: PublishedTable, names: Sequence[str]) -> list[Cell]:
    """All figures, ours and those published for the same datasets; sorted by dataset, benchmark, method and form."""
    cells = []
    for record in records:
        is_synthetic = record.provenance.settings.synthetic
        known = None if is_synthetic else find_dataset(published, record.dataset, record.title)
        ours = [cell for result in record.results for cell in _our_cells(record, result, published, known)]
        run = {(cell.split, cell.features, cell.method) for cell in ours if not cell.control}
        without = {(cell.split, cell.features) for cell in ours if not cell.comparable}
        cells += ours
        cells += [
            cell
            for cell in _not_run(record.dataset, published, known)
            if (cell.split, cell.features, cell.method) not in run and (cell.split, cell.features) not in without
        ]
    for name in set(names) - {record.dataset for record in records}:
        cells += _not_run(name, published, find_dataset(published, name))
    methods = order_methods(cells, published)
    return sorted(cells, key=lambda cell: _order(cell, methods))


def order_methods(cells: Iterable[Cell], published: PublishedTable) -> list[str]:
    """All methods: those of the published table in its order, then the others by the alphabet."""
    known = [method for *_, method in published]
    return list(dict.fromkeys((*known, *sorted(cell.method for cell in cells))))


def _our_cells(record: GzslRecord, result: GzslResult, published: PublishedTable, known: str | None) -> Iterator[Cell]:
    benchmark = record.benchmarks[result.benchmark]
    figures = published_of(published, known, result, benchmark)
    for metric in METRICS:
        yield Cell(
            dataset=record.dataset,
            split=result.split,
            features=result.features,
            method=result.method,
            form=result.form,
            metric=metric,
            mean=getattr(result.mean, metric),
            sd=getattr(result.std, metric),
            n_seeds=result.n_seeds,
            **_published_fields(figures.get(metric)),
            rests_on=describe_features(record, result.features, benchmark),
            synthetic=record.provenance.settings.synthetic,
            **_clip_counts(benchmark),
            text=result.text,
            chosen_on_test=result.chooses_on_test,
            comparable=is_comparable(benchmark),
            control=result.control,
            split_digest=benchmark.split_digest,
            git_commit=record.provenance.git_commit,
        )


def describe_features(record: GzslRecord, features: str, benchmark: BenchmarkSummary) -> str:
    """Where a feature set comes from: the kind of file it was given as, or each extractor with its weights."""
    if (given := describe_source(benchmark.source)) is not None:
        return given
    weights = record.provenance.weights or {}
    extractors = used_extractors(record.provenance.settings, features)
    return ", ".join(f"{each} {_describe_weights(weights.get(each))}" for each in extractors) or "unknown"


def _describe_weights(weights: Weights | None) -> str:
    if weights is None:
        return "with unknown weights"
    if weights.label == "none":
        return "without weights"
    if weights.is_random:
        return f"{weights.label} weights"
    kind = "other weights" if weights.remarks else "published weights"
    return f"{kind} sha256 {weights.sha256 or weights.label}"


def _clip_counts(benchmark: BenchmarkSummary) -> dict[str, Any]:
    train, *test = (benchmark.subsets[name] for name in _COUNTED)
    return {
        "train_used": train.used,
        "train_expected": train.expected,
        "test_used": sum(subset.used for subset in test),
        "test_expected": sum(subset.expected for subset in test),
        "expected_from": " and ".join(sorted({subset.expected_from for subset in (train, *test)})),
    }


def _not_run(dataset: str, published: PublishedTable, known: str | None) -> Iterator[Cell]:
    for (name, split, features, method), figures in published.items():
        for metric, value in figures.items() if name == known else ():
            yield Cell(dataset, split, features, method, "", metric, **_published_fields(value))


def _published_fields(value: PublishedFigure | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {"published": value.value, "published_source": value.source, "published_confirmed": value.confirmed}


def _order(cell: Cell, methods: Sequence[str]) -> tuple[Any, ...]:
    rank, metric = methods.index(cell.method), METRICS.index(cell.metric)
    return cell.dataset, cell.features, cell.split, rank, cell.form, metric


def _to_csv(cells: Iterable[Cell]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        row = asdict(cell)
        for key in ("mean", "sd"):
            row[key] = None if row[key] is None else f"{row[key]:.4f}"
        writer.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in row.items()})
    return buffer.getvalue()


def _to_document(cells: Sequence[Cell], methods: Sequence[str]) -> Document:
    shown = [cell for cell in cells if not cell.control and cell.metric in _SHOWN]
    notes: dict[str, int] = {}
    blocks: list[Block] = [Paragraph(_INTRODUCTION)]
    for features in sorted({cell.features for cell in shown}):
        same = [cell for cell in shown if cell.features == features]
        blocks += [Heading(features), _feature_table(same, methods, notes)]
    if notes:
        blocks += [
            Heading("What the figures rest on"),
            Items([f"[{number}] {note}" for note, number in notes.items()]),
        ]
    if sources := sorted({cell.published_source for cell in cells if cell.published_source}):
        blocks.append(Paragraph(f"Published figures: {'; '.join(sources)}."))
    return Document("Generalised zero-shot learning on all datasets", [], blocks)


def _feature_table(cells: Sequence[Cell], methods: Sequence[str], notes: dict[str, int]) -> Table:
    """One feature set's table: a row per method and form, two columns per dataset and split; fills `notes`."""
    places = list(dict.fromkeys((cell.dataset, cell.split) for cell in cells))
    names = [f"{dataset}, {split}: {name}" for dataset, split in places for name in _SHOWN.values()]
    rows = []
    for method in methods:
        same = [cell for cell in cells if cell.method == method]
        forms = sorted({cell.form for cell in same if cell.is_run})
        for form in forms or [""] * bool(same):
            row = _row(same, form)
            texts = [_cell_text(row.get((*place, metric)), notes) for place in places for metric in _SHOWN]
            rows.append([method, form or "–", *texts])
    return Table(plain_columns("method", "form", *names, n_text=2), rows)


def _row(cells: Iterable[Cell], form: str) -> dict[tuple[str, str, str], Cell]:
    """(dataset, split, metric) -> one method's cell in a form; where another form was run, this one was not."""
    row: dict[tuple[str, str, str], Cell] = {}
    for cell in cells:
        key = (cell.dataset, cell.split, cell.metric)
        if cell.form == form:
            row[key] = cell
        else:
            row.setdefault(key, replace(cell, n_seeds=0))
    return row


def _cell_text(cell: Cell | None, notes: dict[str, int]) -> str:
    if cell is None:
        return "–"
    known = ""
    if cell.published is not None:
        known = f" ({cell.published:.2f}{'' if cell.published_confirmed else ', unconfirmed'})"
    if not cell.is_run:
        return f"not run{known}"
    number = notes.setdefault(_note(cell), len(notes) + 1)
    return f"{figure(cell.mean, cell.sd, mark=DAGGER if cell.chosen_on_test else '')}{known} [{number}]"


def _note(cell: Cell) -> str:
    """Everything a cell rests on, in one line; cells that rest on the same share it."""
    parts = [
        f"{cell.dataset}, {cell.split}, {cell.features}: {cell.rests_on}",
        "SYNTHETIC DATA" if cell.synthetic else "",
        "" if cell.comparable else f"MISSING CLIPS, {NO_FIGURES}",
        f"clips used of those expected by the {cell.expected_from}: "
        f"training {cell.train_used} of {cell.train_expected}, test {cell.test_used} of {cell.test_expected}",
        f"form {cell.form}, class vectors {cell.text}",
        f"{cell.n_seeds} seed{'s' if cell.n_seeds != 1 else ''}",
        f"{DAGGER} epoch chosen on the test clips" if cell.chosen_on_test else "",
        f"split {(cell.split_digest or '')[:12]}",
        f"avpipe {_short_commit(cell.git_commit)}",
    ]
    return "; ".join(part for part in parts if part)


def _short_commit(commit: str | None) -> str:
    if commit is None:
        return "outside a checkout"
    name, plus, changes = commit.partition("+")
    return name[:12] + plus + changes
