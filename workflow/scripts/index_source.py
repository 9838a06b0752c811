"""List the clips of one shard."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import index_source
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    params = snakemake.params
    index_source(
        params.source,
        params.made_folder,
        params.n_shards,
        snakemake.wildcards.shard,
        params.listing,
        snakemake.output[0],
    )
