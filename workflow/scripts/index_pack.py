"""Index a pack for searches with a run."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import RunJob, index_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
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
