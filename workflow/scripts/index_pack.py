"""Index a pack for searches with a run."""

from typing import TYPE_CHECKING

from avpipe.jobs.retrieval import RunJob, index_run
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    index_run(
        RunJob(**snakemake.params.job),
        pack=snakemake.input.pack,
        words=snakemake.input.words or None,
        start=snakemake.params.start,
        training=snakemake.input.training or None,
        device=snakemake.params.device,
        threads=snakemake.threads,
        target=snakemake.output[0],
    )
