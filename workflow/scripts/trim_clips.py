"""Cut the clips of one shard out of their files."""

from typing import TYPE_CHECKING

from avpipe.jobs.media import trim_shard
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    trim_shard(
        snakemake.input.probe,
        snakemake.output.clips,
        snakemake.output.status,
        workers=snakemake.threads,
        timeout_seconds=snakemake.params.timeout,
    )
