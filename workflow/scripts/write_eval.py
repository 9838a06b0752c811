"""Write eval.json, the page, the table and the figures of a dataset."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import write_eval
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Snakemake hands over an input that a dataset lacks as an empty list.
with run_job(snakemake):
    write_eval(
        dataset=snakemake.wildcards.dataset,
        settings=snakemake.params.settings,
        fidelity=snakemake.params.fidelity,
        features_from=snakemake.params.features_from,
        evaluations=snakemake.input.evaluations,
        trees=snakemake.input.trees,
        accounting=snakemake.input.accounting or None,
        weights=snakemake.input.weights,
        target=snakemake.output.eval,
        published=snakemake.input.published,
        page=snakemake.output.page,
        benchmarks=snakemake.params.benchmarks,
        table=snakemake.output.table,
        figure=snakemake.output.figure,
        curves=snakemake.output.curves,
    )
