"""Write eval.json, the page, the table and the figure of a retrieval dataset."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import write_retrieval_eval

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    # Snakemake hands over an input that a dataset lacks as an empty list.
    write_retrieval_eval(
        dataset=snakemake.wildcards.dataset,
        settings=snakemake.params.settings,
        fidelity=snakemake.params.fidelity,
        features_from=snakemake.params.features_from,
        evaluations=snakemake.input.evaluations,
        packs=snakemake.input.packs,
        accounting=snakemake.input.accounting or None,
        weights=snakemake.input.weights,
        published=snakemake.input.published,
        target=snakemake.output.eval,
        page=snakemake.output.page,
        benchmarks=snakemake.params.benchmarks,
        table=snakemake.output.table,
        figure=snakemake.output.figure,
    )
