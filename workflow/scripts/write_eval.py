"""Write eval.json, the table and the figure of a dataset."""

from typing import TYPE_CHECKING

from avpipe.io.atomic import write_text
from avpipe.logs import job_logging, job_name
from avpipe.report.figures import plot_beta_curves, plot_results
from avpipe.report.results import write_results
from avpipe.report.tables import to_markdown

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Snakemake hands over an input that a dataset lacks as an empty list.
with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    record = write_results(
        dataset=snakemake.wildcards.dataset,
        settings=snakemake.params.settings,
        fidelity=snakemake.params.fidelity,
        evaluations=snakemake.input.evaluations,
        trees=snakemake.input.trees,
        accounting=snakemake.input.accounting or None,
        weights=snakemake.input.weights,
        target=snakemake.output.eval,
        published=snakemake.input.published,
    )
    write_text(snakemake.output.table, to_markdown(record))
    plot_results(record, snakemake.output.figure)
    plot_beta_curves(record, snakemake.output.curves)
