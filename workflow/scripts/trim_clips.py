"""Cut the clips of one shard out of their files."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.media import trim_shard

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    trim_shard(
        snakemake.input.probe,
        snakemake.output.clips,
        snakemake.output.status,
        workers=snakemake.threads,
        timeout_seconds=snakemake.params.timeout,
    )
