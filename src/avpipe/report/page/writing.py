"""Writing report.html."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from avpipe.io.manifest import write_text
from avpipe.report.page.markup import to_html
from avpipe.report.page.retrieval import retrieval_page
from avpipe.report.page.sources import Sources, StrPath, job_seconds, retrieval_runs, zero_shot_runs
from avpipe.report.page.zero_shot import zero_shot_page
from avpipe.schema.gzsl import GzslRecord
from avpipe.schema.retrieval import RetrievalRecord

log = logging.getLogger(__name__)


def write_page(
    record: GzslRecord | RetrievalRecord,
    target: StrPath,
    *,
    evaluations: Sequence[StrPath],
    benchmarks: StrPath | None = None,
) -> None:
    """Write the page of a record and say where it lies.

    Args:
        record: eval.json, as it is written.
        target: the HTML file.
        evaluations: the evaluation.json that the record was made from; the files of the trainings lie beside them.
        benchmarks: the folder of Snakemake's benchmark files; None: the page tells no times.
    """
    seconds = job_seconds(benchmarks, record.dataset) if benchmarks else {}
    if isinstance(record, GzslRecord):
        page = zero_shot_page(record, Sources(zero_shot_runs(evaluations), seconds))
    else:
        page = retrieval_page(record, Sources(retrieval_runs(evaluations), seconds))
    write_text(target, to_html(page))
    log.info("The report: open %s in a browser.", Path(target))
