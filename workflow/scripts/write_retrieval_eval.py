"""Write eval.json, the table and the figure of a retrieval dataset."""

from typing import TYPE_CHECKING

from avpipe.io.atomic import write_text
from avpipe.logs import job_logging, job_name
from avpipe.report.retrieval_figure import plot_retrieval
from avpipe.report.retrieval_results import write_retrieval_results
from avpipe.report.retrieval_tables import to_markdown

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    # Snakemake hands over an input that a dataset lacks as an empty list.
    record = write_retrieval_results(
        dataset=snakemake.wildcards.dataset,
        settings=snakemake.params.settings,
        fidelity=snakemake.params.fidelity,
        evaluations=snakemake.input.evaluations,
        packs=snakemake.input.packs,
        accounting=snakemake.input.accounting or None,
        weights=snakemake.input.weights,
        published=snakemake.input.published,
        target=snakemake.output.eval,
    )
    write_text(snakemake.output.table, to_markdown(record))
    plot_retrieval(record, snakemake.output.figure)
