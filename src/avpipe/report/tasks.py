"""The tasks that have a report; everything that renders one goes through here."""

from __future__ import annotations

import os

from avpipe.io.manifest import write_json, write_text
from avpipe.report import gzsl, retrieval
from avpipe.report.charts import BarChart, plot_bars
from avpipe.report.document import Document
from avpipe.report.markdown import to_markdown
from avpipe.schema.gzsl import GzslRecord
from avpipe.schema.retrieval import RetrievalRecord

StrPath = str | os.PathLike[str]
AnyRecord = GzslRecord | RetrievalRecord


def to_document(record: AnyRecord) -> Document:
    """What the report of a record says."""
    return gzsl.to_document(record) if isinstance(record, GzslRecord) else retrieval.to_document(record)


def to_chart(record: AnyRecord) -> BarChart:
    """What the figure of a record shows."""
    return gzsl.to_chart(record) if isinstance(record, GzslRecord) else retrieval.to_chart(record)


def write_report(record: AnyRecord, target: StrPath, *, table: StrPath, figure: StrPath) -> AnyRecord:
    """Write eval.json, its tables and its figure; gives the record as eval.json says it."""
    record = type(record).model_validate(record.to_json())
    write_json(target, record.to_json())
    write_text(table, to_markdown(to_document(record)))
    plot_bars(to_chart(record), figure)
    return record
