"""Write the table of all zero-shot datasets, ours beside the published numbers."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import write_gzsl_table
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    write_gzsl_table(
        snakemake.input.evals,
        snakemake.input.published,
        snakemake.output.csv,
        snakemake.output.markdown,
        snakemake.params.not_run,
    )
